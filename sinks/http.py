# SPDX-License-Identifier: Apache-2.0
"""What all sinks that speak HTTP share: TLS, tokens, signatures, and what answers mean."""

from __future__ import annotations

import gzip
import os
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple
from urllib.parse import urlsplit

from msgspec import Meta, field

from nodeagent.errors import Denied, Rejected, Retry, StartError
from nodeagent.sink import Batch
from sinks.aws import CredentialSource, sign
from sinks.schema import SchemaConfig

if TYPE_CHECKING:
    from aiohttp import ClientSession, StreamReader

LEAST_COMPRESSED_BYTES: Final = 1024
COMPRESSION_LEVEL: Final = 3
"""Of gzip: more costs more than it saves."""
TOKEN_BYTES: Final = 16384
ASK_SECONDS: Final = 5.0
LONGEST_AFTER_SECONDS: Final = 3600.0
FAR_FROM_RIGHT_SECONDS: Final = 30.0
"""Before the next try where somebody has to repair something first."""

BUSY: Final = frozenset({408, 425, 429})
DENIED: Final = frozenset({401, 403, 407})
"""Answers that change when a token, a right or an address is put right."""
HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class ConnectConfig(SchemaConfig, kw_only=True, frozen=True):
    """How to reach a server."""

    batch_seconds: Annotated[float, Meta(ge=0, le=300)] = 1.0
    """Wait this long for more events to send at once; 0: send what there is."""
    spool: bool = True
    """Keep on the disk what was not sent yet, so that neither a fault of the network nor
    an end of the agent loses it."""

    ca_file: str = ""
    """Trust these authorities (PEM) instead of those of the system."""
    certificate_file: str = ""
    """Show this client certificate (PEM, may hold the key)."""
    key_file: str = ""
    """The key of the client certificate."""
    server_name: str = ""
    """The name that the server's certificate must have; empty: that of the URL."""
    proxy: str = ""
    """Go through this HTTP proxy."""
    connect_seconds: Annotated[float, Meta(gt=0)] = 10.0
    """Give up on a connection after this long."""


class HttpConfig(ConnectConfig, kw_only=True, frozen=True):
    """Where to, and how the agent shows who it is."""

    url: str
    """Where to post: https://, or http:// to this machine only."""
    token_file: str = ""
    """Send what this file holds as a bearer token; it is read again when it changes."""
    token_scheme: Annotated[str, Meta(pattern=r"^[A-Za-z]+$")] = "Bearer"  # noqa: S105  no secret
    """The word before the token, for example ApiKey or Splunk."""
    headers: dict[str, str] = field(default_factory=dict)
    """Send these headers too."""


