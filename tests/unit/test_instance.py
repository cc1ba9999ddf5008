# SPDX-License-Identifier: Apache-2.0
"""Who this node is, asked from a metadata service that insists on its second version."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nodeagent.config import NodeConfig
from nodeagent.event import Instance
from nodeagent.follow.instance import InstanceError, cluster_of, fetch
from nodeagent.follow.node import NodeFollower, name_of_node

TOKEN = "AQAAtoken=="
IDENTITY = {
    "accountId": "123456789012",
    "region": "eu-west-1",
    "availabilityZone": "eu-west-1a",
    "instanceId": "i-0123456789abcdef0",
    "instanceType": "m7i.large",
    "imageId": "ami-0abcdef",
    "pendingTime": "2026-11-24T00:00:00Z",
    "privateIp": "10.0.0.1",
}
TAGS = {"Name": "worker", "kubernetes.io/cluster/shop": "owned"}


NODEADM = (
    b"--//\r\nContent-Type: application/node.eks.aws\r\n\r\nspec:\r\n  cluster:\r\n"
    b"    apiServerEndpoint: https://x\r\n    name: shop\r\n"
)


class Service(ThreadingHTTPServer):
    """What a test wants of it."""

    identity: bytes = json.dumps(IDENTITY).encode()
    tags: dict[str, str] | None = TAGS
    user_data: bytes | None = None
    token_status = 200
    drops_token = False
    """As when the answer may make one hop only."""


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_PUT(self) -> None:
        if self.server.drops_token:
            self.close_connection = True
            return
        asked = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        right = self.path == "/latest/api/token" and asked.isdigit()
        self.answer(self.server.token_status if right else 400, TOKEN.encode())

    def do_GET(self) -> None:
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            return self.answer(401, b"<html>Unauthorized</html>")
        tags = self.server.tags
        where, _, name = self.path.partition("/latest/meta-data/tags/instance")
        if self.path == "/latest/dynamic/instance-identity/document":
            return self.answer(200, self.server.identity)
        if self.path == "/latest/user-data" and self.server.user_data is not None:
            return self.answer(200, self.server.user_data)
        if where or tags is None:
            return self.answer(404, b"")
        if not name:
            return self.answer(200, "\n".join(tags).encode())
        return self.answer(200, tags[name[1:]].encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def endpoint(service: Service) -> str:
    return f"http://127.0.0.1:{service.server_address[1]}"


def test_instance_is_told_with_its_tags(service: Service) -> None:
    instance = fetch(2, endpoint(service))
    assert instance == Instance(
        "123456789012",
        "eu-west-1",
        "eu-west-1a",
        "i-0123456789abcdef0",
        "m7i.large",
        "ami-0abcdef",
        TAGS,
    )
    assert cluster_of(instance) == "shop"


def test_tags_that_may_not_be_shown_are_none(service: Service) -> None:
    service.tags = None
    instance = fetch(2, endpoint(service))
    assert instance.tags is None
    assert cluster_of(instance) == ""


@pytest.mark.parametrize("tag", ["eks:cluster-name", "alpha.eksctl.io/cluster-name"])
def test_cluster_stands_in_a_tag(service: Service, tag: str) -> None:
    service.tags = {"kubernetes.io/cluster/other": "shared", tag: "named"}
    assert cluster_of(fetch(2, endpoint(service))) == "named"


@pytest.mark.parametrize(
    ("data", "cluster"),
    [
        (b"#!/bin/bash\nset -ex\n/etc/eks/bootstrap.sh shop-1 --kubelet-extra-args x\n", "shop-1"),
        (b"/etc/eks/bootstrap.sh 'shop' \\\n  --b64-cluster-ca c2VjcmV0", "shop"),
        (NODEADM, "shop"),
        (b'[settings.kubernetes]\ncluster-name = "shop"\n', "shop"),
        (b"#!/bin/sh\nexport PASSWORD=secret\n", ""),
        (b"/etc/eks/bootstrap.sh $CLUSTER", ""),
        (b"cluster:\n" + b"  a: b\n" * 2000, ""),
        (bytes(range(256)) * 64, ""),
    ],
)
def test_cluster_stands_in_the_user_data(service: Service, data: bytes, cluster: str) -> None:
    service.tags = None
    service.user_data = data
    instance = fetch(2, endpoint(service))
    assert cluster_of(instance) == cluster
    assert "secret" not in str(instance)


def test_answer_that_is_dropped_on_the_way_explains_the_hop_limit(service: Service) -> None:
    service.drops_token = True
    with pytest.raises(InstanceError, match="http-put-response-hop-limit 2"):
        fetch(2, endpoint(service))


@pytest.mark.parametrize(
    ("status", "says"), [(403, "is turned off"), (404, "404 instead of a token"), (500, "500")]
)
def test_service_that_gives_no_token_is_told(service: Service, status: int, says: str) -> None:
    service.token_status = status
    with pytest.raises(InstanceError, match=says):
        fetch(2, endpoint(service))


@pytest.mark.parametrize("identity", [b"<html>", b"{}", b"", b'{"accountId": 3}', b"\xff"])
def test_document_that_is_none_is_told(service: Service, identity: bytes) -> None:
    service.identity = identity
    with pytest.raises(InstanceError, match="identity document is none"):
        fetch(2, endpoint(service))


def test_nobody_there_is_told() -> None:
    with pytest.raises(InstanceError, match="does not answer"):
        fetch(0.5, "http://127.0.0.1:1")


async def test_follower_tells_at_once_and_again_when_the_cloud_has_answered(
    service: Service,
) -> None:
    told: list[dict[str, Any]] = []
    config = NodeConfig(name="one", instance="aws", metadata_endpoint=endpoint(service))
    troubles: dict[str, str] = {}
    follower = NodeFollower(config, told.append, troubles)
    follower.start()
    assert told[0]["name"] == "one"
    assert told[0]["instance"] is None
    await asyncio.wait_for(follower.follow(), 10)
    assert told[1]["instance"]["instance_id"] == "i-0123456789abcdef0"
    assert told[1]["cluster"] == "shop"
    assert not troubles


async def test_follower_goes_on_asking(service: Service) -> None:
    service.token_status = 500
    told: list[dict[str, Any]] = []
    config = NodeConfig(cluster="set", instance="aws", metadata_endpoint=endpoint(service))
    troubles: dict[str, str] = {}
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(NodeFollower(config, told.append, troubles).follow())
        await asyncio.sleep(0.2)
        assert not told
        assert "500 instead of a token" in troubles["INSTANCE_UNKNOWN"]
        service.token_status = 200
    assert not troubles
    assert told[0]["cluster"] == "set"


async def test_elsewhere_nobody_is_asked() -> None:
    told: list[dict[str, Any]] = []
    await asyncio.wait_for(NodeFollower(NodeConfig(instance="none"), told.append, {}).follow(), 1)
    assert told == []


def test_name_of_the_node_is_set_or_that_of_kubernetes_or_of_the_host() -> None:
    assert name_of_node(NodeConfig(name="set"), {"NODE_NAME": "pod"}) == "set"
    assert name_of_node(NodeConfig(), {"NODE_NAME": "pod"}) == "pod"
    assert name_of_node(NodeConfig(), {})
