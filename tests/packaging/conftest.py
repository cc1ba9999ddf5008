# SPDX-License-Identifier: Apache-2.0
"""What `make dist` built."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.packaging.guest import Step, play
from tests.packaging.scenario import NEWER, NEWER_DEB, STEPS, WORDS
from tests.requirement import need
from tests.vm import system
from tests.vm.kernels import X86, fetched
from tests.vm.machine import MACHINES

CHECKOUT = Path(__file__).parents[2]
KERNEL = f"{system.SUITE}-{X86}"


@pytest.fixture(scope="session")
def dist() -> Path:
    """The folder with all artefacts, which takes a minute unless they are up to date."""
    made = subprocess.run(
        ["make", "--silent", "dist"], cwd=CHECKOUT, check=False, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return CHECKOUT / "dist"


@pytest.fixture(scope="session")
def binary(dist: Path) -> Path:
    """The program in its folder."""
    return dist / "nodeagent/nodeagent"


@pytest.fixture(scope="session")
def newer(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a second package, a deb or an rpm, with the same files and a higher version."""
    folder = tmp_path_factory.mktemp("newer")

    def make(packager: str) -> Path:
        path = folder / f"newer.{packager}"
        arguments = ["make", "--silent", "package", f"VERSION={NEWER}", f"PACKAGE={path}"]
        subprocess.run(arguments, cwd=CHECKOUT, check=True)
        return path

    return make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that wait for the guest come last of all, since it takes some minutes."""
    items.sort(key=_waits)


@pytest.fixture(scope="session", autouse=True)
def playing(request: pytest.FixtureRequest) -> Iterator[Future[dict[str, Step]] | None]:
    """The guest, from the first test of packaging on, beside the tests that come meanwhile."""
    if not any(map(_waits, request.session.items)) or not _is_possible():
        yield None
        return
    dist: Path = request.getfixturevalue("dist")
    newer: Callable[[str], Path] = request.getfixturevalue("newer")
    factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    files = {Path("/dist/nodeagent.deb"): dist / "nodeagent.deb", NEWER_DEB: newer("deb")}
    with ThreadPoolExecutor(1) as pool:
        kernel = fetched()[KERNEL]
        yield pool.submit(play, kernel, files, WORDS, STEPS, factory.mktemp("guest"))


def _waits(item: pytest.Item) -> bool:
    return item.path.name == "test_package.py"


def _is_possible() -> bool:
    return (
        platform.machine() == "x86_64"
        and shutil.which(MACHINES[X86].emulator) is not None
        and KERNEL in fetched()
        and system.ARCHIVE.exists()
    )


@pytest.fixture(scope="session")
def seen(playing: Future[dict[str, Step]] | None) -> dict[str, Step]:
    """What became of each step of the scenario: one boot for all tests."""
    need("vm", platform.machine() == "x86_64", "the package here is for another architecture")
    need("vm", shutil.which(MACHINES[X86].emulator) is not None, "QEMU is not installed")
    need("vm", KERNEL in fetched(), "`make kernels` has not fetched the kernels")
    need("vm", system.ARCHIVE.exists(), "`make system` has not made a Debian")
    assert playing is not None
    return playing.result()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured in the guest."""
    reports = terminalreporter.getreports("passed")
    lines = [text for each in reports for name, text in each.user_properties if name == "package"]
    if lines:
        terminalreporter.section("the package in a guest")
    for line in lines:
        terminalreporter.write_line(str(line))
