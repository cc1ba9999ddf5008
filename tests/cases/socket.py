# SPDX-License-Identifier: Apache-2.0
"""connect, sendto, bind, listen and accept."""

from __future__ import annotations

from typing import Final

from tests.cases import Case, Said


def endpoint(address: str, port: object) -> dict[str, object]:
    """As events show it."""
    return {"address": address, "port": port}


def of(family: str) -> dict[str, object]:
    """What all events about a stream socket of this family have in common."""
    return {
        "result": Said("result"),
        "family": family,
        "type": "SOCK_STREAM",
        "protocol": 0 if family == "AF_UNIX" else "tcp",
        "fd": Said("fd"),
        "backlog": 0,
        "unverified": False,
        "path": None,
        "name": None,
    }


def loopback(act: str, address: str, family: str) -> list[Case]:
    """The cases of an Internet family."""
    common = of(family)
    anything = endpoint("0.0.0.0" if family == "AF_INET" else "::", 0)
    own = endpoint(address, Said("local_port"))
    server = endpoint(address, Said("port"))
    connect = ("connect", "stream", act, address)
    with_server = ("act", "with_server", act, address)
    return [
        Case(
            f"connect-{act}",
            "connect",
            (*with_server, *connect, "server"),
            {**common, "tid": Said("pid"), "error": None, "local": own, "remote": server},
        ),
        Case(
            f"connect-{act}-refused",
            "connect",
            ("act", *connect, "1"),
            {
                **common,
                "error": "ECONNREFUSED",
                "local": anything,
                "remote": endpoint(address, 1),
                "unverified": True,
            },
        ),
        Case(
            f"connect-{act}-under-way",
            "connect",
            (*with_server, "connect", "nonblock", act, address, "server"),
            {**common, "error": "EINPROGRESS", "remote": server},
        ),
        Case(
            f"connect-{act}-datagram",
            "connect",
            ("act", "connect", "dgram", act, address, "53"),
            {
                **common,
                "type": "SOCK_DGRAM",
                "protocol": "udp",
                "local": own,
                "remote": endpoint(address, 53),
            },
        ),
        Case(
            f"sendto-{act}",
            "sendto",
            ("act", "sendto", "dgram", act, address, "9"),
            {
                "family": family,
                "type": "SOCK_DGRAM",
                "protocol": "udp",
                "tid": Said("pid"),
                "local": anything | {"port": Said("local_port")},
                "remote": endpoint(address, 9),
            },
        ),
        Case(
            f"bind-{act}",
            "bind",
            ("act", "bind", "stream", act, address, "0"),
            {**common, "local": own, "remote": None},
        ),
        Case(
            f"listen-{act}",
            "listen",
            ("act", "listen", "stream", act, address, "0"),
            {**common, "local": own, "remote": None, "backlog": 7},
        ),
        *(
            Case(
                f"{call}-{act}",
                "accept",
                ("act", call, "stream", act, address, "0"),
                {
                    **common,
                    "fd": Said("result"),
                    "local": own,
                    "remote": endpoint(address, Said("client_port")),
                },
            )
            for call in ("accept", "accept4")
        ),
    ]


UNIX: Final = {**of("AF_UNIX"), "local": None, "remote": None}
UNIX_FILE: Final = {**UNIX, "path": "{cwd}/file"}

CASES: Final = [
    *loopback("inet", "127.0.0.1", "AF_INET"),
    *loopback("inet6", "::1", "AF_INET6"),
    Case(
        "connect-unix",
        "connect",
        ("act", "with_server", "unix", "file", "connect", "stream", "unix", "file"),
        UNIX_FILE,
    ),
    Case(
        "connect-unix-abstract",
        "connect",
        ("act", "with_server", "unix", "@name", "connect", "stream", "unix", "@name"),
        {**UNIX, "name": "@name"},
    ),
    Case(
        "connect-unix-failing",
        "connect",
        ("act", "connect", "stream", "unix", "/nowhere/file"),
        {**UNIX, "error": "ENOENT", "name": "/nowhere/file", "unverified": True},
    ),
    Case(
        "connect-no-descriptor",
        "connect",
        ("act", "connect_badfd", "inet", "127.0.0.1", "80"),
        {
            "result": -9,
            "error": "EBADF",
            "fd": 77,
            "remote": endpoint("127.0.0.1", 80),
            "unverified": True,
        },
    ),
    Case("bind-unix", "bind", ("act", "bind", "stream", "unix", "file"), UNIX_FILE),
    Case(
        "bind-failing",
        "bind",
        ("act", "bind", "stream", "inet", "192.0.2.1", "80"),
        {
            **of("AF_INET"),
            "result": -99,
            "error": "EADDRNOTAVAIL",
            "local": endpoint("192.0.2.1", 80),
            "unverified": True,
        },
    ),
    Case(
        "listen-unix",
        "listen",
        ("act", "listen", "stream", "unix", "file"),
        {**UNIX_FILE, "backlog": 7},
    ),
    Case(
        "listen-failing",
        "listen",
        ("act", "listen", "dgram", "inet", "127.0.0.1", "0"),
        {
            **of("AF_INET"),
            "type": "SOCK_DGRAM",
            "protocol": "udp",
            "result": -95,
            "error": "ENOTSUP",
            "local": endpoint("127.0.0.1", Said("local_port")),
            "backlog": 7,
        },
    ),
    Case(
        "accept-unix",
        "accept",
        ("act", "accept", "stream", "unix", "file"),
        {**UNIX_FILE, "fd": Said("result")},
    ),
    Case(
        "accept-failing",
        "accept",
        ("act", "accept_nobody", "nonblock", "inet", "127.0.0.1", "0"),
        {"result": Said("second"), "error": "ENOTSOCK", "fd": 0},
    ),
]
