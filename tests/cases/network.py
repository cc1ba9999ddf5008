# SPDX-License-Identifier: Apache-2.0
"""Sockets as they are made, copies of descriptors, and DNS."""

from __future__ import annotations

import errno
from base64 import b64encode
from typing import Final

from tests.cases import HOLD, Case, Said

Expected = dict[str, object]

ADDRESSES: Final = {"inet": "127.0.0.1", "inet6": "::1"}

SOCK_CLOEXEC: Final = 0o2000000
SOCK_NONBLOCK: Final = 0o4000
DESCRIPTORS_LIMIT: Final = 1 << 30
"""More than any process may have."""


def failed(error: int) -> Expected:
    """What an event says about a call that failed."""
    return {"result": -error, "error": errno.errorcode[error]}


def endpoint(address: str, port: object) -> Expected:
    """As events show it."""
    return {"address": address, "port": port}


def socket_case(name: str, family: int, kind: int, protocol: int, *shown: object) -> Case:
    """A call that makes a socket, with what its event says."""
    expect = dict(zip(("family", "type", "protocol"), shown, strict=True))
    act = ("network", "socket", str(family), str(kind), str(protocol))
    return Case(
        f"socket-{name}", "socket", act, {"result": Said("result"), "error": None, **expect}
    )


SOCKET: Final = [
    socket_case("inet", 2, 1, 0, "AF_INET", "SOCK_STREAM", 0),
    socket_case("inet6", 10, 2 | SOCK_CLOEXEC | SOCK_NONBLOCK, 17, "AF_INET6", "SOCK_DGRAM", "udp"),
    socket_case("unix", 1, 5, 0, "AF_UNIX", "SOCK_SEQPACKET", 0),
    socket_case("raw", 2, 3 | SOCK_CLOEXEC, 1, "AF_INET", "SOCK_RAW", "icmp"),
    socket_case("packet", 17, 2, 0x0300, "AF_PACKET", "SOCK_DGRAM", 0x0300),
    socket_case("netlink", 16, 3, 0, "AF_NETLINK", "SOCK_RAW", 0),
    Case(
        "socket-of-no-family",
        "socket",
        ("network", "socket", "99", "1", "6"),
        {**failed(errno.EAFNOSUPPORT), "family": 99, "type": "SOCK_STREAM", "protocol": "tcp"},
    ),
    Case(
        "socket-of-no-protocol",
        "socket",
        ("network", "socket", "2", "1", "17"),
        {
            **failed(errno.EPROTONOSUPPORT),
            "family": "AF_INET",
            "type": "SOCK_STREAM",
            "protocol": "udp",
        },
    ),
]


def filter_case(name: str, option: int, made: tuple[int, ...], /, **expect: object) -> Case:
    """A filter on a socket that is made of this family, type and protocol."""
    act = ("network", "filter", *map(str, made), str(option))
    known = {"fd": Said("fd"), "result": 0, "error": None, "instructions": 0, "program_id": 0}
    return Case(f"filter-{name}", "socket_filter", act, {**known, **expect})


FILTER: Final = [
    filter_case(
        *("packets", 26, (17, 3, 0)),
        family="AF_PACKET",
        type="SOCK_RAW",
        protocol=0,
        option="SO_ATTACH_FILTER",
        instructions=1,
    ),
    filter_case(
        *("ebpf", 50, (10, 2, 17)),
        family="AF_INET6",
        type="SOCK_DGRAM",
        protocol="udp",
        option="SO_ATTACH_BPF",
        program_id=Said("program"),
    ),
    filter_case(
        *("ports", 51, (2, 2, 17)),
        family="AF_INET",
        option="SO_ATTACH_REUSEPORT_CBPF",
        instructions=1,
    ),
    filter_case(
        *("nothing", 26, (0, 0, 0)),
        **failed(errno.EBADF),
        family="AF_UNSPEC",
        option="SO_ATTACH_FILTER",
        instructions=1,
    ),
]


def tcp_of(family: str) -> Expected:
    """What an event says about the socket that the act has connected."""
    address = ADDRESSES[family]
    return {
        "family": f"AF_{family.upper()}",
        "type": "SOCK_STREAM",
        "protocol": "tcp",
        "local": endpoint(address, Said("local_port")),
        "remote": endpoint(address, Said("remote_port")),
        "path": None,
    }


NO_SOCKET: Final[Expected] = {
    "family": "AF_UNSPEC",
    "type": 0,
    "protocol": 0,
    "local": None,
    "remote": None,
}

HELD: Final[Expected] = {
    "tid": Said("pid"),
    "fd": Said("fd"),
    "type": "SOCK_STREAM",
    "protocol": "tcp",
    "remote": None,
    "path": None,
    "backlog": 0,
    "unverified": False,
}


