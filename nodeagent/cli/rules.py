# SPDX-License-Identifier: Apache-2.0
"""`nodeagent rules`: which rules there are, whether they do what they should, what they cost."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodeagent.cli import options, output
from nodeagent.harmless import columns, cut, harmless

if TYPE_CHECKING:
    from nodeagent.detect.sigma.rules import RuleSet
    from nodeagent.trial import Cost, Listed, Verdict

__all__ = ["add"]

WIDTH: Final = 80
FAILED: Final = 1

EXAMPLES: Final = """\
examples:
  nodeagent rules list                     what is active, and what was refused
  nodeagent rules test tests/              exit code 1 when one fails
  nodeagent rules cost busy.rec            which rule takes how much of the CPU

Rules of your own: docs/rules.md.
"""
LIST_EXAMPLES: Final = """\
examples:
  nodeagent rules list
  nodeagent rules list --set 'detect.sigma=["rules/"]'
  nodeagent rules list --output json | jq '.refused[]'
"""
TEST_EXAMPLES: Final = """\
examples:
  nodeagent rules test tests/ --set 'detect.sigma=["rules/"]'
  nodeagent rules test tests/ --output json | jq '.[] | select(.problems != [])'

A rule that is refused counts as a test that failed. A test is a file NAME.toml:
  expect = ["Sigma:Runtime/CurlUploads"]     found in the recording NAME.rec
  quiet = ["Backdoor:*"]                     not found there
  [[event]]                                  needs no recording
  category = "process_creation"
  fields = { Image = "/usr/bin/curl", CommandLine = "curl --upload-file a" }
  rules = ["Curl uploads"]                   match it, and no others do
"""
COST_EXAMPLES: Final = """\
examples:
  sudo nodeagent run --duration 60 --record busy.rec
  nodeagent rules cost busy.rec
  nodeagent rules cost busy.rec --output json | jq '.[0]'

Each detector, and each rule of Sigma, looks at all events of the recording as
if it were the only one; what the engine takes for each event is part of it.
"""


def add(commands: options.Commands) -> None:
    """Add the command with its actions."""
    parser = options.add_command(
        commands, "rules", "show, test and measure rules of detection", EXAMPLES, lambda _: 0
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    lists = options.add_command(
        actions, "list", "a table of all rules that are active", LIST_EXAMPLES, list_rules
    )
    tests = options.add_command(
        actions, "test", "try rules on recordings and events", TEST_EXAMPLES, test
    )
    measures = options.add_command(
        actions, "cost", "what each rule takes of the CPU", COST_EXAMPLES, cost
    )
    options.complete_files(
        tests.add_argument("folder", metavar="DIR", type=Path, help="with the tests")
    )
    options.complete_files(
        measures.add_argument("file", metavar="FILE", type=Path, help="made with `run --record`")
    )
    for each in (lists, tests, measures):
        each.add_argument(
            "--output", choices=("table", "json"), default="table", help="how (default table)"
        )
        options.add_config(each)
        options.add_log(each)


def list_rules(args: argparse.Namespace) -> int:
    """Print all rules, and why others are none."""
    from nodeagent.trial import listed

    rows, chosen = listed(_config(args))
    if args.output == "json":
        refused = [str(each) for each in chosen.refusals]
        _write_json({"rules": rows, "refused": refused})
    else:
        output.write("\n".join(_list_lines(rows, chosen)) + "\n")
    return 0


def test(args: argparse.Namespace) -> int:
    """Print how each test went; 1 when one of them failed."""
    from nodeagent.trial import check_folder

    verdicts = check_folder(_config(args), args.folder)
    if args.output == "json":
        _write_json(verdicts)
    else:
        output.write("\n".join(_test_lines(verdicts)) + "\n")
    return FAILED if any(each.problems for each in verdicts) else 0


def cost(args: argparse.Namespace) -> int:
    """Print what each detector and rule takes, the dearest first."""
    from nodeagent.trial import costs

    rows = costs(_config(args), args.file)
    if args.output == "json":
        _write_json(rows)
    else:
        output.write("\n".join(_cost_lines(rows)) + "\n")
    return 0


def _config(args: argparse.Namespace) -> Any:
    from nodeagent.agent import sink_types

    return options.load(args, sink_types())


def _write_json(value: object) -> None:
    import msgspec

    output.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def _list_lines(rows: Sequence[Listed], chosen: RuleSet) -> Iterator[str]:
    yield f"{'weight':>6} {'severity':<8} {'type':<44} where"
    for row in rows:
        weight = str(row.weight) if row.is_signal else "-"
        type_ = _cell(row.type, 44)
        where = cut(harmless(row.origin), WIDTH - 61, middle=True)
        yield f"{weight:>6} {row.severity:<8} {type_} {where}"
    if chosen.refusals:
        yield ""
    yield from (f"refused: {harmless(str(each))}" for each in chosen.refusals)


def _test_lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    for each in verdicts:
        yield f"{'FAILED' if each.problems else 'ok':<7}{harmless(each.name)}"
        yield from (f"       {harmless(problem)}" for problem in each.problems)
    failed = sum(1 for each in verdicts if each.problems)
    yield f"{len(verdicts) - failed} passed, {failed} failed"


def _cost_lines(rows: Sequence[Cost]) -> Iterator[str]:
    yield f"{'µs/event':>9} {'findings':>8} {'rule':<38} where"
    for row in rows:
        where = cut(harmless(row.origin), WIDTH - 58, middle=True)
        name = _cell(row.name, 38)
        yield f"{row.us_per_event:>9.3f} {row.findings:>8} {name} {where}"


def _cell(text: str, width: int) -> str:
    shown = cut(harmless(text), width)
    return shown + " " * (width - columns(shown))
