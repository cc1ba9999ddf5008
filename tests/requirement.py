# SPDX-License-Identifier: Apache-2.0
"""What a test needs of the machine: missing in CI it fails, on a laptop it is skipped."""

from __future__ import annotations

import os

import pytest


def need(name: str, met: bool, reason: str) -> None:
    """Skip the test when `met` is false, or fail it when NODEAGENT_REQUIRE lists `name`."""
    if met:
        return
    if is_required(name):
        pytest.fail(f"{name} is required here: {reason}")
    pytest.skip(reason)


def is_required(name: str) -> bool:
    """NODEAGENT_REQUIRE lists it."""
    return name in os.environ.get("NODEAGENT_REQUIRE", "").split(",")
