# SPDX-License-Identifier: Apache-2.0
"""What a field of an event means: how its bytes are read and how its value is shown.

A class in event.py annotates each field with one of these markers.
kernel/wire.py turns them into code that reads a record, encode.py into code that
writes JSON, schema.py into JSON Schema. Without a marker a field is a plain integer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

UNKNOWN_ID: Final = 0xFFFFFFFF
"""What the kernel writes for a user or group id that is not set."""


@dataclass(frozen=True)
class At:
    """The field of the C record, where it has another name or lies in a nested struct."""

    path: str


@dataclass(frozen=True)
class Hidden:
    """A number that is not shown."""


@dataclass(frozen=True)
class Text:
    """`struct text`: one string; empty when there is none."""


@dataclass(frozen=True)
class Path:
    """`struct path_text`: an absolute path; empty when there is none."""


@dataclass(frozen=True)
class Target:
    """`struct target`: the path of a file that a call names; empty when there is none."""


@dataclass(frozen=True)
class Raw:
    """`struct text`: bytes as they came, shown in base64."""


@dataclass(frozen=True)
class Strings:
    """`struct strings`: a list of strings."""


@dataclass(frozen=True)
class Variables:
    """`struct strings` of the form NAME=value: a mapping."""


@dataclass(frozen=True)
class Address:
    """`struct endpoint`: an Internet address and port, or None."""


@dataclass(frozen=True)
class Found:
    """What an enricher finds and keeps as `json`, None when it is not known; not in the record."""


@dataclass(frozen=True)
class Parsed:
    """What other fields mean, None when they mean nothing; no part of the record."""

    parse: Callable[..., object]
    """Takes any values of them and raises nothing."""
    fields: tuple[str, ...]
    """Fields that come before this one."""


@dataclass(frozen=True)
class Comm:
    """`char[16]`: a name that ends at the first NUL."""


@dataclass(frozen=True)
class Shared:
    """A struct, or a tuple of them, whose values repeat: each is read and shown once."""


@dataclass(frozen=True)
class Yes:
    """An integer that is 0 or not."""


@dataclass(frozen=True)
class Id:
    """A user or group id, None when not set."""


@dataclass(frozen=True)
class Device:
    """The kernel's dev_t, shown as major:minor."""


@dataclass(frozen=True)
class Moment:
    """Nanoseconds since 1970, shown as RFC 3339; 0: none, shown as null."""


@dataclass(frozen=True)
class Octal:
    """Permission bits, shown in octal."""


@dataclass(frozen=True, eq=False)
class Bits:
    """A set of flags, shown as a list of names."""

    names: Mapping[int, str]
    unknown: int | None = None
    """This value means that the flags are not known; shown as null."""
    access: tuple[str, ...] = ()
    """Names of the values of the two lowest bits, which are a number and no flags."""
    silent: int = 0
    """Bits that say nothing and are not shown."""

    def show(self, value: int) -> list[str] | None:
        """The names of the bits of `value`; bits without a name as one hexadecimal number."""
        if value == self.unknown:
            return None
        shown = [self.access[value & 3]] if self.access else []
        rest = value & ~self.silent & (~3 if self.access else ~0)
        # A name may stand for several bits, so the widest go first.
        for bits, name in sorted(self.names.items(), key=lambda item: -item[0].bit_count()):
            if rest & bits == bits:
                shown.append(name)
                rest &= ~bits
        if rest:
            shown.append(hex(rest))
        return shown


@dataclass(frozen=True, eq=False)
class Choice:
    """One of a list of names; a value without a name is shown as its number."""

    names: Mapping[int, str]
    enum: str = ""
    """The enum in events.h that has the same values."""
    unknown: int | None = None
    """This value means that there is none; shown as null."""

    def show(self, value: int) -> str | int | None:
        """The name of `value`."""
        return None if value == self.unknown else self.names.get(value, value)


Marker = (
    Hidden
    | Text
    | Path
    | Target
    | Raw
    | Strings
    | Variables
    | Address
    | Found
    | Parsed
    | Comm
    | Shared
    | Yes
    | Id
    | Device
    | Moment
    | Octal
    | Bits
    | Choice
)
