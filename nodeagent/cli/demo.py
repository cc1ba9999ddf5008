# SPDX-License-Identifier: Apache-2.0
"""`nodeagent demo`: something that looks wrong, done harmlessly, and what is found."""

from __future__ import annotations

import argparse
import json
import os
import signal
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NoReturn

from nodeagent.cli import findings, options, output
from nodeagent.harmless import cut, harmless

if TYPE_CHECKING:
    from nodeagent.demo.behaviours import Behaviour
    from nodeagent.demo.watch import Finding, Result

EXAMPLES: Final = """\
examples:
  sudo nodeagent demo                      all of them, one after the other
  sudo nodeagent demo reverse-shell miner  only these
  nodeagent demo --list                    what would be done
  sudo nodeagent demo --json | jq .latency_ms

Everything happens in namespaces, on a file system in memory and on a loopback
of its own: nothing of the machine is written, no secret is read, nothing is
left. An agent that runs here already will tell of it, too. The exit code is 0
when each gave its finding, or could not be done here, which is said.
"""

WIDTH: Final = 80
INDENT: Final = 6
SEVERITY_WIDTH: Final = 9
NAME_WIDTH: Final = 14
LATENCY_WIDTH: Final = 8
TERMINATED: Final = 143


class _Terminated(BaseException):
    """Somebody has sent SIGTERM."""


def add(commands: options.Commands) -> None:
    """Add the command to the parser."""
    parser = options.add_command(
        commands,
        "demo",
        "trigger findings on this machine, harmlessly",
        EXAMPLES,
        run,
        details="Do what looks wrong, harmlessly, and show what an agent finds and how soon.",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="only these; --list shows all")
    parser.add_argument("--list", action="store_true", help="show what would be done, and end")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each of them")


def run(args: argparse.Namespace) -> int:
    """Returns 0 when each behaviour gave its finding; 1 when one did not."""
    from nodeagent.demo.behaviours import chosen
    from nodeagent.errors import StartError

    behaviours = chosen(args.names)
    if args.list:
        shown = map(_json_of, behaviours) if args.json else map(_line_of, behaviours)
        output.write("".join(f"{line}\n" for line in shown))
        return 0
    if os.geteuid() != 0:
        raise StartError("only root can do what is shown here: run `sudo nodeagent demo`")
    _fill_streams()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _perform(behaviours, as_json=args.json)
    except _Terminated:
        return TERMINATED


def _fill_streams() -> None:
    """Let no pipe of ours take the place of a standard stream that was closed before."""
    for stream in range(3):
        try:
            os.fstat(stream)
        except OSError:
            # The lowest number that is free.
            os.open(os.devnull, os.O_RDWR)


def _terminate(*_: object) -> NoReturn:
    raise _Terminated


def _perform(behaviours: list[Behaviour], *, as_json: bool) -> int:
    from nodeagent.demo.watch import Agent, perform

    if not as_json:
        output.write("starting an agent of its own ...\n")
    results: list[Result] = []
    told: set[str] = set()
    with Agent() as agent:
        for number, behaviour in enumerate(behaviours, 1):
            if not as_json:
                output.write(f"\n{number}/{len(behaviours)} {behaviour.title}\n")
            result = perform(behaviour, agent)
            results.append(result)
            shown = [json.dumps(_facts(result))] if as_json else _said(result, told)
            output.write("".join(f"{line}\n" for line in shown))
    if not as_json:
        output.write("\n" + "".join(f"{line}\n" for line in table(results)))
    return 0 if all(each.is_good for each in results) else 1


