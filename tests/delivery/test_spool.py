# SPDX-License-Identifier: Apache-2.0
"""The spool on a real disk: what it keeps, drops, and makes of damage."""

from __future__ import annotations

import os
import random
import stat
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.errors import StartError
from nodeagent.event import HIGH_VALUE
from nodeagent.identity import facts_of
from nodeagent.sink import unpacked
from nodeagent.spool import HEAD_BYTES, LANES, Lane, Spool
from tests.events import a_finding, an_exec
from tests.requirement import need

LIMIT = 1 << 20
NOTHING: Counter[str] = Counter()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "https"


def opened(folder: Path, limit: int = LIMIT) -> Spool:
    spool = Spool(folder, limit)
    spool.open()
    return spool


def put(spool: Spool, number: int, lane: Lane = "bulk", size: int = 100) -> Counter[str]:
    """A batch of two lines, which does not get smaller when it is packed."""
    noise = random.Random(number).randbytes(size).hex()
    return spool.put(lane, f"key-{number}", None, f'["{noise}"]\n{number}\n'.encode(), 2)


def taken(spool: Spool) -> Iterator[int]:
    """The numbers of all batches, each of which is done then."""
    while (stored := spool.next()[0]) is not None:
        _, number = unpacked(stored.packed).split()
        assert stored.key == f"key-{int(number)}"
        assert spool.next()[0] == stored
        assert spool.done(stored)
        yield int(number)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def test_batches_come_back_in_order_and_precious_ones_first(folder: Path) -> None:
    spool = opened(folder)
    for number in range(6):
        assert put(spool, number, "high" if number % 3 == 0 else "bulk") == NOTHING
    assert spool.items == 12
    assert list(taken(spool)) == [0, 3, 1, 2, 4, 5]
    assert spool.items == 0
    spool.close()


def test_facts_come_back_with_their_lines(folder: Path) -> None:
    spool = opened(folder)
    facts = [facts_of(item) for item in (an_exec(), a_finding())]
    spool.put("high", "key", facts, b"1\n2\n", 2)
    stored, _ = spool.next()
    assert stored is not None
    assert stored.facts == facts
    spool.close()


def test_only_the_owner_can_read_it(folder: Path) -> None:
    spool = opened(folder)
    put(spool, 1)
    assert list(taken(spool)) == [1]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    spool.close()


@pytest.mark.parametrize("orderly", [True, False])
def test_next_run_goes_on_where_the_last_one_stopped(folder: Path, orderly: bool) -> None:
    spool = opened(folder)
    for number in range(10):
        put(spool, number, size=20_000)
    rest = taken(spool)
    assert [next(rest) for _ in range(4)] == [0, 1, 2, 3]
    if orderly:
        spool.close()
    else:
        # As the kernel does with a process that was killed: descriptors and lock are gone.
        for fd in (spool._lock, spool._cursor, *(row.fd for row in spool._rows.values())):
            if fd is not None:
                os.close(fd)
    again = Spool(folder, LIMIT)
    assert again.open() == NOTHING
    assert again.items == 12
    put(again, 10)
    assert list(taken(again)) == [*range(4, 10), 10]
    again.close()


def test_batch_that_was_not_done_comes_again_under_its_key(folder: Path) -> None:
    spool = opened(folder)
    put(spool, 1)
    assert spool.next()[0] is not None
    spool.close()
    again = opened(folder)
    assert list(taken(again)) == [1]
    again.close()


def test_files_go_when_their_batches_are_done(folder: Path) -> None:
    spool = opened(folder)
    for number in range(60):
        put(spool, number, size=10_000)
    assert len(segments(folder)) > 3
    assert len(list(taken(spool))) == 60
    assert len(segments(folder)) == 1
    assert spool.size_bytes < LIMIT / 8
    spool.close()


def test_full_spool_drops_the_oldest_bulk_and_keeps_what_is_precious(folder: Path) -> None:
    spool = opened(folder)
    dropped: Counter[str] = Counter()
    put(spool, 1000, "high", 50_000)
    for number in range(200):
        dropped += put(spool, number, size=10_000)
        assert spool.size_bytes <= LIMIT
    assert set(dropped) == {"spool full"}
    assert spool.items + dropped.total() == 402
    first, *rest = taken(spool)
    assert first == 1000
    assert rest == list(range(200 - len(rest), 200))
    assert len(rest) > 40
    spool.close()


