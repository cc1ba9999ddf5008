# SPDX-License-Identifier: Apache-2.0
"""`nodeagent status`: how the agent that runs here is."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from textwrap import shorten
from typing import Any

from nodeagent.cli import options, output
from nodeagent.harmless import harmless

MEBIBYTE = 1 << 20
REASON_COLUMNS = 50
TICKS = os.sysconf("SC_CLK_TCK")
START = 19
"""Which word after the name tells when the process began, in ticks after the boot."""
EXAMPLES = """\
examples:
  sudo nodeagent status
  sudo nodeagent status --json | jq .usage
"""


def add(commands: options.Commands) -> None:
    """Add the command to the parser."""
    parser = options.add_command(
        commands, "status", "show how the agent that runs here is", EXAMPLES, run
    )
    options.add_control(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    """Print it; 1 when no agent answers."""
    from nodeagent.control import ask

    status = ask(args.control, "status")
    output.write(json.dumps(status, indent=2) + "\n" if args.json else as_text(status))
    return 0


def as_text(status: dict[str, Any]) -> str:
    """For a terminal of 80 columns."""
    from nodeagent.governor import Level

    usage, ledger = status["usage"], status["ledger"]
    kinds, sinks = ledger["kinds"].values(), ledger["sinks"]
    seen = sum(kind["seen"] for kind in kinds)
    lost = sum(sum(kind["lost"].values()) for kind in kinds)
    shed = sum(kind["throttled"] for kind in kinds)
    level = Level(ledger["level"])
    age = age_seconds(status["pid"])
    memory = f"{usage['rss_bytes'] / MEBIBYTE:.0f} MiB"
    if usage["memory_limit_bytes"]:
        memory += f" of {usage['memory_limit_bytes'] / MEBIBYTE:.0f} MiB"
    average = usage["cpu_seconds"] / max(age, 1) * 1000
    lines = [
        f"agent    {status['version']}, pid {status['pid']}, on {harmless(status['node'])}",
        f"runs     {_duration(age)}",
        f"cpu      {average:.0f}m on average",
        f"memory   {memory}",
        f"knows    {status['programs']} programs that run",
        f"seen     {seen} operations, {lost} lost, {shed} shed",
        f"level    {level} {level.name.lower()}",
    ]
    for name, sink in sinks.items():
        dropped = sum(sink["dropped"].values())
        lines.append(
            f"sink     {harmless(name)}: {sink['delivered']} delivered,"
            f" {sink['queued']} queued, {sink['spooled']} spooled, {dropped} dropped"
        )
    for reason, count in ledger["suppressed"].items():
        shown = shorten(harmless(reason), REASON_COLUMNS, placeholder="…")
        lines.append(f"silenced {count} findings: {shown}")
    if ledger["dead"]:
        lines.append(f"DEAD     hooks of {', '.join(map(harmless, ledger['dead']))} see nothing")
    lines += [f"FAILED   {harmless(name)}: {n} times" for name, n in ledger["failures"].items()]
    return "\n".join(lines) + "\n"


def age_seconds(pid: int) -> float:
    """Of a process, see proc_pid_stat(5); its name may hold blanks and brackets."""
    words = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(words[START]) / TICKS


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    shown = [f"{number}{unit}" for number, unit in parts if number]
    return " ".join(shown[:2]) or "0s"