def held_case(name: str, *act: str, **expect: object) -> Case:
    """A socket that is older than the agent."""
    return Case(f"older-socket-{name}", "older_socket", ("network", HOLD, *act), HELD | expect)


def held_streams(address: str) -> dict[str, Expected]:
    """By what a held socket does, what is special about it."""
    return {
        "listening": {"backlog": 3},
        "bound": {"type": "SOCK_DGRAM", "protocol": "udp"},
        "connected": {"remote": endpoint(address, Said("remote_port"))},
    }


HOLDS: Final = [
    *(
        held_case(
            f"{what}-{family}",
            what,
            family,
            family=f"AF_{family.upper()}",
            local=endpoint(address, Said("local_port")),
            **expect,
        )
        for family, address in ADDRESSES.items()
        for what, expect in held_streams(address).items()
    ),
    held_case(
        "unix", "unix", family="AF_UNIX", protocol=0, local=None, path="{cwd}/held", backlog=3
    ),
    held_case("packets", "packets", family="AF_PACKET", type="SOCK_RAW", protocol=0, local=None),
]

COPIED: Final[Expected] = {
    "result": Said("result"),
    "error": None,
    "old_fd": Said("old_fd"),
    "new_fd": Said("result"),
    "from_pid": Said("pid"),
}

NOT_COPIED: Final = COPIED | {"new_fd": None}

DUP: Final = [
    Case("dup-socket", "dup", ("network", "copy", "dup", "inet"), COPIED | tcp_of("inet")),
    Case(
        "dup2-socket-to-input",
        "dup",
        ("network", "copy", "dup2", "inet", "0"),
        COPIED | tcp_of("inet") | {"new_fd": 0},
    ),
    Case(
        "dup3-socket-to-error",
        "dup",
        ("network", "copy", "dup3", "inet6", "2"),
        COPIED | tcp_of("inet6") | {"new_fd": 2},
    ),
    Case(
        "fcntl-socket",
        "dup",
        ("network", "copy", "fcntl", "inet6", "50"),
        COPIED | tcp_of("inet6") | {"new_fd": 50},
    ),
    Case(
        "fcntl-cloexec-socket",
        "dup",
        ("network", "copy", "fcntl_cloexec", "unix", "60"),
        COPIED
        | NO_SOCKET
        | {"family": "AF_UNIX", "type": "SOCK_DGRAM", "new_fd": 60, "path": None},
    ),
    Case(
        "dup2-file-to-input",
        "dup",
        ("network", "copy", "dup2", "/dev/null", "0"),
        COPIED | NO_SOCKET | {"path": "/dev/null"},
    ),
    Case(
        "dup3-pipe-to-input",
        "dup",
        ("network", "copy", "dup3", "pipe", "0"),
        COPIED | NO_SOCKET | {"path": None},
    ),
    Case(
        "dup-failing",
        "dup",
        ("network", "copy_full", "inet"),
        NOT_COPIED | tcp_of("inet") | failed(errno.EMFILE),
    ),
    Case(
        "dup2-failing",
        "dup",
        ("network", "copy", "dup2", "nothing", "0"),
        NOT_COPIED | NO_SOCKET | failed(errno.EBADF) | {"old_fd": 99, "path": None},
    ),
    Case(
        "dup3-failing",
        "dup",
        ("network", "copy", "dup3", "inet", str(DESCRIPTORS_LIMIT)),
        NOT_COPIED | tcp_of("inet") | failed(errno.EBADF),
    ),
    Case(
        "fcntl-failing",
        "dup",
        ("network", "copy", "fcntl", "inet", str(DESCRIPTORS_LIMIT)),
        NOT_COPIED | tcp_of("inet") | failed(errno.EINVAL),
    ),
    Case(
        "pidfd-getfd",
        "dup",
        ("network", "steal", "inet"),
        COPIED | tcp_of("inet") | {"from_pid": Said("child")},
    ),
    Case(
        "pidfd-getfd-failing",
        "dup",
        ("network", "steal_nothing"),
        NOT_COPIED | NO_SOCKET | failed(errno.EBADF) | {"old_fd": 99, "path": None},
    ),
    Case(
        "pidfd-getfd-of-no-process",
        "dup",
        ("network", "steal_wrongly"),
        NOT_COPIED | NO_SOCKET | failed(errno.EBADF) | {"old_fd": 0},
    ),
]

