# SPDX-License-Identifier: Apache-2.0
"""Messages to a real rsyslog, by every way there is, and what can go wrong on it."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nodeagent.errors import Retry, StartError
from nodeagent.event import AgentEvent, Event
from nodeagent.finding import Severity
from nodeagent.sink import Batch
from sinks.cef import USUAL, cef
from sinks.syslog import Syslog
from tests.delivery.rsyslog import free_port, rsyslog
from tests.events import a_connect, a_finding, an_agent_event, an_exec, an_open

pytestmark = pytest.mark.usefixtures("origin")


@asynccontextmanager
async def sending(address: str, **settings: Any) -> AsyncIterator[Syslog]:
    sink = Syslog(Syslog.Config(address=address, **settings))
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


def a_batch() -> Batch:
    events: list[Event | AgentEvent] = [
        an_agent_event(),
        an_exec(("echo", "a\nb", "é")),
        an_open(),
        a_connect(),
    ]
    return Batch(events, [a_finding()])


async def send_until_refused(sink: Syslog) -> None:
    """The first message may go into a socket that does not know yet."""
    for _ in range(100):
        await sink.send(Batch([an_exec()]))
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("scheme", ["udp", "tcp", "tls", "unix"])
async def test_every_event_is_a_message_of_its_own(scheme: str) -> None:
    batch = a_batch()
    async with rsyslog() as server:
        settings: dict[str, Any] = {"hostname": "node-1", "facility": "local3"}
        if scheme == "tls":
            settings["ca_file"] = server.ca_file
        async with sending(server.address(scheme), **settings) as sink:
            await sink.send(batch)
            messages = await server.read(len(batch))
    # By UDP the order is not promised.
    found = sorted(json.dumps(json.loads(each["msg"])) for each in messages)
    assert found == sorted(json.dumps(json.loads(line)) for line in batch.lines())
    told = next(each for each in messages if each["msgid"] == "exec")
    assert told["hostname"] == "node-1"
    assert told["programname"] == "nodeagent"
    assert told["procid"] == "1234"
    assert told["timereported"] == "2025-11-24T23:11:09.123456Z"
    assert told["syslogfacility"] == "19"
    assert {each["msgid"]: each["syslogseverity"] for each in messages} == {
        "agent.start": "6",
        "exec": "6",
        "open": "6",
        "connect": "6",
        "finding": "3",
    }


async def test_cef_and_ocsf_as_messages() -> None:
    batch = Batch([an_exec()])
    async with rsyslog() as server:
        async with sending(server.address("tcp"), format="cef") as sink:
            await sink.send(batch)
        async with sending(server.address("tcp"), schema="ocsf") as sink:
            await sink.send(batch)
        messages = await server.read(2)
    # Connections promise no order among each other.
    cef, ocsf = sorted((each["msg"].lstrip() for each in messages), key=lambda text: text[0])
    assert cef.startswith("CEF:0|nodeagent|nodeagent|")
    assert json.loads(ocsf)["class_uid"] == 1007


async def test_hundreds_of_messages_arrive_in_order_by_stream() -> None:
    batch = Batch([an_exec(("echo", str(number), "x" * 900)) for number in range(300)])
    async with rsyslog() as server, sending(server.address("tcp")) as sink:
        await sink.send(batch)
        messages = await server.read(300)
    numbers = [json.loads(each["msg"])["argv"][1] for each in messages]
    assert numbers == [str(number) for number in range(300)]


@pytest.mark.parametrize("scheme", ["tcp", "tls", "unix"])
async def test_a_server_that_comes_back_is_found_again(scheme: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with rsyslog(Path(folder)) as server:
            ports, ca_file, address = server.ports, server.ca_file, server.address(scheme)
            sink = Syslog(Syslog.Config(address=address, ca_file=ca_file))
            await sink.open()
            await sink.send(Batch([an_exec()]))
            await server.read(1)
        with pytest.raises(Retry, match=scheme):
            await send_until_refused(sink)
        (Path(folder) / "read").unlink()
        async with rsyslog(Path(folder), **ports) as server:
            await sink.send(Batch([an_open()]))
            (message,) = await server.read(1)
            assert message["msgid"] == "open"
        await sink.close()


async def test_certificate_of_another_authority_is_refused() -> None:
    async with rsyslog() as server, sending(server.address("tls")) as sink:
        with pytest.raises(Retry, match="certificate verify failed"):
            await sink.send(Batch([an_exec()]))


async def test_certificate_of_another_host_is_refused() -> None:
    async with rsyslog() as server:
        address = server.address("tls").replace("localhost", "127.0.0.1")
        async with sending(address, ca_file=server.ca_file) as sink:
            with pytest.raises(Retry, match=r"not valid for '127\.0\.0\.1'"):
                await sink.send(Batch([an_exec()]))
        named = sending(address, ca_file=server.ca_file, server_name="localhost")
        async with named as sink:
            await sink.send(Batch([an_exec()]))
            await server.read(1)


async def test_message_longer_than_a_datagram_is_cut() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        async with sending(f"udp://127.0.0.1:{server.getsockname()[1]}") as sink:
            await sink.send(Batch([an_exec(("x" * 100_000,)), an_open()]))
        assert len(server.recv(1 << 17)) == 65_507
        assert b" open - {" in server.recv(1 << 17)


async def test_nobody_there_is_a_retry_that_names_the_address() -> None:
    for address in (f"tcp://127.0.0.1:{free_port()}", "unix:///nowhere/log"):
        async with sending(address) as sink:
            with pytest.raises(Retry, match=address):
                await sink.send(Batch([an_exec()]))


async def test_a_server_that_does_not_read_gets_no_half_message_twice() -> None:
    large = Batch([an_exec(("x" * 100_000,))] * 200)
    with socket.create_server(("127.0.0.1", 0)) as server:
        async with sending(f"tcp://127.0.0.1:{server.getsockname()[1]}") as sink:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await sink.send(large)
            # The connection with half a message is not used again.
            assert sink._streams is None


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost",
        "http://h",
        "udp://",
        "tcp://h:port",
        "tcp://h:1/path",
        "unix://h/x",
        "udp:x",
    ],
)
async def test_address_of_no_use_stops_the_start(address: str) -> None:
    with pytest.raises(StartError, match="address"):
        await Syslog(Syslog.Config(address=address)).open()


@pytest.mark.parametrize("severity", Severity)
def test_cef_of_a_finding(severity: Severity) -> None:
    finding = a_finding(severity=severity, title="a|b\\c\nd", evidence={"k": "v=1"})
    line = json.loads(Batch([], [finding]).lines()[0])
    header = cef(line).decode().split("|", 6)
    assert header[4] == "Execution:Runtime/ReverseShell"
    assert cef(line).decode().count("\n") == 0
    assert "a\\|b\\\\c d" in cef(line).decode()
    assert "v\\=1" in cef(line).decode()
    level = {
        Severity.INFORMATIONAL: USUAL,
        Severity.LOW: 4,
        Severity.MEDIUM: 6,
        Severity.HIGH: 8,
        Severity.CRITICAL: 10,
    }
    assert f"|{level[severity]}|rt=1764025869123 " in cef(line).decode()


def test_cef_of_an_event_says_who_what_and_how_it_ended() -> None:
    line = json.loads(Batch([a_connect(result=-111)]).lines()[0])
    words = cef(line).decode().partition("|rt=")[2].split(" ")
    for word in (
        "spid=1234", "sproc=/usr/bin/bash", "suid=0", "src=127.0.0.1", "spt=4242",
        "dst=127.0.0.1", "dpt=80", "proto=tcp", "outcome=failure", "reason=ECONNREFUSED",
    ):  # fmt: skip
        assert word in words
