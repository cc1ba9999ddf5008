# SPDX-License-Identifier: Apache-2.0
"""Whether a node is covered, and how that is told and shown."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from nodeagent import coverage
from nodeagent.cli.coverage import as_text
from nodeagent.coverage import ADVICE, Coverage
from nodeagent.ledger import Ledger

SEEN: dict[str, object] = {"family": "tracepoint", "programs": ["on_exec"], "missing": {}}
UNSEEN: dict[str, object] = {
    "family": None,
    "programs": [],
    "missing": {"on_module": "no tracepoint module_load"},
}


class World:
    """A ledger, and what is told of it."""

    def __init__(self, **kinds: object) -> None:
        self.ledger = Ledger()
        self.told: list[dict[str, Any]] = []
        hooks = {"kinds": kinds or {"exec": SEEN}, "why_no_trampolines": None}
        self.coverage = Coverage(hooks, self.ledger, self.told.append)

    @property
    def codes(self) -> list[tuple[str, str]]:
        report: Any = self.coverage.report()
        assert report["status"] == ("UNHEALTHY" if report["issues"] else "HEALTHY")
        return [(each["code"], each["subject"]) for each in report["issues"]]


def test_node_without_trouble_is_healthy() -> None:
    world = World()
    assert world.codes == []
    world.coverage.start()
    assert world.told[0]["status"] == "HEALTHY"
    assert world.told[0]["kinds"] == {"exec": SEEN}


def test_each_trouble_has_its_code() -> None:
    world = World(exec=SEEN, io_uring=UNSEEN)
    ledger = world.ledger
    ledger.dead = frozenset({"open"})
    ledger.level = 2
    ledger.sink("https").trouble = "HTTP 403"
    ledger.sink("https").is_denied = True
    ledger.sink("loki").trouble = "nobody there"
    ledger.sink("file")
    ledger.troubles["ANOTHER_AGENT"] = "another agent serves it"
    assert world.codes == [
        ("KIND_NOT_SEEN", "io_uring"),
        ("HOOK_SILENT", "open"),
        ("OVER_BUDGET", ""),
        ("CREDENTIALS_REFUSED", "https"),
        ("ENDPOINT_UNREACHABLE", "loki"),
        ("ANOTHER_AGENT", ""),
    ]
    assert {code for code, _ in world.codes} <= set(ADVICE)


def test_kernel_without_modules_lacks_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world = World(module=UNSEEN)
    monkeypatch.setitem(coverage.ABSENT, "module", tmp_path / "modules")
    assert world.codes == []
    (tmp_path / "modules").touch()
    assert world.codes == [("KIND_NOT_SEEN", "module")]


async def test_what_stays_is_told_once_and_its_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "LOOK_SECONDS", 0.02)
    world = World()
    sink = world.ledger.sink("https")
    world.coverage.start()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.coverage.follow())
        sink.trouble = "down"
        await asyncio.sleep(0.2)
        assert [each["status"] for each in world.told] == ["HEALTHY", "UNHEALTHY"]
        # Another reason for the same is no news.
        sink.trouble = "still down"
        await asyncio.sleep(0.1)
        assert len(world.told) == 2
        sink.trouble = ""
        await asyncio.sleep(0.2)
        task.cancel()
    assert [each["status"] for each in world.told] == ["HEALTHY", "UNHEALTHY", "HEALTHY"]


def test_shown_with_advice_in_80_columns() -> None:
    world = World()
    world.ledger.sink("https").trouble = "\x1b[31mno route " * 20
    report: Any = world.coverage.report()
    shown = as_text(report)
    assert shown.startswith("coverage  UNHEALTHY\nkinds     1 of 1 are seen\n")
    assert "ENDPOINT_UNREACHABLE https: " in shown
    assert "check the address" in shown
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80
