# SPDX-License-Identifier: Apache-2.0
"""The YAML documents of files and folders; what is dangerous is refused before it is built."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from sigma.rule.base import SigmaYAMLLoader

from nodeagent.detect.sigma.rules import Refused
from nodeagent.errors import ConfigError

__all__ = ["TITLE_LENGTH", "Document", "documents_of", "files_of"]

FILE_BYTES: Final = 1 << 20
FILES_LIMIT: Final = 5000
DEPTH_LIMIT: Final = 32
TITLE_LENGTH: Final = 200
SUFFIXES: Final = frozenset({".yml", ".yaml"})


class Document(msgspec.Struct):
    """One YAML document of a file."""

    file: str
    line: int
    lines: dict[str, int] = {}
    """Where each word stands first; of a field without its modifiers."""
    content: Any = None

    @property
    def title(self) -> str:
        """Of the rule, as far as there is one."""
        given = self.content.get("title") if isinstance(self.content, dict) else None
        return str(given)[:TITLE_LENGTH] if given is not None else ""


def files_of(places: Iterable[Path]) -> list[Path]:
    """The files that may hold rules; raises ConfigError for a place that cannot be read."""
    files: list[Path] = []
    for place in places:
        try:
            found = sorted(_below(place)) if place.is_dir() else [place]
            for file in found:
                file.stat()
        except OSError as error:
            raise ConfigError(
                f"detect.sigma: {error.filename or place} cannot be read: {error.strerror}"
            ) from error
        files += found
    if len(files) > FILES_LIMIT:
        raise ConfigError(
            f"detect.sigma: there are {len(files)} files, and at most {FILES_LIMIT} may be"
        )
    return list(dict.fromkeys(files))


def _below(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        # Kubernetes keeps older versions of a mounted folder in hidden ones.
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.suffix in SUFFIXES and not hidden and file.is_file():
            yield file


def documents_of(file: Path) -> list[Document]:
    """Those of a file; raises Refused, or YAMLError, for one that is none."""
    text = _text(file)
    found: list[Document] = []
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        line = event.start_mark.line + 1 if event.start_mark is not None else 0
        match event:
            case yaml.DocumentStartEvent():
                found.append(Document(str(file), line))
            case yaml.ScalarEvent():
                if event.value == "<<":
                    raise Refused(f"line {line} merges mappings by <<")
                word = event.value.partition("|")[0]
                found[-1].lines.setdefault(word, line)
            case yaml.CollectionStartEvent():
                depth += 1
                if depth > DEPTH_LIMIT:
                    raise Refused(f"it is nested more than {DEPTH_LIMIT} deep")
            case yaml.CollectionEndEvent():
                depth -= 1
    contents = list(yaml.load_all(text, SigmaYAMLLoader))
    for document, content in zip(found, contents, strict=True):
        document.content = content
    return found


def _text(file: Path) -> str:
    if not stat.S_ISREG(file.stat().st_mode):
        raise Refused("this is no regular file")
    try:
        with file.open("rb") as opened:
            data = opened.read(FILE_BYTES + 1)
    except OSError as error:
        raise Refused(f"it cannot be read: {error.strerror}") from error
    if len(data) > FILE_BYTES:
        raise Refused(f"it has more than {FILE_BYTES >> 20} MiB")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"it is no text in UTF-8 (byte {error.start})") from error
