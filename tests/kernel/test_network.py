# SPDX-License-Identifier: Apache-2.0
"""connect, bind, listen, accept: both addresses, from the socket where it knows them."""

from __future__ import annotations

import errno
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.stream import Acted, Event, Stream

Do = Callable[..., Acted]
LOOPBACKS = [("inet", "127.0.0.1", "AF_INET"), ("inet6", "::1", "AF_INET6")]


@pytest.fixture(params=LOOPBACKS, ids=["IPv4", "IPv6"])
def loopback(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """What the act calls the family, the address, and the name of the family."""
    family: tuple[str, str, str] = request.param
    return family


@pytest.fixture
def server(loopback: tuple[str, str, str]) -> Iterator[int]:
    """The port of a listener."""
    family = getattr(socket, loopback[2])
    with socket.create_server((loopback[1], 0), family=family) as listener:
        yield listener.getsockname()[1]


def one(stream: Stream, acted: Acted, kind: str) -> Event:
    """The only event of this kind, checked against what the process saw."""
    (event,) = stream.of(acted.pid, kind)
    assert event["result"] == acted.said["result"]
    return event


def endpoint(address: str, port: int) -> dict[str, object]:
    return {"address": address, "port": port}


def test_connect_tells_both_ends(
    stream: Stream, do: Do, loopback: tuple[str, str, str], server: int
) -> None:
    act_family, address, family = loopback
    acted = do("connect", "stream", act_family, address, str(server))
    event = one(stream, acted, "connect")
    assert event["result"] == 0
    assert (event["family"], event["type"], event["protocol"]) == (family, "SOCK_STREAM", "tcp")
    assert event["local"] == endpoint(address, acted.said["local_port"])
    assert event["remote"] == endpoint(address, server)
    assert event["fd"] == acted.said["fd"]
    assert event["unverified"] is False


def test_refused_connect_is_an_event_with_the_address_that_was_tried(
    stream: Stream, do: Do, loopback: tuple[str, str, str]
) -> None:
    act_family, address, _ = loopback
    event = one(stream, do("connect", "stream", act_family, address, "1"), "connect")
    assert event["error"] == "ECONNREFUSED"
    assert event["remote"] == endpoint(address, 1)
    assert event["unverified"] is True


def test_connect_in_progress_has_its_peer_already(
    stream: Stream, do: Do, loopback: tuple[str, str, str], server: int
) -> None:
    act_family, address, _ = loopback
    acted = do("connect", "nonblock", act_family, address, str(server))
    event = one(stream, acted, "connect")
    assert event["error"] == "EINPROGRESS"
    assert event["remote"] == endpoint(address, server)
    assert event["unverified"] is False


def test_datagram_socket_can_be_connected(
    stream: Stream, do: Do, loopback: tuple[str, str, str]
) -> None:
    act_family, address, _ = loopback
    event = one(stream, do("connect", "dgram", act_family, address, "53"), "connect")
    assert (event["type"], event["protocol"]) == ("SOCK_DGRAM", "udp")
    assert event["remote"] == endpoint(address, 53)


def test_connect_to_a_unix_socket_gives_the_real_path(
    stream: Stream, do: Do, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "real/docker.sock"))
        listener.listen()
        acted = do("connect", "stream", "unix", "link/docker.sock", cwd=tmp_path)
    event = one(stream, acted, "connect")
    assert event["family"] == "AF_UNIX"
    assert event["path"] == str(tmp_path / "real/docker.sock")
    assert event["local"] is event["remote"] is None


def test_connect_to_an_abstract_unix_socket_gives_its_name(stream: Stream, do: Do) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0nodeagent-test")
        listener.listen()
        event = one(stream, do("connect", "stream", "unix", "@nodeagent-test"), "connect")
    assert event["name"] == "@nodeagent-test"
    assert "path" not in event


def test_failed_connect_to_a_unix_socket_gives_the_name_that_was_passed(
    stream: Stream, do: Do
) -> None:
    event = one(stream, do("connect", "stream", "unix", "/nowhere/docker.sock"), "connect")
    assert (event["error"], event["name"]) == ("ENOENT", "/nowhere/docker.sock")
    assert event["unverified"] is True


def test_connect_on_what_is_no_socket_is_an_event(stream: Stream, do: Do) -> None:
    event = one(stream, do("connect_badfd", "inet", "127.0.0.1", "80"), "connect")
    assert (event["error"], event["fd"]) == ("EBADF", 77)
    assert event["remote"] == endpoint("127.0.0.1", 80)


def test_bind_tells_the_port_that_the_kernel_chose(
    stream: Stream, do: Do, loopback: tuple[str, str, str]
) -> None:
    act_family, address, family = loopback
    acted = do("bind", "stream", act_family, address, "0")
    event = one(stream, acted, "bind")
    assert event["family"] == family
    assert event["local"] == endpoint(address, acted.said["local_port"])
    assert event["remote"] is None


def test_failed_bind_tells_the_address_that_was_asked_for(
    stream: Stream, do: Do, loopback: tuple[str, str, str], server: int
) -> None:
    act_family, address, _ = loopback
    event = one(stream, do("bind", "stream", act_family, address, str(server)), "bind")
    assert event["error"] == "EADDRINUSE"
    assert event["local"] == endpoint(address, server)
    assert event["unverified"] is True


def test_bind_of_a_unix_socket_gives_the_real_path(stream: Stream, do: Do, tmp_path: Path) -> None:
    event = one(stream, do("bind", "stream", "unix", "own.sock", cwd=tmp_path), "bind")
    assert event["path"] == str(tmp_path / "own.sock")


def test_listen_tells_address_and_backlog(
    stream: Stream, do: Do, loopback: tuple[str, str, str]
) -> None:
    act_family, address, _ = loopback
    acted = do("listen", "stream", act_family, address, "0")
    event = one(stream, acted, "listen")
    assert event["local"] == endpoint(address, acted.said["local_port"])
    assert event["backlog"] == 7


def test_listen_on_a_unix_socket_gives_the_real_path(
    stream: Stream, do: Do, tmp_path: Path
) -> None:
    event = one(stream, do("listen", "stream", "unix", "s", cwd=tmp_path), "listen")
    assert event["path"] == str(tmp_path / "s")


@pytest.mark.parametrize("call", ["accept", "accept4"])
def test_accept_tells_both_ends_of_the_new_socket(
    stream: Stream, do: Do, loopback: tuple[str, str, str], call: str
) -> None:
    act_family, address, _ = loopback
    acted = do(call, "stream", act_family, address, "0")
    event = one(stream, acted, "accept")
    assert event["fd"] == acted.said["result"]
    assert event["local"] == endpoint(address, acted.said["local_port"])
    assert event["remote"] == endpoint(address, acted.said["client_port"])


def test_accept_on_a_unix_socket_gives_the_path_of_the_listener(
    stream: Stream, do: Do, tmp_path: Path
) -> None:
    acted = do("accept", "stream", "unix", "s", cwd=tmp_path)
    assert one(stream, acted, "accept")["path"] == str(tmp_path / "s")


def test_listener_that_nobody_calls_is_no_event_but_a_failed_accept_is(
    stream: Stream, do: Do
) -> None:
    acted = do("accept_nobody", "nonblock", "inet", "127.0.0.1", "0", stdin=subprocess.DEVNULL)
    assert acted.said["result"] == -errno.EAGAIN
    (event,) = stream.of(acted.pid, "accept")
    assert (event["error"], event["fd"]) == ("ENOTSOCK", 0)
