# SPDX-License-Identifier: Apache-2.0
"""What can be said of a setting beside its type and its limits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, get_args, get_origin

__all__ = ["Among", "among"]


@dataclass(frozen=True, eq=False)
class Among:
    """Allows only these values, for a key or for each item of a list."""

    values: Collection[object]
    described: str
    """What they are, as the end of "must be …"."""


def among(hint: object) -> Among | None:
    """The marker of a field's type."""
    markers = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((marker for marker in markers if isinstance(marker, Among)), None)
