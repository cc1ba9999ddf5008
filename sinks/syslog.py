# SPDX-License-Identifier: Apache-2.0
"""Events as syslog messages (RFC 5424), each with a line of JSON or of CEF."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, urlsplit

import orjson
from msgspec import Meta

from nodeagent.encode import encode, timestamp
from nodeagent.errors import Retry, StartError
from nodeagent.finding import Severity
from nodeagent.identity import Facts, node_name
from nodeagent.sink import Batch, Sink
from sinks.cef import cef
from sinks.http import ConnectConfig, tls_context
from sinks.schema import encoder_of

PORTS: Final = {"udp": 514, "tcp": 601, "tls": 6514}
"""RFC 5426, RFC 6587, RFC 5425."""
STREAMS: Final = frozenset({"tcp", "tls"})
LONGEST_BYTES: Final = {"udp": 65_507, "unix": 200_000, "tcp": 200_000, "tls": 200_000}
"""The most that IPv4 allows, a bit less than the usual wmem_max, and the longest frame that
rsyslog takes unless it is told otherwise (MaxFrameSize): it reads on at the wrong place after
a longer one. RFC 5424 allows to cut a message.
"""
NAME_CHARACTERS: Final = re.compile(r"[^\x21-\x7e]")
HOSTNAME_LENGTH: Final = 255

Facility = Literal[
    "user", "daemon", "auth", "authpriv", "audit",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
]  # fmt: skip
FACILITIES: Final[dict[Facility, int]] = {
    "user": 1,
    "daemon": 3,
    "auth": 4,
    "authpriv": 10,
    "audit": 13,
    "local0": 16,
    "local1": 17,
    "local2": 18,
    "local3": 19,
    "local4": 20,
    "local5": 21,
    "local6": 22,
    "local7": 23,
}

NOTICE: Final = 5
INFORMATIONAL: Final = 6
SEVERITIES: Final = {
    Severity.INFORMATIONAL: INFORMATIONAL,
    Severity.LOW: NOTICE,
    Severity.MEDIUM: 4,
    Severity.HIGH: 3,
    Severity.CRITICAL: 2,
}
"""Of syslog, by that of a finding; events are informational."""


class Syslog(Sink):
    """Sends messages by UDP, TCP (octet counting), TLS or to a local socket.

    Syslog has no answers: what is on the way when a connection breaks is lost unless the
    break shows before the batch was sent; then the whole batch comes again.
    """

    NEEDS_FACTS = True

    class Config(ConnectConfig, kw_only=True, frozen=True):
        """Where to, and what a message is."""

        address: str = "unix:///dev/log"
        """udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or unix:///PATH; without a port
        514, 601 and 6514."""
        format: Literal["json", "cef"] = "json"
        """What a message holds: a line of JSON, or one of the Common Event Format."""
        facility: Facility = "authpriv"
        """Of all messages."""
        app_name: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,48}$")] = "nodeagent"
        """The name of the program that messages come from."""
        hostname: str = ""
        """The name of this node; empty: the environment's NODE_NAME, else that of the host."""

    def __init__(self, config: Syslog.Config) -> None:
        """Nothing is opened yet."""
        self._config = config
        self.encoder = self._encode = encode if config.format == "cef" else encoder_of(config)
        self._facility = FACILITIES[config.facility] * 8
        name = config.hostname or node_name()
        self._hostname = NAME_CHARACTERS.sub("?", name)[:HOSTNAME_LENGTH] or "-"
        self._address: SplitResult = urlsplit("")
        self._context: ssl.SSLContext | None = None
        self._socket: socket.socket | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        """Check the settings; the first connection is made with the first batch."""
        self._address = check_address(self._config.address)
        if self._config.proxy:
            raise StartError("proxy: syslog goes through no HTTP proxy, leave it out")
        if self._address.scheme == "tls":
            self._context = tls_context(self._config)

    async def send(self, batch: Batch) -> None:
        """Send each event as a message of its own, in order."""
        messages = self._messages(batch)
        try:
            async with asyncio.timeout(self._config.connect_seconds):
                await self._connect()
            if self._address.scheme in STREAMS:
                await self._write(b"".join(b"%d %b" % (len(each), each) for each in messages))
            else:
                await self._send_each(messages)
        except (OSError, TimeoutError) as error:
            self._drop()
            why = str(error) or "it does not answer"
            raise Retry(f"{self._config.address}: {why}") from error
        except asyncio.CancelledError:
            # Half a message may be out, so what comes next needs a connection of its own.
            self._drop()
            raise

    async def close(self) -> None:
        """Hang up after all is sent."""
        if self._streams is not None:
            _, writer = self._streams
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        self._drop()

    def _messages(self, batch: Batch) -> Iterator[bytes]:
        lines = batch.lines(self._encode)
        longest = LONGEST_BYTES[self._address.scheme]
        for facts, line in zip(batch.facts, lines, strict=True):
            said = cef(orjson.loads(line)) if self._config.format == "cef" else line
            yield (self._header(facts) + said)[:longest]

    def _header(self, facts: Facts) -> bytes:
        severity = SEVERITIES[facts.level]
        pid = "-" if facts.pid is None else facts.pid
        # Six digits of a second are the most that RFC 5424 allows.
        when = f"{timestamp(facts.time)[:26]}Z"
        return (
            f"<{self._facility + severity}>1 {when} {self._hostname} {self._config.app_name}"
            f" {pid} {facts.what} - "
        ).encode()

    async def _connect(self) -> None:
        if self._address.scheme in STREAMS:
            if self._streams is not None:
                reader, writer = self._streams
                if not reader.at_eof() and not writer.is_closing():
                    return
                self._drop()
            self._streams = await asyncio.open_connection(
                self._address.hostname,
                self._address.port or PORTS[self._address.scheme],
                ssl=self._context,
                server_hostname=self._server_name(),
            )
        elif self._socket is None:
            self._socket = await self._datagrams()

    def _server_name(self) -> str | None:
        if self._context is None:
            return None
        return self._config.server_name or self._address.hostname

    async def _datagrams(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        if self._address.scheme == "unix":
            family, where = socket.AF_UNIX, self._address.path
        else:
            port = self._address.port or PORTS["udp"]
            found = await loop.getaddrinfo(self._address.hostname, port, type=socket.SOCK_DGRAM)
            family, where = found[0][0], found[0][4]  # type: ignore[assignment]
        made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            await loop.sock_connect(made, where)
        except BaseException:
            made.close()
            raise
        return made

    async def _write(self, data: bytes) -> None:
        if self._streams is None:
            raise OSError(errno.ENOTCONN, "not connected")
        _, writer = self._streams
        writer.write(data)
        await writer.drain()

    async def _send_each(self, messages: Iterator[bytes]) -> None:
        if self._socket is None:
            raise OSError(errno.ENOTCONN, "not connected")
        loop = asyncio.get_running_loop()
        for message in messages:
            await loop.sock_sendall(self._socket, message)

    def _drop(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def check_address(address: str) -> SplitResult:
    """The parts of an address; raises StartError when messages cannot be sent there."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise StartError(f"address {address!r} is none: {error}") from error
    if parts.scheme == "unix" and parts.path and not host:
        return parts
    if parts.scheme in PORTS and host and parts.path in {"", "/"}:
        return parts
    raise StartError(
        f"address {address!r} must be like udp://HOST:514, tcp://HOST:601, tls://HOST:6514"
        " or unix:///dev/log"
    )
