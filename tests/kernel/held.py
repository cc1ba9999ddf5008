# SPDX-License-Identifier: Apache-2.0
"""Keeps system calls traced, so that agents of tests end quickly.

When the last perf event of a tracepoint goes, the kernel waits some 40 ms, for one tracepoint
after the other: 3 s for each agent. Here is one more event on each, without a program.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import BpfObject, find_object
from nodeagent.kernel.tracepoint import Tracepoints, open_tracepoint

PERF_EVENT_IOC_DISABLE: Final = 0x2401


@contextmanager
def held_tracepoints() -> Iterator[None]:
    """Hold all that our programs are attached to; raises BpfError."""
    libbpf = Libbpf()
    with ExitStack() as held:
        with BpfObject(libbpf, find_object()) as opened, Tracepoints(libbpf) as tracepoints:
            sections = {opened.section(program) for program in opened.programs}
            names = {section[3:] for section in sections if section.startswith("tp/")}
            for name in filter(tracepoints.has, sorted(names)):
                event = open_tracepoint(libbpf, tracepoints.id(name))
                held.callback(os.close, event)
                fcntl.ioctl(event, PERF_EVENT_IOC_DISABLE)
        yield
