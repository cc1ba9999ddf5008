# SPDX-License-Identifier: Apache-2.0
"""`nodeagent findings`: what was found on this node, from its store."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from nodeagent.cli import options, output
from nodeagent.harmless import columns, cut, harmless

if TYPE_CHECKING:
    from nodeagent.store import Row

SEVERITIES: Final = ("informational", "low", "medium", "high", "critical")
"""In the order of `Severity`."""
COLOURS: Final = {"medium": 33, "high": 31, "critical": 31}
LIMIT: Final = 50
WIDTH: Final = 80
LABEL_WIDTH: Final = 12
WATCH_SECONDS: Final = 1.0

EXAMPLES: Final = """\
examples:
  nodeagent findings list                          the last ones
  nodeagent findings list --severity high --type 'Execution:*'
  nodeagent findings show 0f3a                     everything about one; a start of its id will do
  nodeagent findings watch                         new ones as they come
  nodeagent findings list --json | jq .process.executablePath

They are kept by a sink of type store:
  [sinks.store]
"""


def add(commands: options.Commands) -> None:
    """Add the command to the parser."""
    parser = options.add_command(
        commands, "findings", "show what was found on this node", EXAMPLES, lambda _: 0
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    lists = options.add_command(
        actions, "list", "a table of the last findings", EXAMPLES, list_findings
    )
    shows = options.add_command(actions, "show", "everything about one of them", EXAMPLES, show)
    watches = options.add_command(actions, "watch", "new ones as they come", EXAMPLES, watch)
    shows.add_argument("id", metavar="ID", help="its id, or the start of it")
    lists.add_argument(
        "--limit", metavar="N", type=_count, default=LIMIT, help=f"at most N (default {LIMIT})"
    )
    for chooses in (lists, watches):
        chooses.add_argument(
            "--severity", choices=SEVERITIES[1:], default="low", help="at least this bad"
        )
        chooses.add_argument(
            "--type", metavar="TYPE", default="*", help="of this type; * stands for anything"
        )
    for each in (lists, shows, watches):
        each.add_argument("--json", action="store_true", help="as lines of JSON")
        options.add_store(each)


def list_findings(args: argparse.Namespace) -> int:
    """Print a table, or JSON."""
    from itertools import islice

    rows = list(islice(_chosen(args), args.limit))
    if args.json:
        output.write("".join(_line(row) for row in rows))
    elif rows:
        output.write("\n".join(table(rows, _width(), colourful=sys.stdout.isatty())) + "\n")
    else:
        output.write("nothing was found\n")
    return 0


def show(args: argparse.Namespace) -> int:
    """Print one finding; 1 when there is none or the id is not unique."""
    row = find_one(args)
    if row is None:
        return 1
    output.write(_line(row) if args.json else "\n".join(sheet(row, _width())) + "\n")
    return 0


def find_one(args: argparse.Namespace) -> Row | None:
    """The finding whose id `args` starts; when there is none, or several, that is told."""
    with _store(args) as store:
        found: list[Row] = store.find(args.id)
    if len(found) == 1:
        return found[0]
    many = f"{len(found)} findings have an id that starts with"
    why = many if found else "no finding has an id that starts with"
    print(f"nodeagent: {why} {harmless(args.id)}: see `findings list`", file=sys.stderr)
    return None


def watch(args: argparse.Namespace) -> int:
    """Print findings as they come, until interrupted."""
    from nodeagent.finding import Severity

    severity = Severity(SEVERITIES.index(args.severity))
    seen: int | None = None
    while True:
        # Opened each time: who only reads may hold on to a journal that the agent has replaced.
        with _store(args) as store:
            last = store.last_change()
            since = last if seen is None else seen
            found = list(store.rows(severity=severity, kind=args.type, since=since, until=last))
        for row in reversed(found):
            shown = _line(row) if args.json else "\n".join(_rows([row], _width())) + "\n"
            output.write(shown)
        seen = last
        output.pause(WATCH_SECONDS)


def table(rows: Iterable[Row], width: int, *, colourful: bool) -> list[str]:
    """One finding a line, under a head."""
    head = _cells("id", "severity", "last seen", "count", "resource", "type", width)
    return [head, *_rows(rows, width, colourful=colourful)]


def sheet(row: Row, width: int) -> list[str]:
    """Everything about one finding: what, where, who with its ancestors, when, and why."""
    details = row.details
    times = f"{row.count} times, first {_when(row.first_seen)}, last {_when(row.last_seen)}"
    facts = {
        "type": row.type,
        "severity": SEVERITIES[row.severity],
        "id": row.id,
        "seen": times,
        "mitre": ", ".join(map(str, details.get("mitre", ()))),
        "to do": page_command(row.type),
    }
    lines = [harmless(row.title), ""]
    lines += [line for name, value in facts.items() for line in _fact(name, value, width)]
    for name in ("resource", "context", "action"):
        lines += _part(name, details.get(name), width)
    process = details.get("process")
    if isinstance(process, dict):
        lines += ["", "process", *_tree(process, width)]
    evidence = details.get("evidence")
    if isinstance(evidence, dict):
        chain = evidence.pop("signals", None)
        lines += _part("evidence", evidence, width)
        if isinstance(chain, list):
            lines += ["", "signals", *_chain(chain, width)]
    return lines


def page_command(type_: str) -> str:
    """What shows the page about a type; empty for one that this version does not have."""
    from nodeagent.detect import pages

    return f"nodeagent explain {pages.page_of(type_)}" if pages.type_of(type_) else ""


def _chosen(args: argparse.Namespace) -> Iterator[Row]:
    from nodeagent.finding import Severity

    severity = Severity(SEVERITIES.index(args.severity))
    with _store(args) as store:
        yield from store.rows(severity=severity, kind=args.type)


def _store(args: argparse.Namespace) -> Any:
    # SQLite is needed by this command alone.
    from nodeagent.store import Store

    return Store(args.store)


def _rows(rows: Iterable[Row], width: int, *, colourful: bool = False) -> Iterator[str]:
    for row in rows:
        severity = SEVERITIES[row.severity]
        line = _cells(
            row.id[:8],
            severity,
            _when(row.last_seen),
            str(row.count),
            harmless(row.resource),
            harmless(row.type),
            width,
        )
        colour = COLOURS.get(severity)
        yield f"\033[{colour}m{line}\033[0m" if colourful and colour else line


def _cells(*words: Any) -> str:
    number, severity, when, count, resource, kind, width = words
    resource = cut(resource, 20, middle=True)
    resource += " " * (20 - columns(resource))
    return cut(f"{number:<9}{severity:<9}{when:<20}{count:>6} {resource} {kind}", width).rstrip()


def _fact(name: str, value: str, width: int) -> list[str]:
    if not value:
        return []
    room = max(width - LABEL_WIDTH - 2, 1)
    first, *rest = textwrap.wrap(harmless(value), room) or [""]
    return [f"  {name:<{LABEL_WIDTH}}{first}", *(" " * (LABEL_WIDTH + 2) + each for each in rest)]


def _part(name: str, value: object, width: int) -> list[str]:
    """A part of the finding, one fact a line."""
    if not isinstance(value, dict) or not value:
        return []
    return ["", name, *(f"  {cut(line, width - 2)}" for line in _facts(value))]


def _facts(value: Mapping[str, object], above: str = "") -> Iterator[str]:
    for name, each in value.items():
        place = f"{above}{harmless(name)}"
        if isinstance(each, dict):
            yield from _facts(each, f"{place}.")
        elif isinstance(each, list):
            for number, item in enumerate(each):
                numbered = f"{place}[{number}]"
                if isinstance(item, dict):
                    yield from _facts(item, f"{numbered}.")
                else:
                    yield f"{numbered} = {harmless(str(item))}"
        elif each not in ("", None):
            yield f"{place} = {harmless(str(each))}"


def _tree(process: Mapping[str, Any], width: int) -> Iterator[str]:
    """The process below its ancestors, the oldest first."""
    for depth, each in enumerate([*reversed(process.get("lineage") or []), process]):
        path = harmless(str(each.get("executablePath") or each.get("name", "?")))
        user = each.get("user", each.get("userId"))
        who = f" user {harmless(str(user))}" if user is not None else ""
        branch = f"{'  ' * (depth - 1)}└ " if depth else ""
        shown = f"{branch}{path} [{each.get('pid', '?')}]{who}"
        yield f"  {cut(shown, width - 2, middle=True)}"


def _chain(chain: Iterable[Mapping[str, Any]], width: int) -> Iterator[str]:
    """What came together, in the order of time, with what each weighs."""
    for each in sorted(chain, key=lambda one: str(one.get("time", ""))):
        when = harmless(str(each.get("time", ""))[11:23])
        title = harmless(str(each.get("title", "")))
        weight = each.get("weight", 0)
        yield f"  {cut(f'{when} +{weight} {title}', width - 2)}"


def _when(nanoseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(nanoseconds // 1_000_000_000))


def _line(row: Row) -> str:
    return row.line.decode("utf-8", "replace") + "\n"


def _width() -> int:
    """Of the terminal; of a pipe what reads well."""
    return shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH * 2


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)
