# SPDX-License-Identifier: Apache-2.0
"""`nodeagent doctor`: what this machine offers, and what to do about what it does not."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from nodeagent.cli import options, output

if TYPE_CHECKING:
    from nodeagent.config import Config
    from nodeagent.doctor import Check, Coverage, Diagnosis

WIDTH: Final = 80
STATE_WIDTH: Final = 10
NAME_WIDTH: Final = 16
KIND_WIDTH: Final = 13
FAMILY_WIDTH: Final = 12
PROGRAMS_WIDTH: Final = 24

COLOURS: Final = {"ok": 32, "degraded": 33, "missing": 31}
"""SGR codes by state."""

CANNOT_RUN: Final = 2

DETAILS: Final = """\
Tries out what the agent needs on this machine and says, check by check, what is
ok, degraded (the agent runs, with less) or missing (it cannot run), and what to
do about it; then which programs see which kind of event, and what passes by.

Nothing is changed: programs are loaded and let go again. Without root it says
what it could not check. Exit code 0: the agent can run, 2: it cannot.
"""

EXAMPLES: Final = """\
examples:
  sudo nodeagent doctor
  sudo nodeagent doctor --json | jq '.checks[] | select(.state != "ok")'
  sudo nodeagent doctor --debug     with what libbpf says about each refusal
"""


def add(commands: options.Commands) -> None:
    """Add the command to the parser."""
    parser = options.add_command(
        commands,
        "doctor",
        "say what this machine offers, and what to do about problems",
        EXAMPLES,
        run,
        details=DETAILS,
    )
    options.add_config(parser)
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the diagnosis; the exit code says whether the agent can run."""
    from nodeagent.doctor import examine

    config, problem = load_config(args)
    found = examine(config)
    if problem is not None:
        found.checks.insert(0, problem)
    if args.json:
        output.write(as_json(found, args.debug) + "\n")
    else:
        output.write(as_text(found, args.debug, is_colourful()) + "\n")
    return 0 if found.can_run else CANNOT_RUN


def load_config(args: argparse.Namespace) -> tuple[Config, Check | None]:
    """What is configured; the defaults and a check that says so when that cannot be used."""
    from nodeagent.agent import sink_types
    from nodeagent.config import Config
    from nodeagent.doctor import Check, State
    from nodeagent.errors import ConfigError

    try:
        return options.load(args, sink_types()), None
    except ConfigError as error:
        advice = "the checks below are for the defaults"
        return Config(), Check("configuration", State.MISSING, str(error), advice)


def is_colourful() -> bool:
    """Whether somebody looks at a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def as_json(found: Diagnosis, debug: bool) -> str:
    """The diagnosis as JSON; what libbpf logged only with `debug`."""
    import msgspec
    import orjson

    shown: dict[str, Any] = msgspec.to_builtins(found)
    if not debug:
        for check in shown["checks"]:
            del check["log"]
    shown = {"can_run": found.can_run, **shown}
    return orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode()


def as_text(found: Diagnosis, debug: bool, colourful: bool) -> str:
    """The diagnosis for a terminal of 80 columns."""
    lines = [line for check in found.checks for line in _check_lines(check, debug, colourful)]
    lines += ["", *_table(found.kinds)]
    if found.why_no_trampolines:
        lines += ["", *_wrapped(f"why not by trampolines: {found.why_no_trampolines}")]
    lines += ["", "not seen by these hooks:"]
    lines += [line for each in found.not_reached for line in _wrapped(f"- {each}", indent=2)]
    if found.memory_bytes:
        lines += ["", *_wrapped(_memory(found.memory_bytes))]
    lines += ["", _verdict(found)]
    return "\n".join(lines)


def _check_lines(check: Check, debug: bool, colourful: bool) -> Iterator[str]:
    state = f"{check.state:<{STATE_WIDTH}}"
    if colourful and check.state in COLOURS:
        state = f"\033[{COLOURS[check.state]}m{state}\033[0m"
    indent = STATE_WIDTH + NAME_WIDTH
    first, *rest = textwrap.wrap(check.found, WIDTH - indent) or [""]
    if len(check.name) >= NAME_WIDTH:
        yield f"{state}{check.name}"
        yield " " * indent + first
    else:
        yield f"{state}{check.name:<{NAME_WIDTH}}{first}".rstrip()
    for line in rest:
        yield " " * indent + line
    yield from _wrapped(check.advice, indent=indent)
    if debug:
        yield from (f"{'':{STATE_WIDTH}}| {line}" for line in check.log.splitlines())


def _table(kinds: list[Coverage]) -> Iterator[str]:
    """Kind, family, programs, note; long cells go on below."""
    yield _row("kind", "family", "programs", "note")
    note_width = WIDTH - KIND_WIDTH - FAMILY_WIDTH - PROGRAMS_WIDTH
    for each in kinds:
        programs = textwrap.wrap(" ".join(each.programs), PROGRAMS_WIDTH - 2) or ["-"]
        notes = textwrap.wrap(each.note, note_width) or [""]
        family = each.family if each.state == "ok" else each.state
        for at in range(max(len(programs), len(notes))):
            yield _row(
                *((each.kind, family) if at == 0 else ("", "")),
                programs[at] if at < len(programs) else "",
                notes[at] if at < len(notes) else "",
            )


def _row(kind: str, family: str, programs: str, note: str) -> str:
    cells = f"{kind:<{KIND_WIDTH}}{family:<{FAMILY_WIDTH}}{programs:<{PROGRAMS_WIDTH}}{note}"
    return cells.rstrip()


def _memory(maps: dict[str, int]) -> str:
    """The sum, and what makes most of it."""
    largest = sorted(maps.items(), key=lambda item: -item[1])[:4]
    named = ", ".join(f"{name} {size:,}" for name, size in largest)
    return f"kernel memory of all maps: {sum(maps.values()):,} bytes ({named} and others)"


def _verdict(found: Diagnosis) -> str:
    if not found.can_run:
        missing = ", ".join(check.name for check in found.checks if check.state == "missing")
        return f"The agent cannot run here; missing: {missing}."
    if any(each.state == "missing" for each in found.kinds):
        return "The agent can run here, without the kinds that are missing above."
    return "The agent can run here."


def _wrapped(text: str, indent: int = 0) -> list[str]:
    pad = " " * indent
    return textwrap.wrap(text, WIDTH, initial_indent=pad, subsequent_indent=pad)
