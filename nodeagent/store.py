# SPDX-License-Identifier: Apache-2.0
"""Findings in a file of this node, to be looked at later: a bounded SQLite database.

One process writes it, others may read it at the same time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from nodeagent.errors import StoreError
from nodeagent.finding import Finding, Severity

__all__ = ["Row", "Store", "row_of"]

VERSION: Final = 1
"""Of the tables, in the head of the file (user_version)."""
LAST_CHANGE: Final = (1 << 63) - 1
BUSY_SECONDS: Final = 5.0
"""How long to wait for somebody else who writes."""

TABLE: Final = """
CREATE TABLE IF NOT EXISTS finding (
    change INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, type TEXT NOT NULL,
    severity INTEGER NOT NULL, resource TEXT NOT NULL, title TEXT NOT NULL,
    first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, count INTEGER NOT NULL,
    line BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS finding_last_seen ON finding (last_seen);
"""
COLUMNS: Final = "id, type, severity, resource, title, first_seen, last_seen, count, line"


class Row(msgspec.Struct, frozen=True):
    """One finding, as it was told last."""

    id: str
    type: str
    severity: Severity
    resource: str
    """Where it was, in a few words."""
    title: str
    first_seen: int
    """Wall clock, ns since 1970."""
    last_seen: int
    """Wall clock, ns since 1970."""
    count: int
    line: bytes
    """The whole of it as JSON."""

    @property
    def details(self) -> dict[str, Any]:
        """The whole of it; raises StoreError when somebody has damaged it."""
        try:
            return msgspec.json.decode(self.line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise StoreError(f"finding {self.id} is damaged in the store: {error}") from error


class Store:
    """An open database."""

    def __init__(self, path: Path, *, writes: bool = False) -> None:
        """Make it when it is to be written; raises StoreError."""
        self._path = path
        if not writes and not path.exists():
            raise StoreError(
                f"there is no store at {path}: run the agent with a sink of type store,"
                " or name another file with --store"
            )
        try:
            if writes:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # With these permissions before SQLite makes it with its own.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            mode = "rw" if writes else "ro"
            where = f"{path.absolute().as_uri()}?mode={mode}"
            self._base = sqlite3.connect(
                where, BUSY_SECONDS, uri=True, isolation_level=None, check_same_thread=False
            )
            (version,) = self._base.execute("PRAGMA user_version").fetchone()
            if writes and not version:
                self._base.execute("PRAGMA journal_mode = WAL")
                self._base.executescript(TABLE)
                self._base.execute(f"PRAGMA user_version = {VERSION}")
                version = VERSION
        except (OSError, sqlite3.Error) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise StoreError(f"the store {path} cannot be used: {why}") from error
        if version != VERSION:
            self._base.close()
            raise StoreError(
                f"{path} is no store of this version: move it away, and a new one is made"
            )

    def __enter__(self) -> Self:
        """The store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close it."""
        self._base.close()

    def put(self, rows: Iterable[Row], most: int) -> None:
        """Add them, or replace what is known of them; the oldest beyond `most` go.

        Raises OSError when the disk is full or the file cannot be written.
        """
        try:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                self._base.executemany(
                    f"INSERT OR REPLACE INTO finding ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)",  # noqa: S608
                    [msgspec.structs.astuple(row) for row in rows],
                )
                self._base.execute(
                    "DELETE FROM finding WHERE id IN"
                    " (SELECT id FROM finding ORDER BY last_seen DESC LIMIT -1 OFFSET ?)",
                    (most,),
                )
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")
        except sqlite3.Error as error:
            raise OSError(0, f"the store {self._path} cannot be written: {error}") from error

    def rows(
        self,
        *,
        severity: Severity = Severity.INFORMATIONAL,
        kind: str = "*",
        since: int = 0,
        until: int = LAST_CHANGE,
    ) -> Iterator[Row]:
        """Those of at least this severity and of this type, which may hold *.

        Only what was put after the change `since` and up to `until`. The last one first.
        Raises StoreError.
        """
        yield from self._select(
            "severity >= ? AND type GLOB ? AND change > ? AND change <= ?"
            " ORDER BY last_seen DESC, id",
            int(severity),
            kind,
            since,
            until,
        )

    def last_change(self) -> int:
        """Grows with each finding that is put; raises StoreError."""
        try:
            (change,) = self._base.execute("SELECT max(change) FROM finding").fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"the store {self._path} cannot be read: {error}") from error
        return change or 0

    def find(self, start: str) -> list[Row]:
        """Those whose id starts so; raises StoreError."""
        # A literal prefix: no character of it is special.
        return list(self._select("substr(id, 1, ?) = ? ORDER BY id", len(start), start))

    def _select(self, condition: str, *values: object) -> Iterator[Row]:
        try:
            # The condition is one of the two above.
            found = self._base.execute(f"SELECT {COLUMNS} FROM finding WHERE {condition}", values)  # noqa: S608
            for number, kind, severity, *rest in found:
                yield Row(number, kind, Severity(severity), *rest)
        except (sqlite3.Error, ValueError) as error:
            raise StoreError(f"the store {self._path} cannot be read: {error}") from error


def row_of(finding: Finding, line: bytes) -> Row:
    """A finding and its line of JSON."""
    return Row(
        finding.id,
        finding.type,
        finding.severity,
        resource_words(finding.resource),
        finding.title,
        finding.first_seen,
        finding.last_seen,
        finding.count,
        line,
    )


def resource_words(resource: Mapping[str, Any]) -> str:
    """Where a finding was: pod, container, or the node."""
    kubernetes = resource.get("kubernetesDetails")
    if kubernetes:
        return f"{kubernetes['kubernetesWorkloadDetails']['namespace']}/{kubernetes['pod']}"
    container = resource.get("containerDetails")
    if container:
        return str(container["name"] or container["id"][:12])
    return str(resource.get("node", ""))