ASKED: Final = bytes.fromhex("12340100 00010000 00000000 07") + b"example\x03org\0\0\1\0\1"
FOUND: Final = (
    bytes.fromhex("12348180 00010002 00000000 07")
    + b"example\x03org\0\0\1\0\1"
    + bytes.fromhex("c00c0005 00010000 003c0006 03777777 c00c")
    + bytes.fromhex("c0290001 00010000 012c0004 c0000201")
)
UNKNOWN: Final = bytes.fromhex("12348183 00010000 00000000 07") + b"example\x03org\0\0\1\0\1"
RUBBISH: Final = b"this is no DNS"

QUESTION: Final[Expected] = {
    "id": 0x1234,
    "response": False,
    "rcode": "NOERROR",
    "question": {"name": "example.org", "type": "A"},
    "answers": [],
    "answer_count": 0,
}
ADDRESS_FOUND: Final = QUESTION | {
    "response": True,
    "answers": [
        {"name": "example.org", "type": "CNAME", "ttl": 60, "data": "www.example.org"},
        {"name": "www.example.org", "type": "A", "ttl": 300, "data": "192.0.2.1"},
    ],
    "answer_count": 2,
}
NOTHING_FOUND: Final = QUESTION | {"response": True, "rcode": "NXDOMAIN"}


def carried(payload: bytes, message: Expected | None) -> Expected:
    """What an event says about a message that is whole."""
    return {
        "payload": b64encode(payload).decode(),
        "message": message,
        "message_bytes": len(payload),
        "message_offset": 0,
        "truncated": None,
        "unread": None,
    }


MESSAGES: Final = {
    "found": (carried(ASKED, QUESTION), carried(FOUND, ADDRESS_FOUND)),
    "unknown": (carried(ASKED, QUESTION), carried(UNKNOWN, NOTHING_FOUND)),
    "rubbish": (carried(RUBBISH, None), carried(RUBBISH, None)),
}
"""Query and answer by the name of the exchange."""


def dns_cases(family: str, protocol: str, exchange: str) -> list[Case]:
    """Query and answer, as the client and as the server see them."""
    server = endpoint(ADDRESSES[family], 53)
    client = endpoint(ADDRESSES[family], Said("client_port"))
    query, answer = MESSAGES[exchange]
    ends = {
        "client": {"local": client, "remote": server},
        "server": {"local": server, "remote": client},
    }
    return [
        Case(
            f"dns-{family}-{protocol}-{exchange}-{role}-{what}",
            "dns",
            ("network", "dns", role, family, protocol, exchange),
            {
                "protocol": protocol,
                "incoming": (role == "client") == (what == "answer"),
                "tid": Said("pid"),
                **ends[role],
                **message,
            },
        )
        for role in ends
        for what, message in (("query", query), ("answer", answer))
    ]


STREAM: Final[Expected] = {
    "protocol": "tcp",
    "incoming": False,
    "local": endpoint("127.0.0.1", Said("client_port")),
    "remote": endpoint("127.0.0.1", 53),
}
SECOND: Final = ASKED[:1] + b"\x35" + ASKED[2:-3] + b"\x1c" + ASKED[-2:]
SECOND_QUESTION: Final = QUESTION | {
    "id": 0x1235,
    "question": {"name": "example.org", "type": "AAAA"},
}

DNS: Final = [
    *dns_cases("inet", "udp", "found"),
    *dns_cases("inet6", "udp", "unknown"),
    *dns_cases("inet", "tcp", "found"),
    *dns_cases("inet6", "tcp", "found"),
    *dns_cases("inet", "udp", "rubbish"),
    Case(
        "dns-first-of-two-in-one-packet",
        "dns",
        ("network", "dns_two"),
        STREAM | carried(ASKED, QUESTION),
    ),
    Case(
        "dns-second-of-two-in-one-packet",
        "dns",
        ("network", "dns_two"),
        STREAM | carried(SECOND, SECOND_QUESTION),
    ),
    Case(
        "dns-first-of-two-pieces",
        "dns",
        ("network", "dns_pieces"),
        STREAM
        | carried(ASKED, None)
        | {"payload": b64encode(ASKED[:20]).decode(), "truncated": ["payload"]},
    ),
    Case(
        "dns-second-of-two-pieces",
        "dns",
        ("network", "dns_pieces"),
        STREAM
        | carried(ASKED, None)
        | {"payload": b64encode(ASKED[20:]).decode(), "message_offset": 20},
    ),
    Case(
        "dns-behind-two-pieces",
        "dns",
        ("network", "dns_pieces"),
        STREAM | carried(SECOND, SECOND_QUESTION),
    ),
    Case(
        "dns-longer-than-what-is-kept",
        "dns",
        ("network", "dns_long"),
        STREAM
        | carried((FOUND + bytes(5000))[:4096], ADDRESS_FOUND)
        | {"message_bytes": 5000, "truncated": ["payload"]},
    ),
]

CASES: Final = [*SOCKET, *FILTER, *HOLDS, *DUP, *DNS]
