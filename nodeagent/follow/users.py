# SPDX-License-Identifier: Apache-2.0
"""Looks names of users up in the passwd of the root of a process, whatever lies there."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from nodeagent.enrich.user import UserKey, UserQuestion, UserSeen
from nodeagent.follow.inside import Inside, for_reading, host_pids, namespace_of, opened
from nodeagent.follow.worker import StuckError, Worker

__all__ = ["UserFollower", "names_in"]

log: Final = logging.getLogger(__name__)

USERS_FILE: Final = "/etc/passwd"
USERS_BYTES: Final = 1 << 20
"""Nothing beyond this is read."""
MAP_BYTES: Final = 1 << 14
NAME_LENGTH: Final = 64
HOST_USERS_LIMIT: Final = 1024
QUESTIONS_WAITING: Final = 1024
PATIENCE_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 0.005
"""After each question, so that a process with many users keeps no CPU busy."""
MOVING_SECONDS: Final = 1.0
"""How long a runtime may take until the process has the root of its container."""
QUIET_SECONDS: Final = 60.0
"""Complain about a passwd no more than once in this time."""


class UserFollower:
    """Answers each question that it is asked with an item."""

    def __init__(self, inside: Inside, worker: Worker, tell: Callable[[UserSeen], None]) -> None:
        """`tell` takes the answers."""
        self._inside = inside
        self._worker = worker
        self._tell = tell
        self._questions: asyncio.Queue[UserQuestion] = asyncio.Queue(QUESTIONS_WAITING)
        self._host_file: tuple[int, int] | None = None
        """Device and inode of the passwd of the host."""
        self._host_namespace = 0
        self._complained = -QUIET_SECONDS
        self._doubtful: deque[tuple[float, UserQuestion]] = deque(maxlen=QUESTIONS_WAITING)
        """With the time to ask them again."""

    def start(self) -> None:
        """Tell the users of the host, whose passwd nobody has to wait for."""
        for pid in host_pids():
            try:
                namespaces = namespace_of(pid, "mnt"), namespace_of(pid, "user")
                with opened(self._inside.look_up(pid, USERS_FILE)) as found:
                    state = os.fstat(found)
                    text = _read(found)
            except OSError:
                continue
            self._host_namespace = namespaces[0]
            self._host_file = (state.st_dev, state.st_ino)
            for _, (uid, name) in zip(range(HOST_USERS_LIMIT), names_in(text), strict=False):
                self._tell(UserSeen(UserKey(*namespaces, uid), name, is_of_host=True))
            return

    def ask(self, questions: Iterable[UserQuestion]) -> None:
        """Never waits."""
        for question in questions:
            try:
                self._questions.put_nowait(question)
            except asyncio.QueueFull:
                self._tell(UserSeen(question.key, None))

    async def follow(self) -> None:
        """Answer until cancelled."""
        while True:
            question, is_second = await self._next()
            seen = await self._answer(question)
            if not is_second and seen.is_of_host and self._may_be_moving(question):
                self._doubtful.append((time.monotonic() + MOVING_SECONDS, question))
            self._tell(seen)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _next(self) -> tuple[UserQuestion, bool]:
        """The next question, and whether it is asked for the second time."""
        if not self._doubtful:
            return await self._questions.get(), False
        due, question = self._doubtful[0]
        try:
            async with asyncio.timeout(max(due - time.monotonic(), 0)):
                return await self._questions.get(), False
        except TimeoutError:
            self._doubtful.popleft()
            return question, True

    def _may_be_moving(self, question: UserQuestion) -> bool:
        """A container that is being made sees the files of the host until it gets its root."""
        return question.key.mount_namespace != self._host_namespace

    async def _answer(self, question: UserQuestion) -> UserSeen:
        try:
            return await self._worker.do(PATIENCE_SECONDS, self._find, question)
        except (OSError, StuckError) as error:
            self._complain(question, error)
            return UserSeen(question.key, "")

    def _find(self, question: UserQuestion) -> UserSeen:
        """Raises OSError when there is something odd in the place of the passwd."""
        key, pid = question.key, question.pid
        try:
            if namespace_of(pid, "mnt") != key.mount_namespace:
                return UserSeen(key, None)
            uid = _uid_inside(pid, key.uid)
            found = self._inside.look_up(pid, USERS_FILE)
        except OSError:
            # The process has ended, or its root has no passwd.
            name = "" if Path(f"/proc/{pid}/root").exists() else None
            return UserSeen(key, name)
        with opened(found):
            state = os.fstat(found)
            names = names_in(_read(found))
            name = next((name for number, name in names if number == uid), "")
        return UserSeen(key, name, (state.st_dev, state.st_ino) == self._host_file)

    def _complain(self, question: UserQuestion, error: Exception) -> None:
        now = time.monotonic()
        if now - self._complained >= QUIET_SECONDS:
            self._complained = now
            log.warning("passwd_unreadable pid=%d why=%s", question.pid, error)


def names_in(text: bytes) -> Iterator[tuple[int, str]]:
    """User ids and names of a passwd; lines that are none are left out."""
    for line in text.split(b"\n"):
        name, _, rest = line.partition(b":")
        uid = rest.split(b":", 2)[1:2]
        if name and uid and uid[0].isdigit() and len(uid[0]) <= len(str(1 << 32)):
            yield int(uid[0]), name[:NAME_LENGTH].decode("utf-8", "replace")


def _read(found: int) -> bytes:
    with opened(for_reading(found)) as descriptor:
        return os.read(descriptor, USERS_BYTES)


def _uid_inside(pid: int, uid: int) -> int | None:
    """What a user id is in the user namespace of a process; None when it is nobody there."""
    with opened(os.open(f"/proc/{pid}/uid_map", os.O_RDONLY | os.O_CLOEXEC)) as descriptor:
        lines = os.read(descriptor, MAP_BYTES).splitlines()
    for line in lines:
        inside, outside, count = map(int, line.split())
        if outside <= uid < outside + count:
            return inside + uid - outside
    return None
