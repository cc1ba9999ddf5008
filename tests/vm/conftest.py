# SPDX-License-Identifier: Apache-2.0
"""One virtual machine for each kernel, two at a time; every test looks at what it reported."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from nodeagent.kernel.object import find_object
from tests.cases import EVERYTHING, FAMILIES, all_cases
from tests.kernel.stream import build_acts
from tests.matrix import table
from tests.requirement import need
from tests.vm import arm64, initramfs
from tests.vm.kernels import ARM, X86, Kernel, Place, fetched
from tests.vm.machine import MACHINES, Report, Watched, boot

AT_ONCE = 2
MATRIX = Path(__file__).parents[2] / ".make/matrix.txt"

CROSS_COMPILER = "aarch64-linux-gnu-gcc"
# What is needed for another architecture is no part of `make setup`.
REQUIREMENT = {X86: "vm", ARM: "arm64"}


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the root file system for an architecture."""
    folder = tmp_path_factory.mktemp("root")
    acts = {case.name: case.act for case in all_cases()}
    options = {family: (*EVERYTHING, *chosen) for family, chosen in FAMILIES.items()}

    def make(architecture: str) -> Path:
        path = folder / f"{architecture}.cpio.gz"
        if path.exists():
            return path
        if architecture == X86:
            root = initramfs.own_root()
            programs = build_acts(tmp_path_factory.mktemp("acts"))
        else:
            root = initramfs.other_root(arm64.FILES, arm64.SITE, arm64.PYTHON, arm64.OBJECT)
            programs = build_acts(tmp_path_factory.mktemp("acts"), CROSS_COMPILER)
        initramfs.make(path, root, programs.values(), acts, options)
        return path

    return make


@pytest.fixture(scope="session")
def machines(
    request: pytest.FixtureRequest,
    archive: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[Place], Report]]:
    """Gives what a kernel reports. All that tests ask for are started with the first one."""
    started: dict[Place, Future[Report]] = {}
    folder = tmp_path_factory.mktemp("vm")
    with ThreadPoolExecutor(AT_ONCE) as pool:

        def report(wanted: Place) -> Report:
            for place in places(request.session.items):
                if place.architecture == wanted.architecture and place not in started:
                    started[place] = pool.submit(
                        run, fetched()[place], archive(place.architecture), folder / str(place)
                    )
            return started[wanted].result()

        yield report


def places(items: Iterable[pytest.Item]) -> Iterator[Place]:
    """The place of each test that has one."""
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            place = item.callspec.params.get("place")
            if isinstance(place, Place):
                yield place


def run(kernel: Kernel, archive: Path, folder: Path) -> Report:
    """Boot a kernel in a folder of its own."""
    folder.mkdir()
    return boot(kernel, archive, folder, FAMILIES)


@pytest.fixture
def report(machines: Callable[[Place], Report], place: Place) -> Report:
    """What the machine with this kernel reports."""
    require(place)
    return machines(place)


def require(place: Place) -> None:
    """Skip the test, or fail it, when its machine cannot be had."""
    name = REQUIREMENT[place.architecture]
    emulator = MACHINES[place.architecture].emulator
    need(name, shutil.which(emulator) is not None, f"{emulator} is not installed")
    need(name, place in fetched(), "`make kernels` has not fetched the kernels")
    if place.architecture == X86:
        need(name, platform.machine() == "x86_64", "the agent here is for another architecture")
        need(name, find_object().exists(), "bpf/nodeagent.bpf.o is not built")
    else:
        need(name, arm64.OBJECT.exists(), "`make build-arm64` has not built the object")
        need(name, shutil.which(CROSS_COMPILER) is not None, f"{CROSS_COMPILER} is not installed")


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
