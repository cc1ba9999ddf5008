# SPDX-License-Identifier: Apache-2.0
"""Secrets in the arguments of programs, which have no business in a stream of events.

Detection sees arguments as they are; what leaves the agent has `***` in place of a secret,
and says so by `redacted`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from nodeagent.errors import ConfigError
from nodeagent.event import Event, Exec, Incomplete

__all__ = ["MASK", "Redactor"]

MASK: Final = "***"

WORD: Final = (
    r"(?:password|passwd|passphrase|pwd|secret|token|api[-_]?key|access[-_]?key"
    r"|private[-_]?key|credentials?)"
    # A file that holds one, or what is known of one, is none.
    r"(?!(?:[\w.-]{0,30}[-_.])?(?:file|path|dir|stdin|fd|id|name|type|url|length|policy|ttl)\b)"
    r"[\w.-]{0,64}+"
)
"""The end of a name that a secret has; how it begins does not matter."""
VALUE: Final = r"""("[^"]*+"|'[^']*+'|[^\s"';&|,}]++)"""

# All of them look at each character a bounded number of times, whatever a program is given.
EVERYWHERE: Final = tuple(
    re.compile(pattern, re.IGNORECASE if ignore else 0)
    for pattern, ignore in (
        # --password=x, DB_PASSWORD=x, "password": "x", X-Api-Key: x
        (rf"({WORD}[\"']?\s{{0,8}}+[=:]\s{{0,8}}+){VALUE}", True),
        (r"((?:authorization|cookie):\s{0,8}+(?:[a-z]{1,16}+\s+)?)([^\s\"']++)", True),
        # scheme://user:x@host
        (r"(://[^/\s:@]{0,128}+:)([^/\s@]{1,512}+)(?=@)", True),
        # Tokens that show what they are: GitHub, GitLab, Slack, Google, Stripe, Hugging Face, JWT.
        (r"(?<![\w-])()(gh[pousr]_[A-Za-z0-9]{20,}+|github_pat_\w{20,}+|glpat-[\w-]{20,}+)", False),
        (r"(?<![\w-])()(xox[abeprs]-[\w-]{10,}+|AIza[\w-]{30,}+|hf_\w{30,}+)", False),
        (r"(?<![\w-])()([rs]k_live_\w{16,}+|eyJ[\w-]{8,}+\.[\w-]{8,}+\.[\w-]*+)", False),
        (r"(-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----)(.+)", False),
    )
)
FLAG: Final = re.compile(rf"--?[\w.-]{{0,64}}?{WORD}", re.IGNORECASE)
"""Its value is the next argument."""
FLAG_INSIDE: Final = re.compile(rf"(?<![\w-])(--?[\w.-]{{1,64}}+)(\s++)(?!-){VALUE}")
"""A flag and its value within one argument, as behind sh -c."""

LOGINS: Final = frozenset({"curl", "wget"})
LOGIN: Final = re.compile(r"(-[a-zA-Z]*u|--user|--proxy-user|-U)")
CLIENTS: Final = frozenset(
    {"mysql", "mysqldump", "mysqladmin", "mysqlimport", "mariadb", "mariadb-dump", "sshpass"}
)
"""Programs with a password right behind -p."""

SUSPECT: Final = re.compile(
    r"pass|pwd|secret|token|key|credential|authorization:|cookie:|://[^/\s]*:[^/\s]*@"
    r"|gh[pousr]_|github_pat_|glpat-|xox|aiza|k_live_|hf_|eyj",
    re.IGNORECASE,
)
"""Most arguments have nothing of it, and are done with one look."""


class Redactor:
    """Masks secrets in the events of a batch."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        """`patterns` find further secrets: their first group, or all that they match.

        Raises ConfigError for one that is no regular expression.
        """
        self._own = [_compiled(pattern) for pattern in patterns]

    def mask(self, events: Sequence[Event]) -> None:
        """Change those events that show a secret."""
        for event in events:
            if type(event) is Exec:
                self._mask_exec(event)

    def arguments(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The same with every secret masked."""
        program = argv[0].rpartition("/")[2] if argv else ""
        shown: list[str] = []
        hides_next = ""
        for number, argument in enumerate(argv):
            if hides_next and not argument.startswith("-"):
                shown.append(_hidden(argument, hides_next))
                hides_next = ""
                continue
            hides_next = self._what_is_next(program, argument) if number else ""
            shown.append(self._masked(program, argument))
        return tuple(shown)

    def _mask_exec(self, event: Exec) -> None:
        argv = event.argv
        program = argv[0].rpartition("/")[2] if argv else ""
        if (
            not self._own
            and program not in LOGINS
            and program not in CLIENTS
            and not SUSPECT.search("\0".join(argv))
        ):
            return
        masked = self.arguments(argv)
        if masked == argv:
            return
        event.argv = masked
        known = event.incomplete or Incomplete((), {})
        event.incomplete = msgspec.structs.replace(known, redacted=("argv",))

    @staticmethod
    def _what_is_next(program: str, argument: str) -> str:
        """How much of the argument behind this one is a secret: all, login (behind a colon)."""
        if FLAG.fullmatch(argument) or (program == "sshpass" and argument == "-p"):
            return "all"
        return "login" if program in LOGINS and LOGIN.fullmatch(argument) else ""

    def _masked(self, program: str, argument: str) -> str:
        if program in CLIENTS and argument.startswith("-p") and len(argument) > len("-p"):
            return f"-p{MASK}"
        for pattern in EVERYWHERE:
            argument = pattern.sub(rf"\g<1>{MASK}", argument)
        argument = FLAG_INSIDE.sub(_flag_mask, argument)
        for pattern in self._own:
            argument = pattern.sub(_own_mask, argument)
        return argument


def _hidden(argument: str, how: str) -> str:
    if how == "all":
        return MASK
    name, colon, _ = argument.partition(":")
    return f"{name}:{MASK}" if colon else argument


def _flag_mask(match: re.Match[str]) -> str:
    flag, space = match[1], match[2]
    return f"{flag}{space}{MASK}" if FLAG.fullmatch(flag) else match[0]


def _own_mask(match: re.Match[str]) -> str:
    if not match.re.groups or match[1] is None:
        return MASK
    whole, start = match[0], match.start()
    return whole[: match.start(1) - start] + MASK + whole[match.end(1) - start :]


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"redact.patterns: {pattern!r} is no regular expression: {error}"
        ) from error
