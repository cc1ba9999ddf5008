# SPDX-License-Identifier: Apache-2.0
"""An agent that looks for what is wrong, and scenes that it watches."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodeagent.detect.catalogue import FINDING_WEIGHT
from nodeagent.kernel.object import find_object
from tests.detect.lists import write_lists
from tests.detect.replaying import Recorded
from tests.detect.scenes import INFORMATIONAL
from tests.kernel.stream import Event, Stream
from tests.requirement import need

GENERATIONS = 5
"""A signal counts for that many ancestors, which scenes must not share."""
SCENE_SECONDS = 30
EXPECTED = tuple(
    word
    for direction in ("egress", "ingress")
    for word in ("--set", f'detect.network.{direction}={{"/mnt/caller" = ["192.0.2.0/28"]}}')
)
"""Of one program, which only scenes about that run."""
AT_ONCE = ("--set", "detect.update_seconds=0")
"""Something else on the machine may have done the same before."""


class Watch:
    """Runs scenes under the eyes of an agent."""

    def __init__(self, stream: Stream, recorded: Recorded | None = None) -> None:
        self.stream = stream
        self.recorded = recorded

    def play(self, script: str, folder: Path, *, contained: bool = False) -> int:
        """Run it to its end; returns the pid of the process that is above all of it."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.recorded:
            # It is in the recording; a busy machine makes millions of events.
            self.stream.events.clear()
        generations = ["unshare", "--fork"] * GENERATIONS
        own = ["--pid", "--mount-proc"] if contained else []
        command = [*generations, "unshare", "--fork", "--mount", *own, "sh", "-c", script]
        with subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as running:
            running.wait(SCENE_SECONDS)
        return running.pid

    def findings(self, root: int) -> list[Event]:
        """All that were found in a process tree that has ended, and not because of other trees."""
        return [each for each in self.signals(root) if not (is_signal(each) or is_of_others(each))]

    def signals(self, root: int) -> list[Event]:
        """The same with signals that are no findings."""
        self.stream.catch_up()
        # Findings stand behind the events of their batch, so only the next batch is behind them.
        self.stream.catch_up()
        return [event for event in self.stream.events if is_below(event, root)]

    def finding(self, root: int, type_: str, severity: str = "") -> Event:
        """The first one of a type in a process tree, and of a severity, else no mere signal."""

        def is_wanted(event: Event) -> bool:
            if not is_below(event, root) or event["type"] != type_:
                return False
            return event["severity"] == severity if severity else not is_signal(event)

        # What is told again is told with the next event.
        self.stream.catch_up()
        return self.stream.first(is_wanted, type_)


def is_signal(event: Event) -> bool:
    """It is too weak for a finding."""
    return bool(event["severity"] == INFORMATIONAL)


def is_of_others(event: Event) -> bool:
    """Weak signals of the whole node, which all scenes give, became findings together."""
    evidence = event["evidence"]
    if "signals" in evidence:
        return any(each["scope"] == "node" for each in evidence["signals"])
    # That such a signal has led to a finding makes the next one another.
    return bool(evidence.get("weight", FINDING_WEIGHT) < FINDING_WEIGHT)


def is_below(event: Event, root: int) -> bool:
    """It is a finding about a process of this tree."""
    if event["kind"] != "finding":
        return False
    process: dict[str, Any] = event["process"]
    return root in (process["pid"], *(each["pid"] for each in process["lineage"]))


@pytest.fixture(scope="package")
def watch(tmp_path_factory: pytest.TempPathFactory, lists: list[str]) -> Iterator[Watch]:
    """One agent for all scenes."""
    need("kernel", os.geteuid() == 0, "eBPF programs can only be loaded by root")
    need("kernel", find_object().exists(), "bpf/nodeagent.bpf.o is not built")
    recorded = Recorded(tmp_path_factory.mktemp("recorded"))
    with Stream("--signals", *AT_ONCE, *EXPECTED, *lists, *recorded.options) as stream:
        yield Watch(stream, recorded)
        if stream.agent.poll() is None:
            assert stream.stop() == 143
        assert "failed" not in stream.errors


@pytest.fixture(scope="package")
def lists(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of that agent for its threat lists."""
    return write_lists(tmp_path_factory.mktemp("lists"))
