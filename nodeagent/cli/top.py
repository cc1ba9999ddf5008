# SPDX-License-Identifier: Apache-2.0
"""`nodeagent top`: what eBPF programs and the agent cost, live."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from nodeagent.cli import options, output
from nodeagent.harmless import columns, cut, harmless

Row = Mapping[str, Any]
View = Callable[[argparse.Namespace], AbstractContextManager[Iterator[Sequence[Row]]]]

MEBIBYTE: Final = 1 << 20
WIDTH: Final = 80
CLEAR: Final = "\x1b[H\x1b[2J"
REVERSE: Final = "\x1b[7m"
PLAIN: Final = "\x1b[0m"

EXAMPLES: Final = """\
examples:
  sudo nodeagent top                          every eBPF program on the node, live
  sudo nodeagent top --once --sort runs --output csv
  sudo nodeagent top agent                    CPU and memory of the agent, stage by stage
  sudo nodeagent top kinds                    what was seen, sent, counted and lost
  sudo nodeagent top pods                     which pod causes the agent's work
  sudo nodeagent top sinks --output json      a line of JSON for each row

CPU is in thousandths of a core (m), as `kubectl top` has it. Programs are timed only while
somebody looks, which costs each run some 20 ns.
"""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    """Of the value in a row, and in JSON and CSV."""
    title: str
    width: int
    show: Callable[[Any], str] = str
    is_text: bool = False
    """On the left, cut where it is too long."""
    adds_up: bool = True
    """A sum of it makes sense."""


def text(name: str, title: str, width: int) -> Column:
    """A column of words."""
    return Column(name, title, width, lambda value: harmless(str(value)), is_text=True)


def number(name: str, title: str, width: int, digits: int = 0, *, adds_up: bool = True) -> Column:
    """A column of numbers; a dash where there is none."""

    def show(value: float | None) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    return Column(name, title, width, show, adds_up=adds_up)


def size(name: str, title: str, width: int) -> Column:
    """A column of bytes."""
    return Column(name, title, width, lambda value: _bytes(value or 0))


COLUMNS: Final[Mapping[str, Sequence[Column]]] = {
    "programs": (
        number("id", "ID", 6, adds_up=False),
        text("type", "TYPE", 10),
        text("name", "NAME", 15),
        number("pid", "PID", 7, adds_up=False),
        text("comm", "COMM", 8),
        number("runs_per_second", "RUNS/S", 7),
        number("average_ns", "AVG ns", 7, adds_up=False),
        number("cpu_percent", "%CPU", 6, 2),
        size("map_bytes", "MAPS", 6),
    ),
    "agent": (
        text("name", "NAME", 16),
        number("cpu_m", "CPU(m)", 8),
        number("cpu_percent", "CPU%", 6, 1),
        number("memory_mebibytes", "MEMORY(Mi)", 11),
        number("memory_percent", "MEMORY%", 8),
        number("events_per_second", "EVENTS/S", 10),
        number("us_per_event", "µs/EVENT", 9, 2, adds_up=False),
        number("misses", "MISSES", 8),
    ),
    "kinds": (
        text("name", "KIND", 12),
        number("seen_per_second", "SEEN/S", 9),
        number("seen", "SEEN", 11),
        number("sent", "SENT", 10),
        number("filtered", "FILTERED", 10),
        number("aggregated", "COUNTED", 10),
        number("lost", "LOST", 9),
    ),
    "pods": (
        text("namespace", "NAMESPACE", 13),
        text("pod", "POD", 24),
        text("container", "CONTAINER", 14),
        number("events_per_second", "EVENTS/S", 9),
        number("share_percent", "SHARE%", 6, 1),
        number("cpu_m", "CPU(m)", 7, 1),
    ),
    "sinks": (
        text("name", "SINK", 16),
        number("delivered_per_second", "DELIVERED/S", 12),
        number("routed", "ROUTED", 11),
        number("delivered", "DELIVERED", 11),
        number("queued", "QUEUED", 8),
        number("spooled", "SPOOLED", 8),
        number("dropped", "DROPPED", 9),
    ),
}
SORTED_BY: Final = {
    "programs": "cpu_percent",
    "agent": "",
    "kinds": "seen_per_second",
    "pods": "events_per_second",
    "sinks": "routed",
}


def add(commands: options.Commands) -> None:
    """Add the command to the parser."""
    parser = options.add_command(
        commands, "top", "show what eBPF programs and the agent cost", EXAMPLES, run
    )
    parser.add_argument("view", nargs="?", choices=tuple(COLUMNS), default="programs")
    parser.add_argument("--once", action="store_true", help="measure once, print, end")
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=options.positive_seconds,
        default=1.0,
        help="measure for this long (default 1)",
    )
    parser.add_argument(
        "--output", choices=("table", "json", "csv"), default="table", help="how to print rows"
    )
    parser.add_argument(
        "--sort", metavar="COLUMN", help="by this one of the names in JSON; largest first"
    )
    parser.add_argument("--no-headers", action="store_true", help="rows alone")
    parser.add_argument("--sum", action="store_true", help="add a row with the sums")
    options.add_control(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print until interrupted, or once."""
    shown = COLUMNS[args.view]
    live = args.output == "table" and not args.once and sys.stdout.isatty()
    order = args.sort or SORTED_BY[args.view]
    is_first = True
    with _views()[args.view](args) as samples:
        for rows in samples:
            names = list(rows[0]) if rows else [column.name for column in shown]
            if order and order not in names:
                print(
                    f"nodeagent: no column {order}: there are {', '.join(names)}", file=sys.stderr
                )
                return 2
            if order:
                rows = sorted(rows, key=lambda row: _key(row[order]), reverse=True)  # noqa: PLW2901
            if args.sum and rows:
                rows = [*rows, _total(rows, shown)]  # noqa: PLW2901
            if args.output == "table":
                lines = table(rows, shown, headers=not args.no_headers)
                output.write(_screen(lines) if live else "\n".join(lines) + "\n")
            else:
                printed = _csv if args.output == "csv" else _json
                output.write(printed(rows, names, headers=is_first and not args.no_headers))
            is_first = False
            if args.once:
                break
    return 0


