# SPDX-License-Identifier: Apache-2.0
"""Reads BTF: the names, sizes and offsets of C types.

The format is described in Documentation/bpf/btf.rst of the kernel. It is meant for
the object's own BTF, which is small; what we ask of the kernel's BTF, libbpf answers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from nodeagent.errors import SchemaError

__all__ = ["Array", "Btf", "Enum", "Integer", "Member", "Struct"]

MAGIC: Final = 0xEB9F
HEADER: Final = struct.Struct("<HBBIIIII")
TYPE: Final = struct.Struct("<III")
TRIPLE: Final = struct.Struct("<III")
PAIR: Final = struct.Struct("<II")

# Kinds, from include/uapi/linux/btf.h.
INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF = range(1, 9)
VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC = range(9, 16)
FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(16, 20)

ALIASES: Final = frozenset({TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG})
EXTRA_BYTES: Final = {INT: 4, ARRAY: 12, VAR: 4, DECL_TAG: 4}
EXTRA_BYTES_EACH: Final = {STRUCT: 12, UNION: 12, ENUM: 8, FUNC_PROTO: 8, DATASEC: 12, ENUM64: 12}


LARGEST_ARRAY: Final = 4096


@contextmanager
def _damage() -> Iterator[None]:
    """BTF can come from a recording, so whatever it makes go wrong is said in one way."""
    try:
        yield
    except (struct.error, ValueError, IndexError, KeyError, RecursionError) as error:
        raise SchemaError(f"the BTF is damaged ({type(error).__name__})") from error


class Integer(msgspec.Struct, frozen=True):
    """An integer of `size` bytes."""

    size: int
    signed: bool


class Array(msgspec.Struct, frozen=True):
    """`count` elements of one type."""

    element: Integer | Struct | Array
    count: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * self.element.size


class Member(msgspec.Struct, frozen=True):
    """A member of a struct, at `offset` bytes."""

    name: str
    offset: int
    type: Integer | Struct | Array


class Struct(msgspec.Struct, frozen=True):
    """A struct or union of `size` bytes."""

    name: str
    size: int
    members: tuple[Member, ...]


class Enum(msgspec.Struct, frozen=True):
    """Values by the name of their enumerator."""

    name: str
    values: dict[str, int]


class _Type(msgspec.Struct):
    """One type as it stands in the BTF."""

    kind: int
    name: int
    length: int
    """Number of members, values or parameters."""
    flag: bool
    size_or_type: int
    extra: int
    """Where the rest of it begins."""


class Btf:
    """The structs and enums of one BTF blob, looked up by name."""

    def __init__(self, data: bytes) -> None:
        """Index all types; raises SchemaError when `data` is no BTF."""
        with _damage():
            self._index(data)

    def struct(self, name: str) -> Struct:
        """The struct or union `name` with everything inside it; raises SchemaError."""
        with _damage():
            return self._struct(self._find(name, (STRUCT, UNION)))

    def enum(self, name: str) -> Enum:
        """The enum `name`; raises SchemaError."""
        with _damage():
            found = self._types[self._find(name, (ENUM,))]
            pairs = (PAIR.unpack_from(self._data, found.extra + 8 * i) for i in range(found.length))
            return Enum(name, {self._string(string): value for string, value in pairs})

    def variable(self, section: str, name: str) -> tuple[int, Struct]:
        """Where a global variable lies in its section, in bytes, and its struct."""
        found = self._types[self._find(section, (DATASEC,))]
        for i in range(found.length):
            index, offset, _ = TRIPLE.unpack_from(self._data, found.extra + 12 * i)
            variable = self._types[index]
            if self._string(variable.name) == name:
                resolved = self._resolve(variable.size_or_type)
                if isinstance(resolved, Struct):
                    return offset, resolved
        raise SchemaError(f"the eBPF object has no struct {name} in {section}")

    def _index(self, data: bytes) -> None:
        magic, _version, _flags, header, types_at, types_size, strings_at, strings_size = (
            HEADER.unpack_from(data)
        )
        if magic != MAGIC:
            raise SchemaError("the BTF is damaged (wrong magic number)")
        self._data = data
        self._strings = data[header + strings_at : header + strings_at + strings_size]
        # Type 0 is void.
        self._types = [_Type(0, 0, 0, False, 0, 0)]
        self._by_name: dict[tuple[int, str], int] = {}
        at = header + types_at
        end = at + types_size
        while at < end:
            name, info, size_or_type = TYPE.unpack_from(data, at)
            kind = info >> 24 & 0x1F
            length = info & 0xFFFF
            at += TYPE.size
            found = _Type(kind, name, length, bool(info >> 31), size_or_type, at)
            at += EXTRA_BYTES.get(kind, 0) + EXTRA_BYTES_EACH.get(kind, 0) * length
            if name:
                self._by_name.setdefault((kind, self._string(name)), len(self._types))
            self._types.append(found)

    def _string(self, offset: int) -> str:
        end = self._strings.index(b"\0", offset)
        return self._strings[offset:end].decode("ascii", "replace")

    def _find(self, name: str, kinds: tuple[int, ...]) -> int:
        for kind in kinds:
            if (kind, name) in self._by_name:
                return self._by_name[kind, name]
        raise SchemaError(f"the BTF has no type {name}")

    def _resolve(self, index: int) -> Integer | Struct | Array:
        found = self._types[index]
        while found.kind in ALIASES:
            index = found.size_or_type
            found = self._types[index]
        if found.kind == INT:
            (encoding,) = struct.unpack_from("<I", self._data, found.extra)
            return Integer(found.size_or_type, bool(encoding >> 24 & 1))
        if found.kind == ENUM:
            return Integer(found.size_or_type, False)
        if found.kind == ARRAY:
            element, _, count = TRIPLE.unpack_from(self._data, found.extra)
            if count > LARGEST_ARRAY:
                raise SchemaError(f"a record holds an array of {count} elements")
            return Array(self._resolve(element), count)
        if found.kind in (STRUCT, UNION):
            return self._struct(index)
        raise SchemaError(f"a record holds something that is no data (BTF kind {found.kind})")

    def _struct(self, index: int) -> Struct:
        found = self._types[index]
        members = []
        for i in range(found.length):
            name, type_index, offset = TRIPLE.unpack_from(self._data, found.extra + 12 * i)
            if found.flag:
                # The upper byte is the width of a bit field.
                offset &= 0xFFFFFF
            members.append(Member(self._string(name), offset // 8, self._resolve(type_index)))
        return Struct(self._string(found.name), found.size_or_type, tuple(members))
