# SPDX-License-Identifier: Apache-2.0
"""One virtual machine for each kernel, two at a time; every test looks at what it reported."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from nodeagent.kernel.object import find_object
from tests.cases import EVERYTHING, FAMILIES, all_cases
from tests.kernel.stream import build_acts
from tests.matrix import table
from tests.requirement import need
from tests.vm import initramfs
from tests.vm.kernels import SUITES, Kernel, fetched
from tests.vm.machine import EMULATOR, Report, Watched, boot

AT_ONCE = 2
MATRIX = Path(__file__).parents[2] / ".make/matrix.txt"


@pytest.fixture(scope="session")
def machines(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Future[Report]]]:
    """What each kernel that a test asks for reports, by suite."""
    need("vm", shutil.which(EMULATOR) is not None, f"{EMULATOR} is not installed")
    kernels = {kernel.suite: kernel for kernel in fetched()}
    need("vm", kernels.keys() >= set(SUITES), "`make kernels` has not fetched the kernels")
    need("vm", find_object().exists(), "bpf/nodeagent.bpf.o is not built")
    folder = tmp_path_factory.mktemp("vm")
    archive = folder / "root.cpio.gz"
    programs = build_acts(tmp_path_factory.mktemp("acts"))
    acts = {case.name: case.act for case in all_cases()}
    options = {family: (*EVERYTHING, *chosen) for family, chosen in FAMILIES.items()}
    initramfs.make(archive, programs.values(), acts, options)
    wanted = dict.fromkeys(suites(request.session.items))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {suite: pool.submit(run, kernels[suite], archive, folder / suite) for suite in wanted}


def suites(items: Iterable[pytest.Item]) -> Iterator[str]:
    """The suite of each test that has one."""
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            suite = item.callspec.params.get("suite")
            if isinstance(suite, str):
                yield suite


def run(kernel: Kernel, archive: Path, folder: Path) -> Report:
    """Boot a kernel in a folder of its own."""
    folder.mkdir()
    return boot(kernel, archive, folder, FAMILIES)


@pytest.fixture
def report(machines: Mapping[str, Future[Report]], suite: str) -> Report:
    """What the machine with this kernel reports."""
    return machines[suite].result()


@pytest.fixture
def watched(report: Report, family: str) -> Watched:
    """What a family of hooks saw in it."""
    return report.families[family]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the matrix, and keep it in a file."""
    outcomes = ("passed", "skipped", "xfailed", "failed")
    lines = table(r for outcome in outcomes for r in terminalreporter.getreports(outcome))
    if not lines:
        return
    terminalreporter.section("what works where")
    for line in lines:
        terminalreporter.write_line(line)
    MATRIX.parent.mkdir(exist_ok=True)
    MATRIX.write_text("\n".join(lines) + "\n", encoding="utf-8")
