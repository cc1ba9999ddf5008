# SPDX-License-Identifier: Apache-2.0
"""The benches run, end to end and quickly; what they find counts only where it is exact."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import find_object
from tests.bench.benches import (
    QUICK,
    SCRATCH,
    Bench,
    latency,
    lists,
    open_cost,
    overload,
    scratch_folder,
)
from tests.bench.figure import Figure, table
from tests.bench.load import Load
from tests.bench.watch import check_balance
from tests.requirement import need

pytestmark = [pytest.mark.bench, pytest.mark.kernel]


@pytest.fixture
def bench() -> Iterator[Bench]:
    need("kernel", os.geteuid() == 0, "eBPF programs can only be loaded by root")
    need("kernel", find_object().exists(), "bpf/nodeagent.bpf.o is not built")
    with scratch_folder() as folder:
        yield Bench(Load(folder), Libbpf(), folder, QUICK, lambda text: None)


def figure(figures: list[Figure], name: str) -> Figure:
    return next(figure for figure in figures if figure.name == name)


def test_no_open_is_lost_at_a_steady_rate(bench: Bench) -> None:
    figures = open_cost(bench)
    assert figure(figures, "open: events lost").values == [0]
    assert figure(figures, "open: agent CPU per event").median > 0
    assert 0 < figure(figures, "open: eBPF time per event").median < 1000


def test_under_overload_every_event_is_accounted_for(bench: Bench) -> None:
    """overload() itself checks the equations of the ledger to the last event."""
    figures = overload(bench)
    facts = figure(figures, "overload: lost, all counted").facts
    for kind, row in facts["ledger"].items():
        check_balance(kind, row)
    assert facts["ledger"]["open"]["seen"] > 0
    assert figure(figures, "overload: largest RSS").median < 256


def test_each_connection_to_a_listed_address_is_found(bench: Bench) -> None:
    """latency() itself waits for the finding of each."""
    figures = latency(bench)
    usual, worst = (each.median for each in figures)
    assert 0 < usual <= worst
    assert figures[-1].facts["runs"][0]["findings"] > 10


def test_what_does_not_add_up_is_an_error() -> None:
    row = {"seen": 3, "sent": 1, "filtered": 0, "aggregated": 0, "throttled": 0, "lost": {}}
    with pytest.raises(RuntimeError, match="3 seen but 1 accounted for"):
        check_balance("open", {**row, "decoded": 1, "bad": 0})


def test_nothing_is_left() -> None:
    with scratch_folder() as folder:
        (folder / "file").touch()
    assert not folder.exists()
    assert folder.parent == SCRATCH


def test_a_figure_above_its_bar_is_a_miss() -> None:
    slow = Figure("open: CPU", "µs", [9.0, 7.0, 10.0], bar=8.0, aim=5.0)
    assert (slow.median, slow.verdict) == (9.0, "MISS")
    lines = table([slow]).splitlines()
    assert " ".join(lines[1].split()) == "open: CPU, µs 9 7 - 10 <= 8 (5) MISS"
    assert max(map(len, lines)) <= 88


def test_a_million_entries_of_a_threat_list_take_little_memory(bench: Bench) -> None:
    """Of each sort; lists() itself checks that what is in them is found."""
    figures = [each for each in lists(bench) if each.unit == "MiB"]
    assert len(figures) == 6
    assert {each.verdict for each in figures} == {"pass"}, table(figures)