def test_bulk_never_takes_the_place_of_what_is_precious(folder: Path) -> None:
    spool = opened(folder)
    lost = sum((put(spool, number, "high", 10_000) for number in range(100)), NOTHING)
    kept = spool.items
    assert lost["spool full"] == 200 - kept
    # Room for it can only be made by what is precious, so it is dropped itself.
    assert [put(spool, number, size=100_000) for number in range(3)] == [{"spool full": 2}] * 3
    assert spool.items == kept
    # The newest of them stay.
    assert list(taken(spool)) == list(range(100 - kept // 2, 100))
    spool.close()


def test_batch_that_is_dropped_while_it_is_sent_is_not_counted_twice(folder: Path) -> None:
    spool = opened(folder)
    put(spool, 0, size=10_000)
    stored, _ = spool.next()
    assert stored is not None
    while spool.next()[0] == stored:
        put(spool, 1, size=10_000)
    assert not spool.done(stored)
    spool.close()


@given(st.data())
def test_torn_tail_costs_only_itself(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = opened(folder)
    ends = [0]
    for number in range(3):
        put(spool, number)
        ends.append(spool.size_bytes)
    spool.close()
    (path,) = segments(folder)
    cut = data.draw(st.integers(0, ends[-1]))
    os.truncate(path, cut)
    again = Spool(folder, LIMIT)
    lost = again.open()
    whole = bisect_right(ends, cut) - 1
    assert again.items == 2 * whole
    # How much was in the torn one is known where its head is there.
    assert lost == (Counter({"spool torn": 2}) if cut - ends[whole] >= HEAD_BYTES else NOTHING)
    put(again, 3)
    assert list(taken(again)) == [*range(whole), 3]
    again.close()


@given(st.data())
def test_damage_never_stops_it_and_never_shows_as_a_batch(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = opened(folder)
    for number in range(20):
        put(spool, number, LANES[number % 2], 20_000)
    spool.close()
    path = data.draw(st.sampled_from(segments(folder)))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    again = Spool(folder, LIMIT)
    lost = again.open()
    items = again.items
    came = []
    while True:
        stored, damaged = again.next()
        lost += damaged
        items -= damaged.total()
        if stored is None:
            break
        # `taken` checks that the content is what was put under its key.
        came.append(int(unpacked(stored.packed).split()[1]))
        assert stored.key == f"key-{came[-1]}"
        items -= stored.items
        assert again.done(stored)
    assert items == again.items == 0
    assert set(came) < set(range(20))
    assert set(lost) <= {"spool torn", "spool damaged"}
    again.close()


def test_foreign_files_are_left_alone(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.mkdir(parents=True, mode=0o700)
    for name in ("README", "bulk-1.spool", "bulk-0000000001.spool.bak"):
        (folder / name).write_text("mine")
    (folder / "bulk-0000000002.spool").symlink_to("/etc/passwd")
    spool = opened(folder)
    assert caplog.text.count("spool_foreign_file") == 4
    put(spool, 1)
    assert list(taken(spool)) == [1]
    spool.close()
    assert (folder / "README").read_text() == "mine"
    assert "root" in Path("/etc/passwd").read_text()


def test_second_agent_is_told_so(folder: Path) -> None:
    spool = opened(folder)
    with pytest.raises(StartError, match="is used by another agent: give the sink another name"):
        opened(folder)
    spool.close()
    opened(folder).close()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_folder_that_others_may_write_to_is_not_used(folder: Path, mode: int) -> None:
    folder.mkdir(parents=True)
    folder.chmod(mode)
    with pytest.raises(PermissionError, match="others may write to the spool"):
        opened(folder)


def test_folder_of_another_user_is_not_used(folder: Path) -> None:
    need("kernel", os.geteuid() == 0, "only root can give files away")
    folder.mkdir(parents=True, mode=0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(PermissionError, match="others may write to the spool"):
        opened(folder)


def test_kinds_that_are_precious_are_those_of_the_kernel() -> None:
    header = (Path(__file__).parents[2] / "bpf" / "events.h").read_text()
    _, _, rest = header.partition("#define HIGH_VALUE")
    macro, _, _ = rest.partition("\n\n")
    words = macro.replace("(", " ").replace(")", " ").split()
    assert {word.removeprefix("EVENT_").lower() for word in words if "EVENT_" in word} == HIGH_VALUE
