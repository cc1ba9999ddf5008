# SPDX-License-Identifier: Apache-2.0
"""What the policy leaves out is counted, and what it counts is told."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.kernel.stream import Acted, Event, Stream

Do = Callable[..., Acted]
SUMMARY_SECONDS = 1


@contextmanager
def agent(*settings: str) -> Iterator[Stream]:
    """An agent with these settings, which must end in balance."""
    options = [word for setting in settings for word in ("--set", setting)]
    with Stream("--only", "exec,fork,exit,open", *options) as running:
        yield running
        assert running.stop() == 143
    assert "UNBALANCED" not in running.errors
    assert "balanced" in running.errors


def read_again_and_again(path: Path, times: int) -> int:
    """Open a file to read it, so many times by one program; returns its pid."""
    script = f"import os\nfor _ in range({times}): os.close(os.open({str(path)!r}, os.O_RDONLY))"
    done = subprocess.Popen(["/usr/bin/env", "python3", "-IS", "-c", script])
    assert done.wait() == 0
    return done.pid


def opens_of(events: list[Event], path: Path) -> list[Event]:
    return [e for e in events if e["kind"] == "open" and e.get("path") == str(path)]


def test_repeated_reads_are_reported_twice_and_then_counted(tmp_path: Path) -> None:
    path = tmp_path / "often"
    path.touch()
    with agent("filter.repeated_opens=count", f"filter.summary_seconds={SUMMARY_SECONDS}") as run:
        pid = read_again_and_again(path, 500)
        summary = run.first(
            lambda e: e["kind"] == "open" and e["summary"] and e["path"] == str(path), "summary"
        )
    assert summary["process"]["pid"] == pid
    assert [e["summary"] for e in opens_of(run.events, path)][:2] == [False, False]
    assert sum(e["count"] for e in opens_of(run.events, path)) == 500


@pytest.mark.parametrize("descriptors", [0, 20, 100])
def test_repeats_are_counted_wherever_their_descriptors_lie(
    tmp_path: Path, descriptors: int
) -> None:
    path = tmp_path / "often"
    path.touch()
    # The table of a child is as small as its descriptors let it be.
    script = f"""
import os
os.closerange(3, 4096)
kept = [os.dup(0) for _ in range({descriptors})]
if not os.fork():
    for _ in range(50):
        os.close(os.open({str(path)!r}, os.O_RDONLY))
    os._exit(0)
