# SPDX-License-Identifier: Apache-2.0
"""Findings in the store of the node, and the command that shows them."""

from __future__ import annotations

import asyncio
import json
import select
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from nodeagent.detect.catalogue import RULES
from nodeagent.errors import Retry, StartError
from nodeagent.finding import Finding, Severity
from nodeagent.sink import Batch
from nodeagent.store import Store as Database
from sinks.store import Store
from tests.delivery.opened import opened
from tests.events import TIME, a_finding

SECOND = 1_000_000_000
EVIL = "a\x1b[2Jb\u202ec\nd"


def command(*arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "nodeagent", "findings", *arguments, "--store", str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def explain(*arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "nodeagent", "explain", *arguments, "--store", str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def number(count: int) -> list[Finding]:
    return [a_finding(title=f"t{n}", last_seen=TIME + n * SECOND) for n in range(count)]


async def stored(path: Path, *findings: Finding, **settings: object) -> None:
    async with opened(Store, path=str(path), **settings) as sink:
        await sink.send(Batch([], findings))


async def test_finding_is_kept_as_it_was_told_last(tmp_path: Path) -> None:
    path = tmp_path / "new" / "findings.db"
    await stored(path, a_finding(), a_finding(title="other"))
    await stored(path, a_finding(count=7, last_seen=TIME + SECOND))
    with Database(path) as store:
        first, other = store.rows()
    assert (first.title, first.count, first.last_seen) == (a_finding().title, 7, TIME + SECOND)
    assert other.title == "other"
    assert first.details["evidence"] == {"rule": "reverse_shell", "weight": 80}
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_the_oldest_go_first(tmp_path: Path) -> None:
    path = tmp_path / "findings.db"
    await stored(path, *number(30), findings=10)
    with Database(path) as store:
        assert [row.title for row in store.rows()] == [f"t{n}" for n in range(29, 19, -1)]


async def test_store_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "findings.db"
    async with opened(Store, path=str(path)) as sink:
        await sink.send(Batch([], number(2)))
        assert "t1" in command("list", "--json", path=path).stdout
        await sink.send(Batch([], [a_finding(title="third")]))
        assert "third" in command("list", "--json", path=path).stdout


async def test_a_store_that_is_locked_for_long_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.store.BUSY_SECONDS", 0.1)
    path = tmp_path / "findings.db"
    async with opened(Store, path=str(path)) as sink:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Retry, match="cannot be written"):
            await sink.send(Batch([], number(1)))
        other.close()
        await sink.send(Batch([], number(1)))
    with Database(path) as store:
        assert len(list(store.rows())) == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"no database at all, but long enough to be one" * 100, "not a database"),
        (b"", "no store of this version"),
    ],
    ids=["garbage", "empty"],
)
async def test_what_is_no_store_is_said(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "findings.db"
    path.write_bytes(content)
    done = command("list", path=path)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
    assert str(path) in done.stderr
    assert len(done.stderr.splitlines()) == 1
    if content:
        with pytest.raises(StartError, match=why):
            await Store(Store.Config(path=str(path))).open()


def test_store_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "findings.db"
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version = 99")
    base.close()
    with pytest.raises(StartError, match="no store of this version"):
        Database(path, writes=True)


def test_no_store_says_what_to_do(tmp_path: Path) -> None:
    done = command("list", path=tmp_path / "nothing")
    assert done.returncode == 2
    assert "a sink of type store" in done.stderr


async def test_list_is_a_table_of_what_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "findings.db"
    pod = {"kubernetesDetails": {"kubernetesWorkloadDetails": {"namespace": "shop"}, "pod": "web"}}
    await stored(
        path,
        a_finding(resource=pod, last_seen=TIME + SECOND),
        a_finding(title="low", severity=Severity.LOW, type="Impact:Runtime/Other"),
    )
    head, first, second = command("list", path=path).stdout.splitlines()
    assert head.split() == ["id", "severity", "last", "seen", "count", "resource", "type"]
    assert first.split()[1] == "high"
    assert first.split()[-2:] == ["shop/web", "Execution:Runtime/ReverseShell"]
    assert second.split()[1] == "low"
    assert "\x1b" not in first
    for chosen in (("--severity", "high"), ("--type", "Execution:*"), ("--limit", "1")):
        lines = command("list", *chosen, path=path).stdout.splitlines()
        assert len(lines) == 2
        assert "ReverseShell" in lines[1]
    assert command("list", "--severity", "critical", path=path).stdout == "nothing was found\n"


async def test_show_has_everything_and_harms_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "findings.db"
    ancestor = {"executablePath": f"/bin/{EVIL}", "pid": 7, "user": EVIL}
    signals = [
        {"time": "2026-11-25T10:00:01.000000000Z", "weight": 30, "title": "second"},
        {"time": "2026-11-25T10:00:00.000000000Z", "weight": 20, "title": EVIL},
    ]
    finding = a_finding(
        title=EVIL,
        process={"executablePath": "/bin/sh", "pid": 8, "userId": 0, "lineage": [ancestor]},
        context={EVIL: EVIL, "empty": ""},
        evidence={"rule": "x", "signals": signals},
        action={"actionType": "NETWORK_CONNECTION", "remote": {"ip": "192.0.2.1"}},
    )
    await stored(path, finding)
    done = command("show", finding.id[:6], path=path)
    assert done.returncode == 0
    assert done.stdout.isprintable() or set(done.stdout) - set("\n") == {
        each for each in done.stdout if each.isprintable()
    }
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[0] == "a\\x1b[2Jb\\u202ec\\nd"
    assert "remote.ip = 192.0.2.1" in lines
    assert (
        lines.index("└ /bin/sh [8] user 0")
        == lines.index("/bin/a\\x1b[2Jb\\u202ec\\nd [7] user a\\x1b[2Jb\\u202ec\\nd") + 1
    )
    assert lines.index("10:00:01.000 +30 second") > lines.index(
        "10:00:00.000 +20 a\\x1b[2Jb\\u202ec\\nd"
    )
    assert json.loads(command("show", finding.id, "--json", path=path).stdout)["id"] == finding.id


async def test_show_of_none_or_several_says_so(tmp_path: Path) -> None:
    path = tmp_path / "findings.db"
    await stored(path, *number(40))
    done = command("show", "zz%", path=path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no finding has an id that starts with zz%" in done.stderr
    done = command("show", "", path=path)
    assert "40 findings have an id that starts with" in done.stderr


def test_watch_shows_what_comes(tmp_path: Path) -> None:
    path = tmp_path / "findings.db"
    asyncio.run(stored(path, a_finding()))
    words = [sys.executable, "-u", "-m", "nodeagent", "findings", "watch", "--json"]
    with subprocess.Popen(
        [*words, "--store", str(path)], stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        try:
            _see_new(watching.stdout, path)
            watching.send_signal(signal.SIGINT)
            assert watching.wait(10) == 130
        finally:
            # Otherwise the end of the block waits for one that goes on.
            watching.kill()


def _see_new(stdout: IO[str], path: Path) -> None:
    """A finding that is put after the start is shown, whenever that start is."""
    for number_ in range(40):
        asyncio.run(stored(path, a_finding(title="new", count=number_ + 2)))
        ready, _, _ = select.select([stdout], [], [], 0.5)
        if ready:
            break
    assert ready
    assert json.loads(stdout.readline())["title"] == "new"


async def test_explain_adds_up_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "findings.db"
    signals = [
        {"time": f"2026-11-25T10:00:0{n}.000Z", "weight": weight, "rule": rule, "scope": "process"}
        for n, (weight, rule) in enumerate([(30, "network_shell"), (20, EVIL)])
    ]
    event = {"kind": "exec", "time": "2026-11-25T10:00:00Z", "cpu": 1, "sequence": 7}
    evidence = {"rule": "network_shell", "weight": 30, "event": event, "signals": signals}
    finding = a_finding(evidence=evidence)
    await stored(path, finding, a_finding(title="other"))
    done = explain(finding.id[:8], path=path)
    assert done.returncode == 0
    assert "30; less than 50, so alone it is none" in done.stdout
    assert '.kind=="exec" and .cpu==1 and .sequence==7' in done.stdout
    assert "50 of 50 that it takes" in done.stdout
    assert "\x1b" not in done.stdout
    strong = explain(a_finding(title="other").id, path=path).stdout
    assert "80; 50 and more is a finding at once" in strong


def test_explain_shows_all_rules_or_says_what_to_ask(tmp_path: Path) -> None:
    done = explain("--rules", path=tmp_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) > len(RULES)
    assert "reverse_shell" in done.stdout
    weights = [int(line.split()[0]) for line in lines[1 : len(RULES) + 1]]
    assert weights == sorted(weights, reverse=True)
    for nothing in ((), ("",)):
        done = explain(*nothing, path=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "explain what?" in done.stderr


@pytest.mark.parametrize("name", ["Execution:Runtime/ReverseShell", "execution-reverseshell"])
def test_explain_of_a_type_shows_its_page_without_a_store(name: str, tmp_path: Path) -> None:
    done = explain(name, path=tmp_path / "none")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# Execution:Runtime/ReverseShell\n")
    assert "## What to do" in done.stdout


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Execution:Runtime/ReverseShel", "did you mean Execution-ReverseShell?"),
        ("../../etc/passwd", "shows all"),
        (f"Execution:{EVIL}", "shows all"),
        ("x" * 100_000, "shows all"),
    ],
)
def test_explain_of_what_is_no_type_says_so_in_a_sentence(
    name: str, hint: str, tmp_path: Path
) -> None:
    done = explain(name, path=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith('nodeagent: "')
    assert " is no id and no type of finding: " in done.stderr
    assert hint in done.stderr
    assert len(done.stderr) < 300
    assert done.stderr.removesuffix("\n").isprintable()


async def test_finding_that_is_shown_names_the_command_for_its_page(tmp_path: Path) -> None:
    path = tmp_path / "findings.db"
    known, foreign = a_finding(), a_finding(title="other", type=EVIL)
    await stored(path, known, foreign)
    command_ = "nodeagent explain Execution-ReverseShell"
    assert f"to do       {command_}\n" in command("show", known.id, path=path).stdout
    assert f"to do     {command_}\n" in explain(known.id, path=path).stdout
    assert "to do" not in command("show", foreign.id, path=path).stdout
    assert "to do" not in explain(foreign.id, path=path).stdout


async def test_explain_of_a_rule_of_another_version_says_so(tmp_path: Path) -> None:
    path = tmp_path / "findings.db"
    await stored(path, a_finding(evidence={"rule": "of_old", "weight": "much", "signals": "none"}))
    done = explain(a_finding().id, path=path)
    assert done.returncode == 0
    assert "of_old, which this version does not have" in done.stdout
