# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from nodeagent.kernel.object import find_object
from tests import findings
from tests.kernel.held import held_tracepoints
from tests.packaging.artefacts import Artefacts
from tests.requirement import is_required
from tests.vm.kernels import Place
from tests.vm.pool import Pool

CHOOSING = (
    *("keyword", "markexpr", "deselect", "ignore", "ignore_glob"),
    *("lf", "stepwise", "maxfail", "collectonly"),
)
"""Options of pytest that leave tests out."""
FINDINGS = Path(__file__).parents[1] / ".make/findings.txt"

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A shell ignores SIGINT in what it starts in the background, and so would all agents here.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """The virtual machines."""
    with Pool(tmp_path_factory.mktemp("vm")) as made:
        yield made


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory, pool: Pool) -> Iterator[Artefacts]:
    """What is shipped."""
    with Artefacts(tmp_path_factory.mktemp("artefacts"), pool) as made:
        yield made


@pytest.fixture(scope="session")
def background(request: pytest.FixtureRequest, pool: Pool, artefacts: Artefacts) -> Iterator[None]:
    """What takes long goes on beside other tests; where there can be agents, tracepoints stay."""
    items = request.session.items
    packaging = {item.path.name for item in items if item.path.parent.name == "packaging"}
    if packaging:
        artefacts.start(guest="test_package.py" in packaging)
    pool.start(places(items))
    with ExitStack() as stack:
        if os.geteuid() == 0 and find_object().exists():
            stack.enter_context(held_tracepoints())
        yield


@pytest.fixture(scope="module", autouse=True)
def hurry(request: pytest.FixtureRequest) -> None:
    """Not beside those that measure, which come first."""
    if request.path.parent.name != "bench":
        request.getfixturevalue("background")


def places(items: Iterable[pytest.Item]) -> Iterator[Place]:
    """The place of each test that has one."""
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            place = item.callspec.params.get("place")
            if isinstance(place, Place):
                yield place


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run of all tests fails when a type of finding is not proved."""
    if missing(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Keep the table of findings in a file, and say what is missing in it."""
    config = terminalreporter.config
    lines, holes = findings.table(passed(config)), missing(config)
    if not lines and not holes:
        return
    FINDINGS.parent.mkdir(exist_ok=True)
    FINDINGS.write_text("\n".join([*lines, *holes]) + "\n", encoding="utf-8")
    terminalreporter.section("what proves each finding")
    for line in holes:
        terminalreporter.write_line(f"HOLE {line}", red=True)
    terminalreporter.write_line(f"kept in {FINDINGS}")


def missing(config: pytest.Config) -> list[str]:
    """Holes of the table; none when only some tests ran."""
    return list(findings.holes(passed(config))) if is_whole(config) else []


def is_whole(config: pytest.Config) -> bool:
    """Nothing was chosen, and nothing may be skipped."""
    chosen = config.args_source is pytest.Config.ArgsSource.ARGS or any(
        config.getoption(name, default=None) for name in CHOOSING
    )
    return not chosen and all(map(is_required, ("kernel", "containers", "vm")))


def passed(config: pytest.Config) -> list[pytest.TestReport]:
    """The reports of tests that passed."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return list(reporter.getreports("passed")) if reporter else []
