# SPDX-License-Identifier: Apache-2.0
"""A memory of the last things seen, bounded."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Recent"]

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The entries that were put in or asked for last, at least half of `limit`, at most all."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._new: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._new.clear()
        self._old.clear()

    def get(self, key: K) -> V | None:
        """What is known of it; an entry that is asked for stays longer."""
        found = self._new.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        """Remember it; the generation before the last one is forgotten."""
        if len(self._new) >= self._half and key not in self._new:
            self._old = self._new
            self._new = {}
        self._new[key] = value
