# SPDX-License-Identifier: Apache-2.0
"""Proves every hook alive by harmless operations of the agent itself.

Most of them are calls that cannot succeed: what they name does not exist. The kernel counts
the agent's own operations for each kind and shows none of them. What a filter of seccomp
refuses never comes to a trampoline, so that is no proof of anything.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import mmap
import os
import platform
import signal
import socket
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final

from nodeagent.kernel.counters import KernelCounters
from nodeagent.kernel.features import Hook, family_of
from nodeagent.ledger import Ledger

__all__ = ["OPERATIONS", "Canary"]

log: Final = logging.getLogger(__name__)

FIRST_SECONDS: Final = 2.0
"""After the start."""
SETTLE_SECONDS: Final = 0.1
"""Until the end of a child is seen."""
NOWHERE: Final = "/proc/self/nodeagent-canary"
"""Nobody can make it."""
NONE: Final = -1
"""A pid, descriptor, id or set of flags that cannot be."""
NO_PID: Final = (1 << 31) - 1
"""Beyond the highest that a kernel gives, 1 << 22."""
DNS_QUESTION: Final = (
    b"\0\0\1\0\0\1\0\0\0\0\0\0" + b"\x06canary\x09nodeagent\x07invalid\0" + b"\0\1\0\1"
)
"""For canary.nodeagent.invalid, a name that never is (RFC 6761)."""
PTRACE_ATTACH: Final = 16
BPF_PROG_LOAD: Final = 5
SO_ATTACH_FILTER: Final = 26
PR_GET_SECCOMP: Final = 21

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_NUMBERS: Final = {
    "x86_64": {"pivot_root": 155, "init_module": 175, "bpf": 321, "userfaultfd": 323,
               "keyctl": 250, "io_uring_setup": 425},
    "aarch64": {"pivot_root": 41, "init_module": 105, "bpf": 280, "userfaultfd": 282,
                "keyctl": 219, "io_uring_setup": 425},
}.get(platform.machine(), {})  # fmt: skip
"""Of calls that the C library has no function for, from asm/unistd.h."""


def _call(name: str, *arguments: int | None) -> None:
    number = _NUMBERS.get(name)
    if number is not None:
        _LIBC.syscall(number, *map(ctypes.c_void_p, arguments))


def _spawn() -> None:
    """A child that finds no program, and ends; the C library waits for it."""
    os.posix_spawn(NOWHERE, [NOWHERE], {})


def _map() -> None:
    fd = os.open("/proc/self/exe", os.O_RDONLY)
    try:
        code = mmap.PROT_READ | mmap.PROT_EXEC
        mmap.mmap(fd, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE, prot=code).close()
    finally:
        os.close(fd)


def _socket(call: Callable[[socket.socket], object]) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.setblocking(False)
        call(made)


def _ask(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(DNS_QUESTION, ("127.0.0.1", port))


OPERATIONS: Final[Mapping[str, Callable[[], object]]] = {
    "exec": _spawn,
    "fork": _spawn,
    "exit": _spawn,
    "open": partial(os.open, NOWHERE, os.O_RDONLY),
    "rename": partial(os.rename, NOWHERE, NOWHERE),
    "link": partial(os.link, NOWHERE, NOWHERE),
    "symlink": partial(os.symlink, NOWHERE, f"{NOWHERE}/x"),
    "unlink": partial(os.unlink, NOWHERE),
    "chmod": partial(os.chmod, NOWHERE, 0),
    "chown": partial(os.chown, NOWHERE, NONE, NONE),
    "mount": partial(_LIBC.mount, None, NOWHERE.encode(), None, 0, None),
    "umount": partial(_LIBC.umount2, NOWHERE.encode(), 0),
    "chroot": partial(os.chroot, NOWHERE),
    "pivot_root": partial(_call, "pivot_root", None, None),
    "socket": partial(_socket, lambda _: None),
    "connect": partial(_socket, lambda made: made.connect(NOWHERE)),
    "bind": partial(_socket, lambda made: made.bind(NOWHERE)),
    "listen": partial(_socket, lambda made: made.listen()),
    "accept": partial(_socket, lambda made: made.accept()),
    "socket_filter": partial(
        _socket, lambda made: made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, b"")
    ),
    "dup": partial(_socket, lambda made: os.close(os.dup(made.fileno()))),
    "mmap": _map,
    "mprotect": partial(_LIBC.mprotect, None, mmap.PAGESIZE, mmap.PROT_EXEC),
    "memfd": lambda: os.close(os.memfd_create("nodeagent-canary")),
    "ptrace": partial(_LIBC.ptrace, PTRACE_ATTACH, NONE, None, None),
    "vm_read": partial(_LIBC.process_vm_readv, NONE, None, 0, None, 0, 0),
    "vm_write": partial(_LIBC.process_vm_writev, NONE, None, 0, None, 0, 0),
    "userfaultfd": partial(_call, "userfaultfd", NONE),
    # That of users is refused by the unit's SystemCallFilter=.
    "setuid": partial(os.setresgid, NONE, NONE, NONE),
    "capset": partial(_LIBC.capset, None, None),
    "module": partial(_call, "init_module", None, 0, None),
    "bpf": partial(_call, "bpf", BPF_PROG_LOAD, None, 0),
    "unshare": partial(_LIBC.unshare, 0),
    "setns": partial(_LIBC.setns, NONE, 0),
    "keyctl": partial(_call, "keyctl", NONE, 0, 0, 0, 0),
    "io_uring": partial(_call, "io_uring_setup", 0, None),
    "kill": partial(os.kill, NO_PID, signal.SIGTERM),
}
"""One for each kind.

