# SPDX-License-Identifier: Apache-2.0
"""The oldest system that the frozen program has to run on: Debian 11, made by `make system`.

Its C library and what the packages depend on besides; no shell, nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from tests.vm.debian import mirror, run, told

SUITE: Final = "bullseye"
PACKAGES: Final = ("libc6", "libstdc++6", "zlib1g")
ARCHIVE: Final = Path(__file__).parents[2] / ".make/oldest.tar"


def make() -> None:
    """Write the archive; raises FetchError."""
    options = ("--quiet", "--variant=extract", f"--include={','.join(PACKAGES)}")
    run("mmdebstrap", *options, SUITE, str(ARCHIVE), mirror())


if __name__ == "__main__":
    sys.exit(told("oldest", "making a Debian 11", make))
