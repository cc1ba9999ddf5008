# SPDX-License-Identifier: Apache-2.0
"""`nodeagent impact`: what the agent costs this machine, in one sentence."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from nodeagent.cli import options, output
from nodeagent.places import own_command

__all__ = ["add", "run", "sentences"]

PROBE_OPENS: Final = 2000
PROBE_PAUSE_SECONDS: Final = 0.1
END_SECONDS: Final = 60.0

EXAMPLES: Final = """\
examples:
  sudo nodeagent impact
  sudo nodeagent impact --duration 10
  sudo nodeagent impact --json | jq .cpu_percent

It counts how often the eBPF programs of the agent run and for how long, while a loop
that opens and closes a file runs now and then. Where no agent runs, it measures the loop
alone first, and starts one for the rest of the time. docs/impact.md in the source
compares the numbers with those of other tools.
"""

Row = dict[str, Any]


def add(commands: options.Commands) -> None:
    """Add the command to the parser."""
    parser = options.add_command(
        commands, "impact", "say what the agent costs this machine", EXAMPLES, run
    )
    parser.add_argument(
        "--duration",
        metavar="SECONDS",
        type=options.positive_seconds,
        default=4.0,
        help="measure for this long (default 4)",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    """Print it; 1 when the programs cannot be measured."""
    from nodeagent.kernel.top import measuring

    with tempfile.TemporaryDirectory(prefix="nodeagent-impact-") as folder:
        probe = _Probe(Path(folder) / "probe")
        alone: float | None = None
        with measuring(PROBE_PAUSE_SECONDS, output.pause) as samples:
            runs = any(row["kind"] for row in next(samples))
        if not runs:
            alone = probe.measure(args.duration / 2)
        with _agent(needed=not runs), measuring(args.duration, probe.wait) as samples:
            rows = [row for row in next(samples) if row["kind"]]
    found = impact(rows, args.duration, alone, probe.last_ns)
    output.write(json.dumps(found, indent=2) + "\n" if args.json else sentences(found))
    return 0


def impact(rows: list[Row], seconds: float, alone_ns: float | None, watched_ns: float) -> Row:
    """The numbers of a window."""
    runs = sum(row["runs"] for row in rows)
    runtime_ns = sum(row["runtime_ns"] for row in rows)
    return {
        "seconds": seconds,
        "programs": len(rows),
        "runs": runs,
        "runtime_ns": runtime_ns,
        "average_ns": runtime_ns / runs if runs else None,
        "cpu_percent": runtime_ns / seconds / 1e7,
        "probe_ns_before": alone_ns,
        "probe_ns": watched_ns,
        "probe_percent": (watched_ns / alone_ns - 1) * 100 if alone_ns else None,
    }


def sentences(found: Row) -> str:
    """The same for people."""
    each = f", {found['average_ns']:.0f} ns each" if found["runs"] else ""
    text = (
        f"In {found['seconds']:g} s the {found['programs']} eBPF programs of nodeagent ran"
        f" {found['runs']} times\nfor {found['runtime_ns'] / 1e6:.2f} ms in all{each}:"
        f" {found['cpu_percent']:.2f} % of one core.\n"
    )
    probe = f"{found['probe_ns']:.0f} ns with the agent"
    if found["probe_ns_before"]:
        more = f"{found['probe_percent']:+.0f} %"
        probe = f"{found['probe_ns_before']:.0f} ns without and {probe} ({more})"
    return text + f"To open and close a file took {probe}.\n"


class _Probe:
    """Opens and closes a file to write it, in short turns; the median of them counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.last_ns = 0.0

    def wait(self, seconds: float) -> None:
        """Measure for so long."""
        self.last_ns = self.measure(seconds)

    def measure(self, seconds: float) -> float:
        """Nanoseconds of one open and close."""
        turns: list[float] = []
        deadline = time.monotonic() + seconds
        while not turns or time.monotonic() < deadline:
            turns.append(self._turn())
            output.pause(min(PROBE_PAUSE_SECONDS, max(deadline - time.monotonic(), 0)))
        return statistics.median(turns)

    def _turn(self) -> float:
        path, flags = str(self._path), os.O_WRONLY | os.O_CREAT
        started = time.perf_counter_ns()
        for _ in range(PROBE_OPENS):
            os.close(os.open(path, flags, 0o600))
        return (time.perf_counter_ns() - started) / PROBE_OPENS


@contextmanager
def _agent(*, needed: bool) -> Iterator[None]:
    """An agent with the default settings for the time of the block, where none runs."""
    if not needed:
        yield
        return
    from nodeagent.errors import NodeagentError

    command = [
        *own_command(),
        "--log-level",
        "error",
        "run",
        "--sink",
        "stdout",
        "--format",
        "json",
    ]
    command += ["--set", "control.socket=", "--set", "metrics.listen="]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as agent:
        if agent.stdout is None or agent.stderr is None:
            raise NodeagentError("the agent has no output")
        try:
            if not agent.stdout.readline():
                why = agent.stderr.read(4096).decode("utf-8", "replace").strip()
                raise NodeagentError(f"the agent does not start: {why}")
            for stream in (agent.stdout, agent.stderr):
                threading.Thread(target=_drain, args=(stream,), daemon=True).start()
            yield
        finally:
            agent.terminate()
            try:
                agent.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                agent.kill()


def _drain(stream: Any) -> None:
    while stream.read1(1 << 16):
        pass
