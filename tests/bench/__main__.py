# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench [NAME …]`: measure, print a table, keep the result as JSON."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from nodeagent.errors import StartError
from nodeagent.kernel.libbpf import Libbpf
from tests.bench.benches import BENCHES, ON_REQUEST, QUICK, Bench, Plan, scratch_folder
from tests.bench.figure import Figure, keep, table
from tests.bench.load import Load


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    if os.geteuid():
        print("bench: eBPF needs root: run this as root", file=sys.stderr)
        return 2
    names = args.names or [name for name in BENCHES if name not in ON_REQUEST]
    figures: list[Figure] = []
    failures: list[str] = []
    with scratch_folder() as folder:
        load, libbpf = Load(folder), Libbpf()
        for number, name in enumerate(names, start=1):
            say = progress(f"[{number}/{len(names)}]")
            bench = Bench(load, libbpf, folder, QUICK if args.quick else Plan(runs=args.runs), say)
            try:
                figures += BENCHES[name](bench)
            except (RuntimeError, StartError, subprocess.SubprocessError) as error:
                failures.append(f"{name}: {error}")
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return report(figures, failures, args.quick, args.strict)


def report(figures: list[Figure], failures: list[str], quick: bool, strict: bool) -> int:
    """Print all; the exit code is 1 for what is wrong, for what is slow only when `strict`."""
    print(table(figures))
    if quick:
        print("quick: one short run each, so the figures mean little")
    if figures:
        print(f"kept in {keep(figures, quick)}")
    for failure in failures:
        print(f"bench: FAILED {failure}", file=sys.stderr)
    missed = [figure.name for figure in figures if figure.verdict == "MISS"]
    return 1 if failures or (strict and missed) else 0


def progress(prefix: str) -> Callable[[str], None]:
    """A line that is overwritten on a terminal, else one line for each step."""

    def say(text: str) -> None:
        line = f"{prefix} {text}"
        if sys.stderr.isatty():
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    return say


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"{', '.join(BENCHES)}; all but {' and '.join(sorted(ON_REQUEST))} if none",
    )
    parser.add_argument("--runs", type=int, default=Plan.runs, help="runs of each (default 5)")
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    parser.add_argument("--strict", action="store_true", help="exit code 1 when a bar is missed")
    args = parser.parse_args(arguments)
    for name in args.names:
        if name not in BENCHES:
            parser.error(f"no bench named {name}: there are {', '.join(BENCHES)}")
    if args.runs < 1:
        parser.error("--runs: at least 1")
    return args


if __name__ == "__main__":
    sys.exit(main())
