# SPDX-License-Identifier: Apache-2.0
"""Events to CloudWatch Logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

from msgspec import Meta

from nodeagent.errors import Rejected
from nodeagent.identity import node_name
from nodeagent.sink import Batch, Sink
from sinks.aws_api import AwsApi, AwsConfig, AwsError, retry_later
from sinks.schema import encoder_of

# What PutLogEvents takes at once.
REQUEST_BYTES: Final = 1_048_576
EVENT_BYTES: Final = 26
"""Count for each event beside its text."""
REQUEST_EVENTS: Final = 10_000
REQUEST_MILLISECONDS: Final = 24 * 3600 * 1000 - 1

NAME: Final = r"^[A-Za-z0-9_/.#-]{0,512}$"


class CloudWatch(Sink):
    """Puts events into the log stream of this node, which is made when it is missing."""

    NEEDS_FACTS = True

    class Config(AwsConfig, kw_only=True, frozen=True):
        """Which log."""

        group: Annotated[str, Meta(pattern=NAME, min_length=1)]
        """The log group, which has to exist."""
        stream: Annotated[str, Meta(pattern=NAME)] = ""
        """The log stream; empty: the name of the node."""

    def __init__(self, config: CloudWatch.Config) -> None:
        """Nothing is opened yet."""
        self.encoder = self._encode = encoder_of(config)
        self._api = AwsApi(config, "logs")
        self._log = {
            "logGroupName": config.group,
            "logStreamName": config.stream or node_name().replace(":", "-").replace("*", "-"),
        }

    async def open(self) -> None:
        """Read the certificates; credentials are fetched with the first batch."""
        await self._api.open()

    async def send(self, batch: Batch) -> None:
        """Put all events, in as many requests as that takes."""
        lines = zip(batch.facts, batch.lines(self._encode), strict=True)
        events = sorted((facts.time // 1_000_000, line.decode()) for facts, line in lines)
        refused, why = 0, ""
        for part in parts(events):
            said = await self._put(part)
            if info := said.get("rejectedLogEventsInfo"):
                refused += refused_of(info, len(part))
                why = f"events are too old or too new for the log group: {info}"
        if refused:
            raise Rejected(why, refused)

    async def close(self) -> None:
        """Hang up."""
        await self._api.close()

    async def _put(self, part: list[dict[str, Any]]) -> dict[str, Any]:
        content = {**self._log, "logEvents": part}
        try:
            return await self._call("PutLogEvents", content)
        except AwsError as error:
            if error.name != "ResourceNotFoundException":
                raise retry_later(error) or Rejected(str(error)) from error
        try:
            await self._call("CreateLogStream", self._log)
            return await self._call("PutLogEvents", content)
        except AwsError as error:
            raise retry_later(error) or Rejected(str(error)) from error

    async def _call(self, action: str, content: dict[str, Any]) -> dict[str, Any]:
        said: dict[str, Any] = await self._api.call(content, f"Logs_20140328.{action}")
        return said


def parts(events: list[tuple[int, str]]) -> Iterator[list[dict[str, Any]]]:
    """Events in the order of time, as many at once as a request takes."""
    part: list[dict[str, Any]] = []
    size = 0
    for time_ms, text in events:
        cost = len(text.encode()) + EVENT_BYTES
        full = size + cost > REQUEST_BYTES or len(part) == REQUEST_EVENTS
        if part and (full or time_ms - part[0]["timestamp"] > REQUEST_MILLISECONDS):
            yield part
            part, size = [], 0
        part.append({"timestamp": time_ms, "message": text})
        size += cost
    if part:
        yield part


def refused_of(info: dict[str, Any], count: int) -> int:
    """How many of `count` events were not taken: those before and behind some indices."""
    old = max(info.get("tooOldLogEventEndIndex", 0), info.get("expiredLogEventEndIndex", 0))
    new = count - info.get("tooNewLogEventStartIndex", count)
    return min(int(old) + int(new), count)
