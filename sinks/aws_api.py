# SPDX-License-Identifier: Apache-2.0
"""What the sinks of AWS share: where a service is, and what its errors mean."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

import orjson
from msgspec import Meta

from nodeagent.errors import Denied, Retry
from sinks.http import FAR_FROM_RIGHT_SECONDS, Answer, Client, ConnectConfig, failure, region_of

ANSWER_BYTES: Final = 1024 * 1024
BUSY: Final = ("Throttl", "LimitExceeded", "ServiceUnavailable", "Internal", "OperationAborted")
"""In the names of errors that pass by themselves."""
DENIED: Final = ("ExpiredToken", "AccessDenied", "UnrecognizedClient", "InvalidSignature")
"""In the names of errors of credentials."""
NOT_FOUND: Final = "NotFound"
"""In the names of errors of what somebody has to make first."""


class AwsConfig(ConnectConfig, kw_only=True, frozen=True):
    """Which region; credentials are those of the environment, pod, task or instance."""

    region: Annotated[str, Meta(pattern=r"^[a-z0-9-]*$")] = ""
    """The region of AWS; empty: AWS_REGION of the environment."""
    endpoint: str = ""
    """Where the service is, for example a VPC endpoint; empty: its public address."""


class AwsApi:
    """A service of AWS that is called by requests with JSON."""

    def __init__(self, config: AwsConfig, service: str, host: str = "") -> None:
        """`host` is the first part of the name, where that is not the service."""
        self.region = region_of(config.region)
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        public = f"https://{host or service}.{self.region}.{suffix}"
        self.endpoint = (config.endpoint or public).rstrip("/")
        self._client = Client(
            config, url=self.endpoint, aws_service=service, aws_region=self.region
        )

    async def open(self) -> None:
        """Read the certificates; credentials are fetched with the first request."""
        await self._client.open()

    async def close(self) -> None:
        """Hang up."""
        await self._client.close()

    async def put(self, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Upload an object."""
        answer = await self._client.request("PUT", self.endpoint + path, body, headers)
        if not answer.is_success:
            raise failure(answer)

    async def call(self, content: Mapping[str, Any], target: str = "", path: str = "/") -> Any:
        """The decoded answer; raises `AwsError`, or Retry where it may work later."""
        # Services with targets and those with paths speak two protocols.
        headers = {"Content-Type": "application/json"}
        if target:
            headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
        url = self.endpoint + path
        body = orjson.dumps(content)
        answer = await self._client.request("POST", url, body, headers, ANSWER_BYTES)
        if not answer.is_success:
            raise what_failed(answer)
        try:
            return orjson.loads(answer.body or b"{}")
        except orjson.JSONDecodeError as error:
            raise Retry(f"{url} answered no JSON: set endpoint") from error


class AwsError(Exception):
    """A service refused a request for good."""

    def __init__(self, name: str, text: str) -> None:
        """`name` is that of the error, for example ResourceNotFoundException."""
        super().__init__(f"{name}: {text}")
        self.name = name


def what_failed(answer: Answer) -> Exception:
    """The error that an answer other than success names."""
    try:
        said = orjson.loads(answer.body)
        name = str(said.get("__type") or said.get("Code") or "").rpartition("#")[2]
        text = str(said.get("message") or said.get("Message") or "")[:200]
    except (orjson.JSONDecodeError, AttributeError):
        return failure(answer)
    name = name or answer.headers.get("x-amzn-ErrorType", "").partition(":")[0]
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or passes(name):
        return Retry(f"{name}: {text}")
    if name and answer.status == HTTPStatus.BAD_REQUEST:
        return AwsError(name, text)
    return failure(answer)


def passes(name: str) -> bool:
    """An error of this name passes by itself."""
    return any(word in name for word in BUSY)


def retry_later(error: AwsError) -> Retry | None:
    """What an error means that somebody can repair; None for one that stays."""
    if any(word in error.name for word in DENIED):
        return Denied(str(error), FAR_FROM_RIGHT_SECONDS)
    if NOT_FOUND in error.name:
        return Retry(str(error), FAR_FROM_RIGHT_SECONDS)
    return None
