# SPDX-License-Identifier: Apache-2.0
"""The page of each type of finding: what it means, and what to do."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from nodeagent.detect.catalogue import RULES
from nodeagent.errors import NodeagentError
from nodeagent.places import shipped

__all__ = ["find_pages", "nearest", "page_of", "read_page", "type_of"]

NOT_SAFE: Final = re.compile(r"[^A-Za-z0-9.]+")
"""What has no place in the name of a file, or means something to a shell."""
COMMENT: Final = re.compile(r"^<!--.*-->\n\n?", re.MULTILINE)
NAME_LENGTH: Final = 100
"""Of a name that nobody knows no more is compared."""


def page_of(type_: str) -> str:
    """The name of its page: `Execution-ReverseShell` for `Execution:Runtime/ReverseShell`."""
    return NOT_SAFE.sub("-", type_.replace(":Runtime/", "-"))


def find_pages() -> Path:
    """The folder of the pages: beside the code, or in a checkout in docs/."""
    package = Path(__file__).parents[1]
    return shipped(package / "findings", package.parent / "docs" / "findings")


def type_of(name: str) -> str | None:
    """The type that is called so: by its own name, by that of its page or of one of its rules."""
    return _names().get(name.lower())


def nearest(name: str) -> str:
    """The page whose name resembles this one most; empty when none does."""
    names = _names()
    found = get_close_matches(name[:NAME_LENGTH].lower(), names, n=1)
    return page_of(names[found[0]]) if found else ""


def read_page(type_: str) -> str:
    """What the page of a type says; raises NodeagentError."""
    path = find_pages() / f"{page_of(type_)}.md"
    try:
        return COMMENT.sub("", path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NodeagentError(
            f"the page {path} cannot be read: {error.strerror}; install the agent again"
        ) from error


def _names() -> dict[str, str]:
    """Types, by all that they may be called, in lower case."""
    names = {name.lower(): rule.type for name, rule in RULES.items()}
    for rule in RULES.values():
        names |= {rule.type.lower(): rule.type, page_of(rule.type).lower(): rule.type}
    return names
