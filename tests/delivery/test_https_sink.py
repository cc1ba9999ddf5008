# SPDX-License-Identifier: Apache-2.0
"""Batches by HTTPS to a real server, and everything that can go wrong on the way."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme

from nodeagent.errors import Rejected, Retry, StartError
from nodeagent.sink import Batch
from sinks.http import seconds_after
from sinks.https import Https
from tests.delivery.receiver import Receiver, receiving
from tests.events import an_exec, an_open

pytestmark = pytest.mark.usefixtures("origin")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def server_context(authority: trustme.CA, *names: str, **issue: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("localhost",)), **issue).configure_cert(context)
    return context


@asynccontextmanager
async def sending(port: int, ca_file: str = "", **settings: Any) -> AsyncIterator[Https]:
    url = settings.pop("url", f"https://localhost:{port}/events")
    sink = Https(Https.Config(url=url, ca_file=ca_file, **settings))
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


@asynccontextmanager
async def pair(
    authority: trustme.CA, ca_file: str, **settings: Any
) -> AsyncIterator[tuple[Https, Receiver]]:
    async with (
        receiving(server_context(authority)) as receiver,
        sending(receiver.port, ca_file, **settings) as sink,
    ):
        yield sink, receiver


def a_batch(events: int = 2, key: str = "agent-run-1") -> Batch:
    return Batch([an_exec(("ls", str(number))) for number in range(events)], key=key)


async def test_batch_arrives_as_lines_under_a_key(authority: trustme.CA, ca_file: str) -> None:
    batch = a_batch(50)
    async with pair(authority, ca_file) as (sink, receiver):
        await sink.send(batch)
    (request,) = receiver.requests
    assert request.body == batch.ndjson()
    assert request.headers["Content-Type"] == "application/x-ndjson"
    assert request.headers["Content-Encoding"] == "gzip"
    assert int(request.headers["Content-Length"]) < len(batch.ndjson()) / 4
    assert request.key == "agent-run-1"


async def test_batch_as_an_array(authority: trustme.CA, ca_file: str) -> None:
    async with pair(authority, ca_file, format="json", compression="none") as (sink, receiver):
        await sink.send(Batch([an_exec(("echo", "line\nline")), an_open()]))
    (request,) = receiver.requests
    assert [event["kind"] for event in json.loads(request.body)] == ["exec", "open"]
    assert "Content-Encoding" not in request.headers


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_each_batch_comes_under_its_key(
    authority: trustme.CA, ca_file: str, compression: str
) -> None:
    async with pair(authority, ca_file, compression=compression) as (sink, receiver):
        for key in "abc":
            await sink.send(a_batch(50, key))
    assert [request.key for request in receiver.requests] == ["a", "b", "c"]
    assert {request.body for request in receiver.requests} == {a_batch(50).ndjson()}
    encoding = receiver.requests[0].headers.get("Content-Encoding", "none")
    assert encoding == compression


async def test_attempt_that_failed_is_repeated_under_the_same_key(
    authority: trustme.CA, ca_file: str
) -> None:
    batch = a_batch()
    async with pair(authority, ca_file) as (sink, receiver):
        receiver.answers = [(503, {})]
        with pytest.raises(Retry, match="HTTP 503 as the test wants it"):
            await sink.send(batch)
        await sink.send(batch)
        await sink.send(a_batch(key="agent-run-2"))
    assert [request.key for request in receiver.requests] == ["agent-run-1", "agent-run-2"]


@pytest.mark.parametrize(
    ("status", "headers", "after"),
    [
        (429, {"Retry-After": "7"}, 7.0),
        (503, {"Retry-After": "100000"}, 3600.0),
        (503, {"Retry-After": "soon"}, None),
        (500, {}, None),
        (408, {}, None),
        (401, {}, 30.0),
        (403, {"Retry-After": "5"}, 5.0),
        (302, {"Location": "https://evil.example/"}, 30.0),
    ],
)
async def test_answer_that_may_change_is_waited_for(
    authority: trustme.CA, ca_file: str, status: int, headers: dict[str, str], after: float | None
) -> None:
    async with pair(authority, ca_file) as (sink, receiver):
        receiver.answers = [(status, headers)]
        with pytest.raises(Retry) as caught:
            await sink.send(a_batch())
        assert caught.value.after_seconds == after
        assert receiver.requests == []


def test_date_to_wait_for_is_understood() -> None:
    seconds = seconds_after(formatdate(time.time() + 60, usegmt=True))
    assert seconds is not None
    assert 55 < seconds <= 60
    assert seconds_after(formatdate(time.time() - 60, usegmt=True)) == 0.0


@pytest.mark.parametrize("status", [400, 405, 415, 422])
async def test_answer_that_is_final_rejects_the_batch(
    authority: trustme.CA, ca_file: str, status: int
) -> None:
    async with pair(authority, ca_file) as (sink, receiver):
        receiver.answers = [(status, {})]
        with pytest.raises(Rejected, match=f"HTTP {status}"):
            await sink.send(a_batch())


async def test_batch_that_is_too_large_is_split(authority: trustme.CA, ca_file: str) -> None:
    async with pair(authority, ca_file, compression="none") as (sink, receiver):
        receiver.largest_bytes = 3000
        await sink.send(a_batch(16))
    assert len(receiver.requests) > 4
    events = [event for request in receiver.requests for event in request.events]
    assert [event["argv"][1] for event in events] == [str(number) for number in range(16)]
    assert len(receiver.taken) == len(receiver.requests)


async def test_event_that_is_too_large_by_itself_is_rejected(
    authority: trustme.CA, ca_file: str
) -> None:
    async with pair(authority, ca_file, compression="none") as (sink, receiver):
        receiver.largest_bytes = 10
        with pytest.raises(Rejected, match="HTTP 413"):
            await sink.send(a_batch(4))


async def test_nobody_there_is_waited_for(ca_file: str) -> None:
    async with sending(1, ca_file) as sink:
        with pytest.raises(Retry, match="localhost:1"):
            await sink.send(a_batch())


async def test_server_that_hangs_up_in_the_middle_is_tried_again(ca_file: str) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 2")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, sending(port, url=f"http://127.0.0.1:{port}/") as sink:
        with pytest.raises(Retry):
            await sink.send(a_batch())


async def test_garbage_instead_of_http_is_tried_again() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(range(256)) * 100)
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, sending(port, url=f"http://127.0.0.1:{port}/") as sink:
        with pytest.raises(Retry):
            await sink.send(a_batch())


async def test_stranger_is_not_spoken_to(authority: trustme.CA, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    async with (
        receiving(server_context(authority)) as receiver,
        sending(receiver.port, str(other)) as sink,
    ):
        with pytest.raises(Retry, match="certificate verify failed"):
            await sink.send(a_batch())
    assert receiver.requests == []


async def test_certificate_of_another_name_is_refused(authority: trustme.CA, ca_file: str) -> None:
    async with (
        receiving(server_context(authority, "elsewhere.example")) as receiver,
        sending(receiver.port, ca_file) as sink,
    ):
        with pytest.raises(Retry, match="certificate"):
            await sink.send(a_batch())


async def test_private_endpoint_may_have_another_name(authority: trustme.CA, ca_file: str) -> None:
    async with (
        receiving(server_context(authority, "backend.example")) as receiver,
        sending(receiver.port, ca_file, server_name="backend.example") as sink,
    ):
        await sink.send(a_batch())
    assert len(receiver.requests) == 1


async def test_old_tls_is_refused(authority: trustme.CA, ca_file: str) -> None:
    context = server_context(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with receiving(context) as receiver, sending(receiver.port, ca_file) as sink:
        with pytest.raises(Retry):
            await sink.send(a_batch())


async def test_client_shows_its_certificate(
    authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    context = server_context(authority)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    own = tmp_path / "own.pem"
    authority.issue_cert("agent.example").private_key_and_cert_chain_pem.write_to_path(own)
    async with receiving(context) as receiver:
        async with sending(receiver.port, ca_file, certificate_file=str(own)) as sink:
            await sink.send(a_batch())
        async with sending(receiver.port, ca_file) as sink:
            with pytest.raises(Retry):
                await sink.send(a_batch())
    assert len(receiver.requests) == 1


async def test_token_is_read_again_when_it_was_rotated(
    authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    async with pair(authority, ca_file, token_file=str(token)) as (sink, receiver):
        await sink.send(a_batch())
        (tmp_path / "new").write_text("second-one")
        (tmp_path / "new").rename(token)
        await sink.send(a_batch())
    sent = [request.headers["Authorization"] for request in receiver.requests]
    assert sent == ["Bearer first", "Bearer second-one"]


async def test_token_that_is_gone_is_waited_for(
    authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    async with pair(authority, ca_file, token_file=str(token)) as (sink, receiver):
        token.unlink()
        with pytest.raises(Retry):
            await sink.send(a_batch())
        token.write_text("again")
        await sink.send(a_batch())
    assert receiver.requests[0].headers["Authorization"] == "Bearer again"


async def test_own_headers_are_sent(authority: trustme.CA, ca_file: str) -> None:
    async with pair(authority, ca_file, headers={"X-Tenant": "blue"}) as (sink, receiver):
        await sink.send(a_batch())
    assert receiver.requests[0].headers["X-Tenant"] == "blue"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"url": "http://backend.example/"}, "must begin with https://"),
        ({"url": "backend.example"}, "must begin with https://"),
        ({"url": "https://user:secret@backend.example/"}, "must not hold a password"),
        ({"url": "https://[::1/"}, "is no URL"),
        ({"url": "https://backend.example:port/"}, "is no URL"),
        ({"ca_file": "/nonexistent/ca.pem"}, "ca_file /nonexistent/ca.pem cannot be used"),
        ({"ca_file": "/etc/passwd"}, "ca_file /etc/passwd cannot be used"),
        ({"certificate_file": "/etc/passwd"}, "certificate_file /etc/passwd cannot be used"),
        ({"key_file": "/etc/passwd"}, "key_file needs a certificate_file"),
        ({"token_file": "/nonexistent/token"}, "token_file /nonexistent/token cannot be read"),
        ({"headers": {"Bad Name": "x"}}, "is no header that can be sent"),
        ({"headers": {"Name": "a\r\nb"}}, "is no header that can be sent"),
    ],
)
async def test_setting_that_cannot_work_stops_the_start(
    settings: dict[str, Any], says: str
) -> None:
    sink = Https(Https.Config(**{"url": "https://backend.example/", **settings}))
    with pytest.raises(StartError, match=says) as caught:
        await sink.open()
    assert "secret" not in str(caught.value)
    await sink.close()
