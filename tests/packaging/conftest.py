# SPDX-License-Identifier: Apache-2.0
"""What `make dist` built."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.artefacts import Artefacts
from tests.packaging.guest import Step


@pytest.fixture(scope="session")
def dist(artefacts: Artefacts) -> Path:
    """The folder with all artefacts."""
    return artefacts.dist()


@pytest.fixture(scope="session")
def binary(dist: Path) -> Path:
    """The program in its folder."""
    return dist / "nodeagent/nodeagent"


@pytest.fixture(scope="session")
def seen(artefacts: Artefacts) -> dict[str, Step]:
    """What became of each step of the scenario: one boot for all tests."""
    return artefacts.seen()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that wait for the guest come last of all, since it takes some minutes."""
    items.sort(key=lambda item: item.path.name == "test_package.py")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured in the guest."""
    reports = terminalreporter.getreports("passed")
    lines = [text for each in reports for name, text in each.user_properties if name == "package"]
    if lines:
        terminalreporter.section("the package in a guest")
    for line in lines:
        terminalreporter.write_line(str(line))