def table(rows: Sequence[Row], shown: Sequence[Column], *, headers: bool) -> list[str]:
    """Lines of at most 80 columns."""
    lines = [" ".join(_cell(column, column.title) for column in shown).rstrip()] if headers else []
    lines += [
        " ".join(_cell(column, column.show(row[column.name])) for column in shown).rstrip()
        for row in rows
    ]
    return lines


def _cell(column: Column, word: str) -> str:
    if column.is_text:
        word = cut(word, column.width)
        return word + " " * (column.width - columns(word))
    return f"{word:>{column.width}}"


def _screen(lines: Sequence[str]) -> str:
    """What fits on the terminal, its first line as a head."""
    room = shutil.get_terminal_size((WIDTH, 24))
    head, *rest = [cut(line, room.columns) for line in lines[: room.lines - 1]]
    head += " " * (room.columns - columns(head))
    return f"{CLEAR}{REVERSE}{head}{PLAIN}\n" + "\n".join(rest)


def _json(rows: Sequence[Row], _names: Sequence[str], *, headers: bool) -> str:  # noqa: ARG001
    import orjson

    return "".join(orjson.dumps(dict(row)).decode() + "\n" for row in rows)


def _csv(rows: Sequence[Row], names: Sequence[str], *, headers: bool) -> str:
    import csv
    import io

    text_ = io.StringIO()
    writer = csv.DictWriter(text_, names, lineterminator="\n")
    if headers:
        writer.writeheader()
    writer.writerows(rows)
    return text_.getvalue()


def _total(rows: Sequence[Row], shown: Sequence[Column]) -> Row:
    total: dict[str, Any] = dict.fromkeys(rows[0])
    for column in shown:
        if column.is_text:
            total[column.name] = ""
        elif column.adds_up:
            total[column.name] = sum(row[column.name] or 0 for row in rows)
    total[next(column.name for column in shown if column.is_text)] = "sum"
    return total


def _key(value: Any) -> tuple[bool, float, str]:
    if isinstance(value, int | float):
        return True, float(value), ""
    return False, 0.0, str(value or "")


def _views() -> Mapping[str, View]:
    return {
        "programs": _programs,
        "agent": lambda args: nullcontext(_asked(args, _agent_rows)),
        "kinds": lambda args: nullcontext(_asked(args, _kind_rows)),
        "pods": lambda args: nullcontext(_asked(args, _pod_rows, "pods")),
        "sinks": lambda args: nullcontext(_asked(args, _sink_rows)),
    }


def _programs(args: argparse.Namespace) -> AbstractContextManager[Iterator[Sequence[Row]]]:
    from nodeagent.kernel.top import measuring

    return measuring(args.interval, output.pause)


