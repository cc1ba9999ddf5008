# SPDX-License-Identifier: Apache-2.0
"""The instance of Amazon EC2 that this node is, from its metadata service (IMDSv2)."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from nodeagent.errors import NodeagentError
from nodeagent.event import Instance

__all__ = ["InstanceError", "cluster_of", "fetch", "is_ec2"]

ENDPOINT: Final = "http://169.254.169.254"
TOKEN_SECONDS: Final = 300
ANSWER_BYTES: Final = 65536
TAGS_MOST: Final = 50
"""As many as an instance can have."""
VENDOR: Final = Path("/sys/class/dmi/id/sys_vendor")
CLUSTER_TAGS: Final = ("eks:cluster-name", "aws:eks:cluster-name", "alpha.eksctl.io/cluster-name")
CLUSTER_PREFIX: Final = "kubernetes.io/cluster/"
NAME: Final = rb"(?P<name>[0-9A-Za-z][\w-]{0,99})(?![\w-])"
CLUSTER_FACTS: Final = (
    re.compile(rb"/etc/eks/bootstrap\.sh[ \t]+['\"]?" + NAME),
    re.compile(
        rb"^[ \t]*cluster:[ \t]*\r?\n(?:[ \t]+\w+:.*\r?\n)*?[ \t]+name:[ \t]*['\"]?" + NAME,
        re.MULTILINE,
    ),
    re.compile(rb"^[ \t]*cluster-name[ \t]*=[ \t]*['\"]" + NAME, re.MULTILINE),
)
"""How user data says it: of Amazon Linux 2, Amazon Linux 2023 (nodeadm), Bottlerocket."""


class InstanceError(NodeagentError):
    """The metadata service did not say who we are; the text says what to do."""


def cluster_of(instance: Instance) -> str:
    """The name of the Kubernetes cluster that tags or user data tell; empty when none does."""
    tags = instance.tags or {}
    named = next((tags[name] for name in CLUSTER_TAGS if tags.get(name)), "")
    if named:
        return named
    owners = (name for name in tags if name.startswith(CLUSTER_PREFIX))
    return next(owners, "").removeprefix(CLUSTER_PREFIX) or instance.cluster


def is_ec2() -> bool:
    """Whether the firmware says so; asks no network."""
    try:
        return VENDOR.read_text(encoding="utf-8", errors="replace").strip() == "Amazon EC2"
    except OSError:
        return False


def fetch(seconds: float, endpoint: str = ENDPOINT) -> Instance:
    """Ask the service; blocks, each question at most so long. Raises InstanceError."""
    token = _token(seconds, endpoint)
    head = {"X-aws-ec2-metadata-token": token}
    status, document = _ask(
        seconds, endpoint, "GET", "/latest/dynamic/instance-identity/document", head
    )
    if status != http.client.OK:
        raise InstanceError(f"the metadata service answered {status} instead of the identity")
    try:
        instance = msgspec.json.decode(document, type=Instance)
    except msgspec.DecodeError as error:
        raise InstanceError(f"the identity document is none: {error}") from error
    return msgspec.structs.replace(
        instance, tags=_tags(seconds, endpoint, head), cluster=_cluster(seconds, endpoint, head)
    )


def _cluster(seconds: float, endpoint: str, head: Mapping[str, str]) -> str:
    """Nothing else of the user data is kept: it may hold secrets."""
    status, data = _ask(seconds, endpoint, "GET", "/latest/user-data", head)
    if status != http.client.OK:
        return ""
    found = (fact.search(data) for fact in CLUSTER_FACTS)
    return next((match["name"].decode("ascii", "replace") for match in found if match), "")


def _token(seconds: float, endpoint: str) -> str:
    asked = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
    try:
        status, token = _ask(seconds, endpoint, "PUT", "/latest/api/token", asked)
    except InstanceError as error:
        # The answer is not let through to whoever is more hops away than is allowed.
        raise InstanceError(
            f"{error}; in a container the hop limit of the instance may be too low: aws ec2"
            " modify-instance-metadata-options --http-put-response-hop-limit 2 --instance-id …"
        ) from error
    text = token.decode("latin-1").strip()
    if status == http.client.FORBIDDEN:
        raise InstanceError("the metadata service of this instance is turned off")
    if status != http.client.OK or not text.isascii() or not text.isprintable() or not text:
        raise InstanceError(f"the metadata service answered {status} instead of a token")
    return text


def _tags(seconds: float, endpoint: str, head: Mapping[str, str]) -> dict[str, str] | None:
    path = "/latest/meta-data/tags/instance"
    status, names = _ask(seconds, endpoint, "GET", path, head)
    if status != http.client.OK:
        return None
    tags = {}
    for name in names.decode("utf-8", "replace").split("\n")[:TAGS_MOST]:
        if name and name.isprintable() and " " not in name:
            status, value = _ask(seconds, endpoint, "GET", f"{path}/{name}", head)
            if status == http.client.OK:
                tags[name] = value.decode("utf-8", "replace")
    return tags


def _ask(
    seconds: float, endpoint: str, method: str, path: str, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    parts = urlsplit(endpoint)
    try:
        connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port or 80, timeout=seconds
        )
        try:
            connection.request(method, path, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read(ANSWER_BYTES)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = str(error) or type(error).__name__
        raise InstanceError(f"the metadata service at {endpoint} does not answer: {why}") from error
