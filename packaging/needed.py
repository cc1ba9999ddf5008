# SPDX-License-Identifier: Apache-2.0
"""Which Python packages the agent needs; for the frozen folder and its bill of materials."""

from __future__ import annotations

from importlib.metadata import distribution, packages_distributions
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NAME: Final = "nodeagent"
EXTRAS: Final = ("", "kafka", "sigma")
"""Of the agent; the others are for those who work on it."""


def needed(name: str = NAME, extras: tuple[str, ...] = EXTRAS) -> list[str]:
    """All that it depends on, and what that depends on, without itself."""
    found: dict[str, None] = {}
    _add(name, extras, found)
    return list(found)


def foreign_modules() -> list[str]:
    """Modules that are installed here for other reasons, so that no library finds them."""
    ours = {NAME, *needed()}
    return [
        module
        for module, owners in packages_distributions().items()
        if not ours & set(map(canonicalize_name, owners))
    ]


def _add(name: str, extras: tuple[str, ...], found: dict[str, None]) -> None:
    for line in distribution(name).requires or []:
        wanted = Requirement(line)
        marker = wanted.marker
        asked = marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)
        required = str(canonicalize_name(wanted.name))
        if asked and required not in found:
            found[required] = None
            _add(required, ("", *wanted.extras), found)
