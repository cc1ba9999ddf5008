# SPDX-License-Identifier: Apache-2.0
"""Where a behaviour is performed: namespaces, a file system in memory and a loopback of its own.

A guard makes the namespaces, and the first process in them performs. The guard ends that one
when the act is over, or when the demonstration is gone, however it went; with it the kernel
ends whatever else runs in the namespace of pids, and with the last process all mounts go.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final, NoReturn

from nodeagent.errors import NodeagentError

__all__ = ["Outcome", "Skip", "Stage", "bind", "fork", "libc"]

NEW_NAMESPACES: Final = 0x20000 | 0x4000000 | 0x8000000 | 0x20000000 | 0x40000000
"""CLONE_NEWNS, NEWUTS, NEWIPC, NEWPID and NEWNET of sched.h."""
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 1 << 18
FOLDERS: Final = ("/mnt", "/media", "/srv", "/opt", "/run", "/tmp")  # noqa: S108  in memory
"""The first that there is is covered; programs in those for temporary files give more findings."""
GET_FLAGS: Final = 0x8913
SET_FLAGS: Final = 0x8914
IS_UP: Final = 1
"""SIOCGIFFLAGS, SIOCSIFFLAGS and IFF_UP of netdevice(7)."""
INTERFACE: Final = struct.Struct("16sH22x")
REPORT_BYTES: Final = 4096
HELD: Final = (signal.SIGINT, signal.SIGTERM)

libc: Final = ctypes.CDLL(None, use_errno=True)
"""For calls that Python has no function for."""
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class Outcome(StrEnum):
    """How it went."""

    NO_STAGE = "no stage"
    """There are no namespaces of its own to be had."""
    SKIPPED = "skipped"
    FAILED = "failed"
    DONE = "done"


class Skip(NodeagentError):
    """This machine lacks what the behaviour needs; the text says what."""


class Stage:
    """One behaviour, from its begin to the end of all that it has started."""

    def __init__(self, act: Callable[[], None]) -> None:
        """Perform `act` in an empty folder."""
        control, self._control = os.pipe()
        self.fd, report = os.pipe()
        """To be read when there is something on it."""
        self._text = b""
        self.over = False
        """It has ended, one way or another."""
        self.outcome = Outcome.FAILED
        self.why = "it did not come to its end"

        def guard() -> None:
            os.close(self._control)
            os.close(self.fd)
            _guard(act, control, report)

        self.pid = fork(guard)
        os.close(control)
        os.close(report)

    def read(self) -> None:
        """Take what has been reported."""
        text = os.read(self.fd, REPORT_BYTES)
        self._text += text
        self.over = not text
        if self.over and self._text:
            outcome, self.why = json.loads(self._text)
            self.outcome = Outcome(outcome)

    def end(self) -> None:
        """Let nothing of it be left."""
        os.close(self._control)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def fork(body: Callable[[], None]) -> int:
    """The pid of a child that does that and ends with 0, or with 1 when it raises."""
    # A signal between the fork and whoever is to end the child would lose it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        pid = os.fork()
        if not pid:
            _be_child(body)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def bind(source: Path, target: str) -> None:
    """Show a folder of the stage in place of one of the machine; raises Skip, OSError."""
    if not Path(target).is_dir():
        raise Skip(f"there is no {target}")
    _mount(str(source), target, "", MS_BIND)


def _be_child(body: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        for each in HELD:
            signal.signal(each, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        body()
        code = 0
    finally:
        # Nothing of the parent's is to be done twice.
        os._exit(code)


def _guard(act: Callable[[], None], control: int, report: int) -> None:
    """Wait for the end of the act, or of the demonstration."""
    # What a terminal sends is for the demonstration, which then lets go of us.
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    try:
        _checked(libc.unshare(NEW_NAMESPACES))
        _mount("none", "/", "", MS_REC | MS_PRIVATE)
    except OSError as error:
        _say(report, Outcome.NO_STAGE, os.strerror(error.errno or 0))
        return
    first = fork(lambda: _perform(act, report))
    os.close(report)
    ended = os.pidfd_open(first)
    select.select([control, ended], [], [])
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)


def _perform(act: Callable[[], None], report: int) -> None:
    try:
        folder = next(filter(_may_be_covered, FOLDERS), "")
        if not folder:
            raise Skip(f"none of the folders {', '.join(FOLDERS)} can be covered")
        _mount("none", folder, "tmpfs", 0)
        os.chdir(folder)
        _raise_loopback()
        act()
        _say(report, Outcome.DONE)
    except Skip as why:
        _say(report, Outcome.SKIPPED, str(why))
    except (OSError, NodeagentError) as error:
        _say(report, Outcome.FAILED, str(error))


def _may_be_covered(folder: str) -> bool:
    """It is there, and nothing of this program is in it, which may be needed yet."""
    own = (sys.prefix, sys.base_prefix, __file__)
    return Path(folder).is_dir() and not any(Path(each).is_relative_to(folder) for each in own)


def _say(report: int, outcome: Outcome, why: str = "") -> None:
    os.write(report, json.dumps([outcome, why]).encode())


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = INTERFACE.pack(b"lo", 0)
        name, flags = INTERFACE.unpack(fcntl.ioctl(any_socket, GET_FLAGS, asked))
        fcntl.ioctl(any_socket, SET_FLAGS, INTERFACE.pack(name, flags | IS_UP))


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    _checked(libc.mount(source.encode(), target.encode(), kind.encode(), flags, None))


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
