# SPDX-License-Identifier: Apache-2.0
"""Every test looks at what a virtual machine reported."""

from __future__ import annotations

from pathlib import Path
from subprocess import SubprocessError

import pytest

from tests.matrix import table
from tests.requirement import need
from tests.vm.kernels import Place
from tests.vm.machine import GuestError, Report
from tests.vm.pool import Pool, obstacle

MATRIX = Path(__file__).parents[2] / ".make/matrix.txt"


@pytest.fixture
def report(pool: Pool, place: Place) -> Report:
    """What the machine with this kernel reports."""
    missing = obstacle(place)
    need("vm", missing is None, str(missing))
    try:
        return pool.report(place)
    except (GuestError, OSError, SubprocessError) as error:
        # The same one for all tests: a traceback would grow with each of them.
        pytest.fail(str(error), pytrace=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the matrix, and keep it in a file."""
    outcomes = ("passed", "skipped", "xfailed", "failed")
    lines = table(r for outcome in outcomes for r in terminalreporter.getreports(outcome))
    if not lines:
        return
    terminalreporter.section("what works where")
    for line in lines:
        terminalreporter.write_line(line)
    for each in terminalreporter.getreports("passed"):
        for name, told in each.user_properties:
            if name == "unrelated call":
                terminalreporter.write_line(f"unrelated call, {told}")
    MATRIX.parent.mkdir(exist_ok=True)
    MATRIX.write_text("\n".join(lines) + "\n", encoding="utf-8")
