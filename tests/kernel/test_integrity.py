# SPDX-License-Identifier: Apache-2.0
"""The look at the kernel's own pointers; tests/vm has the kernel whose pointers were changed."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nodeagent.errors import BpfError
from nodeagent.kernel.features import ON_DEMAND
from nodeagent.kernel.integrity import Addresses, KernelCheck, Symbols, Table
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import BpfObject, find_object
from tests.kernel.stream import Stream, act, build_acts

pytestmark = pytest.mark.kernel


@pytest.fixture
def check() -> Iterator[KernelCheck]:
    with BpfObject(Libbpf(), find_object()) as opened, closing(Addresses()) as addresses:
        for ring in ("high", "bulk"):
            opened.set_max_entries(ring, mmap.PAGESIZE)
        opened.load(ON_DEMAND)
        yield KernelCheck(opened, opened.btf(), addresses)


def code_of_the_kernel() -> int:
    lines = Path("/proc/kallsyms").read_text().splitlines()
    return next(int(line.split()[0], 16) for line in lines if line.endswith(" T _stext"))


def test_every_pointer_is_read(check: KernelCheck) -> None:
    start = code_of_the_kernel()
    check.learn(Symbols((0, 1 << 63), (Table("code", start, 600), Table("more", start, 3))))
    check.look()


def test_pointers_that_cannot_be_read_are_told(check: KernelCheck) -> None:
    start = code_of_the_kernel()
    check.learn(Symbols((0, 1 << 63), (Table("code", start, 8), Table("nowhere", 0x1000, 20))))
    with pytest.raises(BpfError, match="20 of 28 pointers"):
        check.look()


def test_other_options_of_a_socket_are_no_event(
    stream: Stream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program = build_acts(tmp_path_factory.mktemp("acts"))["network"]
    acted = act(program, "filter", "2", "2", "17", "51")
    assert acted.code == 0
    (event,) = stream.of(acted.pid, "socket_filter")
    assert event["option"] == "SO_ATTACH_REUSEPORT_CBPF"
