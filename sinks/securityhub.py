# SPDX-License-Identifier: Apache-2.0
"""Findings to AWS Security Hub, in its own format (ASFF)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

import orjson
from msgspec import Meta

from nodeagent.encode import timestamp
from nodeagent.errors import Rejected, Retry
from nodeagent.finding import Finding
from nodeagent.identity import Item, agent_id, node_name
from nodeagent.sink import Batch, Sink
from sinks.aws_api import AwsApi, AwsConfig, AwsError, passes, retry_later
from sinks.schema import json_lines

REQUEST_FINDINGS: Final = 100
"""What BatchImportFindings takes at once."""
TITLE_LENGTH: Final = 256
TEXT_LENGTH: Final = 1024


class SecurityHub(Sink):
    """Imports findings; the same one again updates what is there."""

    FINDINGS_ONLY = True

    class Config(AwsConfig, kw_only=True, frozen=True):
        """Whose findings they are."""

        account: Annotated[str, Meta(pattern=r"^\d{12}$")]
        """The account of AWS whose Security Hub takes them."""

        def __post_init__(self) -> None:
            """Security Hub has a format of its own."""
            if self.schema != "native" or self.remove:
                raise ValueError(
                    "schema and remove have no effect, Security Hub takes ASFF: leave them out"
                )

    def __init__(self, config: SecurityHub.Config) -> None:
        """Nothing is opened yet."""
        self._api = AwsApi(config, "securityhub")
        self._account = config.account
        partition = "aws-cn" if self._api.region.startswith("cn-") else "aws"
        partition = "aws-us-gov" if self._api.region.startswith("us-gov-") else partition
        self._product = (
            f"arn:{partition}:securityhub:{self._api.region}:{config.account}"
            f":product/{config.account}/default"
        )
        self._agent = agent_id()
        self._node = node_name()
        self.encoder = self._asff

    async def open(self) -> None:
        """Read the certificates; credentials are fetched with the first finding."""
        await self._api.open()

    async def send(self, batch: Batch) -> None:
        """Import all of them, a hundred at a time."""
        refused, why = 0, ""
        lines = batch.lines(self._asff)
        for start in range(0, len(lines), REQUEST_FINDINGS):
            part = lines[start : start + REQUEST_FINDINGS]
            content = {"Findings": [orjson.Fragment(line) for line in part]}
            try:
                said = await self._api.call(content, path="/findings/import")
            except AwsError as error:
                raise retry_later(error) or Rejected(str(error)) from error
            for failed in said.get("FailedFindings", []):
                code = str(failed.get("ErrorCode", ""))
                if passes(code):
                    raise Retry(code)
                refused += 1
                why = f"{code}: {str(failed.get('ErrorMessage', ''))[:200]}"
        if refused:
            raise Rejected(why, refused)

    async def close(self) -> None:
        """Hang up."""
        await self._api.close()

    def _asff(self, findings: Iterable[Item]) -> bytes:
        """A line for each finding."""
        return json_lines(self._finding(each) for each in findings if isinstance(each, Finding))

    def _finding(self, finding: Finding) -> dict[str, Any]:
        evidence = orjson.dumps(finding.details).decode()
        purpose = finding.type.partition(":")[0]
        return {
            "SchemaVersion": "2018-10-08",
            "Id": f"{self._agent}/{finding.id}",
            "ProductArn": self._product,
            "GeneratorId": f"nodeagent/{finding.type}",
            "AwsAccountId": self._account,
            "Types": [f"TTPs/{purpose}/{finding.type.replace('/', '-')}"],
            "FirstObservedAt": timestamp(finding.first_seen),
            "LastObservedAt": timestamp(finding.last_seen),
            "CreatedAt": timestamp(finding.first_seen),
            "UpdatedAt": timestamp(finding.last_seen),
            "Severity": {"Label": finding.severity.name},
            "Title": finding.title[:TITLE_LENGTH] or finding.type,
            "Description": f"{finding.title} ({finding.count} times): {evidence}"[:TEXT_LENGTH],
            "ProductFields": {"nodeagent/count": str(finding.count)},
            "Resources": [{"Type": "Other", "Id": self._node}],
        }
