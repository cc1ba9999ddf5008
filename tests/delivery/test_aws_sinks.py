# SPDX-License-Identifier: Apache-2.0
"""Objects, logs, bus and findings of AWS, as moto has them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import zstandard

from nodeagent.errors import Rejected, Retry
from nodeagent.finding import Severity
from nodeagent.identity import agent_id
from nodeagent.sink import Batch
from sinks import cloudwatch
from sinks.cloudwatch import CloudWatch
from sinks.eventbridge import EventBridge
from sinks.s3 import S3
from sinks.securityhub import SecurityHub
from tests.delivery.moto_server import KEYS, Aws, aws
from tests.delivery.opened import opened
from tests.delivery.peer import Posted, peer
from tests.events import TIME, a_finding, an_exec, an_open

pytestmark = pytest.mark.usefixtures("origin")

ACCOUNT = "123456789012"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Aws]:
    async with aws() as made:
        yield made


@pytest.fixture
async def cloud(server: Aws) -> Aws:
    """With nothing in it."""
    await server.reset()
    return server


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)


async def test_each_batch_is_an_object_named_by_what_is_in_it(cloud: Aws) -> None:
    where = {"LocationConstraint": "eu-west-1"}
    await cloud.ask("s3", "create_bucket", Bucket="events", CreateBucketConfiguration=where)
    batch = Batch([an_exec(), an_open()])
    async with opened(S3, bucket="events", endpoint=cloud.url) as sink:
        await sink.send(batch)
        await sink.send(batch)
        await sink.send(Batch([an_open()]))
    listed = await cloud.ask("s3", "list_objects_v2", Bucket="events")
    names = [each["Key"] for each in listed["Contents"]]
    assert len(names) == 2
    assert all(name.startswith(f"nodeagent/2025/11/24/23/{agent_id()}-") for name in names)
    assert all(name.endswith(".ndjson.zst") for name in names)
    bodies = set()
    for name in names:
        found = await cloud.ask("s3", "get_object", Bucket="events", Key=name)
        bodies.add(zstandard.ZstdDecompressor().decompress(found["Body"].read()))
    assert bodies == {batch.ndjson(), Batch([an_open()]).ndjson()}


async def test_a_bucket_that_is_not_there_is_a_retry(cloud: Aws) -> None:
    async with opened(S3, bucket="nothere", endpoint=cloud.url) as sink:
        with pytest.raises(Retry, match="NoSuchBucket"):
            await sink.send(Batch([an_exec()]))


async def test_events_are_in_the_log_stream_of_the_node(
    cloud: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODE_NAME", "node-7")
    await cloud.ask("logs", "create_log_group", logGroupName="nodes/events")
    now = TIME + 365 * 24 * 3600 * 10**9
    batch = Batch([an_exec(time=now + 10**9), an_open(time=now)])
    async with opened(CloudWatch, group="nodes/events", endpoint=cloud.url) as sink:
        await sink.send(batch)
        await sink.send(Batch([an_open(time=now + 2 * 10**9)]))
    found = await cloud.ask(
        "logs", "get_log_events", logGroupName="nodes/events", logStreamName="node-7"
    )
    kinds = [json.loads(each["message"])["kind"] for each in found["events"]]
    assert kinds == ["open", "exec", "open"]
    assert found["events"][0]["timestamp"] == now // 1_000_000


async def test_a_log_group_that_is_not_there_is_a_retry(cloud: Aws) -> None:
    async with opened(CloudWatch, group="nothere", endpoint=cloud.url) as sink:
        with pytest.raises(Retry, match="ResourceNotFoundException"):
            await sink.send(Batch([an_exec()]))


def test_requests_to_cloudwatch_stay_within_its_limits() -> None:
    day = 24 * 3600 * 1000
    events = [(n * 10, "x" * 300_000) for n in range(8)]
    events += [(1000 + n, "y") for n in range(25_000)]
    events += [(1000 + 25_000 + day * n, "z") for n in range(3)]
    made = list(cloudwatch.parts(events))
    assert [(e["timestamp"], e["message"]) for part in made for e in part] == events
    for part in made:
        assert len(part) <= 10_000
        assert sum(len(e["message"].encode()) + 26 for e in part) <= 1_048_576
        assert part[-1]["timestamp"] - part[0]["timestamp"] < day


async def test_events_that_are_too_old_for_the_log_group_are_counted() -> None:
    said = {"rejectedLogEventsInfo": {"tooOldLogEventEndIndex": 2, "tooNewLogEventStartIndex": 4}}
    async with (
        peer(lambda _: (200, said)) as server,
        opened(CloudWatch, group="g", endpoint=server.url) as sink,
    ):
        with pytest.raises(Rejected, match="too old or too new") as caught:
            await sink.send(Batch([an_exec(sequence=n) for n in range(5)]))
    assert caught.value.items == 3


async def test_findings_match_a_rule_of_the_bus(cloud: Aws) -> None:
    await cloud.ask("logs", "create_log_group", logGroupName="/aws/events/all")
    await cloud.ask("events", "create_event_bus", Name="security")
    rule = {"EventBusName": "security", "EventPattern": '{"source": ["nodeagent"]}'}
    await cloud.ask("events", "put_rule", Name="all", **rule)
    arn = f"arn:aws:logs:eu-west-1:{ACCOUNT}:log-group:/aws/events/all"
    target = {"Rule": "all", "EventBusName": "security", "Targets": [{"Id": "1", "Arn": arn}]}
    await cloud.ask("events", "put_targets", **target)
    batch = Batch([an_exec(sequence=n) for n in range(23)], [a_finding()])
    async with opened(EventBridge, bus="security", endpoint=cloud.url) as sink:
        await sink.send(batch)
    found = await cloud.ask("logs", "filter_log_events", logGroupName="/aws/events/all")
    events = [json.loads(each["message"]) for each in found["events"]]
    assert len(events) == 24
    assert sorted(json.dumps(each["detail"], sort_keys=True) for each in events) == sorted(
        json.dumps(json.loads(line), sort_keys=True) for line in batch.lines()
    )
    assert {each["detail-type"] for each in events} == {"exec", "finding"}


class Bus:
    """Takes at most ten entries, and fails some of them as told."""

    def __init__(self, *failures: dict[int, str]) -> None:
        self.failures = list(failures)
        self.taken: list[Any] = []

    def take(self, posted: Posted) -> tuple[int, object]:
        assert posted.headers["X-Amz-Target"] == "AWSEvents.PutEvents"
        entries = posted.json["Entries"]
        assert 1 <= len(entries) <= 10
        failing = self.failures.pop(0) if self.failures else {}
        outcomes = []
        for number, entry in enumerate(entries):
            if number in failing:
                outcomes.append({"ErrorCode": failing[number], "ErrorMessage": "as told"})
            else:
                self.taken.append(json.loads(entry["Detail"])["sequence"])
                outcomes.append({"EventId": str(number)})
        return 200, {"FailedEntryCount": len(failing), "Entries": outcomes}


async def test_entries_that_the_bus_was_too_busy_for_come_again_and_no_others() -> None:
    bus = Bus({}, {3: "ThrottlingException", 4: "InternalFailure"})
    batch = Batch([an_exec(sequence=n) for n in range(25)])
    async with peer(bus.take) as server, opened(EventBridge, endpoint=server.url) as sink:
        with pytest.raises(Retry, match="busy"):
            await sink.send(batch)
        await sink.send(batch)
    assert sorted(bus.taken) == list(range(25))


async def test_entries_that_the_bus_refuses_are_counted_across_tries() -> None:
    bus = Bus({0: "MalformedDetail"}, {1: "ThrottlingException"})
    batch = Batch([an_exec(sequence=n) for n in range(15)])
    async with peer(bus.take) as server, opened(EventBridge, endpoint=server.url) as sink:
        with pytest.raises(Retry):
            await sink.send(batch)
        with pytest.raises(Rejected, match="MalformedDetail") as caught:
            await sink.send(batch)
    assert caught.value.items == 1
    assert sorted(bus.taken) == list(range(1, 15))


async def test_findings_are_in_security_hub_and_the_same_one_once(cloud: Aws) -> None:
    await cloud.ask("securityhub", "enable_security_hub")
    findings = [a_finding(title=f"t{n}", severity=Severity.CRITICAL) for n in range(120)]
    async with opened(SecurityHub, account=ACCOUNT, endpoint=cloud.url) as sink:
        await sink.send(Batch([], findings))
        await sink.send(Batch([], [a_finding(title="t0", count=3)]))
    found: list[Any] = []
    more: dict[str, str] = {}
    while True:
        said = await cloud.ask("securityhub", "get_findings", MaxResults=100, **more)
        found += said["Findings"]
        if not said.get("NextToken"):
            break
        more = {"NextToken": said["NextToken"]}
    assert len({each["Id"] for each in found}) == 120
    one = next(each for each in found if each["Title"] == "t5")
    assert one["Types"] == ["TTPs/Execution/Execution:Runtime-ReverseShell"]
    assert one["Severity"]["Label"] == "CRITICAL"
    assert one["ProductArn"].endswith(f":{ACCOUNT}:product/{ACCOUNT}/default")


async def test_a_finding_has_what_the_model_of_security_hub_asks_for() -> None:
    """Checked by the model that botocore brings, which moto does not look at."""
    import botocore.session  # noqa: PLC0415
    from botocore.validate import ParamValidator  # noqa: PLC0415

    model = botocore.session.get_session().get_service_model("securityhub")
    shape = model.operation_model("BatchImportFindings").input_shape
    assert shape is not None

    def take(posted: Posted) -> tuple[int, object]:
        report = ParamValidator().validate(posted.json, shape)
        assert not report.has_errors(), report.generate_report()
        return 200, {"FailedCount": 0, "SuccessCount": 1, "FailedFindings": []}

    finding = a_finding(title="x" * 2000, evidence={"long": "y" * 5000})
    async with (
        peer(take) as server,
        opened(SecurityHub, account=ACCOUNT, endpoint=server.url) as sink,
    ):
        await sink.send(Batch([], [finding]))
    (sent,) = server.taken[0].json["Findings"]
    assert len(sent["Title"]) <= 256
    assert len(sent["Description"]) <= 1024


@pytest.mark.parametrize(
    ("status", "name", "verdict"),
    [
        (400, "ThrottlingException", Retry),
        (400, "ExpiredTokenException", Retry),
        (400, "com.amazonaws#AccessDeniedException", Retry),
        (400, "ValidationException", Rejected),
        (500, "InternalFailure", Retry),
    ],
)
async def test_names_of_errors_are_verdicts(
    status: int, name: str, verdict: type[Exception]
) -> None:
    said = {"__type": name, "message": "as told"}
    async with (
        peer(lambda _: (status, said)) as server,
        opened(SecurityHub, account=ACCOUNT, endpoint=server.url) as sink,
    ):
        with pytest.raises(verdict, match=name.rpartition("#")[2]):
            await sink.send(Batch([], [a_finding()]))
