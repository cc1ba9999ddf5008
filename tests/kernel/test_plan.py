# SPDX-License-Identifier: Apache-2.0
"""Which programs are to serve: trampolines leave no tracepoint of a system call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nodeagent.event import EVENTS
from nodeagent.kernel.features import Hook, KernelTypes, plan
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import BpfObject, find_object
from nodeagent.kernel.tracepoint import Tracepoints

TRACEPOINT_OF_CALL = "tp/syscalls/"


class Types(KernelTypes):
    """Those of this kernel, but for functions that end like one of `without`."""

    without: tuple[str, ...] = ()

    def has_function(self, name: str) -> bool:
        return not name.endswith(self.without) and super().has_function(name)


@pytest.fixture
def types() -> Iterator[Types]:
    made = Types(Libbpf())
    yield made
    made.close()


def planned(types: KernelTypes, *, trampolines: bool = True) -> list[Hook]:
    libbpf = Libbpf()
    with BpfObject(libbpf, find_object()) as opened, Tracepoints(libbpf) as tracepoints:
        hooks = plan(opened, types, tracepoints, EVENTS, trampolines=trampolines)
    return [hook for hook in hooks if not hook.missing]


def on_tracepoints(hooks: list[Hook]) -> set[str]:
    return {hook.program for hook in hooks if hook.section.startswith(TRACEPOINT_OF_CALL)}


def test_trampolines_need_no_tracepoint_of_a_call(types: Types) -> None:
    assert on_tracepoints(planned(types)) == set()
    without = on_tracepoints(planned(types, trampolines=False))
    assert without > {"exit_openat", "exit_mount", "enter_execve", "exit_mmap"}


def test_call_whose_function_is_not_there_has_its_tracepoints(types: Types) -> None:
    types.without = ("64_sys_umount", "64_sys_bpf")
    hooks = planned(types)
    assert on_tracepoints(hooks) == {"enter_umount", "exit_umount", "exit_bpf"}
    assert not {"begin_umount", "end_umount", "end_bpf"} & {hook.program for hook in hooks}


def test_opens_need_one_of_the_functions_that_they_share(types: Types) -> None:
    types.without = ("do_filp_open", "do_file_open")
    opens = {"exit_open", "exit_openat", "exit_openat2", "exit_creat"}
    assert on_tracepoints(planned(types)) == opens
