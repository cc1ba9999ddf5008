# SPDX-License-Identifier: Apache-2.0
"""Events and findings to a bus of Amazon EventBridge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

from msgspec import Meta

from nodeagent.errors import Rejected, Retry
from nodeagent.sink import Batch, Sink
from sinks.aws_api import AwsApi, AwsConfig, AwsError, passes, retry_later
from sinks.schema import encoder_of

# What PutEvents takes at once.
REQUEST_ENTRIES: Final = 10
REQUEST_BYTES: Final = 256 * 1024

Entry = dict[str, str | float]


class EventBridge(Sink):
    """Puts each event on the bus, ten at a time: for findings, or for few kinds of events."""

    NEEDS_FACTS = True

    class Config(AwsConfig, kw_only=True, frozen=True):
        """Which bus."""

        bus: Annotated[str, Meta(pattern=r"^[A-Za-z0-9/._:-]{1,1600}$")] = "default"
        """Name or ARN of the bus."""
        source: Annotated[str, Meta(pattern=r"^(?!aws\.).{1,256}$")] = "nodeagent"
        """What rules match as `source`; `detail-type` is the kind."""

    def __init__(self, config: EventBridge.Config) -> None:
        """Nothing is opened yet."""
        self._config = config
        self.encoder = self._encode = encoder_of(config)
        self._api = AwsApi(config, "events")
        self._batch: Batch | None = None
        self._rest: list[Entry] = []
        """What the bus does not have yet of the batch."""
        self._refused = 0
        self._why = ""

    async def open(self) -> None:
        """Read the certificates; credentials are fetched with the first batch."""
        await self._api.open()

    async def send(self, batch: Batch) -> None:
        """Put what the bus does not have yet; after a failure only that comes again."""
        if batch is not self._batch:
            self._batch, self._rest = batch, list(self._entries(batch))
            self._refused, self._why = 0, ""
        while self._rest:
            part = self._rest[: fitting(self._rest)]
            failed = await self._put(part)
            for_good = [each for each in failed if not passes(each[1])]
            self._refused += len(for_good)
            self._why = for_good[0][1] if for_good else self._why
            again = [entry for entry, error in failed if passes(error)]
            self._rest[: len(part)] = again
            if again:
                raise Retry("the bus is busy")
        if self._refused:
            raise Rejected(f"EventBridge refused entries: {self._why}", self._refused)

    async def close(self) -> None:
        """Hang up."""
        await self._api.close()

    async def _put(self, part: list[Entry]) -> list[tuple[Entry, str]]:
        """The entries that failed, each with the name of its error."""
        try:
            said = await self._api.call({"Entries": part}, "AWSEvents.PutEvents")
        except AwsError as error:
            if later := retry_later(error):
                raise later from error
            return [(entry, str(error)) for entry in part]
        outcomes: list[dict[str, Any]] = said["Entries"] if said.get("FailedEntryCount") else []
        return [
            (entry, str(outcome["ErrorCode"]))
            for entry, outcome in zip(part, outcomes, strict=False)
            if outcome.get("ErrorCode")
        ]

    def _entries(self, batch: Batch) -> Iterator[Entry]:
        for facts, line in zip(batch.facts, batch.lines(self._encode), strict=True):
            yield {
                "Source": self._config.source,
                "DetailType": facts.what,
                "Detail": line.decode(),
                "EventBusName": self._config.bus,
                # As the protocol of this service has moments: seconds since 1970.
                "Time": facts.time / 1e9,
            }


def fitting(entries: list[Entry]) -> int:
    """How many of the first entries a request takes, at least one."""
    size = 0
    for number, entry in enumerate(entries[:REQUEST_ENTRIES]):
        size += sum(len(str(value).encode()) for value in entry.values())
        if size > REQUEST_BYTES and number:
            return number
    return min(len(entries), REQUEST_ENTRIES)
