# SPDX-License-Identifier: Apache-2.0
"""Records and classes fit together, and no bytes whatsoever do harm."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.errors import BadRecord, SchemaError
from nodeagent.event import EVENTS, Open
from nodeagent.kernel.btf import Btf, Struct
from nodeagent.kernel.values import read_path, read_strings, read_text, read_variables
from nodeagent.kernel.wire import (
    Decoder,
    Records,
    layout_text,
    pack,
    task_reader,
)
from tests.object import object_btf, object_btf_bytes

GOLDEN = Path(__file__).with_name("wire_layout.txt")
HEADER = struct.Struct("<QQIHHIi")


@pytest.fixture(scope="module")
def btf() -> Btf:
    return object_btf()


@pytest.fixture(scope="module")
def decoder(btf: Btf) -> Decoder:
    return Decoder(btf)


def fixed_bytes(btf: Btf, kind: str) -> int:
    return next(m.type.size for m in btf.struct("record").members if m.name == kind)


def record(btf: Btf, kind: str, tail: bytes = b"") -> bytearray:
    """A record of zeros with a right header."""
    number = btf.enum("event_kind").values[f"EVENT_{kind.upper()}"]
    size = fixed_bytes(btf, kind) + len(tail)
    made = bytearray(size - len(tail)) + tail
    HEADER.pack_into(made, 0, 1_000, 7, size, number, 1, 42, 0)
    return made


def put_text(made: bytearray, at: int, offset: int, length: int) -> None:
    struct.pack_into("<HHHh", made, at, offset, length, 0, 0)


def member_at(btf: Btf, kind: str, name: str) -> int:
    """Where a member of a record lies."""
    layout = next(m.type for m in btf.struct("record").members if m.name == kind)
    assert isinstance(layout, Struct)
    return next(m.offset for m in layout.members if m.name == name)


def decode_one(decoder: Decoder, data: bytes | bytearray) -> object:
    events, bad = decoder.decode(Records(bytes(data), [0], [len(data)], 10))
    assert len(events) + bad.total() == 1
    return events[0] if events else None


def test_layout_of_every_record_is_the_golden_one(btf: Btf) -> None:
    # When this fails the wire has changed: look at the difference, then run
    # python -m tests.unit.wire_layout to write the file again.
    assert layout_text(btf) == GOLDEN.read_text(encoding="ascii")


@pytest.mark.parametrize("kind", EVENTS)
def test_record_of_zeros_is_an_event_of_its_kind(decoder: Decoder, btf: Btf, kind: str) -> None:
    event = decode_one(decoder, record(btf, kind))
    assert type(event) is EVENTS[kind]
    assert event.time == 1_010
    assert (event.sequence, event.cpu, event.tid) == (7, 1, 42)
    assert event.incomplete is None


def test_text_is_taken_from_the_tail(decoder: Decoder, btf: Btf) -> None:
    made = record(btf, "open", b"passwd\0etc\0")
    put_text(made, member_at(btf, "open", "path"), len(made) - 11, 11)
    event = decode_one(decoder, made)
    assert isinstance(event, Open)
    assert event.path == "/etc/passwd"


def test_text_that_reaches_beyond_its_record_is_bad(decoder: Decoder, btf: Btf) -> None:
    made = record(btf, "open", b"x")
    put_text(made, member_at(btf, "open", "path"), len(made) - 1, 2)
    assert decode_one(decoder, made) is None


def test_record_that_is_shorter_than_its_kind_is_bad(decoder: Decoder, btf: Btf) -> None:
    assert decode_one(decoder, record(btf, "exec")[:-1]) is None


def test_process_of_a_listing_is_no_record_of_a_ring(decoder: Decoder, btf: Btf) -> None:
    made = bytes(record(btf, "process"))
    events, bad = decoder.decode(Records(made, [0], [len(made)], 0))
    assert (events, dict(bad)) == ([], {"unknown": 1})
    assert [seen.kind for seen in decoder.decode_listing(made + made, 0)] == ["process"] * 2


@given(data=st.binary(max_size=2048))
def test_arbitrary_bytes_are_an_event_or_a_bad_record(data: bytes) -> None:
    decoder = SHARED
    events, bad = decoder.decode(Records(data, [0], [len(data)], 0))
    assert len(events) + bad.total() == 1


@given(
    kind=st.sampled_from(sorted(EVENTS)),
    noise=st.binary(min_size=600, max_size=1200),
    spans=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), max_size=4),
)
def test_arbitrary_bytes_behind_a_right_header_do_no_harm(
    kind: str, noise: bytes, spans: list[tuple[int, int]]
) -> None:
    made = bytearray(noise)
    number = next(n for n, name in SHARED.kinds.items() if name == kind)
    HEADER.pack_into(made, 0, 1, 2, len(made), number, 0, 1, 0)
    starts = [0, *(start for start, _ in spans)]
    ends = [len(made), *(end for _, end in spans)]
    events, bad = SHARED.decode(Records(bytes(made), starts, ends, 0))
    assert len(events) + bad.total() == len(starts)


@given(data=st.binary(max_size=2048))
def test_arbitrary_bytes_as_a_listing_raise_only_bad_record(data: bytes) -> None:
    with contextlib.suppress(BadRecord):
        list(SHARED.decode_listing(data, 0))


@given(data=st.binary(max_size=4096))
def test_arbitrary_bytes_as_btf_raise_only_schema_error(data: bytes) -> None:
    with contextlib.suppress(SchemaError):
        Decoder(Btf(data))


@given(cut=st.integers(0, 200_000), junk=st.binary(max_size=64))
def test_damaged_btf_raises_only_schema_error(cut: int, junk: bytes) -> None:
    whole = WHOLE_BTF
    at = cut % len(whole)
    with contextlib.suppress(SchemaError):
        Decoder(Btf(whole[:at] + junk + whole[at + len(junk) :]))


def test_missing_member_is_named(btf: Btf) -> None:
    with pytest.raises(SchemaError, match="settings"):
        pack(btf.struct("settings"), {"kinds": 1})


def test_task_is_read_from_its_bytes(btf: Btf) -> None:
    layout = btf.struct("task")
    raw = bytearray(layout.size)
    struct.pack_into("<I", raw, next(m.offset for m in layout.members if m.name == "pid"), 77)
    raw[-16:-12] = b"bash"
    task = task_reader(btf)(bytes(raw))
    assert (task.pid, task.comm, task.uid) == (77, "bash", 0)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        (b"\0", "/"),
        (b"passwd\0etc\0", "/etc/passwd"),
        (b"leaf\0cut", "cut/leaf"),
        (b"bad\xff\0", "/bad\\xff"),
    ],
)
def test_path_is_turned_around(raw: bytes, text: str) -> None:
    assert read_path(raw) == text


def test_abstract_name_starts_with_an_at_sign() -> None:
    assert read_text(b"\0name") == "@name"


def test_empty_argument_in_the_middle_stays() -> None:
    assert read_strings(b"a\0\0b\0") == ("a", "", "b")


def test_first_of_two_variables_counts() -> None:
    assert read_variables(b"A=1\0A=2\0") == {"A": "1"}


@given(raw=st.binary(max_size=300))
def test_any_bytes_are_text_that_is_valid_utf8(raw: bytes) -> None:
    for text in (read_text(raw), read_path(raw), *read_strings(raw)):
        text.encode("utf-8")


WHOLE_BTF = object_btf_bytes()
SHARED = Decoder(object_btf())
