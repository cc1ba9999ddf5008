# SPDX-License-Identifier: Apache-2.0
"""What labels of containers and pods tell, all of it bounded: they may hold anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Final

from nodeagent.event import EcsTask, Workload

__all__ = ["allowed", "bounded", "ecs_task", "workload_of"]

VALUE_CHARACTERS: Final = 256
"""Of a name, label or annotation."""
LABELS_MOST: Final = 32


def bounded(text: str) -> str:
    """The start of it."""
    return text[:VALUE_CHARACTERS]


def allowed(given: Mapping[str, str], patterns: Collection[str]) -> dict[str, str]:
    """Those whose name fits one of the patterns."""
    names = (name for name in sorted(given) if any(fnmatchcase(name, each) for each in patterns))
    chosen = [name for _, name in zip(range(LABELS_MOST), names, strict=False)]
    return {bounded(name): bounded(given[name]) for name in chosen}


def workload_of(pod: str, labels: Mapping[str, str]) -> Workload | None:
    """What a pod belongs to; controllers leave their mark in its labels."""
    job = labels.get("batch.kubernetes.io/job-name") or labels.get("job-name")
    if job:
        return Workload("Job", bounded(job))
    if "statefulset.kubernetes.io/pod-name" in labels:
        return Workload("StatefulSet", pod.rpartition("-")[0])
    template = labels.get("pod-template-hash")
    if template:
        name, found, _ = pod.rpartition(f"-{template}-")
        return Workload("Deployment", name) if found else None
    if "controller-revision-hash" in labels:
        return Workload("DaemonSet", pod.rpartition("-")[0])
    return None


def ecs_task(labels: Mapping[str, str]) -> EcsTask | None:
    """The task of Amazon ECS, which its agent writes into the labels."""
    arn = labels.get("com.amazonaws.ecs.task-arn")
    if not arn:
        return None
    cluster = labels.get("com.amazonaws.ecs.cluster", "")
    family = labels.get("com.amazonaws.ecs.task-definition-family", "")
    return EcsTask(bounded(arn), bounded(cluster), bounded(family))
