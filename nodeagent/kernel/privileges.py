# SPDX-License-Identifier: Apache-2.0
"""What this process may do in the kernel."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

import msgspec

from nodeagent.errors import BpfError

__all__ = ["Privileges", "give_up"]

CAPABILITIES: Final = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
"""Numbers from include/uapi/linux/capability.h."""

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
        )

    def has(self, name: str) -> bool:
        """Whether a capability of `CAPABILITIES` is effective."""
        return bool(self.capabilities >> CAPABILITIES[name] & 1)

    @property
    def enough(self) -> bool:
        """It may load and attach the programs."""
        may = self.has("CAP_SYS_ADMIN") or (self.has("CAP_BPF") and self.has("CAP_PERFMON"))
        return may and not self.own_namespace

    @property
    def packets(self) -> bool:
        """It may look at packets."""
        return self.has("CAP_SYS_ADMIN") or self.has("CAP_NET_ADMIN")

    def demand(self) -> None:
        """Raise BpfError unless it is enough."""
        if not self.enough:
            raise BpfError(
                "eBPF programs can be loaded only by root, or with CAP_BPF and CAP_PERFMON in the"
                " initial user namespace: run it as root, for example `sudo nodeagent run`"
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
