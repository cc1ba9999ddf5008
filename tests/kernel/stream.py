# SPDX-License-Identifier: Apache-2.0
"""A running agent whose stream a test reads, and the acts that it watches."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.cases import EVERYTHING
from tests.polling import wait_for
from tests.requirement import need

Event = dict[str, Any]
ACTS = Path(__file__).parents[1] / "cases" / "acts"
HOLDS = "holds 1\n"
"""The last line of an act that goes on."""
PATIENCE_SECONDS = 60.0
FILE_SYSTEMS = {"bpf", "tracefs", "debugfs", "cgroup", "cgroup2"}
EVENTS_LIMIT = 500_000
"""A test keeps all events; more of them means that something else floods the machine."""


class Acted:
    """What `act` did and said."""

    def __init__(self, output: str, code: int, usage: resource.struct_rusage) -> None:
        self.said = spoken(output)
        self.pid = self.said["pid"]
        self.code = code
        self.usage = usage


class Stream:
    """`nodeagent run` as a user starts it, with NDJSON on a pipe."""

    def __init__(self, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self.agent = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "nodeagent",
                "run",
                "--sink",
                "stdout",
                "--format",
                "json",
                # A busy machine must not make the reader lose what it waits for.
                "--set",
                "sinks.stdout.queue_events=1000000",
                *EVERYTHING,
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
        self.events: list[Event] = []
        self.errors = ""
        self._grown = threading.Condition()
        self._markers = itertools.count()
        self._readers = [
            threading.Thread(target=self._read_events, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        self.one(kind="agent.start")
        return self

    def __exit__(self, *_: object) -> None:
        if self.agent.poll() is None:
            self.stop()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the agent; returns its exit code after its last event was read."""
        self.agent.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait for the agent's own end; returns its exit code."""
        code = self.agent.wait(PATIENCE_SECONDS)
        for reader in self._readers:
            reader.join(PATIENCE_SECONDS)
        for pipe in (self.agent.stdout, self.agent.stderr):
            assert pipe is not None
            pipe.close()
        return code

    def one(self, **wanted: object) -> Event:
        """The first event with these values; `process__pid` looks inside `process`."""
        return self.first(lambda event: matches(event, wanted), str(wanted))

    def first(self, matching: Callable[[Event], bool], what: str = "event") -> Event:
        """The first event that matches, now or within some seconds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        seen = 0
        with self._grown:
            while True:
                for event in self.events[seen:]:
                    if matching(event):
                        return event
                seen = len(self.events)
                rest = deadline - time.monotonic()
                if rest <= 0 or (self.agent.poll() is not None and not self._grown.wait(1.0)):
                    break
                self._grown.wait(min(rest, 1.0))
        raise AssertionError(f"no {what} in {seen} events; stderr: {self.errors[-2000:]}")

    def of(self, pid: int, kind: str) -> list[Event]:
        """All events of a kind by a process that has ended."""
        self.catch_up()
        with self._grown:
            return [e for e in self.events if e["kind"] == kind and e["process"]["pid"] == pid]

    def catch_up(self) -> None:
        """Wait until everything that happened before now was read, on both rings."""
        marker = f"/nowhere/marker-{next(self._markers)}"
        done = subprocess.Popen(["cat", marker], stderr=subprocess.DEVNULL)
        done.wait()
        self.one(kind="open", argument=marker)
        self.one(kind="exit", process__pid=done.pid)

    def _read_events(self) -> None:
        assert self.agent.stdout is not None
        for line in self.agent.stdout:
            if not line.endswith(b"\n"):
                # What SIGKILL has cut.
                break
            event = json.loads(line)
            with self._grown:
                self.events.append(event)
                assert len(self.events) < EVENTS_LIMIT, "the machine is too busy for this test"
                self._grown.notify_all()

    def _read_errors(self) -> None:
        assert self.agent.stderr is not None
        for line in self.agent.stderr:
            self.errors += line.decode("utf-8", "replace")


def matches(event: Event, wanted: Mapping[str, object]) -> bool:
    """Whether an event has these values."""
    for key, value in wanted.items():
        found: Any = event
        for name in key.split("__"):
            found = found.get(name) if isinstance(found, dict) else None
        if found != value:
            return False
    return True


def act(program: Path, *arguments: str | bytes, **options: Any) -> Acted:
    """Run the act program."""
    with subprocess.Popen(
        [program, *arguments], stdout=subprocess.PIPE, text=True, **options
    ) as running:
        assert running.stdout is not None
        output = running.stdout.read()
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    return Acted(output, running.returncode, usage)


@contextmanager
def holding(program: Path, *arguments: str, cwd: Path) -> Iterator[dict[str, Any]]:
    """Run an act that goes on until the end of the block; gives what it said."""
    with subprocess.Popen(
        [program, *arguments], cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        yield spoken("".join(iter(running.stdout.readline, HOLDS)))


def spoken(output: str) -> dict[str, Any]:
    """What an act said, by name."""
    words = [line.split(" ", 1) for line in output.splitlines()]
    return {name: _value(text) for name, text in words}


def _value(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def bpf_ids(pid: int | None = None) -> set[tuple[str, int]]:
    """All programs, maps and links, of the machine or those that a process holds."""
    if pid is not None:
        return set(held_by(pid))
    # It lies in a folder that is not on every PATH.
    tool = shutil.which("bpftool", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    need("kernel", tool is not None, "bpftool is not installed")
    return {
        (what, found["id"])
        for what in ("prog", "map", "link")
        for found in json.loads(
            subprocess.run([str(tool), "-j", what, "show"], check=True, capture_output=True).stdout
        )
    }


def wait_until_freed(ids: set[tuple[str, int]]) -> None:
    """The kernel frees what was let go a little later."""
    wait_for(lambda: not ids & bpf_ids())


def mounts() -> list[str]:
    """Of the file systems that an agent may have to do with."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.split(" - ")[1].split()[0] in FILE_SYSTEMS]


def held_by(pid: int) -> Iterator[tuple[str, int]]:
    """What the descriptors of a process refer to, see proc_pid_fdinfo(5)."""
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            lines = info.read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            # Closed since the folder was listed, so not one of those that are held.
            continue
        for line in lines:
            name, _, value = line.partition(":")
            what, is_id, _ = name.partition("_id")
            if is_id and what in {"prog", "map", "link"}:
                yield what, int(value)


def build_acts(folder: Path, compiler: str = "gcc") -> dict[str, Path]:
    """Compile all programs of acts; returns them by name."""
    return {
        source.stem: build(source, folder / source.stem, compiler) for source in ACTS.glob("*.c")
    }


def build(source: Path, target: Path, compiler: str = "gcc") -> Path:
    """Compile a C program."""
    subprocess.run(
        [compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", target, source],
        check=True,
    )
    return target
