# SPDX-License-Identifier: Apache-2.0
"""`python packaging/builder.py`: the system in which `make dist-arm64` builds.

A root file system of Debian for arm64 with Python, PyInstaller, a compiler and the packages of
the agent, for elsewhere.sh. Debian 12 is the oldest one with a Python that is new enough; older.py
is there for what it asks of a C library, as it is on this machine.
"""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from needed import NAME, needed

from tests.vm.arm64 import FOLDER, ROOT, fetch_site
from tests.vm.debian import make_root, run, told

SUITE: Final = "bookworm"
BUILDER: Final = FOLDER / "builder"
PACKAGES: Final = (
    *("python3.11", "libpython3.11", "libbpf1", "libstdc++6"),
    *("bash", "binutils", "coreutils", "dpkg", "gcc", "grep", "libc-bin", "libc6-dev", "sed"),
)
TOOLS: Final = ("pyinstaller", "cyclonedx-python-lib")
SITE: Final = BUILDER / "usr/local/lib/python3.11/dist-packages"
AUTHORITIES: Final = Path("etc/ssl/certs/ca-certificates.crt")
"""The same on all architectures; Debian makes it by a script."""


def make() -> None:
    """Raises FetchError."""
    shutil.rmtree(BUILDER, ignore_errors=True)
    make_root(SUITE, "arm64", PACKAGES, BUILDER)
    for part in ("proc", "dev", "tmp", AUTHORITIES.parent):
        (BUILDER / part).mkdir(parents=True, exist_ok=True)
    shutil.copy(Path("/", AUTHORITIES), BUILDER / AUTHORITIES)
    tools = {each for tool in TOOLS for each in (tool, *needed(tool, ("",)))}
    fetch_site({*needed(), *tools}, SITE)
    # The agent itself is this checkout, as in an editable installation.
    (SITE / "checkout.pth").write_text(f"{ROOT}\n")
    (facts,) = Path(str(distribution(NAME).locate_file(""))).glob(f"{NAME}-*.dist-info")
    shutil.copytree(facts, SITE / facts.name)
    run(str(Path(__file__).with_name("elsewhere.sh")), str(BUILDER), "ldconfig")


if __name__ == "__main__":
    sys.exit(told("builder", "making a Debian for arm64", make))
