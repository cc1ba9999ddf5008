# SPDX-License-Identifier: Apache-2.0
"""Names of users, as the passwd of the root of each process tells them.

The table reads no file itself: it lists questions, and is told by items of the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from nodeagent.event import Process

__all__ = ["UserKey", "UserQuestion", "UserSeen", "UserTable"]

USERS_LIMIT: Final = 4096
"""Users that are remembered; the one that was first asked about is forgotten first."""
QUESTIONS_LIMIT: Final = 256
TRIES: Final = 8
"""For one user: a later process may still be there where an earlier one has ended."""


class UserKey(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """A user where it lives."""

    mount_namespace: int
    """Of the passwd."""
    user_namespace: int
    """In which the passwd counts."""
    uid: int
    """As the initial user namespace counts."""


class UserQuestion(msgspec.Struct, frozen=True, gc=False):
    """Whose root holds the passwd."""

    key: UserKey
    pid: int


class UserSeen(msgspec.Struct, frozen=True, gc=False):
    """The answer."""

    key: UserKey
    name: str | None
    """Empty: the passwd has none; None: the process has gone, another one may be asked."""
    is_of_host: bool = False
    """The passwd is that of the host."""


class _User(msgspec.Struct):
    """What is known of one."""

    name: str = ""
    is_of_host: bool = False
    may_ask: bool = True
    tries: int = 0


class UserTable:
    """Sets `Process.user`."""

    def __init__(
        self, processes: Callable[[], Iterable[Process]], rewrite: Callable[[Process], None]
    ) -> None:
        """`processes` are those that later events may show; a later answer completes them.

        `rewrite` makes the JSON of a process anew.
        """
        self._processes = processes
        self._rewrite = rewrite
        self._users: dict[UserKey, _User] = {}
        self._questions: list[UserQuestion] = []

    def describe(self, process: Process) -> None:
        """Name the user of a new process as far as it is known, and ask when it is not."""
        key = _key(process)
        if key is None:
            return
        user = self._users.get(key) or self._add(key, _User())
        if user.may_ask and len(self._questions) < QUESTIONS_LIMIT:
            user.may_ask = False
            user.tries += 1
            self._questions.append(UserQuestion(key, process.task.pid))
        process.user, process.user_is_of_host = user.name, user.is_of_host

    def take_questions(self) -> list[UserQuestion]:
        """What somebody should answer by a `UserSeen`."""
        taken, self._questions = self._questions, []
        return taken

    def tell(self, seen: UserSeen) -> None:
        """Take an answer, and complete the processes that went on without it."""
        user = self._users.get(seen.key) or self._add(seen.key, _User())
        user.may_ask = seen.name is None and user.tries < TRIES
        if seen.name is None or (user.name, user.is_of_host) == (seen.name, seen.is_of_host):
            return
        user.name, user.is_of_host = seen.name, seen.is_of_host
        for process in self._processes():
            if _key(process) == seen.key:
                process.user, process.user_is_of_host = seen.name, seen.is_of_host
                self._rewrite(process)

    def _add(self, key: UserKey, user: _User) -> _User:
        if len(self._users) >= USERS_LIMIT:
            del self._users[next(iter(self._users))]
        self._users[key] = user
        return user


def _key(process: Process) -> UserKey | None:
    """Which user it is; None where no passwd counts."""
    facts = process.facts
    if facts is None or facts.kernel_thread:
        return None
    return UserKey(facts.namespaces.mnt, facts.namespaces.user, process.task.uid)