class Answer(NamedTuple):
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """2xx."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


class TooLarge(Rejected):
    """The server takes no request of this size."""


class Client:
    """Makes requests of one sink, with at most four connections that stay open."""

    ANSWER_BYTES: Final = 2048
    """Read of what a server says, where nothing else is asked for."""

    def __init__(
        self,
        config: ConnectConfig,
        *,
        url: str,
        token_file: str = "",
        token_scheme: str = "Bearer",  # noqa: S107  no secret
        headers: Mapping[str, str] = {},
        aws_service: str = "",
        aws_region: str = "",
    ) -> None:
        """Nothing is opened yet; `url` is checked then, `headers` go with each request."""
        self._config = config
        self._url = url
        self._token_file = token_file
        self._token_scheme = token_scheme
        self._headers = dict(headers)
        self._aws_service = aws_service
        self._aws_region = region_of(aws_region)
        self._session: ClientSession | None = None
        self._credentials: CredentialSource | None = None
        self._token = ""
        self._token_facts: tuple[int, int, int] | None = None

    @classmethod
    def of(cls, config: HttpConfig, aws_service: str = "", aws_region: str = "") -> Client:
        """With the token and headers of the settings."""
        return cls(
            config,
            url=config.url,
            token_file=config.token_file,
            token_scheme=config.token_scheme,
            headers=config.headers,
            aws_service=aws_service,
            aws_region=aws_region,
        )

    async def open(self) -> None:
        """Read the files; the first connection is made with the first request."""
        config = self._config
        check_url(self._url)
        for name, value in self._headers.items():
            if not HEADER.fullmatch(name) or not value.isprintable():
                raise StartError(f"headers: {name!r} is no header that can be sent")
        context = tls_context(config)
        if self._token_file:
            try:
                self._read_token()
            except OSError as error:
                raise StartError(
                    f"token_file {self._token_file} cannot be read: {error.strerror}"
                ) from error
        # Costs some 15 MiB, so only who has such a sink pays for it.
        import aiohttp  # noqa: PLC0415

        if self._aws_service:
            if self._token_file:
                raise StartError("take token_file or aws_service: there is one Authorization only")
            if not self._aws_region:
                raise StartError(
                    "AWS needs a region: set it here, or AWS_REGION in the environment"
                )
            self._credentials = CredentialSource(self.ask)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=4, ttl_dns_cache=30),
            timeout=aiohttp.ClientTimeout(total=None, connect=config.connect_seconds),
            headers={"User-Agent": "nodeagent"},
            skip_auto_headers=["Accept-Encoding"],
        )

    async def close(self) -> None:
        """Hang up."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        answer_bytes: int = ANSWER_BYTES,
    ) -> Answer:
        """What the server said, at most so much of it; raises Retry when it said nothing."""
        from aiohttp import ClientError  # noqa: PLC0415

        if self._session is None:
            raise Retry("the sink is closed")
        sent = {**headers, **self._headers}
        try:
            sent |= self._authorization()
            if self._credentials is not None:
                sent |= sign(
                    method,
                    url,
                    sent,
                    body,
                    await self._credentials.get(),
                    region=self._aws_region,
                    service=self._aws_service,
                    now=time.time(),
                )
            async with self._session.request(
                method,
                url,
                data=body,
                headers=sent,
                allow_redirects=False,
                proxy=self._config.proxy or None,
                server_hostname=self._config.server_name or None,
            ) as answer:
                said = await read_up_to(answer.content, answer_bytes)
                return Answer(answer.status, answer.headers, said)
        except (ClientError, OSError) as error:
            # The text names addresses and certificates, never headers.
            raise Retry(str(error) or type(error).__name__) from error

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The same for a POST; raises what the answer means when it is no success."""
        answer = await self.request("POST", url, body, headers)
        if not answer.is_success:
            raise failure(answer)
        return answer

    async def ask(self, method: str, url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """For credentials: never through the proxy, never redirected."""
        from aiohttp import ClientError, ClientTimeout  # noqa: PLC0415

        if self._session is None:
            raise OSError(0, "the sink is closed")
        try:
            async with self._session.request(
                method,
                url,
                headers=headers,
                allow_redirects=False,
                timeout=ClientTimeout(total=ASK_SECONDS),
            ) as answer:
                return answer.status, await read_up_to(answer.content, TOKEN_BYTES)
        except (ClientError, TimeoutError) as error:
            where = url.partition("?")[0]
            raise OSError(0, f"{where} does not answer: {type(error).__name__}") from error

    def _authorization(self) -> dict[str, str]:
        if not self._token_file:
            return {}
        self._read_token()
        return {"Authorization": f"{self._token_scheme} {self._token}"}

    def _read_token(self) -> None:
        """Read the file again when it is another one or was written."""
        path = Path(self._token_file)
        facts = path.stat()
        known = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
        if known == self._token_facts:
            return
        with path.open("rb") as file:
            token = file.read(TOKEN_BYTES).decode("latin-1").strip()
        if not token or not token.isascii() or not token.isprintable():
            raise OSError(0, f"{path} holds no token")
        self._token, self._token_facts = token, known


def region_of(given: str) -> str:
    """The region that a setting names, or the environment; empty when none does."""
    return given or os.environ.get("AWS_REGION", "")


async def read_up_to(stream: StreamReader, limit: int) -> bytes:
    """What comes until the end, but no more than `limit` bytes."""
    parts, size = [], 0
    while size < limit and (part := await stream.read(limit - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


async def in_parts(batch: Batch, send: Callable[[Batch, str], Awaitable[None]], name: str) -> None:
    """Send a batch under this name, in halves of halves as long as it is too large."""
    try:
        await send(batch, name)
    except TooLarge:
        if len(batch) <= 1:
            raise
        for number, half in enumerate(batch.halves()):
            await in_parts(half, send, f"{name}.{number}")


def packed(body: bytes) -> tuple[bytes, dict[str, str]]:
    """The body compressed with the header that says so, where that is worth it."""
    if len(body) < LEAST_COMPRESSED_BYTES:
        return body, {}
    return gzip.compress(body, COMPRESSION_LEVEL, mtime=0), {"Content-Encoding": "gzip"}


def check_url(url: str) -> None:
    """Raise StartError unless batches can be posted there safely."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        raise StartError(f"url {url!r} is no URL: {error}") from error
    if parts.username or parts.password:
        raise StartError("url must not hold a password: use token_file or headers")
    if parts.scheme == "https" and host:
        return
    if parts.scheme == "http" and host in LOCAL:
        return
    raise StartError(f"url {url!r} must begin with https:// (http:// only to this machine)")


def tls_context(config: ConnectConfig) -> ssl.SSLContext:
    """TLS 1.2 or newer, always verified; raises StartError when a file is of no use."""
    try:
        context = ssl.create_default_context(cafile=config.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"ca_file {config.ca_file} cannot be used: {_why(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.key_file and not config.certificate_file:
        raise StartError("key_file needs a certificate_file")
    if config.certificate_file:
        try:
            # Without a password, or it would ask on the terminal.
            context.load_cert_chain(
                config.certificate_file, config.key_file or None, password=lambda: b""
            )
        except (OSError, ssl.SSLError) as error:
            raise StartError(
                f"certificate_file {config.certificate_file} cannot be used: {_why(error)}"
            ) from error
    return context


def failure(answer: Answer) -> Retry | Rejected:
    """What an answer other than success means for the batch."""
    status, after = answer.status, answer.headers.get("Retry-After")
    said = answer.body[:200].decode("utf-8", "replace")
    words = "".join(c for c in said if c.isprintable())
    text = f"HTTP {status} {words}".strip()
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Retry(f"{text}: redirects are not followed, set url", FAR_FROM_RIGHT_SECONDS)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TooLarge(text)
    if status in DENIED:
        return Denied(text, seconds_after(after) or FAR_FROM_RIGHT_SECONDS)
    if status == HTTPStatus.NOT_FOUND:
        return Retry(text, seconds_after(after) or FAR_FROM_RIGHT_SECONDS)
    if status in BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Retry(text, seconds_after(after))
    return Rejected(text)


def seconds_after(text: str | None) -> float | None:
    """What Retry-After asks for, a number of seconds or a date; None when nothing of use."""
    if not text:
        return None
    try:
        seconds = float(text) if text.strip().isdigit() else _until(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_AFTER_SECONDS)


def _until(date: str) -> float:
    return parsedate_to_datetime(date).timestamp() - time.time()


def _why(error: Exception) -> str:
    strerror: Any = getattr(error, "strerror", None)
    return str(strerror or error)
