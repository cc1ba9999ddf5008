# SPDX-License-Identifier: Apache-2.0
"""Joins the layout of the records (the object's BTF) with the event classes.

For each kind a function is compiled once that turns the bytes of one record into an
event. Only names of our own classes enter its source, and from the BTF only numbers,
so a hostile recording cannot bring code in.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec

from nodeagent.errors import BadRecord, SchemaError
from nodeagent.event import (
    EVENTS,
    Event,
    ProcessSeen,
    Task,
)
from nodeagent.field import (
    Address,
    At,
    Choice,
    Comm,
    Found,
    Parsed,
    Path,
    Raw,
    Shared,
    Strings,
    Target,
    Text,
    Variables,
    Yes,
)
from nodeagent.kernel.btf import Array, Btf, Integer, Member, Struct
from nodeagent.kernel.values import (
    incomplete_of,
    join_target,
    read_comm,
    read_endpoint,
    read_path,
    read_strings,
    read_text,
    read_variables,
)
from nodeagent.ledger import UNKNOWN_KIND

__all__ = ["Decoder", "Records", "integers", "layout_text", "pack", "pack_into", "task_reader"]

KNOWN_LIMIT: Final = 16384
"""Distinct paths and addresses that are remembered."""

SIZE: Final = struct.Struct("<I")

TEXT_MARKERS: Final = (Text, Path, Raw, Strings, Variables)
RESERVED: Final = "reserved"
"""Members of this name fill a hole and mean nothing."""

INTEGER_CODES: Final = {
    (1, False): "B",
    (1, True): "b",
    (2, False): "H",
    (2, True): "h",
    (4, False): "I",
    (4, True): "i",
    (8, False): "Q",
    (8, True): "q",
}


class Records(msgspec.Struct, gc=False):
    """Records as they came from the kernel: record i is `data[starts[i]:ends[i]]`."""

    data: bytes
    starts: list[int]
    ends: list[int]
    boot_ns: int
    """The wall clock at boot, ns since 1970."""


class Decoder:
    """Records to events. `kinds` names the numbers that a record on a ring can carry."""

    def __init__(self, btf: Btf) -> None:
        """Compile a function per kind; raises SchemaError when object and classes disagree."""
        numbers = btf.enum("event_kind").values
        self.kinds = {
            number: name.removeprefix("EVENT_").lower() for name, number in numbers.items()
        }
        record = {member.name: member.type for member in btf.struct("record").members}
        classes: dict[str, type[Event]] = {**EVENTS, ProcessSeen.kind: ProcessSeen}
        for name in set(classes) ^ set(record):
            raise SchemaError(
                f"kind {name} is known to only one of the eBPF object and the event classes:"
                " they are of different versions"
            )
        compiler = _Compiler(btf)
        self._decoders: list[Callable[[bytes, int, int, int], Event]] = [unknown_kind] * 256
        for number, name in list(self.kinds.items()):
            layout = record.get(name)
            if not isinstance(layout, Struct):
                raise SchemaError(f"kind {name} has no record in the eBPF object")
            decoder = compiler.decoder(classes[name], number, layout)
            if name == ProcessSeen.kind:
                self._listed = decoder
                del self.kinds[number]
            else:
                self._decoders[number] = decoder
        self._kind_at = compiler.kind_offset
        self._size_at = compiler.size_offset
        self._smallest = compiler.header_bytes

    def decode(self, records: Records) -> tuple[list[Event], Counter[str]]:
        """The events, in order, and how many records of each kind were bad.

        Raises nothing, whatever the bytes are.
        """
        events = []
        bad: Counter[str] = Counter()
        data = records.data
        boot_ns = records.boot_ns
        decoders = self._decoders
        kind_at = self._kind_at
        for start, end in zip(records.starts, records.ends, strict=True):
            try:
                events.append(decoders[data[start + kind_at]](data, start, end, boot_ns))
            except (BadRecord, IndexError, struct.error):
                bad[self.kind_of(data, start, end) or UNKNOWN_KIND] += 1
        return events, bad

    def decode_listing(self, data: bytes, boot_ns: int) -> Iterator[ProcessSeen]:
        """The events of an iterator, whose records follow each other; raises BadRecord."""
        at = 0
        while at < len(data):
            if at + self._smallest > len(data):
                raise BadRecord("the list of processes is cut off")
            (size,) = SIZE.unpack_from(data, at + self._size_at)
            if not self._smallest <= size <= len(data) - at:
                raise BadRecord("the list of processes is damaged")
            yield self._listed(data, at, at + size, boot_ns)
            at += size

    def kind_of(self, data: bytes, start: int, end: int) -> str | None:
        """The name of the kind of a record, None when it cannot be told."""
        if end - start <= self._kind_at:
            return None
        return self.kinds.get(data[start + self._kind_at]) if end <= len(data) else None


def unknown_kind(data: bytes, start: int, end: int, boot_ns: int) -> Event:  # noqa: ARG001
    """Stands where a kind has no decoder."""
    raise BadRecord(f"a record of {end - start} bytes is of an unknown kind")


def task_reader(btf: Btf) -> Callable[[bytes], Task]:
    """A function that reads the bytes in `Event.task`."""
    layout = btf.struct("task")
    compiler = _Compiler(btf)
    return compiler.struct_reader(Task, layout)


class _Known(dict[bytes, Any]):
    """Values by the bytes they were read from; bounded in number."""

    def __init__(self, read: Callable[[bytes], Any]) -> None:
        super().__init__()
        self.read = read

    def __missing__(self, raw: bytes) -> Any:
        if len(self) >= KNOWN_LIMIT:
            self.clear()
        value = self[raw] = self.read(raw)
        return value


class _Slot(msgspec.Struct):
    """One value that `struct.unpack` gives: where it lies, its code, its variable."""

    offset: int
    code: str
    variable: str


class _Compiler:
    """Writes and compiles the source of decoders."""

    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        event = btf.struct("event")
        self.event = event
        self.header_bytes = event.size
        self.kind_offset = _member(event, "kind").offset
        self.size_offset = _member(event, "size").offset
        self.names: dict[str, Any] = {
            "BadRecord": BadRecord,
            "paths": _Known(read_path),
            "texts": _Known(read_text),
            "strings": read_strings,
            "variables": read_variables,
            "comm": read_comm,
            "endpoints": _Known(read_endpoint),
            "incomplete_of": incomplete_of,
            "join_target": join_target,
        }

    def decoder(self, event: type[Event], number: int, layout: Struct) -> Callable[..., Any]:
        """The function `decode(data, start, end, boot_ns)` of one kind."""
        reader = _Reader(self, layout)
        header = {
            "time": "time + boot_ns",
            "process": "None",
            "incomplete": "incomplete",
            "added": "None",
        }
        for name in ("time", "sequence", "size", "kind", "cpu", "tid", "result"):
            reader.integer(f"event.{name}", name)
        reader.raw("event.task", "task")
        hints = get_type_hints(event, include_extras=True)
        own = [name for name in event.__struct_fields__ if name not in Event.__struct_fields__]
        values = [header.get(name, name) for name in Event.__struct_fields__]
        shown: dict[str, str] = {}
        for name in own:
            shown[name] = reader.parsed(name, hints[name], shown) or reader.value(name, hints[name])
        values += shown.values()
        reader.check_complete(event.__name__)
        name = f"decode_{event.kind}"
        self.names[event.__name__] = event
        self.names[f"unpack_{event.kind}"] = reader.unpacker()
        lines = [
            f"def {name}(data, start, end, boot_ns):",
            f"    if end - start < {layout.size}:",
            f"        raise BadRecord('a record of kind {event.kind} is too short')",
            f"    {reader.variables()} = unpack_{event.kind}(data, start)",
            f"    if size != end - start or kind != {number}:",
            f"        raise BadRecord('the header of a record of kind {event.kind} is wrong')",
            *(f"    {line}" for line in reader.statements()),
            f"    return {event.__name__}({', '.join(values)})",
        ]
        return self.compile(name, lines)

    def struct_reader(self, target: type[msgspec.Struct], layout: Struct) -> Callable[[bytes], Any]:
        """A function that reads a struct without texts from just its bytes."""
        reader = _Reader(self, layout)
        hints = get_type_hints(target, include_extras=True)
        values = [reader.value(name, hints[name]) for name in target.__struct_fields__]
        reader.check_complete(target.__name__)
        name = f"read_{target.__name__}"
        self.names[target.__name__] = target
        self.names[f"unpack_{name}"] = reader.unpacker()
        return self.compile(
            name,
            [
                f"def {name}(data):",
                f"    {reader.variables()} = unpack_{name}(data, 0)",
                f"    return {target.__name__}({', '.join(values)})",
            ],
        )

    def check_enum(self, choice: Choice) -> None:
        """Raise SchemaError unless an enum of the object has the names of `choice`."""
        values = self.btf.enum(choice.enum).values
        names = {name.lower(): number for name, number in values.items()}
        if sorted(names.values()) != sorted(choice.names) or not all(
            name.endswith(f"_{choice.names[number]}") for name, number in names.items()
        ):
            raise SchemaError(f"enum {choice.enum} of the eBPF object has other names")

    def compile(self, name: str, lines: list[str]) -> Callable[..., Any]:
        # Made of our own class definitions and of numbers, never of input.
        exec("\n".join(lines), self.names)  # noqa: S102
        return self.names[name]  # type: ignore[no-any-return]


class _Reader:
    """Collects what one struct needs: values to unpack and statements on texts."""

    def __init__(self, compiler: _Compiler, layout: Struct) -> None:
        self.compiler = compiler
        self.layout = layout
        self.slots: list[_Slot] = []
        self.texts: list[tuple[str, str]] = []
        """The field that each belongs to, and the start of its variables."""
        self.taken: set[str] = set()

    def integer(self, path: str, variable: str) -> str:
        """Unpack an integer; returns its variable."""
        offset, found = _walk(self.layout, path)
        code = isinstance(found, Integer) and INTEGER_CODES.get((found.size, found.signed))
        if not code:
            raise SchemaError(f"{self.layout.name}.{path} is no integer in the eBPF object")
        self._slot(path, offset, code, variable)
        return variable

    def raw(self, path: str, variable: str) -> str:
        """Unpack all bytes of a struct or array; returns the variable."""
        offset, found = _walk(self.layout, path)
        self._slot(path, offset, f"{found.size}s", variable)
        return variable

    def value(self, name: str, hint: object, prefix: str = "") -> str:
        """The expression for a field of the Python class."""
        base, markers = _split(hint)
        path = prefix + next((m.path for m in markers if isinstance(m, At)), name)
        variable = "v_" + path.replace(".", "_")
        marker = next((m for m in markers if not isinstance(m, At)), None)
        if isinstance(marker, TEXT_MARKERS):
            return self._text(name, path, variable, marker)
        match marker:
            case Target():
                return self._target(name, path, variable)
            case Found():
                return "None"
            case Choice() if marker.enum:
                self.compiler.check_enum(marker)
            case Comm():
                return f"comm({self.raw(path, variable)})"
            case Address():
                return f"endpoints[{self.raw(path, variable)}]"
            case Yes():
                return f"{self.integer(path, variable)} != 0"
            case Shared():
                return f"{self._shared(base, path)}[{self.raw(path, variable)}]"
        if isinstance(base, type) and issubclass(base, msgspec.Struct):
            return self._nested(base, path)
        return self.integer(path, variable)

    def parsed(self, name: str, hint: object, values: Mapping[str, str]) -> str:
        """The expression for a field that is made of others; empty when it is none."""
        marker = next((m for m in _split(hint)[1] if isinstance(m, Parsed)), None)
        if marker is None:
            return ""
        self.compiler.names[f"parse_{name}"] = marker.parse
        return f"parse_{name}({', '.join(values[field] for field in marker.fields)})"

    def _nested(self, target: type[msgspec.Struct], path: str) -> str:
        self.compiler.names[target.__name__] = target
        hints = get_type_hints(target, include_extras=True)
        values = [self.value(name, hints[name], path + ".") for name in target.__struct_fields__]
        return f"{target.__name__}({', '.join(values)})"

    def _shared(self, base: Any, path: str) -> str:
        """The name of the table of all values of a struct, or of a tuple of structs."""
        _, found = _walk(self.layout, path)
        names = self.compiler.names
        name = f"shared_{self.layout.name}_{path.replace('.', '_')}"
        if name in names:
            return name
        if isinstance(found, Struct):
            names[name] = _Known(self.compiler.struct_reader(base, found))
        elif isinstance(found, Array) and isinstance(found.element, Struct):
            elements = get_args(base)
            if found.count != len(elements):
                raise SchemaError(f"{self.layout.name}.{path} has another number of elements")
            size = found.element.size
            read = self.compiler.struct_reader(elements[0], found.element)
            names[name] = _Known(
                lambda raw: tuple(read(raw[at : at + size]) for at in range(0, len(raw), size))
            )
        else:
            raise SchemaError(f"{self.layout.name}.{path} is no struct in the eBPF object")
        return name

    def _target(self, name: str, path: str, variable: str) -> str:
        parts = [
            self._text(name, f"{path}.{part}", f"{variable}_{part}", marker)
            for part, marker in (("path", Path()), ("base", Path()), ("argument", Text()))
        ]
        return f"join_target({', '.join(parts)})"

    def _text(self, name: str, path: str, variable: str, marker: object) -> str:
        """A text is a slice of the record, checked to lie inside it."""
        inner = {Path: ".leaf_first", Strings: ".joined", Variables: ".joined"}
        base = path + inner.get(type(marker), "")
        for part in ("offset", "length"):
            self.integer(f"{base}.{part}", f"{variable}_{part}")
        self._flaw(base, f"{variable}_flaw")
        self.texts.append((name, variable))
        raw = f"data[start + {variable}_offset : start + {variable}_offset + {variable}_length]"
        read = {
            Path: f"paths[{raw}]",
            Text: f"texts[{raw}]",
            Raw: raw,
            Strings: f"strings({raw})",
            Variables: f"variables({raw})",
        }[type(marker)]
        empty = {Strings: "()", Variables: "{}", Raw: "b''"}.get(type(marker), "''")
        return f"{read} if {variable}_length else {empty}"

    def _flaw(self, base: str, variable: str) -> None:
        """`truncated` and `error` as one number, because both are nearly always zero."""
        truncated, first = _walk(self.layout, f"{base}.truncated")
        error, second = _walk(self.layout, f"{base}.error")
        if (first.size, second.size, error - truncated) != (2, 2, 2):
            raise SchemaError(f"{self.layout.name}.{base} of the eBPF object is no struct text")
        self._slot(f"{base}.truncated", truncated, "I", variable)
        self.taken.add(f"{base}.error")

    def statements(self) -> list[str]:
        """Checks of all texts, and the note on what is incomplete."""
        if not self.texts:
            return ["incomplete = None"]
        outside = " or ".join(f"{v}_offset + {v}_length > size" for _, v in self.texts)
        flaws = " or ".join(f"{v}_flaw" for _, v in self.texts)
        noted = ", ".join(f"({name!r}, {v}_flaw)" for name, v in self.texts)
        return [
            f"if {outside}:",
            "    raise BadRecord('a text reaches beyond its record')",
            f"incomplete = incomplete_of(({noted},)) if {flaws} else None",
        ]

    def _slot(self, path: str, offset: int, code: str, variable: str) -> None:
        self.taken.add(path)
        self.slots.append(_Slot(offset, code, variable))

    def variables(self) -> str:
        """The left side of the assignment of what is unpacked."""
        return ", ".join(slot.variable for slot in self._sorted()) + ","

    def unpacker(self) -> Callable[[bytes, int], tuple[Any, ...]]:
        """`unpack_from` for the values, with the bytes in between skipped."""
        layout = "<"
        at = 0
        for slot in self._sorted():
            if slot.offset < at:
                raise SchemaError(f"members of {self.layout.name} overlap in the eBPF object")
            layout += f"{slot.offset - at}x{slot.code}"
            at = slot.offset + struct.calcsize("<" + slot.code)
        return struct.Struct(layout).unpack_from

    def _sorted(self) -> list[_Slot]:
        return sorted(self.slots, key=lambda slot: slot.offset)

    def check_complete(self, target: str) -> None:
        """Raise SchemaError when the record holds something that the class does not have."""
        for path in _leaves(self.layout):
            covered = any(path == taken or path.startswith(taken + ".") for taken in self.taken)
            if not covered and path.rsplit(".")[-1] != RESERVED:
                raise SchemaError(
                    f"{self.layout.name}.{path} of the eBPF object has no field in {target}"
                )


def _split(hint: object) -> tuple[Any, tuple[Any, ...]]:
    if get_origin(hint) is Annotated:
        base, *markers = get_args(hint)
        return base, tuple(markers)
    return hint, ()


def _member(layout: Struct, name: str) -> Member:
    for member in layout.members:
        if member.name == name:
            return member
    raise SchemaError(f"{layout.name} of the eBPF object has no member {name}")


def _walk(layout: Struct, path: str) -> tuple[int, Integer | Struct | Array]:
    """Offset and type of a member of a member, like `file.inode` or `stdio.0.type`."""
    offset = 0
    found: Integer | Struct | Array = layout
    for name in path.split("."):
        if isinstance(found, Array) and name.isdigit():
            offset += int(name) * found.element.size
            found = found.element
        elif isinstance(found, Struct):
            member = _member(found, name)
            offset += member.offset
            found = member.type
        else:
            raise SchemaError(f"{layout.name}.{path} does not exist in the eBPF object")
    return offset, found


def _leaves(layout: Struct | Array, prefix: str = "") -> Iterator[str]:
    """Every member that is not a struct, as a path."""
    if isinstance(layout, Array):
        parts = [(str(i), layout.element) for i in range(layout.count)]
    else:
        parts = [(member.name, member.type) for member in layout.members]
    for name, part in parts:
        if isinstance(part, Integer) or (isinstance(part, Array) and part.element.size == 1):
            yield prefix + name
        else:
            yield from _leaves(part, f"{prefix}{name}.")


def pack(layout: Struct, values: Mapping[str, int]) -> bytes:
    """The bytes of a flat struct; raises SchemaError unless each member has a value."""
    wanted = [member for member in layout.members if member.name != RESERVED]
    if {member.name for member in wanted} != set(values):
        raise SchemaError(f"struct {layout.name} of the eBPF object has other members")
    packed = bytearray(layout.size)
    for member in wanted:
        if not isinstance(member.type, Integer):
            raise SchemaError(f"{layout.name}.{member.name} is no integer in the eBPF object")
        code = INTEGER_CODES[member.type.size, member.type.signed]
        struct.pack_into("<" + code, packed, member.offset, values[member.name])
    return bytes(packed)


def pack_into(layout: Struct, into: bytearray, values: Mapping[str, int | bytes]) -> None:
    """Change some members of the struct that starts `into`; raises SchemaError.

    Bytes go into an array of characters, and are cut so that a NUL ends them.
    """
    for name, value in values.items():
        offset, found = _walk(layout, name)
        if isinstance(value, bytes) and isinstance(found, Array) and found.element.size == 1:
            into[offset : offset + found.count] = value[: found.count - 1].ljust(found.count, b"\0")
            continue
        code = isinstance(found, Integer) and INTEGER_CODES.get((found.size, found.signed))
        if not code:
            raise SchemaError(f"{layout.name}.{name} is no integer in the eBPF object")
        struct.pack_into("<" + code, into, offset, value)


def integers(layout: Struct, data: bytes) -> dict[str, int]:
    """All members of a struct that are integers."""
    found = {}
    for member in layout.members:
        if isinstance(member.type, Integer):
            code = INTEGER_CODES[member.type.size, member.type.signed]
            (found[member.name],) = struct.unpack_from("<" + code, data, member.offset)
    return found


def layout_text(btf: Btf) -> str:
    """Where every byte of every record is, for a person and for a diff."""
    lines = []
    for kind in btf.struct("record").members:
        if not isinstance(kind.type, Struct):
            continue
        lines.append(f"{kind.name}: {kind.type.size} bytes")
        for path in _leaves(kind.type):
            offset, found = _walk(kind.type, path)
            lines.append(f"  {offset:>4} {found.size:>3} {path}")
    return "\n".join(lines) + "\n"
