# SPDX-License-Identifier: Apache-2.0
"""Every counter there is, and the equations that they keep.

    seen   = sent + filtered + aggregated + throttled + lost    kernel, per kind
    sent   = decoded + bad                                      per kind
    aggregated = summarised                                     per kind, at the end
    routed = delivered + dropped + queued + spooled             per sink

They hold whenever nothing is under way; `imbalances()` says where they do not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final

import msgspec

__all__ = ["UNKNOWN_KIND", "KernelCounts", "Ledger", "SinkCounts"]

UNKNOWN_KIND: Final = "unknown"
"""The row of records whose kind is none that we know."""


KIND_COLUMNS: Final = (
    "seen",
    "sent",
    "filtered",
    "aggregated",
    "throttled",
    "lost",
    "decoded",
    "bad",
)
KIND_WIDTHS: Final = (8, 8, 9, 11, 10, 8, 8, 7)
"""With the longest name of a kind 80 columns in all."""
SINK_COLUMNS: Final = ("routed", "delivered", "queued", "spooled", "dropped")


class KernelCounts(msgspec.Struct):
    """What became of the operations of one kind, as the kernel counted."""

    seen: int = 0
    sent: int = 0
    filtered: int = 0
    aggregated: int = 0
    throttled: int = 0
    lost: dict[str, int] = msgspec.field(default_factory=dict)
    """By reason."""
    missed: int = 0
    """Runs of eBPF programs that the kernel left out: what they would have seen is in no count."""

    @property
    def lost_total(self) -> int:
        """Lost for whatever reason."""
        return sum(self.lost.values())


class SinkCounts(msgspec.Struct):
    """What became of the events and findings that were meant for one sink."""

    routed: int = 0
    recovered: int = 0
    """Of those, found in the spool at the start: an earlier run had not delivered them."""
    delivered: int = 0
    queued: int = 0
    spooled: int = 0
    dropped: Counter[str] = msgspec.field(default_factory=Counter)
    """By reason."""
    spool_failures: int = 0
    """How often the disk did not do what the spool wanted."""
    trouble: str = ""
    """Why the last attempt to send failed; empty when it did not."""
    is_denied: bool = False
    """It failed since the agent may not send."""


class Ledger:
    """The counters of one run."""

    def __init__(self) -> None:
        """Start with every count at zero."""
        self.kernel: dict[str, KernelCounts] = {}
        self.decoded: Counter[str] = Counter()
        self.bad: Counter[str] = Counter()
        self.ended = False
        """Nothing comes any more, so what the kernel counted must have been told."""
        self.summarised: Counter[str] = Counter()
        """Operations that the kernel counted and that an event with their number told of."""
        self.withheld: Counter[str] = Counter()
        """Decoded to keep the process table right, but of a kind or user that nobody asked for."""
        self.unanswered = 0
        """Events that went on without their container, since nobody told of it in time."""
        self.failures: Counter[str] = Counter()
        """Enrichers and detectors that raised, by name."""
        self.rules: dict[str, int] = {}
        """Rules that users wrote: those that are used, by where they come from, and `refused`."""
        self.suppressed: Counter[str] = Counter()
        """Findings that nobody wanted to see, by the reason that was given."""
        self.misses: Counter[str] = Counter()
        """What enrichers were asked and did not know, by name."""
        self.cpu_seconds: defaultdict[str, float] = defaultdict(float)
        """Spent in each stage of the pipeline, and by each enricher in it."""
        self.level = 0
        """How much is shed at the moment to stay within the budget, see governor.py."""
        self.dead: frozenset[str] = frozenset()
        """Kinds whose hooks do not see what the agent does to try them, see canary.py."""
        self.sinks: dict[str, SinkCounts] = {}
        self.troubles: dict[str, str] = {}
        """What else is wrong at the moment, by the code of coverage.py."""

    def sink(self, name: str) -> SinkCounts:
        """The counts of the sink `name`."""
        return self.sinks.setdefault(name, SinkCounts())

    @property
    def kinds(self) -> list[str]:
        """Every kind with a count, in the order in which the kernel numbers them."""
        names = dict.fromkeys(self.kernel)
        names.update(dict.fromkeys([*self.decoded, *self.bad]))
        return list(names)

    def imbalances(self) -> list[str]:
        """One sentence for each equation that does not hold."""
        wrong = []
        for kind in self.kinds:
            kernel = self.kernel.get(kind, KernelCounts())
            accounted = (
                kernel.sent
                + kernel.filtered
                + kernel.aggregated
                + kernel.throttled
                + kernel.lost_total
            )
            if kernel.seen != accounted:
                wrong.append(f"{kind}: {kernel.seen} seen, {accounted} accounted for")
            received = self.decoded[kind] + self.bad[kind]
            if kernel.sent != received:
                wrong.append(f"{kind}: {kernel.sent} sent, {received} received")
            told = self.summarised[kind]
            if told > kernel.aggregated or (self.ended and told != kernel.aggregated):
                wrong.append(f"{kind}: {kernel.aggregated} aggregated, {told} told in summaries")
        for name, sink in self.sinks.items():
            accounted = sink.delivered + sink.dropped.total() + sink.queued + sink.spooled
            if sink.routed != accounted:
                wrong.append(f"sink {name}: {sink.routed} routed, {accounted} accounted for")
        return wrong

    def report(self) -> dict[str, object]:
        """All counts as they are written into the stream."""
        kinds = {}
        for kind in self.kinds:
            row = msgspec.to_builtins(self.kernel.get(kind, KernelCounts()))
            row |= {"decoded": self.decoded[kind], "bad": self.bad[kind]}
            if self.withheld[kind]:
                row["withheld"] = self.withheld[kind]
            kinds[kind] = row
        return {
            "kinds": kinds,
            "sinks": {name: msgspec.to_builtins(sink) for name, sink in self.sinks.items()},
            "level": int(self.level),
            "dead": sorted(self.dead),
            "unanswered": self.unanswered,
            "failures": dict(self.failures),
            "rules": dict(self.rules),
            "suppressed": dict(self.suppressed),
            "misses": dict(self.misses),
            "cpu_seconds": {name: round(spent, 6) for name, spent in self.cpu_seconds.items()},
        }

    def table(self) -> str:
        """All counts for a terminal of 80 columns."""
        seen = {kind: self._row(kind) for kind in self.kinds}
        # Most kinds are rare.
        rows = {kind: row for kind, row in seen.items() if any(row)}
        totals = [sum(column) for column in zip(*seen.values(), strict=True)]
        lines = [_line("kind", KIND_COLUMNS)]
        lines += [_line(kind, row) for kind, row in rows.items()]
        lines.append(_line("all", totals))
        lines += [
            f"  missed, {kind}: {counts.missed} runs that the kernel left out"
            for kind, counts in self.kernel.items()
            if counts.missed
        ]
        lines += self._sink_lines()
        wrong = self.imbalances()
        lines += [f"UNBALANCED {sentence}" for sentence in wrong]
        if not wrong:
            lines.append("balanced: every event is accounted for")
        return "\n".join(lines)

    def _row(self, kind: str) -> list[int]:
        """The counts of a kind under `KIND_COLUMNS`."""
        kernel = self.kernel.get(kind, KernelCounts())
        return [
            kernel.seen,
            kernel.sent,
            kernel.filtered,
            kernel.aggregated,
            kernel.throttled,
            kernel.lost_total,
            self.decoded[kind],
            self.bad[kind],
        ]

    def _sink_lines(self) -> list[str]:
        if not self.sinks:
            return []
        lines = ["", f"{'sink':<17}" + "".join(f"{name:>11}" for name in SINK_COLUMNS)]
        for name, sink in self.sinks.items():
            counts = (sink.routed, sink.delivered, sink.queued, sink.spooled, sink.dropped.total())
            lines.append(f"{name[:16]:<17}" + "".join(f"{count:>11}" for count in counts))
            lines += [f"  dropped, {reason}: {n}" for reason, n in sink.dropped.items()]
        return lines


def _line(name: str, cells: Iterable[object]) -> str:
    """One line of the table of kinds."""
    columns = (f"{cell!s:>{width}}" for cell, width in zip(cells, KIND_WIDTHS, strict=False))
    return f"{name:<11}" + "".join(columns)
