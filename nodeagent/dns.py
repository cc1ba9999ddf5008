# SPDX-License-Identifier: Apache-2.0
"""What a DNS message says (RFC 1035), read from whatever bytes there are.

Names are shown as in a zone file, without the dot at the end; the root is ".".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Final

import msgspec

from nodeagent.field import Text, Yes
from nodeagent.names import DNS_RCODES, DNS_TYPES

__all__ = ["DnsAnswer", "DnsMessage", "DnsQuestion", "read_dns"]

ANSWERS_LIMIT: Final = 64
TEXT_LIMIT: Final = 8192
"""Characters of all answers together: compression makes much out of few bytes."""
NAME_LIMIT: Final = 255
"""Bytes of a name with its lengths."""
JUMPS_LIMIT: Final = 16
"""In one name, to what came before; each of them costs time and no bytes."""
QUESTIONS_LIMIT: Final = 16
"""Queries have one, multicast DNS a few."""

HEADER: Final = struct.Struct(">HHHHHH")
TYPE_AND_CLASS: Final = struct.Struct(">HH")
RECORD: Final = struct.Struct(">HHIH")

RESPONSE: Final = 0x8000
RCODE: Final = 0x000F
POINTER: Final = 0xC0
"""The two upper bits of a length: the rest of the name is elsewhere."""


class DnsQuestion(msgspec.Struct, frozen=True, gc=False):
    """What is asked for."""

    name: Annotated[str, Text()]
    type: Annotated[int, DNS_TYPES]


class DnsAnswer(msgspec.Struct, frozen=True, gc=False):
    """One record of the answer."""

    name: Annotated[str, Text()]
    type: Annotated[int, DNS_TYPES]
    ttl: int
    """Seconds."""
    data: Annotated[str, Text()]
    """As in a zone file; what is not known is in hexadecimal digits behind \\#."""


class DnsMessage(msgspec.Struct, frozen=True, gc=False):
    """The parts of a message that say what it is about."""

    id: int
    response: Annotated[bool, Yes()]
    rcode: Annotated[int, DNS_RCODES]
    question: DnsQuestion | None
    """The first one; None when there is none."""
    answers: tuple[DnsAnswer, ...]
    """At most 64."""
    answer_count: int
    """As the message says; more than are listed when it is cut or has more."""


class _Malformed(Exception):
    """The bytes are no DNS message, or end too early."""


def read_dns(payload: bytes, offset: int, message_bytes: int) -> DnsMessage | None:
    """The message that `payload` is, or whose start it is; None when it is none.

    `offset` is where in the message the payload starts. A cut message gives what is there.
    """
    if offset:
        return None
    reader = _Reader(payload)
    try:
        number, flags, questions, answers, _, _ = reader.unpack(HEADER)
        if questions > QUESTIONS_LIMIT:
            return None
        question = None
        for n in range(questions):
            asked = reader.question()
            question = asked if n == 0 else question
        found = reader.answers(answers, is_cut=len(payload) < message_bytes)
    except _Malformed:
        return None
    is_response = bool(flags & RESPONSE)
    return DnsMessage(number, is_response, flags & RCODE, question, found, answers)


