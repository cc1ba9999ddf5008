# SPDX-License-Identifier: Apache-2.0
"""Limits of the own cgroup, as trees of both versions have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.usage import _limits, usage_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{text}\n")
    return folder


def test_least_limit_on_the_way_up_counts(root: Path) -> None:
    write(root / "a.slice", memory_max="300", cpu_max="50000 100000")
    inner = write(root / "a.slice/b.scope", memory_max="max", cpu_max="max 100000")
    write(root / "a.slice", memory_current="250", memory_stat="anon 1\ninactive_file 40")
    limits = _limits("0::/a.slice/b.scope\n", root)
    assert (limits.memory_bytes, limits.cores) == (300, 0.5)
    assert limits.folder == inner.parent
    assert limits.charged_bytes() == 210


def test_version_1_has_its_own_folders(root: Path) -> None:
    memory = write(root / "memory/pod", memory_stat="total_inactive_file 5")
    (memory / "memory.limit_in_bytes").write_text("100\n")
    (memory / "memory.usage_in_bytes").write_text("90\n")
    (root / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    cpu = write(root / "cpu/pod")
    (cpu / "cpu.cfs_quota_us").write_text("20000\n")
    (cpu / "cpu.cfs_period_us").write_text("100000\n")
    limits = _limits("4:memory:/pod\n3:cpu:/pod\n0::/\n", root)
    assert (limits.memory_bytes, limits.cores) == (100, 0.2)
    assert limits.charged_bytes() == 85


def test_no_limit_is_none(root: Path) -> None:
    limits = _limits("0::/\n", root)
    assert (limits.memory_bytes, limits.cores) == (None, None)
    assert limits.charged_bytes() == 0


def test_usage_is_that_of_this_process() -> None:
    usage = usage_of()
    assert usage.cpu_seconds > 0
    assert usage.rss_bytes > 1 << 20
