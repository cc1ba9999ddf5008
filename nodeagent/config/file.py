# SPDX-License-Identifier: Apache-2.0
"""The configuration file: found, trusted, read."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Final

from nodeagent.config.layers import Table, node
from nodeagent.errors import ConfigError

DEFAULT_PATH: Final = Path("/etc/nodeagent/config.toml")

LARGEST_BYTES: Final = 1 << 20

# O_NONBLOCK: opening a FIFO must not wait for its writer.
FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


def read_default() -> tuple[Path, Table] | None:
    """As `read_file()` does the file in its usual place; None when there is none."""
    return read_file(DEFAULT_PATH) if os.path.lexists(DEFAULT_PATH) else None


def read_file(path: Path) -> tuple[Path, Table]:
    """The path and what the file says; raises ConfigError."""
    origin = f"file {path}"
    try:
        table = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin} is not valid TOML{_line_first(str(error))}") from error
    except ValueError as error:
        # A number of thousands of digits, or a path with a NUL in it.
        raise ConfigError(f"{origin} cannot be used: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{origin} nests too many lists: use the keys that exist") from error
    root = node(table, origin)
    assert isinstance(root, Table)  # noqa: S101  for the type checker
    return path, root


def _text(path: Path) -> str:
    data = _bytes(path)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"file {path} is not UTF-8 in line {line}: save it as UTF-8") from error


def _bytes(path: Path) -> bytes:
    try:
        # Not open(): its error for a folder would come before ours.
        fd = os.open(path, FLAGS)
        try:
            reason = distrust(os.fstat(fd), os.geteuid())
            if reason:
                raise ConfigError(f"file {path} {reason}")
            data = _read(fd)
        finally:
            os.close(fd)
    except FileNotFoundError as error:
        raise ConfigError(
            f"file {path} does not exist: name another with --config, or leave that out"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"file {path} cannot be read, {error.strerror}: name another with --config"
        ) from error
    if len(data) > LARGEST_BYTES:
        raise ConfigError(f"file {path} is larger than 1 MiB: it cannot be our configuration")
    return data


def _read(fd: int) -> bytes:
    """All of it, or a little more than is allowed."""
    data = b""
    while len(data) <= LARGEST_BYTES and (chunk := os.read(fd, LARGEST_BYTES)):
        data += chunk
    return data


def distrust(status: os.stat_result, user: int) -> str | None:
    """Why the file cannot be taken for the configuration.

    Who may write it decides what a root process loads into the kernel and which files
    it writes to.
    """
    if stat.S_ISDIR(status.st_mode):
        return "is a folder: name the file in it"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file: name another with --config"
    if status.st_uid not in {0, user}:
        return f"belongs to user {status.st_uid}, who could change it: make it yours with chown"
    if user == 0 and status.st_mode & stat.S_IWOTH:
        return "can be changed by every user: run chmod o-w on it"
    if user == 0 and status.st_mode & stat.S_IWGRP and status.st_gid != 0:
        return f"can be changed by group {status.st_gid}: run chmod g-w on it"
    return None


def _line_first(text: str) -> str:
    """`Invalid value (at line 1, column 2)` as ` at line 1, column 2: invalid value`."""
    what, _, where = text.removesuffix(")").rpartition(" (at ")
    place = where.replace("end of document", "its end")
    return f" at {place}: {what[:1].lower()}{what[1:]}" if what else f": {text}"
