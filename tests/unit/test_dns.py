# SPDX-License-Identifier: Apache-2.0
"""DNS messages are read as they are meant, and no bytes whatsoever do harm."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.dns import DnsAnswer, DnsMessage, DnsQuestion, read_dns
from nodeagent.encode import encode
from tests.events import a_dns

PATIENCE_SECONDS = 0.5
"""Far more than any message takes, on a busy machine too."""

QUERY = 0x0100
ANSWER = 0x8180
NAME_AT = 0xC00C
"""Points to the name of the first question."""


def name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def header(*, flags: int = QUERY, questions: int = 1, answers: int = 0) -> bytes:
    return struct.pack(">HHHHHH", 0x1234, flags, questions, answers, 0, 0)


def question(asked: str = "example.org", kind: int = 1) -> bytes:
    return name(asked) + struct.pack(">HH", kind, 1)


def record(kind: int, data: bytes, ttl: int = 60) -> bytes:
    return struct.pack(">HHHIH", NAME_AT, kind, 1, ttl, len(data)) + data


def read(payload: bytes) -> DnsMessage | None:
    """As a whole message."""
    return read_dns(payload, 0, len(payload))


def answered(*records: bytes) -> DnsMessage:
    count = len(records)
    message = read(header(flags=ANSWER, answers=count) + question() + b"".join(records))
    assert message is not None
    return message


def test_query_says_what_is_asked() -> None:
    assert read(header() + question("www.example.org", 28)) == DnsMessage(
        0x1234, False, 0, DnsQuestion("www.example.org", 28), (), 0
    )


def test_answers_are_listed_in_their_order() -> None:
    message = answered(record(5, b"\3www\xc0\x0c"), record(1, bytes([192, 0, 2, 1]), 300))
    assert message.response
    assert message.answers == (
        DnsAnswer("example.org", 5, 60, "www.example.org"),
        DnsAnswer("example.org", 1, 300, "192.0.2.1"),
    )


def test_failure_has_its_code() -> None:
    message = read(header(flags=ANSWER | 3) + question())
    assert message is not None
    assert (message.rcode, message.answers) == (3, ())


def test_message_without_a_question_is_one() -> None:
    message = read(header(questions=0))
    assert message is not None
    assert message.question is None


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        (1, bytes([10, 0, 0, 1]), "10.0.0.1"),
        (28, bytes(15) + b"\1", "::1"),
        (2, name("ns.example.org"), "ns.example.org"),
        (12, b"\xc0\x0c", "example.org"),
        (39, b"\0", "."),
        (15, b"\0\x0a\4mail\xc0\x0c", "10 mail.example.org"),
        (33, struct.pack(">HHH", 1, 2, 5060) + name("sip"), "1 2 5060 sip"),
        (6, b"\2ns\xc0\x0c\xc0\x0c" + struct.pack(">5I", 1, 2, 3, 4, 5),
         "ns.example.org example.org 1 2 3 4 5"),
        (16, b'\5hello\7"a\\ b"\n\0', r'"hello" "\"a\\ b\"\010" ""'),
        (65, b"\0\1\0", r"\# 3 000100"),
        (65280, b"", r"\# 0"),
        (1, b"12345", r"\# 5 3132333435"),
    ],
)  # fmt: skip
def test_data_is_shown_as_in_a_zone_file(kind: int, data: bytes, text: str) -> None:
    assert answered(record(kind, data)).answers[0].data == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"\4a.b\\\0", r"a\.b\\"), (b"\3\0\xff \0", r"\000\255\032"), (b"\0", ".")],
)
def test_bytes_of_a_name_that_mean_something_else_are_escaped(raw: bytes, text: str) -> None:
    message = read(header() + raw + b"\0\1\0\1")
    assert message is not None
    assert message.question is not None
    assert message.question.name == text


ENDLESS = {
    "to itself": b"\xc0\x0c",
    "forwards": b"\xc0\x0e\0",
    "beyond the end": b"\xff\xff",
    "cut": b"\xc0",
}


@pytest.mark.parametrize("raw", ENDLESS.values(), ids=ENDLESS)
def test_name_that_does_not_end_is_refused(raw: bytes) -> None:
    assert read(header() + raw + b"\0\1\0\1") is None


@pytest.mark.parametrize("length", [0x40, 0x80])
def test_label_of_a_kind_that_does_not_exist_is_refused(length: int) -> None:
    assert read(header() + bytes([length]) + bytes(200)) is None


def test_name_has_at_most_255_bytes() -> None:
    label = b"\x3f" + b"a" * 63
    longest = label * 3 + b"\x3d" + b"a" * 61 + b"\0"
    assert len(longest) == 255
    assert read(header() + longest + b"\0\1\0\1") is not None
    assert read(header() + label * 3 + b"\x3e" + b"a" * 62 + b"\0" + b"\0\1\0\1") is None


def test_data_that_is_shorter_or_longer_than_it_says_is_refused() -> None:
    start = header(flags=ANSWER, answers=1) + question()
    assert read(start + record(5, b"\xc0\x0c" + b"x")) is None
    assert read(start + record(16, b"\5ab")) is None
    assert read(start + record(1, b"1234")[:-1]) is None


def test_start_of_a_message_gives_the_answers_that_are_whole() -> None:
    records = [record(1, bytes([10, 0, 0, n])) for n in range(3)]
    whole = header(flags=ANSWER, answers=3) + question() + b"".join(records)
    message = read_dns(whole[:-1], 0, len(whole))
    assert message is not None
    assert [answer.data for answer in message.answers] == ["10.0.0.0", "10.0.0.1"]
    assert message.answer_count == 3


def test_what_is_not_the_start_is_no_message() -> None:
    whole = header() + question()
    assert read_dns(whole, 1, len(whole) + 1) is None


def test_at_most_64_answers_are_listed() -> None:
    message = answered(*[record(1, bytes(4))] * 100)
    assert (len(message.answers), message.answer_count) == (64, 100)


def test_little_that_is_repeated_does_not_become_much() -> None:
    labels = b"\1\0" * 126 + b"\0"
    start = header(flags=ANSWER, answers=64) + labels + b"\0\1\0\1"
    payload = start + record(5, b"\xc0\x0c") * 64
    message = read(payload)
    assert message is not None
    assert 0 < len(message.answers) < 64
    assert len(encode([a_dns(message=message)])) < 65536


def test_hostile_message_takes_no_time() -> None:
    start = header(flags=ANSWER, questions=16, answers=64) + b"\1a" * 126 + b"\0" + b"\0\1\0\1"
    jumps = b"".join(struct.pack(">H", 0xC000 | len(start) + at - 2) for at in range(2, 2000, 2))
    payload = start + struct.pack(">H", NAME_AT) + jumps + bytes(2000)
    started = time.monotonic()
    for cut in range(12, len(payload), 97):
        read(payload[:cut])
    assert time.monotonic() - started < PATIENCE_SECONDS


@given(payload=st.binary(max_size=2048), offset=st.integers(0, 3), more=st.integers(0, 3))
def test_arbitrary_bytes_are_a_message_or_none(payload: bytes, offset: int, more: int) -> None:
    message = read_dns(payload, offset, len(payload) + more)
    encode([a_dns(message=message)])


LABEL = st.binary(min_size=1, max_size=63).map(lambda raw: bytes([len(raw)]) + raw)
POINTER = st.integers(0, 80).map(lambda at: struct.pack(">H", 0xC000 | at))
NAME = st.tuples(st.lists(LABEL, max_size=4).map(b"".join), st.one_of(POINTER, st.just(b"\0"))).map(
    b"".join
)
DATA = st.one_of(st.binary(max_size=40), NAME, st.tuples(NAME, NAME).map(b"".join))
RECORD = st.builds(
    lambda owner, kind, data: owner + struct.pack(">HHIH", kind, 1, 60, len(data)) + data,
    NAME,
    st.sampled_from([1, 2, 5, 6, 12, 15, 16, 28, 33, 39, 41, 65]),
    DATA,
)


@given(
    counts=st.lists(st.integers(0, 70), min_size=4, max_size=4),
    flags=st.integers(0, 0xFFFF),
    asked=NAME,
    records=st.lists(RECORD, max_size=6),
    cut=st.integers(0, 20),
)
def test_what_looks_like_a_message_does_no_harm(
    counts: list[int], flags: int, asked: bytes, records: list[bytes], cut: int
) -> None:
    whole = struct.pack(">HHHHHH", 1, flags, *counts) + asked + b"\0\1\0\1" + b"".join(records)
    message = read_dns(whole[: len(whole) - cut], 0, len(whole))
    if message is not None:
        assert len(message.answers) <= min(counts[1], 64)
        encode([a_dns(message=message)])


@pytest.mark.parametrize("byte", [b"\0", b"\1", b"\x3f", b"\xc0", b"\xff"])
def test_longest_payload_of_rubbish_does_no_harm(byte: bytes) -> None:
    started = time.monotonic()
    read(byte * 65535)
    read(header(flags=ANSWER, questions=16, answers=65535) + byte * 65500)
    assert time.monotonic() - started < PATIENCE_SECONDS
