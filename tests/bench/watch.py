# SPDX-License-Identifier: Apache-2.0
"""The process under measurement: nodeagent or bpftrace, and what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import trustme

from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.probe import enable_statistics

TICKS: Final = os.sysconf("SC_CLK_TCK")
PROGRAM_LINK: Final = "anon_inode:bpf-prog"
READY_SECONDS: Final = 30.0
STOP_SECONDS: Final = 60.0
LINE_BYTES: Final = 1 << 20
END_BYTES: Final = 16 << 20
CHUNK_BYTES: Final = 1 << 20
ENDED_BY_SIGTERM: Final = 143


@dataclass(frozen=True)
class Runs:
    """Runs of eBPF programs and the time that they took."""

    nanoseconds: int = 0
    count: int = 0

    @property
    def each_us(self) -> float:
        """Microseconds of one run."""
        return self.nanoseconds / self.count / 1e3 if self.count else 0.0

    def __add__(self, other: Runs) -> Runs:
        return Runs(self.nanoseconds + other.nanoseconds, self.count + other.count)

    def __sub__(self, other: Runs) -> Runs:
        return Runs(self.nanoseconds - other.nanoseconds, self.count - other.count)


class Statistics:
    """A context in which the kernel counts runs of eBPF programs; costs them about 20 ns each."""

    def __init__(self, libbpf: Libbpf) -> None:
        """Raises BpfError when the kernel refuses."""
        self._fd = enable_statistics(libbpf)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)


class Watched:
    """A process that was started here and is ended here, by its pid."""

    def __init__(self, command: list[str], output: Path) -> None:
        """Start `command`; `output` is the file that its events go to."""
        self.output = output
        self.started = time.monotonic()
        self._complaints = output.with_suffix(".stderr").open("w+")
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._complaints
        )
        self._names: dict[int, str] = {}
        self._lines = 0
        self._read_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._complaints.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_until(self, ready: str) -> None:
        """Wait for a first output that holds `ready`; raises RuntimeError."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if not self.is_alive:
                raise RuntimeError(f"it ended at once:\n{self.complaints()}")
            with suppress(FileNotFoundError), self.output.open(errors="replace") as file:
                if ready in file.read(LINE_BYTES):
                    return
            nap(0.01)
        raise RuntimeError(f"nothing came within {READY_SECONDS:g} s:\n{self.complaints()}")

    def lines(self) -> int:
        """Lines in its output, which must not rotate; reads on where the last call ended."""
        with self.output.open("rb") as file:
            file.seek(self._read_bytes)
            while chunk := file.read(CHUNK_BYTES):
                self._lines += chunk.count(b"\n")
                self._read_bytes += len(chunk)
        return self._lines

    def complaints(self) -> str:
        """What it wrote to stderr so far."""
        return self.output.with_suffix(".stderr").read_text(errors="replace")

    def stop(self) -> int:
        """End it in order; the exit code as a shell shows it."""
        self._process.terminate()
        code = self._process.wait(STOP_SECONDS)
        return code if code >= 0 else 128 - code

    def cpu_seconds(self) -> float:
        """User and system time so far, of all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        # utime and stime are fields 14 and 15 of proc(5); the state is field 3.
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_bytes(self) -> int:
        """Resident memory now."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS in /proc/PID/status")

    def runs(self) -> dict[str, Runs]:
        """Runs of its eBPF programs so far, by name."""
        counted: dict[str, Runs] = {}
        for facts in _programs(self.pid):
            number = int(facts["prog_id"])
            if number not in self._names:
                self._names[number] = _program_name(number)
            runs = Runs(int(facts["run_time_ns"]), int(facts["run_cnt"]))
            name = self._names[number]
            counted[name] = counted.get(name, Runs()) + runs
        return counted


SOURCE: Final = (sys.executable, "-m", "nodeagent")


class Agent(Watched):
    """`nodeagent run` with a file sink, or another one whose lines end up in that file."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        sink: str = "file",
        settings: Mapping[str, object] = {},
        program: Sequence[str] = SOURCE,
    ) -> None:
        """The file does not rotate unless `options` say so."""
        output = folder / "events.ndjson"
        if sink == "file":
            for old in folder.glob("events.*"):
                old.unlink()
            settings = {"path": output, "rotate_bytes": 0, "keep": 0}
        command = [*program, "run", "--sink", sink]
        for name, value in settings.items():
            command += ["--set", f"sinks.{sink}.{name}={value}"]
        # What an event costs is measured, so none is shed; bench "budget" asks for it.
        unlimited = ("--set", "budget.cpu_percent=0", "--set", "budget.memory_bytes=0")
        super().__init__([*command, *unlimited, *options], output)

    def wait_until_ready(self) -> None:
        """Until the agent's own first record is in the file."""
        self.wait_until('"agent.start"')

    def finish(self) -> dict[str, Any]:
        """End it; its last record, after the ledger was found to be balanced.

        Raises RuntimeError when it was not, or the agent ended in another way than asked.
        """
        code = self.stop()
        complaints = self.complaints()
        if code != ENDED_BY_SIGTERM:
            raise RuntimeError(f"the agent ended with {code}:\n{complaints}")
        if "UNBALANCED" in complaints:
            raise RuntimeError(f"the ledger does not balance:\n{complaints}")
        last = json.loads(_last_said(self.output))
        for kind, row in last["kinds"].items():
            check_balance(kind, row)
        return dict(last)


