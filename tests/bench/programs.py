# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench.programs`: what each eBPF program costs, on each kernel.

docs/programs.txt gets what the verifier makes of it, so that a change of a program is seen
in a diff. How long a run takes here is printed only, since it is never the same twice.
"""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import find_object
from tests.bench.sizes import Size, sizes
from tests.bench.watch import Agent, Runs, Statistics
from tests.cases import EVERYTHING, all_cases
from tests.kernel.stream import act, build_acts
from tests.vm import initramfs
from tests.vm.kernels import PLACES, X86, fetched
from tests.vm.machine import boot, read_report

TEXT: Final = Path(__file__).parents[2] / "docs/programs.txt"
TURNS: Final = 5
"""How often each act is done while runs are timed."""

HEAD: Final = """\
What the verifier makes of each eBPF program: instructions as the last kernel runs them,
bytes of stack, and for each kernel the instructions that it followed; - where a kernel has
no such hook. `make bpf-stats` writes this.

"""


def main() -> None:
    """Write the table, print the times."""
    libbpf = Libbpf()
    found = {}
    with tempfile.TemporaryDirectory(prefix="nodeagent-programs-") as scratch:
        folder = Path(scratch)
        archive = folder / "root.cpio.gz"
        initramfs.make(archive, initramfs.own_root(), [], {}, {})
        for place in PLACES:
            kernel = fetched().get(str(place))
            if place.architecture == X86 and kernel is not None:
                say(f"sizes on {place}")
                own = folder / str(place)
                own.mkdir()
                report = read_report(kernel, boot(place, kernel, archive, own, only_sizes=True))
                found[short(report.release)] = report.sizes
        say("sizes here")
        found[short(platform.release())] = sizes(libbpf, find_object())
        TEXT.write_text(HEAD + table(found))
        print(HEAD + table(found))
        say(f"times, each act {TURNS} times")
        print(times(timed(libbpf, folder)))


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"programs: {text}", file=sys.stderr, flush=True)


def short(release: str) -> str:
    """Major and minor number of a release."""
    return ".".join(release.split(".")[:2])


def table(found: Mapping[str, Mapping[str, Size]]) -> str:
    """One line for each program, one column for each kernel."""
    kernels = list(found)
    last = found[kernels[-1]]
    names = sorted({name for each in found.values() for name in each})
    lines = [row("program", ["size", "stack", *kernels])]
    for name in names:
        size = last.get(name)
        cells: list[object] = [size.instructions, size.stack] if size else ["-", "-"]
        for kernel in kernels:
            one = found[kernel].get(name)
            cells.append(one.verified if one else "-")
        lines.append(row(name, cells))
    return "\n".join(lines) + "\n"


def row(name: str, cells: Iterable[object]) -> str:
    """One line."""
    return f"{name:<27}" + "".join(f"{cell!s:>9}" for cell in cells)


def timed(libbpf: Libbpf, folder: Path) -> dict[str, Runs]:
    """The runs of each program while everything that the tests do is done again and again."""
    acts = build_acts(folder)
    with Agent(folder, *EVERYTHING) as agent, Statistics(libbpf):
        agent.wait_until_ready()
        before = agent.runs()
        # Cases may have their act in common.
        for case in {case.act: case for case in all_cases()}.values():
            for turn in range(TURNS):
                where = folder / f"{case.name}-{turn}"
                where.mkdir()
                act(acts[case.act[0]], *case.act[1:], cwd=where)
        after = agent.runs()
        agent.finish()
    return {name: after[name] - before[name] for name in after}


def times(found: Mapping[str, Runs]) -> str:
    """One line for each program that ran."""
    lines = [row("program", ["runs", "ns each"])]
    lines += [
        row(name, [runs.count, round(runs.each_us * 1000)])
        for name, runs in sorted(found.items(), key=lambda item: -item[1].each_us)
        if runs.count
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