def _asked(
    args: argparse.Namespace,
    rows: Callable[[Row, Row, float], list[Row]],
    question: str = "status",
) -> Iterator[Sequence[Row]]:
    """Rows from two answers of the agent, again and again."""
    from nodeagent.control import ask

    before = ask(args.control, question)
    while True:
        output.pause(args.interval)
        after = ask(args.control, question)
        yield rows(before, after, after["time"] - before["time"])
        before = after


def _agent_rows(before: Row, after: Row, seconds: float) -> list[Row]:
    """The agent, then each stage of its pipeline."""
    usage, earlier = after["usage"], before["usage"]
    events = _decoded(after) - _decoded(before)
    spent = usage["cpu_seconds"] - earlier["cpu_seconds"]
    limit = usage["memory_limit_bytes"]
    rows = [
        _agent_row(
            "agent",
            spent,
            events,
            seconds,
            cpu_percent=spent / seconds / (usage["cpu_limit"] or 1.0) * 100,
            memory_mebibytes=usage["rss_bytes"] / MEBIBYTE,
            memory_percent=usage["rss_bytes"] / limit * 100 if limit else None,
        )
    ]
    stages, then = after["ledger"]["cpu_seconds"], before["ledger"]["cpu_seconds"]
    misses = after["ledger"]["misses"]
    for name, total in stages.items():
        used = total - then.get(name, 0.0)
        rows.append(_agent_row(f"  {name}", used, events, seconds, misses=misses.get(name)))
    other = spent - sum(row["cpu_m"] for row in rows[1:]) * seconds / 1000
    rows.append(_agent_row("  everything else", max(other, 0.0), events, seconds))
    return rows


def _agent_row(name: str, spent: float, events: int, seconds: float, **more: Any) -> Row:
    empty: dict[str, Any] = dict.fromkeys(column.name for column in COLUMNS["agent"])
    return empty | {
        "name": name,
        "cpu_m": spent / seconds * 1000,
        "events_per_second": events / seconds,
        "us_per_event": spent / events * 1e6 if events else None,
        **more,
    }


def _kind_rows(before: Row, after: Row, seconds: float) -> list[Row]:
    rows: list[Row] = []
    for kind, counts in after["ledger"]["kinds"].items():
        if not counts["seen"]:
            continue
        earlier = before["ledger"]["kinds"].get(kind, {"seen": 0})
        rows.append(
            {
                "name": kind,
                "seen_per_second": (counts["seen"] - earlier["seen"]) / seconds,
                **{name: counts[name] for name in ("seen", "sent", "filtered", "aggregated")},
                "throttled": counts["throttled"],
                "lost": sum(counts["lost"].values()),
                "decoded": counts["decoded"],
                "bad": counts["bad"],
            }
        )
    return rows


def _pod_rows(before: Row, after: Row, seconds: float) -> list[Row]:
    """Each event counts the same, so CPU is the share of the agent's that is theirs."""
    where = ("namespace", "pod", "container")
    then = {tuple(pod[each] for each in where): pod["events"] for pod in before["pods"]}
    events = [
        pod["events"] - then.get(tuple(pod[each] for each in where), 0) for pod in after["pods"]
    ]
    all_events = sum(events)
    spent = after["cpu_seconds"] - before["cpu_seconds"]
    return [
        {
            **{each: pod[each] for each in where},
            "container": pod["container"] or "(host)",
            "events_per_second": count / seconds,
            "share_percent": count / all_events * 100,
            "cpu_m": count / all_events * spent / seconds * 1000,
        }
        for pod, count in zip(after["pods"], events, strict=True)
        if count > 0
    ]


def _sink_rows(before: Row, after: Row, seconds: float) -> list[Row]:
    rows: list[Row] = []
    for name, counts in after["ledger"]["sinks"].items():
        earlier = before["ledger"]["sinks"].get(name, {"delivered": 0})
        rows.append(
            {
                "name": name,
                "delivered_per_second": (counts["delivered"] - earlier["delivered"]) / seconds,
                **{each: counts[each] for each in ("routed", "delivered", "queued", "spooled")},
                "dropped": sum(counts["dropped"].values()),
            }
        )
    return rows


def _decoded(status: Row) -> int:
    return sum(kind["decoded"] for kind in status["ledger"]["kinds"].values())


def _bytes(value: int) -> str:
    amount = float(value)
    for unit in ("B", "K", "M"):
        if amount < 1000:  # noqa: PLR2004  four characters at most
            return f"{amount:.0f}{unit}"
        amount /= 1024
    return f"{amount:.1f}G"
