# SPDX-License-Identifier: Apache-2.0
"""A whole Debian with systemd for a virtual machine, made by `make system`.

Essential packages, systemd, and what people use on a server: no Python, no compiler, no udev.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from tests.vm.debian import mirror, run, told
from tests.vm.kernels import X86

SUITE: Final = "bookworm"
ARCHIVE: Final = Path(__file__).parents[2] / ".make/system.cpio"
PACKAGES: Final = (
    *("usr-is-merged", "systemd", "systemd-sysv", "bpftool", "libstdc++6"),
    *("apparmor", "apt", "cron", "logrotate", "openssh-client", "openssh-server", "sudo"),
)
# Half of the files, for people only.
SPARE: Final = (
    *("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/zoneinfo/*"),
    "/usr/lib/*/gconv/*",
)
MERGED: Final = "/usr/share/mmdebstrap/hooks/merged-usr"


def make() -> None:
    """Write the archive; raises FetchError."""
    packed = ARCHIVE.with_suffix(".tar")
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in SPARE]
    options += ["--variant=essential", f"--include={','.join(PACKAGES)}", f"--hook-dir={MERGED}"]
    run("mmdebstrap", "--quiet", f"--architectures={X86}", *options, SUITE, str(packed), mirror())
    # The kernel unpacks this and no tar.
    run("bsdtar", "--format=newc", "-cf", str(ARCHIVE), f"@{packed}")
    packed.unlink()


if __name__ == "__main__":
    sys.exit(told("system", "making a Debian with systemd", make))
