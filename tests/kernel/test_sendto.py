# SPDX-License-Identifier: Apache-2.0
"""Datagrams to who is not the peer of their socket, and answers, which are none of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from tests.kernel.stream import Stream
from tests.kernel.test_dns import a_socket

RECIPIENTS = 64
"""That one socket may have told in a minute, as bpf/sendto.bpf.c says."""

Address = tuple[str, int]


@pytest.fixture(params=["127.0.0.1", "::1"])
def here(request: pytest.FixtureRequest) -> str:
    address: str = request.param
    return address


def told(stream: Stream, sender: socket.socket) -> list[Address]:
    """To whom a socket of this process is said to have sent."""
    local = sender.getsockname()[1]
    return [
        (event["remote"]["address"], event["remote"]["port"])
        for event in stream.of(os.getpid(), "sendto")
        if event["local"]["port"] == local
    ]


@pytest.fixture
def sender(here: str) -> Iterator[socket.socket]:
    with a_socket(here) as made:
        yield made


def test_address_is_told_once_for_each_socket(
    stream: Stream, here: str, sender: socket.socket
) -> None:
    for port in (11, 11, 12, 12, 12):
        sender.sendto(b"x", (here, port))
    sender.sendmsg([b"x"], (), 0, (here, 13))
    with a_socket(here) as other:
        other.sendto(b"x", (here, 11))
        assert told(stream, other) == [(here, 11)]
    assert told(stream, sender) == [(here, 11), (here, 12), (here, 13)]


def test_event_says_what_is_sent_and_by_whom(
    stream: Stream, here: str, sender: socket.socket
) -> None:
    sender.sendto(b"x", (here, 11))
    local = {"address": here, "port": sender.getsockname()[1]}
    stream.catch_up()
    (event,) = [e for e in stream.events if e["kind"] == "sendto" and e["local"] == local]
    assert event["process"]["pid"] == os.getpid()
    assert event["family"] == sender.family.name
    assert (event["type"], event["protocol"]) == ("SOCK_DGRAM", "udp")
    assert event["remote"] == {"address": here, "port": 11}


def test_only_what_goes_past_the_peer_of_a_socket_is_told(
    stream: Stream, here: str, sender: socket.socket
) -> None:
    with a_socket(here) as peer:
        sender.connect(peer.getsockname())
        sender.send(b"x")
        sender.sendto(b"x", (here, 11))
        assert told(stream, sender) == [(here, 11)]


def test_answers_are_not_told_whoever_asked_in_between(
    stream: Stream, here: str, sender: socket.socket
) -> None:
    clients = [a_socket(here) for _ in range(5)]
    for client in clients:
        client.sendto(b"x", sender.getsockname())
    asked = [sender.recvfrom(1)[1] for _ in clients]
    for address in (*asked, *reversed(asked)):
        sender.sendto(b"x", address)
    sender.sendto(b"x", (here, 11))
    assert told(stream, sender) == [(here, 11)]
    for client in clients:
        client.close()


def test_answer_by_a_socket_of_both_protocols_is_one(stream: Stream) -> None:
    with a_socket("::") as server, a_socket("127.0.0.1") as client:
        port = server.getsockname()[1]
        client.sendto(b"x", ("127.0.0.1", port))
        _, address = server.recvfrom(1)
        assert address[0] == "::ffff:127.0.0.1"
        server.sendto(b"x", address)
        server.sendto(b"x", ("::ffff:127.0.0.1", 11))
        assert told(stream, client) == [("127.0.0.1", port)]
        assert told(stream, server) == [("127.0.0.1", 11)]


def test_who_talks_to_everybody_is_cut_and_the_rest_is_counted(here: str) -> None:
    with Stream("--only", "exec,exit,open,sendto") as stream, a_socket(here) as sender:
        for port in range(1, 201):
            sender.sendto(b"x", (here, port))
        assert told(stream, sender) == [(here, port) for port in range(1, RECIPIENTS + 1)]
        stream.stop()
    assert stream.events[-1]["kinds"]["sendto"]["filtered"] >= 200 - RECIPIENTS
    assert "balanced: every event is accounted for" in stream.errors