`sendto` and `dns` depend on a setting, and the rest cannot be done without effect.
"""


def _is_filtered() -> bool:
    """Whether seccomp looks at the calls of this process."""
    return bool(_LIBC.prctl(PR_GET_SECCOMP) > 0)


def _is_refused(operation: Callable[[], object]) -> bool:
    """Do it; returns whether it may not be done."""
    ctypes.set_errno(0)
    try:
        operation()
    except OSError as error:
        return error.errno == errno.EPERM
    return ctypes.get_errno() == errno.EPERM


OF_CHILDREN: Final = frozenset({"exec", "exit"})
"""Done by a child, so that nothing tells it from those of others."""


class Canary:
    """A task beside the stream."""

    def __init__(
        self,
        hooks: Collection[Hook],
        counters: KernelCounters,
        ledger: Ledger,
        tell: Callable[[dict[str, object]], None],
        *,
        dns_port: int,
        interval_seconds: float,
    ) -> None:
        """`tell` puts a change into the stream; 0 seconds: never."""
        live = {hook.kind for hook in hooks if not hook.missing}
        families = {kind: family_of(hook for hook in hooks if hook.kind == kind) for kind in live}
        ask = partial(_ask, dns_port)
        every: dict[str, Callable[[], object]] = {**OPERATIONS, "sendto": ask, "dns": ask}
        self._operations = {kind: every[kind] for kind in every if kind in live}
        self._past_filters = {kind for kind in self._operations if families[kind] == "trampoline"}
        """They see only what seccomp lets through."""
        self._counters = counters
        self._ledger = ledger
        self._tell = tell
        self._interval_seconds = interval_seconds

    async def follow(self) -> None:
        """Look again and again."""
        await asyncio.sleep(min(FIRST_SECONDS, self._interval_seconds))
        while self._interval_seconds:
            dead = await self.silent()
            if dead:
                # One that is slow is not dead.
                dead &= await self.silent()
            self._take(frozenset(dead))
            await asyncio.sleep(self._interval_seconds)

    async def silent(self) -> set[str]:
        """The kinds whose operation nobody has seen."""
        before = {kind: self._count(kind) for kind in self._operations}
        # One that serves several kinds is done once.
        every = dict.fromkeys(self._operations.values())
        refused = {operation for operation in every if _is_refused(operation)}
        await asyncio.sleep(SETTLE_SECONDS)
        silent = {kind for kind in before if self._count(kind) == before[kind]}
        if silent >= before.keys() - OF_CHILDREN and not silent >= OF_CHILDREN & before.keys():
            # Others are seen: the kernel does not know who we are.
            return set()
        if _is_filtered():
            silent -= {kind for kind in self._past_filters if self._operations[kind] in refused}
        return silent

    def _count(self, kind: str) -> int:
        seen, own = self._counters.seen(kind)
        return seen if kind in OF_CHILDREN else own

    def _take(self, dead: frozenset[str]) -> None:
        was, self._ledger.dead = self._ledger.dead, dead
        if dead == was:
            return
        level = logging.WARNING if dead else logging.INFO
        log.log(level, "canary dead=%s of=%d", ",".join(sorted(dead)), len(self._operations))
        self._tell({"dead": sorted(dead), "alive": len(self._operations) - len(dead)})
