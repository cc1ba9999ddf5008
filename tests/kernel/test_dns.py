# SPDX-License-Identifier: Apache-2.0
"""What the cases cannot show of DNS: settings, and sockets that are older than the agent."""

from __future__ import annotations

import os
import socket
from base64 import b64decode
from collections.abc import Iterator

import pytest

from tests.kernel.stream import Event, Stream

OTHER_PORT = 5354
QUERY = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\7example\3org\0\0\1\0\1"


def a_socket(address: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """One for datagrams, with a port of its own."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.bind((address, port))
    made.settimeout(10)
    return made


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """It is bound before the agent starts."""
    with a_socket("127.0.0.1", OTHER_PORT) as made:
        yield made


@pytest.fixture
def stream(server: socket.socket) -> Iterator[Stream]:
    """An agent that looks at another port."""
    with Stream("--set", f"kernel.dns_ports=[{OTHER_PORT}]") as running:
        yield running


def of_port(stream: Stream, port: int) -> list[Event]:
    """All events of a client, by its port."""
    stream.catch_up()
    return [
        event
        for event in stream.events
        if event["kind"] == "dns" and port in (event["local"]["port"], event["remote"]["port"])
    ]


def test_socket_that_is_older_than_the_agent_has_a_process_once_it_sends(
    stream: Stream, server: socket.socket
) -> None:
    with a_socket() as client:
        client.sendto(QUERY, server.getsockname())
        server.sendto(QUERY, client.getsockname())
        client.sendto(QUERY, server.getsockname())
        events = of_port(stream, client.getsockname()[1])
    received = [event for event in events if event["incoming"]]
    assert [event["process"]["pid"] for event in received] == [0, os.getpid(), os.getpid()]
    assert all(event["message"]["question"]["name"] == "example.org" for event in events)
    assert len(events) == 6


def test_other_ports_are_left_alone(stream: Stream) -> None:
    with a_socket() as client:
        client.sendto(QUERY, ("127.0.0.1", 53))
        assert not of_port(stream, client.getsockname()[1])


def test_longest_datagram_of_rubbish_is_an_event_that_says_what_is_missing(
    stream: Stream, server: socket.socket
) -> None:
    rubbish = bytes(range(256)) * 255
    with a_socket() as client:
        client.sendto(rubbish, server.getsockname())
        events = of_port(stream, client.getsockname()[1])
    assert len(events) == 2
    for event in events:
        assert event["message"] is None
        assert event["message_bytes"] == len(rubbish)
        assert b64decode(event["payload"]) == rubbish[:4096]
        assert event["truncated"] == ["payload"]