class _Reader:
    """A place in a message. Every method raises `_Malformed` rather than read beyond it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        """The next numbers."""
        if self.at + layout.size > len(self.data):
            raise _Malformed
        values = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return values

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > len(self.data) - self.at:
            raise _Malformed
        self.at += size
        return self.data[self.at - size : self.at]

    def name(self) -> str:
        """A name, with its compressed parts."""
        labels = []
        size = 0
        jumps = 0
        at = self.at
        after = None
        while True:
            length = self._byte(at)
            at += 1
            if length & POINTER == POINTER:
                target = (length & ~POINTER) << 8 | self._byte(at)
                after = at + 1 if after is None else after
                jumps += 1
                if target >= at - 1 or jumps > JUMPS_LIMIT:
                    raise _Malformed
                at = target
                continue
            size += 1 + length
            if length & POINTER or size > NAME_LIMIT or at + length > len(self.data):
                raise _Malformed
            if not length:
                break
            labels.append(_label(self.data[at : at + length]))
            at += length
        self.at = at if after is None else after
        return ".".join(labels) or "."

    def question(self) -> DnsQuestion:
        """One entry of the question section."""
        name = self.name()
        kind, _ = self.unpack(TYPE_AND_CLASS)
        return DnsQuestion(name, kind)

    def answers(self, count: int, *, is_cut: bool) -> tuple[DnsAnswer, ...]:
        """As many records as there are, at most the limit."""
        found: list[DnsAnswer] = []
        characters = 0
        try:
            for _ in range(min(count, ANSWERS_LIMIT)):
                answer = self.answer()
                characters += len(answer.name) + len(answer.data)
                if characters > TEXT_LIMIT:
                    break
                found.append(answer)
        except _Malformed:
            if not is_cut:
                raise
        return tuple(found)

    def answer(self) -> DnsAnswer:
        """One record, whose data must be as long as it says."""
        name = self.name()
        kind, _, ttl, size = self.unpack(RECORD)
        end = self.at + size
        if end > len(self.data):
            raise _Malformed
        read = _DATA.get(kind)
        data = _unknown(self, size) if read is None else read(self, size)
        if self.at != end:
            raise _Malformed
        return DnsAnswer(name, kind, ttl, data)

    def _byte(self, at: int) -> int:
        if at >= len(self.data):
            raise _Malformed
        return self.data[at]


def _label(raw: bytes) -> str:
    if raw.isalnum():
        return raw.decode("ascii")
    return "".join(map(_CHARACTERS.__getitem__, raw))


def _character(byte: int) -> str:
    """As in a zone file (RFC 1035, 5.1)."""
    character = chr(byte)
    if not "!" <= character <= "~":
        return f"\\{byte:03d}"
    return f"\\{character}" if character in '.\\"();@$' else character


_CHARACTERS: Final = tuple(map(_character, range(256)))


def _unknown(reader: _Reader, size: int) -> str:
    """As RFC 3597 writes what it does not know."""
    return f"\\# {size} {reader.take(size).hex()}".rstrip()


def _ipv4(reader: _Reader, size: int) -> str:
    return str(IPv4Address(reader.take(size))) if size == IPV4_BYTES else _unknown(reader, size)


def _ipv6(reader: _Reader, size: int) -> str:
    return str(IPv6Address(reader.take(size))) if size == IPV6_BYTES else _unknown(reader, size)


IPV4_BYTES: Final = 4
IPV6_BYTES: Final = 16


def _name(reader: _Reader, _: int) -> str:
    return reader.name()


def _numbers_and_name(layout: struct.Struct) -> Callable[[_Reader, int], str]:
    def read(reader: _Reader, _: int) -> str:
        return " ".join([*map(str, reader.unpack(layout)), reader.name()])

    return read


def _soa(reader: _Reader, _: int) -> str:
    names = [reader.name(), reader.name()]
    return " ".join([*names, *map(str, reader.unpack(SOA))])


SOA: Final = struct.Struct(">IIIII")


def _texts(reader: _Reader, size: int) -> str:
    """Strings, each behind its length."""
    end = reader.at + size
    texts = []
    while reader.at < end:
        (length,) = reader.take(1)
        texts.append(f'"{_string(reader.take(length))}"')
    return " ".join(texts)


def _string(raw: bytes) -> str:
    return "".join(_STRING_CHARACTERS[byte] for byte in raw)


_STRING_CHARACTERS: Final = tuple(
    chr(byte) if chr(byte) in " .();@$" else _character(byte) for byte in range(256)
)

_DATA: Final[dict[int, Callable[[_Reader, int], str]]] = {
    1: _ipv4,
    2: _name,
    5: _name,
    6: _soa,
    12: _name,
    15: _numbers_and_name(struct.Struct(">H")),
    16: _texts,
    28: _ipv6,
    33: _numbers_and_name(struct.Struct(">HHH")),
    39: _name,
}
"""How the data of a type is read; by the numbers in `DNS_TYPES`."""
