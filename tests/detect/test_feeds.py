# SPDX-License-Identifier: Apache-2.0
"""Threat lists in the formats in which others publish them, from files and by HTTPS."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.config import Config, DetectConfig
from nodeagent.detect.catalogue import RULES
from nodeagent.detect.feeds import FeedError, entries_of, list_of, read_any
from nodeagent.detect.lists import ThreatLists
from nodeagent.detect.network import NetworkTalk
from nodeagent.dns import DnsQuestion
from nodeagent.errors import ConfigError
from nodeagent.event import Endpoint
from nodeagent.follow import lists as lists_module
from nodeagent.follow.lists import ListFollower
from nodeagent.parts import kept_file, lists_of
from tests.events import a_connect, a_dns, a_message
from tests.polling import until

HASH = "ab" * 32


def indicator(pattern: str, **more: Any) -> dict[str, Any]:
    return {"type": "indicator", "pattern_type": "stix", "pattern": pattern, **more}


BUNDLE = {
    "type": "bundle",
    "objects": [
        {"type": "identity", "name": "somebody"},
        indicator("[ipv4-addr:value = '192.0.2.7']"),
        indicator("[ipv6-addr:value = '2001:db8::7' OR domain-name:value = 'bad.example']"),
        indicator(f"[file:hashes.'SHA-256' = '{HASH}']"),
        indicator("[url:value = 'https://bad.example/x']"),
        indicator("[ipv4-addr:value = '192.0.2.8']", revoked=True),
        indicator("[ipv4-addr:value = '192.0.2.9']", valid_until="2020-01-01T00:00:00Z"),
        indicator("[ipv4-addr:value = '192.0.2.10']", valid_until="2999-01-01T00:00:00Z"),
    ],
}
STIX = ["192.0.2.7", "2001:db8::7", "bad.example", HASH, "192.0.2.10"]


def attribute(kind: str, value: str, *, to_ids: bool = True) -> dict[str, Any]:
    return {"type": kind, "value": value, "to_ids": to_ids}


EVENT = {
    "Event": {
        "info": "something",
        "Attribute": [
            attribute("ip-dst", "192.0.2.7"),
            attribute("ip-dst|port", "192.0.2.8|4444"),
            attribute("domain|ip", "bad.example|192.0.2.9"),
            attribute("comment", "not this"),
            attribute("hostname", "only.seen.example", to_ids=False),
        ],
        "Object": [{"Attribute": [attribute("filename|sha256", f"x.exe|{HASH}")]}],
    }
}
MISP = ["192.0.2.7", "192.0.2.8", "bad.example", HASH]


@pytest.mark.parametrize(
    ("document", "entries"),
    [(BUNDLE, STIX), (EVENT, MISP), ([EVENT, EVENT], MISP * 2), ({"response": [EVENT]}, MISP)],
    ids=["stix", "misp", "several", "response"],
)
def test_entries_are_found(document: object, entries: list[str]) -> None:
    assert list(entries_of(b" \n" + json.dumps(document).encode())) == entries
    found = list_of(json.dumps(document).encode(), "feed", "c2")
    assert len(found) == len(set(entries)) or len(found) == len(entries)
    assert found.has(entries[0])


@pytest.mark.parametrize(
    ("category", "ignored"),
    [
        ("c2", {}),
        ("malware", {}),
        ("dga", {"addresses": 3}),
        ("tor", {"domains": 1}),
    ],
)
def test_entries_that_no_finding_is_about_are_left_out_and_told(
    category: str, ignored: dict[str, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, text in {
        "feed.json": json.dumps(BUNDLE),
        "feed.txt": f"192.0.2.7\n2001:db8::7\n198.51.100.0/24\nbad.example\n{HASH}\n",
    }.items():
        path = tmp_path / name
        path.write_text(text)
        config = Config(detect=DetectConfig(builtin_lists=False, lists={category: [str(path)]}))
        caplog.clear()
        (found,) = lists_of(config)
        assert dict(found.ignored) == ignored
        assert found.has(HASH)
        assert found.has("bad.example") == ("domains" not in ignored)
        assert found.has("192.0.2.7") == ("addresses" not in ignored)
        told = [each for each in caplog.messages if each.startswith("list_entries_ignored")]
        assert len(told) == len(ignored)
        detector = NetworkTalk(ThreatLists([found]))
        endpoint = Endpoint("192.0.2.7", 443)
        seen = list(detector.inspect(a_connect(remote=endpoint)))
        question = a_message(question=DnsQuestion("bad.example", 1))
        seen += detector.inspect(a_dns(message=question))
        assert len(seen) == 2 - len(ignored)
        assert {each.rule for each in seen} <= RULES.keys()


def test_plain_text_has_an_entry_a_line() -> None:
    text = b"# a list\n192.0.2.7\n\nbad.example # why\n"
    assert list(entries_of(text)) == ["192.0.2.7", "bad.example"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "it is no JSON"),
        (b'{"a": 1}', "neither a bundle of STIX nor an event of MISP"),
        (b"[]", "neither a bundle of STIX"),
        (b"<html>\n<p>Please log in\n192.0.2.7\n", "2 of 3 entries are no address"),
    ],
)
def test_what_is_no_list_is_said(data: bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(FeedError, match=says):
        list_of(data, "feed", "c2")


def test_a_file_of_any_format_is_read(tmp_path: Path) -> None:
    path = tmp_path / "feed.json"
    path.write_text(json.dumps(BUNDLE))
    assert read_any(path, "c2").has("bad.example")
    path.write_text("bad.example\n")
    assert read_any(path, "c2").has("bad.example")
    path.write_text("bad.example\n!\n")
    with pytest.raises(ConfigError, match="line 2"):
        read_any(path, "c2")
    path.write_text('{"type": "bundle"')
    with pytest.raises(ConfigError, match=r"feed\.json is no list: it is no JSON"):
        read_any(path, "c2")
    with pytest.raises(ConfigError, match="is no category"):
        read_any(path, "evil")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_list_or_none(data: bytes) -> None:
    with suppress(FeedError):
        list_of(data, "feed", "c2")


NAMES = ["type", "objects", "Event", "Attribute", "Object", "pattern", "value", "response"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.sampled_from(["bundle", "indicator", "ip-dst", "192.0.2.7"]),
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inside, max_size=4)
    ),
)


@given(ANYTHING)
def test_any_json_is_a_list_or_none(document: object) -> None:
    with suppress(FeedError):
        list_of(json.dumps(document).encode(), "feed", "c2")


# By HTTPS.


@dataclass
class Server:
    port: int = 0
    body: bytes = b"bad.example\n"
    status: int = 200
    redirect: str = ""
    seen: list[str | None] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/feed.txt?key=secret"

    async def handle(self, request: web.Request) -> web.Response:
        tag = request.headers.get("If-None-Match")
        self.seen.append(tag)
        if self.redirect:
            raise web.HTTPFound(self.redirect)
        if self.status != 200:
            return web.Response(status=self.status)
        mine = f'"{hash(self.body)}"'
        if tag == mine:
            return web.Response(status=304)
        return web.Response(body=self.body, headers={"ETag": mine})


@asynccontextmanager
async def serving(authority: trustme.CA) -> AsyncIterator[Server]:
    server = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    app = web.Application()
    app.router.add_get("/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists_module, "FIRST_PAUSE_SECONDS", 0.05)


def configured(server: Server, ca_file: str, tmp_path: Path, **more: Any) -> Config:
    detect = DetectConfig(
        builtin_lists=False,
        lists={"c2": [server.url]},
        lists_ca_file=ca_file,
        lists_folder=str(tmp_path / "lists"),
    )
    return Config(detect=msgspec.structs.replace(detect, **more))


@asynccontextmanager
async def following(config: Config) -> AsyncIterator[tuple[ThreatLists, Counter[str]]]:
    lists, failures = ThreatLists(lists_of(config)), Counter[str]()
    follower = ListFollower(config, lists, failures)
    task = asyncio.create_task(follower.follow())  # noqa: TID251  a task of its own
    try:
        yield lists, failures
    finally:
        task.cancel()
        await asyncio.wait([task])
        follower.close()


async def test_list_is_fetched_and_kept_for_the_next_start(
    authority: trustme.CA, ca_file: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with serving(authority) as server:
        config = configured(server, ca_file, tmp_path)
        async with following(config) as (lists, failures):
            await until(lambda: lists.domain("www.bad.example"))
            (match,) = lists.domain("www.bad.example")
            assert (match.list_name, match.category, match.is_custom) == ("feed.txt", "c2", True)
        assert not failures
        file = kept_file(tmp_path / "lists", server.url)
        assert file.stat().st_mode & 0o777 == 0o600
    # Without the server.
    assert ThreatLists(lists_of(config)).domain("bad.example")
    assert "secret" not in caplog.text


async def test_only_what_is_new_is_fetched_and_replaces_the_rest(
    authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    async with serving(authority) as server:
        config = configured(server, ca_file, tmp_path, lists_seconds=0.05)
        async with following(config) as (lists, _):
            await until(lambda: lists.domain("bad.example"))
            await until(lambda: len(server.seen) > 2)
            assert server.seen[0] is None
            assert server.seen[-1] is not None
            server.body = json.dumps(BUNDLE).encode()
            await until(lambda: lists.address("192.0.2.7"))
            server.body = b"other.example\n"
            await until(lambda: lists.domain("other.example"))
            assert not lists.domain("bad.example")


@pytest.mark.parametrize("trouble", ["500", "html", "redirect", "stranger"])
async def test_what_cannot_be_fetched_leaves_the_list_as_it_is(
    authority: trustme.CA,
    ca_file: str,
    tmp_path: Path,
    trouble: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(authority) as server:
        config = configured(server, ca_file, tmp_path, lists_seconds=0.05)
        async with following(config) as (lists, failures):
            await until(lambda: lists.domain("bad.example"))
        if trouble == "stranger":
            other = tmp_path / "other.pem"
            trustme.CA().cert_pem.write_to_path(other)
            config = configured(server, str(other), tmp_path)
        server.status = 500 if trouble == "500" else 200
        server.body = b"<html>\n<body>\nlog in\n" if trouble == "html" else b"new.example\n"
        server.redirect = "http://localhost:1/" if trouble == "redirect" else ""
        async with following(config) as (lists, failures):
            await until(lambda: failures["lists"] > 1)
            assert lists.domain("bad.example")
            assert not lists.domain("new.example")
    said = {
        "500": "the server answered 500",
        "html": "it is no list: 3 of 3 entries are no address",
        "redirect": "answered 302: set http://localhost:1/, redirects are not followed",
        "stranger": "certificate verify failed",
    }
    assert said[trouble] in caplog.text
