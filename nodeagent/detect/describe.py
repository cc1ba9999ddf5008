# SPDX-License-Identifier: Apache-2.0
"""Processes and resources as findings show them, in the shape of GuardDuty's findings."""

from __future__ import annotations

from typing import Final

from nodeagent.encode import timestamp
from nodeagent.event import Ancestor, Brief, Container, Process

__all__ = [
    "describe_brief",
    "describe_process",
    "describe_resource",
    "described_target",
    "name_of",
    "unversioned",
]

UNKNOWN: Final = "unknown"
VERSION: Final = "0123456789."


def name_of(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2]


def unversioned(name: str) -> str:
    """Without the version that distributions put behind it, as in `php8.2`."""
    return name.rstrip(VERSION)


def describe_process(process: Process, boot_ns: int, sha256: str = "") -> dict[str, object]:
    """Who did it; no command line, which may hold secrets."""
    task, facts = process.task, process.facts
    shown: dict[str, object] = {
        "name": name_of(process.path) or task.comm or UNKNOWN,
        "executablePath": process.path,
        "pid": task.pid,
        "startTime": timestamp(boot_ns + task.start_time),
        "uuid": process.uuid,
        "userId": task.uid,
        "euid": task.euid,
        "lineage": [_describe_ancestor(each, boot_ns) for each in process.lineage],
    }
    if sha256:
        shown["executableSha256"] = sha256
    if facts is not None:
        shown["namespacePid"] = facts.namespace_pid
    if process.user:
        shown["user"] = process.user
    if process.lineage:
        shown["parentUuid"] = process.lineage[0].uuid
    return shown


def _describe_ancestor(ancestor: Ancestor, boot_ns: int) -> dict[str, object]:
    shown: dict[str, object] = {
        "name": name_of(ancestor.path) or UNKNOWN,
        "executablePath": ancestor.path,
        "pid": ancestor.pid,
        "startTime": timestamp(boot_ns + ancestor.start_time),
        "uuid": ancestor.uuid,
    }
    known = (
        ("namespacePid", ancestor.namespace_pid),
        ("userId", ancestor.uid),
        ("euid", ancestor.euid),
    )
    return shown | {name: value for name, value in known if value is not None}


def describe_brief(brief: Brief, boot_ns: int) -> dict[str, object]:
    """Another process that it is about."""
    return {
        "name": name_of(brief.path) or UNKNOWN,
        "executablePath": brief.path,
        "pid": brief.pid,
        "startTime": timestamp(boot_ns + brief.start_time),
        "uuid": brief.uuid,
    }


def described_target(other: Brief | None, pid: int) -> dict[str, object]:
    """The process to which something was done, by its number at least."""
    if other is None:
        return {"targetProcess": {"pid": pid}}
    return {
        "targetProcess": {
            "pid": other.pid,
            "uuid": other.uuid,
            "name": name_of(other.path),
            "executablePath": other.path,
        }
    }


def describe_resource(container: Container | None, node: str) -> dict[str, object]:
    """Where it was."""
    shown: dict[str, object] = {"node": node}
    if container is None:
        return shown
    shown["containerDetails"] = {
        "id": container.id,
        "containerRuntime": container.runtime,
        "name": container.name,
        "image": container.image,
    }
    if (pod := container.pod) is not None:
        shown["kubernetesDetails"] = {
            "kubernetesWorkloadDetails": {
                "name": pod.workload.name if pod.workload else pod.name,
                "type": pod.workload.kind if pod.workload else "Pod",
                "uid": pod.uid,
                "namespace": pod.namespace,
            },
            "pod": pod.name,
        }
    if (task := container.ecs) is not None:
        shown["ecsClusterDetails"] = {
            "name": task.cluster,
            "taskDetails": {"arn": task.arn, "definitionFamily": task.family},
        }
    return shown
