# SPDX-License-Identifier: Apache-2.0
"""`nodeagent top` and `nodeagent status`: what others and the agent itself cost."""

from __future__ import annotations

import csv
import io
import json
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.watch import Bpftrace
from tests.kernel.stream import Stream

Rows = list[dict[str, Any]]


def command(*words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "nodeagent", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if not code else done.stderr


def rows(*words: str) -> Rows:
    shown = command("top", *words, "--once", "--interval", "0.3", "--output", "json")
    return [json.loads(line) for line in shown.splitlines()]


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("control") / "control.sock"


@pytest.fixture(scope="module")
def watched(kernel: None, control: Path) -> Iterator[Stream]:
    """An agent that can be asked."""
    with Stream("--set", f"control.socket={control}") as running:
        yield running


@pytest.mark.usefixtures("watched")
def test_programs_of_the_agent_are_there_with_their_runs(watched: Stream) -> None:
    with subprocess.Popen(["sh", "-c", "while :; do cat /dev/null; done"]) as busy:
        found = rows("programs")
        busy.kill()
    own = {row["name"]: row for row in found if row["pid"] == watched.agent.pid}
    opens = own["exit_openat"]
    assert opens["kind"] == "open"
    assert opens["type"] == "tracepoint"
    assert opens["runs"] > 10
    assert 50 < opens["average_ns"] < 100_000
    assert opens["total_runs"] >= opens["runs"]
    assert opens["cpu_percent"] == pytest.approx(
        opens["average_ns"] * opens["runs_per_second"] / 1e7, rel=0.01
    )
    assert opens["map_bytes"] > 8 << 20
    assert opens["maps"] >= 4


@pytest.mark.usefixtures("watched")
def test_program_of_a_stranger_is_there_too(tmp_path: Path) -> None:
    if shutil.which("bpftrace") is None:
        pytest.skip("bpftrace is not installed")
    script = "tracepoint:syscalls:sys_enter_getppid { @ = count(); }"
    with Bpftrace(tmp_path, script) as stranger:
        stranger.wait_until("Attaching")
        time.sleep(0.5)
        found = [row for row in rows("programs") if row["pid"] == stranger.pid]
    assert found
    assert {row["comm"] for row in found} == {"bpftrace"}
    assert {row["kind"] for row in found} == {None}


@pytest.mark.usefixtures("watched")
def test_statistics_are_on_only_while_somebody_looks() -> None:
    first = {row["id"]: row["total_runs"] for row in rows("programs")}
    for _ in range(50):
        Path("/dev/null").read_bytes()
    second = {row["id"]: row for row in rows("programs")}
    # Of those that ran, what was not watched is not counted: totals grow by what rows show.
    assert sum(row["total_runs"] - first.get(row["id"], 0) for row in second.values()) < 10_000


@pytest.mark.usefixtures("watched")
def test_table_fits_and_is_sorted() -> None:
    words = ("top", "--once", "--interval", "0.2")
    head, *lines = command(*words, "--sort", "id").splitlines()
    assert " ".join(head.split()) == "ID TYPE NAME PID COMM RUNS/S AVG ns %CPU MAPS"
    assert max(map(len, lines)) <= 80
    numbers = [int(line.split()[0]) for line in lines]
    assert numbers == sorted(numbers, reverse=True)
    assert command(*words, "--no-headers").splitlines()[0].split()[0].isdigit()
    assert "sum" in command(*words, "--sum").splitlines()[-1]
    assert "no column nothing: there are id, " in command(*words, "--sort", "nothing", code=2)


@pytest.mark.usefixtures("watched")
def test_csv_has_all_columns() -> None:
    shown = command("top", "--once", "--interval", "0.2", "--output", "csv")
    found = list(csv.DictReader(io.StringIO(shown)))
    assert {"id", "runs", "runtime_ns", "total_runtime_ns", "map_bytes"} <= set(found[0])


@pytest.mark.usefixtures("watched")
def test_agent_has_a_row_for_each_stage(control: Path) -> None:
    found = {row["name"].strip(): row for row in rows("agent", "--control", str(control))}
    assert {"agent", "decode", "process", "file", "detect", "route"} <= set(found)
    agent = found.pop("agent")
    assert 20 < agent["memory_mebibytes"] < 200
    assert agent["cpu_m"] >= max(row["cpu_m"] for row in found.values()) * 0.9
    assert found["process"]["misses"] is not None


@pytest.mark.usefixtures("watched")
def test_kinds_and_sinks_are_counted(control: Path) -> None:
    Path("/dev/null").read_bytes()
    kinds = {row["name"]: row for row in rows("kinds", "--control", str(control))}
    opens = kinds["open"]
    assert opens["seen"] == opens["sent"] + opens["filtered"] + opens["aggregated"] + opens["lost"]
    (sink,) = rows("sinks", "--control", str(control))
    assert sink["name"] == "stdout"
    assert sink["routed"] == sink["delivered"] + sink["queued"] + sink["dropped"]


@pytest.mark.usefixtures("watched")
def test_work_is_told_apart_by_pods(control: Path) -> None:
    with subprocess.Popen(["sh", "-c", "while :; do cat /dev/null; done"]) as busy:
        found = rows("pods", "--control", str(control))
        busy.kill()
    (host,) = [row for row in found if row["container"] == "(host)"]
    assert host["pod"] == ""
    assert host["events_per_second"] > 0
    assert host["cpu_m"] > 0
    assert sum(row["share_percent"] for row in found) == pytest.approx(100)


def test_status_says_how_the_agent_is(watched: Stream, control: Path) -> None:
    shown = command("status", "--control", str(control))
    assert f"pid {watched.agent.pid}" in shown
    assert "sink     stdout: " in shown
    assert max(map(len, shown.splitlines())) <= 80
    status = json.loads(command("status", "--json", "--control", str(control)))
    assert status["pid"] == watched.agent.pid
    assert status["ledger"]["kinds"]["open"]["seen"] > 0
    assert stat.S_IMODE(control.stat().st_mode) == 0o600


def test_coverage_says_whether_the_node_is_covered(watched: Stream, control: Path) -> None:
    shown = command("coverage", "--control", str(control))
    assert shown.startswith("coverage  HEALTHY\n")
    first = watched.first(lambda event: event["kind"] == "agent.coverage", "coverage")
    assert first["status"] == "HEALTHY"
    with Stream("--set", f"control.socket={control}") as second:
        said = second.first(
            lambda event: event["kind"] == "agent.coverage" and bool(event["issues"]), "an issue"
        )
    assert said["status"] == "UNHEALTHY"
    assert "ANOTHER_AGENT" in {issue["code"] for issue in said["issues"]}


def test_coverage_of_no_agent(tmp_path: Path) -> None:
    words = ("coverage", "--json", "--control", str(tmp_path / "nobody"))
    done = subprocess.run(
        [sys.executable, "-m", "nodeagent", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (issue,) = json.loads(done.stdout)["issues"]
    assert issue["code"] == "AGENT_NOT_RUNNING"
    assert "nobody" in issue["why"]


def test_second_agent_leaves_the_socket_alone(watched: Stream, control: Path) -> None:
    with Stream("--set", f"control.socket={control}") as second:
        second.catch_up()
        assert "another agent serves it" in second.errors
        second.stop()
    assert json.loads(command("status", "--json", "--control", str(control)))["pid"] == (
        watched.agent.pid
    )


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(
    ("question", "says"),
    [
        (b"status\n", b"no question"),
        (b'{"ask": "everything"}\n', b"nobody answers 'everything'; known are: status"),
        (b"[" * 4000 + b"\n", b"no question"),
    ],
)
def test_bad_question_gets_a_sentence(control: Path, question: bytes, says: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(control))
        client.sendall(question)
        assert says in client.makefile("rb").readline()


@pytest.mark.usefixtures("watched")
def test_question_without_end_is_hung_up_on(control: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(control))
        client.sendall(b"x" * 100_000)
        client.settimeout(20)
        assert client.recv(100) == b""
    assert command("status", "--control", str(control))


def test_socket_of_an_agent_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with Stream("--set", f"control.socket={path}") as stream:
        stream.catch_up()
        assert json.loads(command("status", "--json", "--control", str(path)))["pid"]
        stream.stop()
    assert not path.exists()


def test_nobody_there_is_said(tmp_path: Path) -> None:
    for words in (("status",), ("top", "agent", "--once")):
        said = command(*words, "--control", str(tmp_path / "none"), code=1)
        assert "no agent answers at" in said
        assert len(said.splitlines()) == 1


def test_what_is_no_agent_is_said(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with subprocess.Popen(
            [sys.executable, "-m", "nodeagent", "status", "--control", str(path)],
            stderr=subprocess.PIPE,
            text=True,
        ) as asking:
            client, _ = server.accept()
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n")
            client.close()
            _, said = asking.communicate(timeout=20)
    assert asking.returncode == 1
    assert "is no agent" in said
