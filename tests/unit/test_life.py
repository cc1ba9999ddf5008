# SPDX-License-Identifier: Apache-2.0
"""What one run tells the next one about its end."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeagent.errors import StartError
from nodeagent.life import Life, Previous

BOOT = "8c1f5a0e-6a53-4a0c-9a3e-3f2f4f0a7b11"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state/state.json"


@contextmanager
def living(file: Path, boot_id: str = BOOT) -> Iterator[Life]:
    """A run that ends as if it was killed, unless it says something else."""
    with Life(str(file), boot_id) as life:
        yield life


def beat(life: Life) -> None:
    """As it does all the time."""

    async def once() -> None:
        task = asyncio.create_task(life.follow())  # noqa: TID251  nobody else is there
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(once())


def after(file: Path, boot_id: str = BOOT) -> Previous | None:
    with living(file, boot_id) as life:
        return life.previous()


def test_first_run_knows_of_none_before(file: Path) -> None:
    assert after(file) is None
    # Nor does one whose predecessor never got as far as the stream.
    assert after(file) is None


def test_clean_end_is_told_with_its_reason(file: Path) -> None:
    with living(file) as life:
        beat(life)
        life.end("SIGTERM")
    before = after(file)
    assert before is not None
    assert before.ended == "SIGTERM"
    assert 0 <= before.gap_seconds < 5
    assert abs(before.alive - time.time_ns()) < 5e9


def test_run_that_never_said_that_it_ends_was_killed(file: Path) -> None:
    with living(file) as life:
        life.end("a long reason of the run before that one")
    with living(file) as life:
        beat(life)
    before = after(file)
    assert before is not None
    assert before.ended is None


def test_gap_is_right_when_the_wall_clock_was_stepped(file: Path) -> None:
    with living(file) as life:
        beat(life)
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"alive": kept["alive"] - 3600 * 10**9}))
    before = after(file)
    assert before is not None
    assert before.gap_seconds < 5
    # After another boot there is only the wall clock.
    other = after(file, BOOT[::-1])
    assert other is not None
    assert other.gap_seconds == pytest.approx(3600, abs=5)


def test_gap_is_never_negative(file: Path) -> None:
    with living(file) as life:
        beat(life)
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({**kept, "alive_boot": 1 << 62, "alive": 1 << 62}))
    for boot_id in (BOOT, ""):
        before = after(file, boot_id)
        assert before is not None
        assert before.gap_seconds == 0


def test_only_one_agent_at_a_time_has_the_file(file: Path) -> None:
    with living(file) as life:
        beat(life)
        sentence = rf"another agent \(pid {os.getpid()}\)"
        with pytest.raises(StartError, match=sentence), Life(str(file), BOOT):
            pass
    assert after(file) is not None


def test_file_is_for_its_owner_alone(file: Path) -> None:
    file.parent.mkdir()
    file.touch(0o644)
    with living(file) as life:
        beat(life)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_size < 300


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "\0" * 200, '{"pid": 1}', '{"pid":1,"boot_id":"","alive":-1,"alive_boot":1}'],
)
def test_damage_is_told_and_mended(
    file: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file.parent.mkdir()
    file.write_text(content)
    with living(file) as life:
        assert life.previous() is None
        life.end("SIGINT")
    assert [record.getMessage().split()[0] for record in caplog.records] == ["state_damaged"]
    before = after(file)
    assert before is not None
    assert before.ended == "SIGINT"


def test_file_that_cannot_be_used_is_told_and_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "other")
    pipe = tmp_path / "folder"
    pipe.mkdir()
    for path in (link, pipe, Path("/proc/nothing/state.json")):
        caplog.clear()
        with Life(str(path), BOOT) as life:
            beat(life)
            life.end("SIGTERM")
            assert life.previous() is None
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert str(path) in record.getMessage()
    assert not (tmp_path / "other").exists()


def test_without_a_path_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Life("", BOOT) as life:
        beat(life)
        life.end("SIGTERM")
    assert life.previous() is None
    assert not list(tmp_path.iterdir())


def test_lock_ends_with_the_process(file: Path) -> None:
    child = os.fork()
    if not child:
        with Life(str(file), BOOT):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with file.open("rb") as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