class Receiver:
    """A server with TLS, whose lines are in `output`; a context."""

    def __init__(self, folder: Path) -> None:
        """Make a certificate."""
        self.output = folder / "events.ndjson"
        self.ca_file = folder / "ca.pem"
        self._certificate = folder / "server.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        made = authority.issue_cert("localhost")
        made.private_key_and_cert_chain_pem.write_to_path(self._certificate)
        self.port = 0
        self.seen: dict[str, int] = {}

    def __enter__(self) -> Self:
        self.output.unlink(missing_ok=True)
        files = (str(self._certificate), str(self.output))
        command = [sys.executable, "-m", "tests.bench.receiver", *files]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self._line())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        if kind is None:
            self.seen = json.loads(self._line())
        self._process.wait(STOP_SECONDS)
        self._process.communicate()

    def _line(self) -> str:
        if self._process.stdout is None:
            raise RuntimeError("the receiver has no output")
        return str(self._process.stdout.readline())


class Bpftrace(Watched):
    """bpftrace that prints one line for each operation into a file."""

    def __init__(self, folder: Path, script: str) -> None:
        """In a mount namespace of its own, where tracefs is where bpftrace looks for it."""
        output = folder / "bpftrace.txt"
        output.unlink(missing_ok=True)
        mount = "mount -t debugfs none /sys/kernel/debug && mount -t tracefs none $0 || exit"
        start = f'{mount}; exec bpftrace -o "$1" -e "$2"'
        where = "/sys/kernel/debug/tracing"
        command = ["unshare", "--mount", "sh", "-c", start, where, str(output), script]
        super().__init__(command, output)


def check_balance(kind: str, row: Mapping[str, Any]) -> None:
    """The two equations of one kind, to the last event; raises RuntimeError."""
    lost = sum(row["lost"].values())
    apart = row["sent"] + row["filtered"] + row["aggregated"] + row["throttled"] + lost
    if row["seen"] != apart:
        raise RuntimeError(f"{kind}: {row['seen']} seen but {apart} accounted for")
    if row["sent"] != row["decoded"] + row["bad"]:
        raise RuntimeError(f"{kind}: {row['sent']} sent but {row['decoded'] + row['bad']} decoded")


def lost(report: Mapping[str, Any], kinds: Iterable[str] | None = None) -> int:
    """Events of these kinds (None: of all) that the kernel could not send."""
    rows = report["kinds"]
    return sum(sum(rows[kind]["lost"].values()) for kind in (kinds or rows))


def dropped(report: Mapping[str, Any]) -> int:
    """Events that a sink did not take."""
    return sum(sum(sink["dropped"].values()) for sink in report["sinks"].values())


def busy_seconds() -> float:
    """CPU time of all processes but this one, with their children that have ended.

    Not from /proc/stat: its samples are taken at the very moments at which a load that
    works by the clock wakes up.
    """
    ticks = 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                # Fields 14 to 17 of proc(5): utime, stime, cutime, cstime.
                ticks += sum(map(int, fields[11:15]))
    own = os.times()
    return ticks / TICKS - own.user - own.system


def nap(seconds: float) -> None:
    """Wait; there is no event loop here that it could stop."""
    time.sleep(seconds)  # noqa: TID251


def _programs(pid: int) -> Iterable[dict[str, str]]:
    folder = Path(f"/proc/{pid}/fd")
    for link in folder.iterdir():
        with suppress(FileNotFoundError):
            if str(link.readlink()) == PROGRAM_LINK:
                lines = Path(f"/proc/{pid}/fdinfo/{link.name}").read_text().splitlines()
                pairs = (line.partition(":") for line in lines)
                yield {name: value.strip() for name, _, value in pairs}


def _program_name(number: int) -> str:
    """Of a program by its id; fdinfo has no name. The kernel keeps 15 bytes of it."""
    command = ["bpftool", "prog", "show", "id", str(number), "--json"]
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    shown = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    name: str = json.loads(shown.stdout)["name"]
    return name


def _last_said(path: Path) -> bytes:
    """The line in which the agent says how it ended; through a spool others may come later."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - END_BYTES))
        for line in reversed(file.read().splitlines()):
            if line.startswith(b'{"kind":"agent.stop"'):
                return line
    raise RuntimeError("there is no agent.stop among the last records")
