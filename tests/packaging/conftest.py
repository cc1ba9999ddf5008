# SPDX-License-Identifier: Apache-2.0
"""What `make dist` built."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


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
