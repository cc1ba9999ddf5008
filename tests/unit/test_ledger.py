# SPDX-License-Identifier: Apache-2.0
"""The equations of the ledger."""

from __future__ import annotations

from nodeagent.ledger import KernelCounts, Ledger


def balanced() -> Ledger:
    ledger = Ledger()
    ledger.kernel["open"] = KernelCounts(
        seen=10, sent=5, filtered=2, aggregated=1, throttled=1, lost={"ring full": 1}
    )
    ledger.decoded["open"] = 4
    ledger.bad["open"] = 1
    sink = ledger.sink("file")
    sink.routed = 4
    sink.delivered = 3
    sink.dropped["queue full"] = 1
    return ledger


def test_balanced_ledger_has_nothing_to_say() -> None:
    assert balanced().imbalances() == []


def test_event_that_vanished_in_the_kernel_is_found() -> None:
    ledger = balanced()
    ledger.kernel["open"].seen += 1
    assert ledger.imbalances() == ["open: 11 seen, 10 accounted for"]


def test_event_that_vanished_between_kernel_and_decoder_is_found() -> None:
    ledger = balanced()
    ledger.decoded["open"] -= 1
    assert ledger.imbalances() == ["open: 5 sent, 4 received"]


def test_event_that_vanished_in_a_sink_is_found() -> None:
    ledger = balanced()
    ledger.sink("file").routed += 2
    assert ledger.imbalances() == ["sink file: 6 routed, 4 accounted for"]


def test_kind_that_only_user_space_knows_is_an_imbalance() -> None:
    ledger = balanced()
    ledger.bad["unknown"] = 1
    assert ledger.imbalances() == ["unknown: 0 sent, 1 received"]


def test_table_fits_a_terminal_and_says_whether_it_balances() -> None:
    ledger = balanced()
    assert max(map(len, ledger.table().splitlines())) <= 80
    assert "balanced: every event is accounted for" in ledger.table()
    assert "  dropped, queue full: 1" in ledger.table()
    ledger.decoded["open"] = 0
    assert "UNBALANCED open: 5 sent, 1 received" in ledger.table()


def test_runs_that_the_kernel_left_out_are_told_and_upset_no_balance() -> None:
    ledger = balanced()
    assert "missed" not in ledger.table()
    ledger.kernel["open"].missed = 3
    assert "  missed, open: 3 runs that the kernel left out" in ledger.table().splitlines()
    assert ledger.imbalances() == []
