# SPDX-License-Identifier: Apache-2.0
"""A container runtime and an agent that follows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.containers.lab import Lab, need_containers
from tests.kernel.stream import Stream


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A containerd of our own."""
    need_containers("containerd", "ctr", "runc")
    with Lab() as running:
        yield running


@pytest.fixture(scope="module")
def stream(lab: Lab) -> Iterator[Stream]:
    """An agent that asks this containerd."""
    with Stream("--set", f'containers.cri_sockets=["{lab.socket}"]') as running:
        yield running
        assert running.stop() == 143
    assert "balanced" in running.errors
