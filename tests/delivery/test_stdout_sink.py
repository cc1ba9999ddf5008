# SPDX-License-Identifier: Apache-2.0

import asyncio
import errno
import fcntl
import json
import os
import re
import subprocess
import sys
import termios
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.errors import Closed, Retry, StartError
from nodeagent.event import AgentEvent, Endpoint, Event
from nodeagent.ledger import Ledger, SinkCounts
from nodeagent.outlet import Outlet
from nodeagent.sink import Batch
from sinks.stdout import Stdout, wants_colour
from tests.events import a_connect, a_finding, a_process, an_agent_event, an_exec, an_open
from tests.polling import until

ROOT = Path(__file__).parents[2]
ESCAPE = re.compile(rb"\x1b\[\d+m")


class Pipe:
    """A pipe of which the test is the reader; `terminal` makes it a pseudo-terminal."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.reader, self.writer = os.openpty() if terminal else os.pipe()
        self.open = {self.reader, self.writer}
        if terminal:
            # A terminal turns "\n" into "\r\n" unless it is told not to.
            state = termios.tcgetattr(self.writer)
            state[1] &= ~termios.OPOST
            termios.tcsetattr(self.writer, termios.TCSANOW, state)

    def close(self, *ends: int) -> None:
        for end in ends or list(self.open):
            self.open.discard(end)
            os.close(end)

    def read(self) -> bytes:
        """What is in it now."""
        return os.read(self.reader, 1 << 20)

    async def read_until(self, lines: int) -> bytes:
        """Wait for this many lines."""
        data = b""
        while data.count(b"\n") < lines:
            data += await asyncio.to_thread(self.read)
        return data


@contextmanager
def a_pipe(*, terminal: bool = False) -> Iterator[Pipe]:
    made = Pipe(terminal=terminal)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with a_pipe() as made:
        yield made


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    with a_pipe(terminal=True) as made:
        yield made


@asynccontextmanager
async def opened(out: Pipe | int, **changes: Any) -> AsyncIterator[Stdout]:
    config = msgspec.convert(changes, Stdout.Config)
    sink = Stdout(config, out.writer if isinstance(out, Pipe) else out)
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


def batch(*sequences: int) -> Batch:
    return Batch([an_exec(sequence=sequence) for sequence in sequences])


def sequences(lines: bytes) -> list[int]:
    return [json.loads(line)["sequence"] for line in lines.splitlines()]


# What is written.


async def test_a_pipe_gets_one_line_of_json_for_each_event_and_finding(pipe: Pipe) -> None:
    items = Batch([an_exec(), an_agent_event(version="1.0")], [a_finding()])
    async with opened(pipe) as sink:
        await sink.send(items)
    assert pipe.read() == items.ndjson()


async def test_a_terminal_gets_lines_for_people_in_colour(terminal: Pipe) -> None:
    async with opened(terminal) as sink:
        await sink.send(batch(1, 2))
    first, second = terminal.read().splitlines()
    assert first == second
    assert ESCAPE.search(first)
    assert ESCAPE.sub(b"", first).endswith(b"exec    bash[1234]         /usr/bin/ls -la /tmp")


async def test_the_format_can_be_chosen(pipe: Pipe, terminal: Pipe) -> None:
    async with opened(pipe, format="pretty") as sink:
        await sink.send(batch(1))
    async with opened(terminal, format="json") as sink:
        await sink.send(batch(1))
    assert pipe.read().endswith(b"/usr/bin/ls -la /tmp\n")
    assert sequences(terminal.read()) == [1]


@pytest.mark.parametrize(
    ("colour", "environment", "terminal", "wanted"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"TERM": "dumb"}, True, False),
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {}, True, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    colour: str, environment: dict[str, str], terminal: bool, wanted: bool
) -> None:
    assert wants_colour(colour, environment, terminal=terminal) is wanted


async def test_lines_fit_into_the_terminal_and_follow_its_size(terminal: Pipe) -> None:
    long = Batch([an_exec(argv=("ls", "x" * 500))])
    widths = []
    async with opened(terminal, colour="never") as sink:
        for columns in (100, 60, 0):
            termios.tcsetwinsize(terminal.writer, (24, columns))
            await sink.send(long)
            widths.append(len(terminal.read().decode()) - 1)
    assert widths == [100, 60, 80]


async def test_lines_are_not_cut_in_a_pipe(pipe: Pipe) -> None:
    async with opened(pipe, format="pretty") as sink:
        await sink.send(Batch([an_exec(argv=("ls", "x" * 500))]))
    assert b"x" * 500 in pipe.read()


TRICKY = st.text(
    st.characters(exclude_categories=["Cs"])
    | st.characters(categories=["Cc", "Cf", "Zl", "Zp"])
    | st.sampled_from("\x1b\n\r\t\x07\x9b\x7f\x85\u202e\u2066\u2028")
)
HARMFUL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@given(TRICKY, TRICKY, st.sampled_from(["pretty", "json"]))
@settings(max_examples=150, deadline=None)
def test_no_name_can_drive_the_terminal_or_break_a_line(name: str, comm: str, form: str) -> None:
    process = a_process(comm=comm, path=name)
    events: list[Event | AgentEvent] = [
        an_exec(path=name, argv=(name, name), environment={"LD_PRELOAD": name}, process=process),
        an_open(path=name, process=process),
        a_connect(name=name, remote=Endpoint(name, 1), process=process),
        an_agent_event(why=name),
    ]
    with a_pipe() as pipe:

        async def send() -> None:
            async with opened(pipe, format=form) as sink:
                await sink.send(Batch(events, [a_finding(title=name)]))

        asyncio.run(send())
        text = pipe.read().decode()
    assert not HARMFUL.search(text)
    lines = text.splitlines()
    assert len(lines) == 5
    if form == "json":
        assert json.loads(lines[1]).get("path", "") == name
        assert json.loads(lines[1])["process"]["comm"] == comm


# Readers that are slow.


async def test_a_slow_reader_does_not_hold_up_the_loop_and_gets_every_line_once(
    pipe: Pipe,
) -> None:
    large, small = batch(*range(1000)), batch(1000)
    async with opened(pipe) as sink:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await sink.send(large)
        reading = asyncio.gather(pipe.read_until(1001))
        await sink.send(large)
        await sink.send(small)
        (lines,) = await reading
    assert sequences(lines) == list(range(1001))


async def test_events_for_a_reader_that_does_not_read_are_dropped_and_counted(pipe: Pipe) -> None:
    ledger = Ledger()
    counts = ledger.sink("stdout")
    config = Stdout.Config(queue_events=1000, timeout_seconds=0.02)
    outlet = Outlet("stdout", Stdout(config, pipe.writer), config, counts, lambda *_: None)
    await outlet.open()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(outlet.run())
        outlet.offer(batch(*range(1000)))
        await until(lambda: fcntl.ioctl(pipe.reader, termios.FIONREAD, bytes(4)) != bytes(4))
        outlet.offer(batch(*range(500)))
        await outlet.drain(0.05)
        task.cancel()
    await outlet.close()
    assert ledger.imbalances() == []
    assert counts == SinkCounts(
        routed=1500, dropped=Counter({"queue full": 500, "shutdown": 1000}), trouble="slow"
    )


@pytest.mark.parametrize("flags", [0, os.O_NONBLOCK])
async def test_flags_that_other_processes_share_stay_as_they_are(pipe: Pipe, flags: int) -> None:
    before = fcntl.fcntl(pipe.writer, fcntl.F_GETFL) | flags
    fcntl.fcntl(pipe.writer, fcntl.F_SETFL, before)
    reading = asyncio.gather(pipe.read_until(1000))
    async with opened(pipe) as sink:
        await sink.send(batch(*range(1000)))
        (lines,) = await reading
        assert fcntl.fcntl(pipe.writer, fcntl.F_GETFL) == before
    assert sequences(lines) == list(range(1000))


CHILD = """
import asyncio, sys
from nodeagent.errors import Closed
from nodeagent.sink import Batch
from sinks.stdout import Stdout
from tests.events import an_exec

