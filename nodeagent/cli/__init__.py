# SPDX-License-Identifier: Apache-2.0
"""The command line: one module per command, and the border where errors become sentences."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from nodeagent.cli import (
    completion,
    config,
    coverage,
    demo,
    doctor,
    explain,
    findings,
    impact,
    options,
    output,
    reload,
    replay,
    rules,
    run,
    schema,
    status,
    top,
)
from nodeagent.cli.version import ShowVersion
from nodeagent.errors import BpfError, NodeagentError, StartError

__all__ = ["main", "make_parser"]

COMMANDS: Final = (
    run,
    demo,
    replay,
    findings,
    explain,
    rules,
    status,
    coverage,
    top,
    impact,
    reload,
    config,
    doctor,
    schema,
    completion,
)
"""In the order of the help."""

FAILED: Final = 1
NOT_STARTED: Final = 2
INTERRUPTED: Final = 130

EXAMPLES: Final = """\
examples:
  sudo nodeagent run                 everything that happens, on this terminal
  sudo nodeagent doctor              what this machine offers, and what to do
  nodeagent run --help               each command says more about itself
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command with these arguments (None: those of the process).

    Returns the exit code: 0 for success, 1 when something failed on the way, 2 when it
    could not start, 128 plus the number of the signal that ended it.
    """
    arguments = sys.argv[1:] if argv is None else argv
    # Known before the arguments are: it also says how to tell what is wrong with them.
    debug = "--debug" in arguments
    code = _guarded(lambda: _run(arguments), debug=debug)
    # While a failure to write what is still buffered can be told.
    return _guarded(_flush, debug=debug) or code


def make_parser() -> argparse.ArgumentParser:
    """The whole parser, with every command."""
    parser = argparse.ArgumentParser(
        prog="nodeagent",
        description="Runtime security for a Linux node: what ran, what it touched, what looks"
        " wrong.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=ShowVersion)
    options.add_log(parser, is_top=True)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add(commands)
    for command in commands.choices.values():
        options.add_log(command)
    return parser


def _run(arguments: Sequence[str]) -> int:
    try:
        args = make_parser().parse_args(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else NOT_STARTED
    output.prepare()
    # Not above, so that --help is quick.
    from nodeagent.cli.log import set_up

    set_up("debug" if args.debug else args.log_level, tracebacks=args.debug)
    code: int = args.run(args)
    return code


def _flush() -> int:
    output.write("")
    return 0


def _guarded(call: Callable[[], int], *, debug: bool) -> int:
    """What the call returns; an error is told on stderr and becomes an exit code."""
    try:
        return call()
    except BaseException as group:  # noqa: BLE001  the border, where all errors end
        error = next(_leaves(group))
        if isinstance(error, BrokenPipeError) and output.reader_is_gone():
            # Whoever read our output, like `head`, has seen enough.
            output.silence()
            return 0
        if isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        if debug:
            traceback.print_exc()
        return _told(error, debug=debug)


def _told(error: BaseException, *, debug: bool) -> int:
    match error:
        case NodeagentError():
            if debug and isinstance(error, BpfError) and error.log:
                print(error.log, file=sys.stderr)
            _say(str(error))
            return NOT_STARTED if isinstance(error, StartError) else FAILED
        case _:
            more = "" if debug else "; --debug shows where"
            _say(f"unexpected {type(error).__name__}: {error} (a defect, please report it{more})")
            return FAILED


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group of a TaskGroup; those that nobody foresaw come first."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    leaves = [leaf for each in error.exceptions for leaf in _leaves(each)]
    yield from sorted(leaves, key=lambda leaf: isinstance(leaf, NodeagentError))


def _say(text: str) -> None:
    line = "".join(char if char.isprintable() else "�" for char in " ".join(text.split()))
    print(f"nodeagent: {line}", file=sys.stderr)
