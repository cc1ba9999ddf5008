# SPDX-License-Identifier: Apache-2.0
"""Requests signed for AWS (Signature Version 4), with the credentials of whoever we run as.

A signature is some thirty lines; botocore would bring 20 MiB of resident memory for them.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree

import msgspec

from nodeagent.errors import Denied

__all__ = ["CredentialSource", "Credentials", "sign"]

ALGORITHM: Final = "AWS4-HMAC-SHA256"
FRESH_SECONDS: Final = 300.0
"""New credentials are fetched when the old ones are valid for less than this."""
METADATA: Final = "http://169.254.169.254"
TASK_ENDPOINT: Final = "http://169.254.170.2"
ALLOWED_PLAIN: Final = frozenset(
    {"localhost", "127.0.0.1", "::1", "169.254.170.2", "169.254.170.23"}
)
"""Hosts that may be asked for credentials without TLS: loopback, ECS, EKS Pod Identity."""
TOKEN_BYTES: Final = 65536

Ask = Callable[[str, str, Mapping[str, str]], Awaitable[tuple[int, bytes]]]
"""Method, URL and headers of a request; gives status and body. Raises OSError."""


class Credentials(msgspec.Struct, frozen=True):
    """Keys, and until when they are valid."""

    access_key: str
    secret_key: str
    token: str = ""
    expires: float | None = None
    """Seconds since 1970; None: never."""

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"Credentials({self.access_key})"

    def is_fresh(self, now: float) -> bool:
        """They can be used for a while."""
        return self.expires is None or self.expires - now > FRESH_SECONDS


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    credentials: Credentials,
    *,
    region: str,
    service: str,
    now: float,
) -> dict[str, str]:
    """The headers to add; `headers` are those that are sent too and signed.

    See "Create a signed AWS API request" in the IAM User Guide.
    """
    parts = urlsplit(url)
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    added = {"X-Amz-Date": moment, "X-Amz-Content-SHA256": digest}
    if credentials.token:
        added["X-Amz-Security-Token"] = credentials.token
    signed = {name.lower(): " ".join(value.split()) for name, value in {**headers, **added}.items()}
    signed["host"] = parts.netloc
    names = ";".join(sorted(signed))
    # As it is written: whoever wrote the URL has escaped it.
    query = sorted(pair.partition("=") for pair in parts.query.split("&") if pair)
    canonical = "\n".join(
        [
            method,
            quote(parts.path or "/", safe="/-_.~%"),
            "&".join(f"{name}={value}" for name, _, value in query),
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            digest,
        ]
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    text = "\n".join([ALGORITHM, moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{credentials.secret_key}".encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    added["Authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key}/{scope},"
        f" SignedHeaders={names}, Signature={signature}"
    )
    return added


class CredentialSource:
    """The credentials of this process, fetched again before they expire."""

    def __init__(self, ask: Ask, environment: Mapping[str, str] = os.environ) -> None:
        """`ask` makes a request."""
        self._ask = ask
        self._environment = environment
        self._credentials: Credentials | None = None

    async def get(self, now: float | None = None) -> Credentials:
        """Those that are valid; raises Denied when there are none to be had now."""
        now = time.time() if now is None else now
        known = self._credentials
        if known is None or not known.is_fresh(now):
            try:
                known = self._credentials = await self._fetch()
            except (OSError, ValueError, KeyError, msgspec.DecodeError) as error:
                if known is not None and (known.expires or 0) > now:
                    # Still good for a while; the next request tries again.
                    return known
                raise Denied(f"no AWS credentials: {error}") from error
        return known

    async def _fetch(self) -> Credentials:
        """From the environment, the pod (IRSA), the task or pod identity, or the instance."""
        given = self._environment.get
        if given("AWS_ACCESS_KEY_ID") and given("AWS_SECRET_ACCESS_KEY"):
            return Credentials(
                given("AWS_ACCESS_KEY_ID", ""),
                given("AWS_SECRET_ACCESS_KEY", ""),
                given("AWS_SESSION_TOKEN", ""),
            )
        if given("AWS_WEB_IDENTITY_TOKEN_FILE") and given("AWS_ROLE_ARN"):
            return await self._of_web_identity()
        if given("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
            path = given("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "")
            return _keys(await self._body("GET", TASK_ENDPOINT + path, {}))
        if given("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
            return await self._of_container()
        return await self._of_instance()

    async def _of_web_identity(self) -> Credentials:
        region = self._environment.get("AWS_REGION", "us-east-1")
        endpoint = self._environment.get(
            "AWS_ENDPOINT_URL_STS", f"https://sts.{region}.amazonaws.com"
        )
        token = _read(self._environment["AWS_WEB_IDENTITY_TOKEN_FILE"])
        query = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": self._environment["AWS_ROLE_ARN"],
            "RoleSessionName": self._environment.get("AWS_ROLE_SESSION_NAME", "nodeagent"),
            "WebIdentityToken": token,
        }
        answer = await self._body("GET", f"{endpoint}/?{urlencode(query)}", {})
        try:
            tree = ElementTree.fromstring(answer)  # noqa: S314  of AWS, over TLS
        except ElementTree.ParseError as error:
            raise ValueError(f"STS answered no XML: {error}") from error
        found = {each.tag.rpartition("}")[2]: each.text or "" for each in tree.iter()}
        return Credentials(
            found["AccessKeyId"],
            found["SecretAccessKey"],
            found["SessionToken"],
            _seconds(found["Expiration"]),
        )

    async def _of_container(self) -> Credentials:
        url = self._environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in ALLOWED_PLAIN:
            raise ValueError(f"AWS_CONTAINER_CREDENTIALS_FULL_URI {url} is neither local nor https")
        file = self._environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        token = _read(file) if file else self._environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
        return _keys(await self._body("GET", url, {"Authorization": token} if token else {}))

    async def _of_instance(self) -> Credentials:
        endpoint = self._environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", METADATA).rstrip("/")
        asked = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
        token = await self._body("PUT", f"{endpoint}/latest/api/token", asked)
        head = {"X-aws-ec2-metadata-token": token.decode("ascii").strip()}
        where = f"{endpoint}/latest/meta-data/iam/security-credentials/"
        role = (await self._body("GET", where, head)).decode("ascii").split("\n")[0].strip()
        return _keys(await self._body("GET", where + quote(role, safe="+=,.@-_"), head))

    async def _body(self, method: str, url: str, headers: Mapping[str, str]) -> bytes:
        status, body = await self._ask(method, url, headers)
        if status != 200:  # noqa: PLR2004
            # Without the query, which may hold a token.
            raise ValueError(f"{url.partition('?')[0]} answered {status}")
        return body


def _keys(answer: bytes) -> Credentials:
    found: dict[str, Any] = msgspec.json.decode(answer, type=dict[str, Any])
    return Credentials(
        str(found["AccessKeyId"]),
        str(found["SecretAccessKey"]),
        str(found.get("Token", "")),
        _seconds(str(found["Expiration"])),
    )


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _read(path: str) -> str:
    with Path(path).open("rb") as file:
        return file.read(TOKEN_BYTES).decode("ascii").strip()