def table(results: Iterable[Result]) -> Iterator[str]:
    """What gave what and how soon, in 80 columns, and how to look further."""
    results = list(results)
    yield _row("behaviour", "finding", "latency")
    for each in results:
        wanted = each.wanted
        latency = f"{wanted.latency_ms:.0f} ms" if wanted else ""
        yield _row(each.behaviour.name, _verdict(each), latency)
    found = [(each.behaviour, each.wanted) for each in results if each.wanted]
    skipped = sum(bool(each.skipped) for each in results)
    others = f", {skipped} could not be done here" if skipped else ""
    yield ""
    yield f"{len(found)} of {len(results)} gave their finding{others}"
    if found:
        slowest = max(wanted.latency_ms for _, wanted in found if wanted)
        yield f"the slowest came {slowest:.0f} ms after the operation"
        page = findings.page_command(found[0][0].type)
        yield f"look further: {page}"
    else:
        yield "look further: nodeagent doctor"


def _row(name: str, finding: str, latency: str) -> str:
    room = WIDTH - NAME_WIDTH - LATENCY_WIDTH
    return f"{name:<{NAME_WIDTH}}{cut(finding, room):<{room}}{latency:>{LATENCY_WIDTH}}".rstrip()


def _verdict(result: Result) -> str:
    if result.wanted:
        return result.behaviour.type
    return f"skipped: {result.skipped}" if result.skipped else "not found"


def _said(result: Result, told: set[str]) -> Iterator[str]:
    """What was found, under its announcement.

    What came with it is shown when it is of a type that was not told yet: an attack sequence
    is found again in each wider circle.
    """
    for finding in result.findings:
        type_ = finding.line["type"]
        if type_ == result.behaviour.type or type_ not in told:
            yield from _told(finding)
        told.add(type_)
    if result.skipped:
        yield _indented(f"skipped: {result.skipped}")
    elif result.failed:
        yield _indented(f"it could not be done: {result.failed}")
    elif result.wanted is None:
        yield _indented(f"{result.behaviour.type} was not found")


def _told(finding: Finding) -> Iterator[str]:
    line, latency = finding
    severity = str(line["severity"])
    colour = findings.COLOURS.get(severity)
    below = " " * SEVERITY_WIDTH
    first, *rest = textwrap.wrap(harmless(line["title"]), WIDTH - INDENT - SEVERITY_WIDTH)
    for text in (f"{severity:<{SEVERITY_WIDTH}}{first}", *(below + each for each in rest)):
        shown = _indented(text)
        yield f"\033[{colour}m{shown}\033[0m" if colour and os.isatty(1) else shown
    yield _indented(f"{below}{latency:.0f} ms, {harmless(evidence(line))}")


def evidence(line: dict[str, Any]) -> str:
    """Why it is one, in some words."""
    why = line["evidence"]
    if chain := why.get("signals"):
        return "together: " + ", ".join(f"{each['rule']} {each['weight']}" for each in chain)
    context = line.get("context", {})
    words = [f"{name}={value}" for name, value in context.items() if isinstance(value, str)]
    if target := context.get("targetProcess"):
        words.insert(0, f"target={target.get('executablePath') or target['pid']}")
    action = line.get("action", {})
    if connection := action.get("networkConnectionAction"):
        remote = connection["remoteIpDetails"].get("ipAddressV4", "")
        words = [f"remote={remote}:{connection['remotePortDetails']['port']}"]
    elif request := action.get("dnsRequestAction"):
        words = [f"domain={request['domain']}"]
    words = words or [f"rule={why['rule']}"]
    return f"{why['event']['kind']} {' '.join(words)}"


def _indented(text: str) -> str:
    return cut(" " * INDENT + text, WIDTH)


def _line_of(behaviour: Behaviour) -> str:
    return f"{behaviour.name:<{NAME_WIDTH}}{behaviour.title}"


def _described(behaviour: Behaviour) -> dict[str, Any]:
    return {"behaviour": behaviour.name, "title": behaviour.title, "type": behaviour.type}


def _json_of(behaviour: Behaviour) -> str:
    return json.dumps(_described(behaviour))


def _facts(result: Result) -> dict[str, Any]:
    wanted = result.wanted
    return {
        **_described(result.behaviour),
        "found": wanted is not None,
        "latency_ms": round(wanted.latency_ms, 3) if wanted else None,
        "skipped": result.skipped or None,
        "failed": result.failed or None,
        "findings": [each.line for each in result.findings],
    }
