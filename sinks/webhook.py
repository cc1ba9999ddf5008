# SPDX-License-Identifier: Apache-2.0
"""Findings to a chat or any other address, each as a request of its own and not too often."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Annotated, Final, Literal

import orjson
from msgspec import Meta

from nodeagent.finding import Finding, Severity
from nodeagent.identity import Item
from nodeagent.sink import Batch, Sink
from sinks.http import Client, HttpConfig
from sinks.schema import encoder_of

REMEMBERED: Final = 10_000
"""Findings; of more the oldest are told again too early."""
TITLE_LENGTH: Final = 500
TEXT_LENGTH: Final = 2500
"""Characters of evidence; a block of Slack takes 3000."""
ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
MARKS: Final = {
    Severity.LOW: ":white_circle:",
    Severity.MEDIUM: ":large_yellow_circle:",
    Severity.HIGH: ":large_orange_circle:",
    Severity.CRITICAL: ":red_circle:",
}


class Webhook(Sink):
    """Posts each finding; the same one again only after a while, then with its count."""

    FINDINGS_ONLY = True
    NEEDS_FACTS = True

    class Config(HttpConfig, kw_only=True, frozen=True):
        """Where to, and how often."""

        format: Literal["json", "slack"] = "json"
        """The finding as it is, or a message for Slack (Mattermost and others take it too)."""
        repeat_seconds: Annotated[float, Meta(ge=0)] = 3600.0
        """Tell the same finding again only after this long."""

    def __init__(self, config: Webhook.Config) -> None:
        """Nothing is opened yet."""
        self._config = config
        self._encode = encoder_of(config) if config.format == "json" else slack_messages
        self.encoder = self._encode
        self._client = Client.of(config)
        self._told: dict[str, float] = {}
        """When each finding was told last, in the order of that."""

    async def open(self) -> None:
        """Read the certificates; the first connection is made with the first finding."""
        await self._client.open()

    async def send(self, batch: Batch) -> None:
        """Post what was not told lately; what was posted before a failure is not posted again."""
        for facts, body in zip(batch.facts, batch.lines(self._encode), strict=True):
            key = facts.finding
            now = time.monotonic()
            if now - self._told.get(key, -float("inf")) < self._config.repeat_seconds:
                continue
            await self._client.post(self._config.url, body, {"Content-Type": "application/json"})
            self._told.pop(key, None)
            self._told[key] = now
            if len(self._told) > REMEMBERED:
                del self._told[next(iter(self._told))]

    async def close(self) -> None:
        """Hang up."""
        await self._client.close()


def slack_messages(findings: Iterable[Item]) -> bytes:
    """A line for each finding."""
    return b"".join([slack(each) + b"\n" for each in findings if isinstance(each, Finding)])


def slack(finding: Finding) -> bytes:
    """A message with the title, what it is, and the evidence."""
    title = f"{MARKS[finding.severity]} {plain(finding.title, TITLE_LENGTH)}"
    evidence = orjson.dumps(finding.details, option=orjson.OPT_INDENT_2).decode()
    kind, severity = plain(finding.type, TITLE_LENGTH), finding.severity.name.lower()
    facts = f"`{kind}` {severity}, {finding.count} times"
    # A fence inside of it would end the block.
    shown = plain(evidence, TEXT_LENGTH).replace("```", "'''")
    blocks = [f"*{title}*\n{facts}", f"```{shown}```"]
    return orjson.dumps(
        {
            "text": title,
            "blocks": [
                {"type": "section", "text": {"type": "mrkdwn", "text": text}} for text in blocks
            ],
        }
    )


def plain(text: str, length: int) -> str:
    """Escaped, so that no name of a file mentions everybody or makes a link, and cut."""
    escaped = text[:length].translate(ESCAPES)
    # Not in the middle of an entity.
    return escaped if len(escaped) <= length else escaped[:length].rpartition("&")[0]
