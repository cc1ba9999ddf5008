# SPDX-License-Identifier: Apache-2.0
"""fork and exit: processes, not threads."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.kernel.stream import Acted, Stream

Do = Callable[..., Acted]
CLONE_NEWNS = 0x20000
CLONE_NEWUTS = 0x4000000


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        (("fork",), []),
        (("vfork",), ["CLONE_VM", "CLONE_VFORK"]),
        (("clone3", str(CLONE_NEWUTS)), ["CLONE_NEWUTS"]),
    ],
)
def test_fork_names_the_child_and_the_flags(
    stream: Stream, do: Do, arguments: tuple[str, ...], flags: list[str]
) -> None:
    acted = do(*arguments)
    (event,) = stream.of(acted.pid, "fork")
    assert event["child"]["pid"] == acted.said["child"]
    assert event["child"]["parent_pid"] == acted.pid
    assert event["child"]["comm"] == "act"
    assert event["flags"] == flags
    assert "result" not in event


def test_child_knows_its_parent_before_it_runs_anything(stream: Stream, do: Do) -> None:
    acted = do("fork")
    end = stream.one(kind="exit", process__pid=acted.said["child"])
    parent = end["process"]["lineage"][0]
    assert parent["pid"] == acted.pid
    assert parent["path"] == end["process"]["path"]


def test_child_in_another_namespace_is_seen_in_it(stream: Stream, do: Do) -> None:
    acted = do("clone3", str(CLONE_NEWNS | CLONE_NEWUTS))
    own = stream.of(acted.pid, "exit")[0]["process"]["namespaces"]
    child = stream.one(kind="exit", process__pid=acted.said["child"])["process"]["namespaces"]
    assert {name for name in own if own[name] != child[name]} == {"mnt", "uts"}


def test_exit_tells_the_code(stream: Stream, do: Do) -> None:
    acted = do("exit", "42")
    (event,) = stream.of(acted.pid, "exit")
    assert (event["code"], event["signal"]) == (acted.code, "") == (42, "")
    assert event["group_exit"] is True
    assert event["core_dumped"] is False


def test_death_by_signal_tells_signal_time_and_memory(stream: Stream, do: Do) -> None:
    acted = do("die", str(int(signal.SIGKILL)))
    (event,) = stream.of(acted.pid, "exit")
    assert (event["code"], event["signal"]) == (0, "SIGKILL")
    assert acted.code == -signal.SIGKILL
    # What wait4(2) says, which keeps the largest of all programs that the process has run.
    assert event["max_rss_bytes"] == acted.usage.ru_maxrss * 1024 >= 32 << 20
    seconds = acted.usage.ru_utime + acted.usage.ru_stime
    assert event["cpu_ns"] == pytest.approx(seconds * 1e9, rel=0.2)


@pytest.mark.parametrize(("leader_first", "code"), [("0", 9), ("1", 0)])
def test_process_with_threads_exits_once(
    stream: Stream, do: Do, leader_first: str, code: int
) -> None:
    acted = do("threads", leader_first)
    assert acted.code == code
    (event,) = stream.of(acted.pid, "exit")
    assert event["code"] == code
    assert stream.of(acted.pid, "fork") == []