os.wait()
"""
    with agent("filter.repeated_opens=count", "filter.summary_seconds=3600") as run:
        subprocess.run(["/usr/bin/env", "python3", "-IS", "-c", script], check=True)
    found = opens_of(run.events, path)
    assert [(e["count"], e["summary"]) for e in found] == [(1, False), (1, False), (48, True)]


def test_names_of_one_file_are_counted_apart(tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("one", "other")]
    names[0].touch()
    names[1].hardlink_to(names[0])
    script = f"for _ in range(30):\n for name in {[*map(str, names)]}: open(name).close()"
    with agent("filter.repeated_opens=count", "filter.summary_seconds=3600") as run:
        subprocess.run(["/usr/bin/env", "python3", "-IS", "-c", script], check=True)
    for name in names:
        assert [e["count"] for e in opens_of(run.events, name)] == [1, 1, 28]


def test_count_of_a_program_that_has_ended_comes_soon_and_says_who_it_was(tmp_path: Path) -> None:
    path = tmp_path / "often"
    path.touch()
    with agent("filter.repeated_opens=count", f"filter.summary_seconds={SUMMARY_SECONDS}") as run:
        pid = read_again_and_again(path, 500)
        end = run.one(kind="exit", process__pid=pid)
        summary = run.first(
            lambda e: e["kind"] == "open" and e["summary"] and e["path"] == str(path), "summary"
        )
    assert summary["process"] == end["process"]
    assert summary["process"]["lineage"][0]["pid"] == os.getpid()
    delay = datetime.fromisoformat(summary["time"]) - datetime.fromisoformat(end["time"])
    # Two turns, and what a busy machine needs.
    assert delay < timedelta(seconds=2 * SUMMARY_SECONDS + 2)


def test_counts_that_are_left_at_the_end_are_told(tmp_path: Path) -> None:
    path = tmp_path / "often"
    path.touch()
    with agent("filter.repeated_opens=count", "filter.summary_seconds=3600") as run:
        read_again_and_again(path, 300)
    assert sum(e["count"] for e in opens_of(run.events, path)) == 300


def test_opens_that_may_write_are_always_reported(tmp_path: Path) -> None:
    path = tmp_path / "written"
    script = f"for _ in range(50): open({str(path)!r}, 'a').close()"
    with agent("filter.repeated_opens=count") as run:
        subprocess.run(["/usr/bin/env", "python3", "-IS", "-c", script], check=True)
    found = opens_of(run.events, path)
    assert [e["count"] for e in found] == [1] * 50
    assert not any(e["summary"] for e in found)


def test_another_program_of_the_same_process_is_reported_anew(tmp_path: Path) -> None:
    path = tmp_path / "often"
    path.touch()
    again = f"exec python3 -IS -c 'for _ in range(9): open(\"{path}\").close()'"
    script = f"for i in 1 2 3 4 5; do read line < {path}; done; {again}"
    with agent("filter.repeated_opens=count") as run:
        subprocess.run(["bash", "-c", script], check=True)
    whole = [e for e in opens_of(run.events, path) if not e["summary"]]
    assert len({e["process"]["path"] for e in whole}) == 2
    assert len({e["process"]["pid"] for e in whole}) == 1
    assert sum(e["count"] for e in opens_of(run.events, path)) == 14


def test_watched_paths_are_reported_each_time(tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    path = watched / "often"
    path.touch()
    with agent("filter.repeated_opens=count", f'filter.watch_paths=["{watched}/"]') as run:
        read_again_and_again(path, 100)
    found = opens_of(run.events, path)
    assert len(found) == 100
    assert {e["count"] for e in found} == {1}


def test_excluded_paths_are_left_out_unless_a_longer_prefix_is_watched(tmp_path: Path) -> None:
    for name in ("quiet", "quiet/loud", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    with agent(
        f'filter.exclude_paths=["{tmp_path}/quiet/"]',
        f'filter.watch_paths=["{tmp_path}/quiet/loud/"]',
    ) as run:
        for name in ("quiet", "quiet/loud", "other"):
            read_again_and_again(tmp_path / name / "file", 3)
    assert not opens_of(run.events, tmp_path / "quiet/file")
    assert len(opens_of(run.events, tmp_path / "quiet/loud/file")) == 3
    assert len(opens_of(run.events, tmp_path / "other/file")) == 3


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="nodeagent-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_excluded_users_leave_no_events_but_others_do(public: Path) -> None:
    path = public / "file"
    path.touch()
    nobody = 65534
    with agent(f"filter.exclude_uids=[{nobody}]") as run:
        subprocess.run(["cat", path], check=True, user=nobody, cwd="/")
        other = subprocess.Popen(["cat", path])
        other.wait()
    assert {e["process"]["pid"] for e in opens_of(run.events, path)} == {other.pid}
    assert not [e for e in run.events if e.get("process", {}).get("uid") == nobody]


@pytest.mark.parametrize(
    ("chosen", "seen"), [("denied", {"EACCES"}), ("all", {"EACCES", "ENOENT"}), ("none", set())]
)
def test_failed_opens_are_reported_as_asked_for(public: Path, chosen: str, seen: set[str]) -> None:
    secret = public / "secret"
    secret.touch(mode=0o600)
    missing = public / "missing"
    with agent(f"filter.failed_opens={chosen}") as run:
        for path in (secret, missing):
            subprocess.run(
                ["cat", path], stderr=subprocess.DEVNULL, user=65534, cwd="/", check=False
            )
    names = {str(secret), str(missing)}
    assert {e["error"] for e in run.events if e.get("argument") in names} == seen


def test_own_opens_are_left_out() -> None:
    with agent() as run:
        pid = run.agent.pid
        os.close(os.open("/etc/hostname", os.O_RDONLY))
    assert not [e for e in run.events if e["kind"] == "open" and e["process"]["pid"] == pid]


def open_inside(cgroup: Path, path: Path) -> None:
    """Open a file to write it, by a process of this cgroup."""
    script = f"echo $$ > {cgroup}/cgroup.procs; : > {path}"
    subprocess.run(["/bin/sh", "-c", script], check=True)


def test_nothing_of_an_excluded_cgroup_is_reported(tmp_path: Path, cgroup: Path) -> None:
    with agent(f'filter.exclude_cgroups=["/{cgroup.name}"]') as run:
        open_inside(cgroup, tmp_path / "inside")
        below = cgroup / "below"
        below.mkdir()
        # The agent looks for new ones once a second.
        time.sleep(2)
        open_inside(below, tmp_path / "below")
        (tmp_path / "outside").touch()
        run.first(lambda e: e["kind"] == "open" and "outside" in e.get("path", ""), "outside")
    assert len(opens_of(run.events, tmp_path / "outside")) == 1
    assert not opens_of(run.events, tmp_path / "inside")
    assert not opens_of(run.events, tmp_path / "below")
    inside = {cgroup.stat().st_ino, below.stat().st_ino}
    assert not [e for e in run.events if e.get("process", {}).get("cgroup_id") in inside]
