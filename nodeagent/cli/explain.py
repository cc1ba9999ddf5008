# SPDX-License-Identifier: Apache-2.0
"""`nodeagent explain`: why a finding is one, what its type means, and what every rule weighs."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from nodeagent.cli import findings, options, output
from nodeagent.harmless import cut, harmless

if TYPE_CHECKING:
    from nodeagent.store import Row

EXAMPLES = """\
examples:
  nodeagent explain 0f3a        why the finding with this id is one; a start of the id will do
  nodeagent explain Execution:Runtime/ReverseShell
  nodeagent explain Execution-ReverseShell
                                what a type means, how to check it, what to do
  nodeagent explain --rules     every rule, with its weight and what it may become
"""

ID: Final = re.compile(r"[0-9a-f]+s?", re.IGNORECASE)
"""No name of a type looks like this."""
NAME_COLUMNS: Final = 80


def add(commands: options.Commands) -> None:
    """Add the command to the parser."""
    parser = options.add_command(
        commands, "explain", "say why a finding is one, and what its type means", EXAMPLES, run
    )
    parser.add_argument(
        "id", metavar="ID|TYPE", nargs="?", help="of a finding in the store, or a type or a rule"
    )
    parser.add_argument("--rules", action="store_true", help="show all rules instead")
    options.add_store(parser)


def run(args: argparse.Namespace) -> int:
    """Print it; 1 when there is no such finding or type, 2 when nothing was asked for."""
    if args.rules:
        output.write("\n".join(rules()) + "\n")
        return 0
    if not args.id:
        print("nodeagent: explain what? Give an id, a type of finding, or --rules", file=sys.stderr)
        return 2
    if not ID.fullmatch(args.id):
        return _explain_type(args.id)
    row = findings.find_one(args)
    if row is None:
        return 1
    output.write("\n".join(explained(row)) + "\n")
    return 0


def _explain_type(name: str) -> int:
    from nodeagent.detect import pages

    type_ = pages.type_of(name)
    if type_ is None:
        shown, nearest = cut(harmless(name), NAME_COLUMNS), pages.nearest(name)
        meant = f"did you mean {nearest}? " if nearest else ""
        print(
            f'nodeagent: "{shown}" is no id and no type of finding: {meant}'
            "`nodeagent explain --rules` shows all",
            file=sys.stderr,
        )
        return 1
    output.write(pages.read_page(type_))
    return 0


def rules() -> Iterator[str]:
    """A line for each rule, and what the numbers mean."""
    from nodeagent.detect.catalogue import FINDING_WEIGHT, RULES, SCOPE_WEIGHTS, WINDOW_SECONDS

    yield f"{'weight':>6} {'severity':<9} {'rule':<28} type"
    for name, rule in sorted(RULES.items(), key=lambda each: (-each[1].weight, each[0])):
        yield f"{rule.weight:>6} {rule.severity.name.lower():<9} {name:<28} {rule.type}"
    needed = ", ".join(f"{weight} in a {scope}" for scope, weight in SCOPE_WEIGHTS.items())
    yield ""
    yield f"{FINDING_WEIGHT} and more is a finding at once; less becomes one with others, different"
    yield f"rules within {WINDOW_SECONDS} s that weigh together {needed}."


def explained(row: Row) -> Iterator[str]:
    """Which event, which rule, which weights, which list."""
    from nodeagent.detect.catalogue import FINDING_WEIGHT, RULES

    evidence = row.details.get("evidence")
    evidence = evidence if isinstance(evidence, dict) else {}
    name = str(evidence.get("rule", ""))
    weight = evidence.get("weight", 0)
    yield harmless(row.title)
    yield ""
    yield f"type      {harmless(row.type)}"
    if command := findings.page_command(row.type):
        yield f"to do     {command}"
    rule = RULES.get(name)
    written = evidence.get("sigma")
    if isinstance(written, dict):
        title, file = written.get("title"), written.get("file")
        yield f"rule      {harmless(f'{title}, {file}')}"
    elif rule is None:
        yield f"rule      {harmless(name)}, which this version does not have"
    else:
        yield f"rule      {name}: {rule.title}"
    if rule is not None and rule.enough:
        yield f"weight    {weight}; it is a finding at once nevertheless"
    elif isinstance(weight, int) and weight >= FINDING_WEIGHT:
        yield f"weight    {weight}; {FINDING_WEIGHT} and more is a finding at once"
    else:
        yield f"weight    {harmless(str(weight))}; less than {FINDING_WEIGHT}, so alone it is none"
    if isinstance(written, dict):
        yield from _compared(_dicts(written.get("matchedFields")))
    yield from _event(evidence.get("event"))
    for match in _dicts(evidence.get("threatIntelligenceDetails")):
        names = ", ".join(map(str, match.get("threatNames", ())))
        yield f"list      {harmless(str(match.get('threatListName', '')))}: {harmless(names)}"
    chain = _dicts(evidence.get("signals"))
    if chain:
        yield from _together(chain)


def _compared(fields: list[dict[str, Any]]) -> Iterator[str]:
    """What a rule of Sigma has compared."""
    for each in fields:
        words = (str(each.get(part)) for part in ("field", "operator", "wanted"))
        found = f", found {each['found']}" if "found" in each else ""
        yield f"match     {harmless(' '.join(words) + found)}"


def _event(event: object) -> Iterator[str]:
    if not isinstance(event, dict):
        return
    kind, cpu, sequence = (event.get(name) for name in ("kind", "cpu", "sequence"))
    yield f"event     {harmless(str(kind))} at {harmless(str(event.get('time')))}; in a stream:"
    wanted = f'.kind=="{kind}" and .cpu=={cpu} and .sequence=={sequence}'
    yield f"          jq 'select({harmless(wanted)})'"


def _together(chain: list[dict[str, Any]]) -> Iterator[str]:
    from nodeagent.detect.catalogue import SCOPE_WEIGHTS, WINDOW_SECONDS

    scope = str(chain[0].get("scope", ""))
    needed = SCOPE_WEIGHTS.get(scope)
    yield ""
    yield f"together in one {harmless(scope)} within {WINDOW_SECONDS} s:"
    total = 0
    for each in sorted(chain, key=lambda one: str(one.get("time", ""))):
        weight = each.get("weight", 0)
        total += weight if isinstance(weight, int) else 0
        when, rule = harmless(str(each.get("time", ""))[11:23]), harmless(str(each.get("rule", "")))
        yield f"  {when} {weight:>4} {rule:<24} {harmless(str(each.get('title', '')))}"
    yield f"  {'sum':<12} {total:>4} of {needed} that it takes"


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
