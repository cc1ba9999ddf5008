# SPDX-License-Identifier: Apache-2.0
"""An agent of its own that watches the stage, and what it says about it."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, NamedTuple, Self

from nodeagent.demo.behaviours import Behaviour
from nodeagent.demo.stage import Outcome, Stage, libc
from nodeagent.errors import NodeagentError, StartError
from nodeagent.places import own_command

__all__ = ["Agent", "Result", "perform"]

Line = dict[str, Any]

SETTINGS: Final = b"""
[sinks.stdout]
format = "json"
[detect]
only = true
update_seconds = 0      # somebody else may have done the same just before
[control]
socket = ""
[budget]
cpu_percent = 0
memory_bytes = 0
[canary]
interval_seconds = 0
[ledger]
interval_seconds = 0
[node]
instance = "none"       # nobody outside is asked
interfaces = false
"""
"""Instead of what the machine has in /etc."""
VARIABLES: Final = "NODEAGENT_"
START_SECONDS: Final = 60.0
END_SECONDS: Final = 30.0
ACT_SECONDS: Final = 10.0
"""For one behaviour and its finding."""
QUIET_SECONDS: Final = 0.3
"""More findings about one behaviour come within this time; the agent looks twice in it."""
READ_BYTES: Final = 1 << 16
PR_SET_PDEATHSIG: Final = 1


class Finding(NamedTuple):
    """A line of the agent, and how long after the operation it came."""

    line: Line
    latency_ms: float


class Result(NamedTuple):
    """What became of a behaviour."""

    behaviour: Behaviour
    findings: list[Finding]
    """The wanted one first."""
    skipped: str = ""
    """Why it was not done."""
    failed: str = ""
    """What went wrong."""

    @property
    def wanted(self) -> Finding | None:
        """The finding that the behaviour must give, if it did."""
        first = self.findings[:1]
        return first[0] if first and first[0].line["type"] == self.behaviour.type else None

    @property
    def is_good(self) -> bool:
        """It gave its finding, or could not be done here."""
        return self.wanted is not None or bool(self.skipped)


class Agent:
    """Runs during a `with` block, with settings of its own."""

    def __init__(self) -> None:
        self._rest = b""
        self._kinds: Mapping[str, Any] = {}
        """How each kind is seen."""

    def __enter__(self) -> Self:
        """Raises StartError when it does not start."""
        # Files of memory, so that nothing is written anywhere.
        self._errors = os.memfd_create("nodeagent-demo-errors")
        settings = os.memfd_create("nodeagent-demo-settings")
        os.fchmod(settings, 0o600)
        os.write(settings, SETTINGS)
        command = [*own_command(), "--log-level", "error", "run"]
        self._process = subprocess.Popen(
            [*command, "--config", f"/proc/self/fd/{settings}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={k: v for k, v in os.environ.items() if not k.startswith(VARIABLES)},
            pass_fds=[settings],
            # Ctrl-C is for the demonstration, which ends it.
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  there are no threads
        )
        try:
            os.close(settings)
            self._wait_for_start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it and see it gone."""
        self._end()

    @property
    def fd(self) -> int:
        """To be read when there is something on it."""
        if self._process.stdout is None:
            raise StartError("the agent has no output")
        return self._process.stdout.fileno()

    def sees(self, kind: str) -> bool:
        """Whether this kernel shows events of the kind."""
        return bool(self._kinds.get(kind, {}).get("programs"))

    def read(self) -> list[Line]:
        """What it has said; raises NodeagentError when it has ended."""
        data = os.read(self.fd, READ_BYTES)
        if not data:
            raise NodeagentError(f"the agent ended: {self._said()}")
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def _wait_for_start(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._kinds:
            left = max(deadline - time.monotonic(), 0)
            if not select.select([self.fd], [], [], left)[0]:
                raise StartError(f"the agent does not start within {START_SECONDS:g} s")
            try:
                lines = self.read()
            except NodeagentError as error:
                raise StartError(str(error)) from error
            for line in lines:
                if line["kind"] == "agent.coverage":
                    self._kinds = line["kinds"]

    def _said(self) -> str:
        text = os.pread(self._errors, READ_BYTES, 0).decode("utf-8", "replace").strip()
        return text.removeprefix("nodeagent: ") or "it says nothing about why"

    def _end(self) -> None:
        self._process.terminate()
        try:
            # It writes its last words into a pipe that nobody may have emptied.
            self._process.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        os.close(self._errors)


def perform(behaviour: Behaviour, agent: Agent) -> Result:
    """Do it, and wait for what is found; raises StartError where it cannot be done safely."""
    if not agent.sees(behaviour.kind):
        why = f"this kernel shows no events of kind {behaviour.kind}: see `nodeagent doctor`"
        return Result(behaviour, [], skipped=why)
    findings: dict[str, Finding] = {}
    stage = Stage(behaviour.act)
    try:
        _watch(stage, agent, behaviour, findings)
    finally:
        stage.end()
    skipped = failed = ""
    match stage.outcome, stage.why:
        case Outcome.NO_STAGE, why:
            raise StartError(
                f"no namespaces can be made here ({why}): run it as root of the node, or in a"
                " container with CAP_SYS_ADMIN"
            )
        case Outcome.SKIPPED, why:
            skipped = why
        case Outcome.FAILED, why:
            failed = why
    ordered = sorted(findings.values(), key=lambda each: each.line["type"] != behaviour.type)
    return Result(behaviour, ordered, skipped, failed)


def _watch(stage: Stage, agent: Agent, behaviour: Behaviour, findings: dict[str, Finding]) -> None:
    """Collect findings, by id, until the wanted one is there and no more come."""
    news = time.monotonic()
    deadline = news + ACT_SECONDS
    found = False
    while True:
        now = time.monotonic()
        settled = stage.over and (found or stage.outcome != Outcome.DONE)
        # Others on the machine may be told of all the time.
        rest = (news + QUIET_SECONDS if settled else deadline) - now
        if rest <= 0:
            return
        asked = [agent.fd] if stage.over else [agent.fd, stage.fd]
        readable, _, _ = select.select(asked, [], [], rest)
        if stage.fd in readable:
            stage.read()
            news = time.monotonic()
        if agent.fd in readable:
            for line in agent.read():
                if _is_below(line, stage.pid):
                    findings.setdefault(line["id"], Finding(line, _latency_ms(line)))
                    found = found or line["type"] == behaviour.type
                    news = time.monotonic()


def _is_below(line: Line, root: int) -> bool:
    """It is a finding about a process below this child of ours."""
    process = line.get("process")
    if line["kind"] != "finding" or process is None:
        return False
    # By the numbers that we see, which differ from those of the node in a container.
    pids = [each.get("namespacePid", each["pid"]) for each in (process, *process["lineage"])]
    return (root, os.getpid()) in pairwise(pids)


def _latency_ms(line: Line) -> float:
    """From the operation in the kernel until now."""
    return (time.time() - datetime.fromisoformat(line["last_seen"]).timestamp()) * 1000


def _end_with_parent() -> None:
    """However it ends."""
    libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), 0, 0, 0)
