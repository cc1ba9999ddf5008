# SPDX-License-Identifier: Apache-2.0
"""One virtual machine for each kernel, two at a time; every test looks at what it reported."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from subprocess import SubprocessError

import pytest

from nodeagent.kernel.object import find_object
from tests.cases import EVERYTHING, FAMILIES, all_cases
from tests.kernel.stream import build_acts
from tests.matrix import table
from tests.requirement import need
from tests.vm import arm64, initramfs
from tests.vm.kernels import PLACES, X86, Place, fetched
from tests.vm.machine import MACHINES, GuestError, Report, boot

AT_ONCE = 2
MATRIX = Path(__file__).parents[2] / ".make/matrix.txt"

LOAD_MODULE = "load-module"
"""What is done in each guest, besides the cases."""
CROSS_COMPILER = "aarch64-linux-gnu-gcc"


@pytest.fixture(scope="session")
def machines(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Place], Report]]:
    """Gives what a kernel reports. All that tests ask for are started with the first one."""
    kernels = fetched()
    folder = tmp_path_factory.mktemp("vm")
    archives: dict[str, Future[Path]] = {}
    reports: dict[Place, Future[Report]] = {}

    def run(place: Place) -> Report:
        own = folder / str(place)
        own.mkdir()
        return boot(place, kernels[str(place)], archives[place.architecture].result(), own)

    with ThreadPoolExecutor(AT_ONCE) as pool:

        def start(architecture: str) -> None:
            archives[architecture] = pool.submit(make_archive, architecture, folder)
            for place in places(request.session.items):
                if place.architecture == architecture and place not in reports:
                    reports[place] = pool.submit(run, place)

        def report(place: Place) -> Report:
            if place not in reports:
                start(place.architecture)
            return reports[place].result()

        yield report


def make_archive(architecture: str, folder: Path) -> Path:
    """The root file system for all kernels of an architecture."""
    programs = folder / f"acts-{architecture}"
    programs.mkdir()
    if architecture == X86:
        root = initramfs.own_root()
        acts = build_acts(programs)
    else:
        root = initramfs.other_root(arm64.FILES, arm64.SITE, arm64.PYTHON, arm64.OBJECT)
        acts = build_acts(programs, CROSS_COMPILER)
    archive = folder / f"{architecture}.cpio.gz"
    commands = {case.name: case.act for case in all_cases()}
    commands[LOAD_MODULE] = ("system", "load_module", str(initramfs.MODULES))
    canary = ("--set", "canary.interval_seconds=5")
    options = {family: (*EVERYTHING, *canary, *chosen) for family, chosen in FAMILIES.items()}
    modules = [
        Path(kernel.module)
        for place in PLACES
        if place.architecture == architecture and (kernel := fetched().get(str(place)))
        if kernel.module
    ]
    initramfs.make(archive, root, acts.values(), commands, options, modules=modules)
    return archive


def places(items: Iterable[pytest.Item]) -> Iterator[Place]:
    """The place of each test that has one."""
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            place = item.callspec.params.get("place")
            if isinstance(place, Place):
                yield place


@pytest.fixture
def report(machines: Callable[[Place], Report], place: Place) -> Report:
    """What the machine with this kernel reports."""
    require(place)
    try:
        return machines(place)
    except (GuestError, OSError, SubprocessError) as error:
        # The same one for all tests: a traceback would grow with each of them.
        pytest.fail(str(error), pytrace=False)


def require(place: Place) -> None:
    """Skip the test, or fail it, when its machine cannot be had."""
    emulator = MACHINES[place.architecture].emulator
    need("vm", shutil.which(emulator) is not None, f"{emulator} is not installed")
    need("vm", str(place) in fetched(), "`make kernels` has not fetched the kernels")
    if place.architecture == X86:
        need("vm", platform.machine() == "x86_64", "the agent here is for another architecture")
        need("vm", find_object().exists(), "bpf/nodeagent.bpf.o is not built")
    else:
        need("vm", arm64.is_built(), "`make build-arm64` has not built bpf/ as it is now")
        need("vm", shutil.which(CROSS_COMPILER) is not None, f"{CROSS_COMPILER} is not installed")


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