async def main():
    sink = Stdout(Stdout.Config())
    await sink.open()
    try:
        while True:
            async with asyncio.timeout(0.2):
                await sink.send(Batch([an_exec()] * 1000))
    except (Closed, TimeoutError) as error:
        print(type(error).__name__, error, file=sys.stderr)
    await sink.close()

asyncio.run(main())
"""


def child() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )


def test_a_process_can_end_while_nobody_reads() -> None:
    with child() as process:
        assert process.stderr is not None
        assert process.wait(10) == 0
        assert process.stderr.read() == b"TimeoutError \n"


# Readers that are gone.


def test_a_reader_that_leaves_ends_the_sink_and_nothing_else() -> None:
    with child() as process:
        assert process.stdout is not None
        assert process.stderr is not None
        json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.wait(10) == 0
        assert process.stderr.read() == b"Closed nobody reads standard output any more\n"


async def test_a_closed_pipe_is_closed(pipe: Pipe) -> None:
    async with opened(pipe) as sink:
        pipe.close(pipe.reader)
        with pytest.raises(Closed, match="nobody reads"):
            await sink.send(batch(1))


async def test_a_pipe_that_is_closed_while_a_write_waits_is_closed(pipe: Pipe) -> None:
    async with opened(pipe) as sink:
        sending = asyncio.gather(sink.send(batch(*range(1000))), return_exceptions=True)
        await until(lambda: fcntl.ioctl(pipe.reader, termios.FIONREAD, bytes(4)) != bytes(4))
        pipe.close(pipe.reader)
        (error,) = await sending
    assert isinstance(error, Closed)


async def test_a_terminal_that_goes_away_is_closed(terminal: Pipe) -> None:
    async with opened(terminal) as sink:
        terminal.close(terminal.reader)
        with pytest.raises(Closed, match="the terminal was closed"):
            await sink.send(batch(1))


async def test_standard_output_that_is_closed_at_the_start_is_refused(pipe: Pipe) -> None:
    sink = Stdout(Stdout.Config(), pipe.writer)
    pipe.close(pipe.writer)
    with pytest.raises(StartError, match="standard output is closed"):
        await sink.open()


# Output that fails.


@pytest.fixture
def full_disk() -> Iterator[int]:
    with Path("/dev/full").open("wb") as full:
        yield full.fileno()


async def test_a_full_disk_behind_standard_output_is_tried_again(full_disk: int) -> None:
    async with opened(full_disk) as sink:
        with pytest.raises(Retry, match="No space left"):
            await sink.send(batch(1))


@pytest.mark.parametrize("given_up", [False, True])
async def test_a_batch_that_failed_in_its_middle_goes_on_where_it_failed(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, given_up: bool
) -> None:
    real = os.write
    writes = 0

    def write(fd: int, data: bytes) -> int:
        nonlocal writes
        writes += 1
        if writes == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data[:100])

    monkeypatch.setattr(os, "write", write)
    async with opened(pipe) as sink:
        kept = batch(1, 2)
        with pytest.raises(Retry):
            await sink.send(kept)
        if not given_up:
            await sink.send(kept)
        await sink.send(batch(3))
    assert sequences(pipe.read()) == [1, 2, 3]
