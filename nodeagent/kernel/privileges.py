# SPDX-License-Identifier: Apache-2.0
"""What this process may do in the kernel."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

import msgspec

from nodeagent.errors import BpfError
from nodeagent.names import CAPABILITIES

__all__ = ["Privileges", "give_up"]

NEEDED: Final = ("CAP_BPF", "CAP_PERFMON")
"""Without CAP_SYS_ADMIN, which is more than both."""

USEFUL: Final = {
    # CAP_SYS_ADMIN would do, too, but it is given up before programs are attached.
    "CAP_NET_ADMIN": "neither DNS nor datagrams are seen",
    "CAP_SYS_PTRACE": "files of processes are not hashed and users of containers have no names",
    "CAP_DAC_READ_SEARCH": "files that only their owner may read are not hashed",
}
"""What goes on without them, and what is missed."""

FIRST_PIDS: Final = 0xEFFFFFFC
"""The inode number of the first namespace of pids, PROC_PID_INIT_INO of the kernel."""
CAPABILITY_VERSION: Final = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3 of the same file."""

EVERY_ID: Final = 0xFFFFFFFF
"""How many ids the user namespace that the machine booted with maps."""


class Privileges(msgspec.Struct, frozen=True):
    """What this process may do."""

    uid: int
    capabilities: int
    """Effective ones, bit n is capability n."""
    own_namespace: bool
    """In a user namespace of its own, where capabilities mean nothing to eBPF."""
    own_pids: bool = False
    """In a namespace of pids of its own, where those of the node are not to be found."""

    @classmethod
    def of_this_process(cls) -> Privileges:
        """From /proc/self, or the user id alone where /proc is not mounted."""
        lines = (line.partition(":") for line in _read("/proc/self/status").splitlines())
        status = {name: value.strip() for name, _, value in lines}
        everything = "ffffffffffffffff" if os.geteuid() == 0 else "0"
        ids = _read("/proc/self/uid_map").split()
        return cls(
            os.geteuid(),
            int(status.get("CapEff", everything), 16),
            len(ids) >= 3 and int(ids[2]) != EVERY_ID,  # noqa: PLR2004 - inside, outside, count
            _inode("/proc/self/ns/pid") not in {FIRST_PIDS, 0},
        )

    def has(self, name: str) -> bool:
        """Whether a capability of `CAPABILITIES` is effective."""
        return bool(self.capabilities >> CAPABILITIES[name] & 1)

    @property
    def enough(self) -> bool:
        """It may load and attach the programs."""
        return not self.missing and not self.own_namespace

    @property
    def missing(self) -> list[str]:
        """The capabilities without which nothing can be loaded."""
        everything = self.has("CAP_SYS_ADMIN")
        return [name for name in NEEDED if not everything and not self.has(name)]

    @property
    def losses(self) -> list[str]:
        """What is missed, a sentence for each."""
        found = [f"without {name}: {USEFUL[name]}" for name in USEFUL if not self.has(name)]
        if self.own_pids:
            found.append("with pids of its own instead of the node's: files are not hashed")
        return found

    def demand(self) -> None:
        """Raise BpfError unless it is enough."""
        if self.own_namespace:
            raise BpfError(
                "eBPF programs can be loaded only in the initial user namespace: start it outside"
                " of the rootless container"
            )
        if self.missing:
            raise BpfError(
                f"eBPF programs cannot be loaded without {' and '.join(self.missing)}: run it as"
                " root, for example `sudo nodeagent run`, or give that to the container"
            )


def give_up(name: str) -> None:
    """This thread, and those that it starts, never have this capability again.

    Raises BpfError. A program that is executed has what the bounding set allows, unless
    no_new_privs is set.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    # Effective, permitted and inheritable ones: the lower halves, then the upper ones.
    sets = (ctypes.c_uint32 * 6)()
    half, bit = divmod(CAPABILITIES[name], 32)
    failed = libc.capget(header, sets)
    for each in range(3):
        sets[half * 3 + each] &= ~(1 << bit)
    if failed or libc.capset(header, sets):
        number = ctypes.get_errno()
        raise BpfError(f"{name} cannot be given up: {os.strerror(number)}", number)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _inode(path: str) -> int:
    try:
        return Path(path).stat().st_ino
    except OSError:
        return 0
