# SPDX-License-Identifier: Apache-2.0
"""Tests on the running kernel: a real agent watches real system calls."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodeagent.kernel.cgroup import whole_hierarchy
from nodeagent.kernel.object import find_object
from tests.kernel.stream import ACTS, Acted, Stream, act, build
from tests.requirement import need


@pytest.fixture(scope="session", autouse=True)
def kernel() -> None:
    """Root, BTF and the built object."""
    need("kernel", os.geteuid() == 0, "eBPF programs can only be loaded by root")
    need("kernel", Path("/sys/kernel/btf/vmlinux").exists(), "this kernel has no BTF")
    need("kernel", find_object().exists(), "bpf/nodeagent.bpf.o is not built")


@pytest.fixture(scope="session")
def act_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled act.c."""
    return build(ACTS / "act.c", tmp_path_factory.mktemp("act") / "act")


@pytest.fixture(scope="session")
def do(act_program: Path) -> Callable[..., Acted]:
    """Runs the act program with its arguments."""
    return functools.partial(act, act_program)


@pytest.fixture(scope="module")
def stream(kernel: None) -> Iterator[Stream]:
    """One agent that watches all acts of a module."""
    with Stream() as running:
        yield running


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of its own in the second hierarchy, which is gone afterwards."""
    where = whole_hierarchy()
    need("kernel", where is not None, "no cgroup v2 is mounted")
    path = Path(f"{where}/nodeagent-test-{os.getpid()}")
    path.mkdir()
    yield path
    for folder in (path / "below", path):
        if folder.exists():
            folder.rmdir()
