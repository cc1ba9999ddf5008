# SPDX-License-Identifier: Apache-2.0
"""Code that never was a file, and processes that change others."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Final

from nodeagent.detect import ProcessOf, Signal
from nodeagent.detect.describe import described_target, unversioned
from nodeagent.detect.recent import Recent
from nodeagent.detect.where import (
    GUARDS,
    is_below,
    is_contained,
    is_guard,
    is_program,
    is_runtime,
)
from nodeagent.event import (
    Brief,
    Event,
    Exec,
    Mprotect,
    Open,
    Other,
    Process,
    Ptrace,
    Userfaultfd,
    VmRead,
    VmWrite,
)
from nodeagent.names import PERSONALITY, PTRACE_REQUESTS, REGIONS

__all__ = ["Memory"]

PROCESS_MEMORY: Final = re.compile(r"/proc/(\d+)(?:/task/\d+)?/mem")
WRITING: Final = os.O_WRONLY | os.O_RDWR
TRACEES_LIMIT: Final = 4096
ADDR_NO_RANDOMIZE: Final = 0x40000

CODE_RULES: Final = {"stack": "code_in_data", "heap": "code_in_data", "anonymous": "written_code"}
"""By `Mprotect.region`, as it is shown."""
NOT_KNOWN: Final = 0xFFFFFFFF
"""What `Mprotect.old_protection` is then."""
COMPILERS: Final = frozenset(
    {"java", "node", "nodejs", "deno", "bun", "dotnet", "mono", "mono-sgen", "ruby", "luajit"}
    | {"php", "php-fpm", "pypy", "julia", "beam.smp", "postgres", "R", "gjs", "polkitd"}
    | {"firefox", "firefox-esr", "chrome", "chromium", "code", "electron", "gnome-shell"}
    | {"qemu-system-x86_64", "qemu-system-aarch64", "wasmtime", "wasmer", "envoy", "openresty"}
)
"""Programs that compile what they run, or patterns that they search for; also with a version."""

TRACEME: Final = 0x0
ATTACHING: Final = frozenset({0x10, 0x4206})
CHANGING: Final = frozenset({0x4, 0x5, 0x6, 0xD, 0xF, 0x13, 0x4205})
"""POKETEXT, POKEDATA, POKEUSR, SETREGS, SETFPREGS, SETFPXREGS, SETREGSET."""
DEBUGGERS: Final = frozenset(
    {"gdb", "gdbserver", "strace", "ltrace", "lldb", "lldb-server", "rr", "valgrind", "perf"}
)

CRASH_KEEPERS: Final = frozenset(
    {"systemd-coredump", "abrt-hook-ccpp", "apport", "createdump", "criu", "crashpad_handler"}
    | {"chrome_crashpad_handler"}
)
MEMORY_READERS: Final = DEBUGGERS | CRASH_KEEPERS


class Memory:
    """Remembers whom a process attached to, since that is not its own child."""

    name = "memory"
    kinds: ClassVar[tuple[str, ...]] = (
        *("exec", "open", "ptrace", "vm_read", "vm_write", "userfaultfd", "mprotect"),
    )

    def __init__(self, process_of: ProcessOf) -> None:
        self._process_of = process_of
        self._attached: Recent[tuple[str, int], bool] = Recent(TRACEES_LIMIT)
        """By UUID of the tracer and pid of the other one."""
        self._compiling: Recent[str, bool] = Recent(TRACEES_LIMIT)
        """Processes that were told to write code, by their UUID: most do it for ever."""
        self._fixed: Recent[str, bool] = Recent(TRACEES_LIMIT)
        """Processes at addresses that are not random, by their UUID: children inherit that."""
        self._reading: Recent[tuple[str, int], bool] = Recent(TRACEES_LIMIT)
        """By UUID of a process that reads memory, and pid of the other one."""

    def wants_path(self, path: str) -> bool:
        """The memory of a process."""
        return path.startswith("/proc/") and PROCESS_MEMORY.fullmatch(path) is not None

    def inspect(self, event: Any) -> Iterable[Signal]:
        """What is done to memory."""
        process = event.process
        if process is None:
            return ()
        if isinstance(event, Open):
            return self._on_open(event, process)
        if isinstance(event, Exec):
            return self._on_exec(event, process)
        if isinstance(event, Ptrace):
            return self._on_ptrace(event, process)
        if isinstance(event, VmWrite):
            return self._on_write(event, process)
        if isinstance(event, VmRead):
            return self._read(event, process, _pid_of(event.target), event.target_process)
        if isinstance(event, Mprotect):
            return self._on_mprotect(event, process)
        if isinstance(event, Userfaultfd):
            return (Signal("userfaultfd", event),)
        return ()

    def _on_exec(self, event: Exec, process: Process) -> Iterator[Signal]:
        if event.memfd and event.result >= 0 and not is_runtime(process):
            yield Signal("fileless", event, {"threatFilePath": event.path}, key=event.path)
        if event.personality & ADDR_NO_RANDOMIZE and event.result >= 0:
            yield from self._on_fixed(event, process)

    def _on_fixed(self, event: Exec, process: Process) -> Iterator[Signal]:
        """A debugger wants to find all where it was; a whole build may be run like that."""
        above = process.lineage[0].uuid if process.lineage else ""
        is_known = self._fixed.get(process.uuid) or self._fixed.get(above)
        self._fixed.put(process.uuid, value=True)
        if is_known or is_below(process, DEBUGGERS):
            return
        rule = "fixed_addresses_contained" if is_contained(process) else "fixed_addresses"
        yield Signal(rule, event, {"flags": PERSONALITY.show(event.personality)})

    def _on_open(self, event: Open, process: Process) -> Iterator[Signal]:
        path = event.path or event.argument
        if not path.startswith("/proc/"):
            return
        found = PROCESS_MEMORY.fullmatch(path)
        if found is None:
            return
        # What /proc says counts in the pid namespace that it was mounted for.
        facts = process.facts
        pid = int(found[1])
        if pid == process.task.pid or (facts is not None and pid == facts.namespace_pid):
            return
        other = self._process_of(pid, process)
        if not event.flags & WRITING:
            yield from self._read(event, process, pid, other)
        elif is_guard(other) or not self._is_debugged(process, pid):
            yield from _signal("inject_proc", event, pid, other)

    def _read(
        self, event: Event, process: Process, pid: int, other: Brief | None
    ) -> Iterator[Signal]:
        """One that reads memory mostly does so again and again."""
        usual = CRASH_KEEPERS if is_guard(other) else MEMORY_READERS
        if is_program(process.path, usual) or pid == process.task.pid or is_runtime(process):
            return
        if not self._reading.get((process.uuid, pid)):
            self._reading.put((process.uuid, pid), value=True)
            yield from _signal("memory_read", event, pid, other)

    def _on_ptrace(self, event: Ptrace, process: Process) -> Iterator[Signal]:
        pid, other = _pid_of(event.target), event.target_process
        flags = [str(PTRACE_REQUESTS.show(event.request))]
        if event.request == TRACEME:
            parent = process.lineage[0].path if process.lineage else ""
            if not is_program(parent, DEBUGGERS):
                yield Signal("antidebug", event)
        elif event.request in ATTACHING:
            if event.result >= 0:
                self._attached.put((process.uuid, pid), value=True)
            if is_guard(other):
                yield from _signal("guard_memory", event, pid, other, flags)
        elif event.request in CHANGING and (event.result < 0 or self._is_attached(process, pid)):
            yield from _signal("inject_ptrace", event, pid, other, flags)

    def _on_write(self, event: VmWrite, process: Process) -> Iterator[Signal]:
        pid = _pid_of(event.target)
        if pid != process.task.pid:
            yield from _signal("inject_vm", event, pid, event.target_process)

    def _on_mprotect(self, event: Mprotect, process: Process) -> Iterator[Signal]:
        """Memory without a file becomes code after somebody could write it."""
        old = event.old_protection
        region = str(REGIONS.show(event.region))
        rule = CODE_RULES.get(region)
        if rule is None or old == NOT_KNOWN or not old & mmap.PROT_WRITE:
            return
        if self._compiling.get(process.uuid) or _is_compiler(process.path):
            return
        self._compiling.put(process.uuid, value=True)
        yield Signal(rule, event, {"memoryRegions": [region]}, key=region)

    def _is_attached(self, process: Process, pid: int) -> bool:
        return self._attached.get((process.uuid, pid)) is True

    def _is_debugged(self, process: Process, pid: int) -> bool:
        """A debugger writes breakpoints into the program that it has started."""
        return is_program(process.path, DEBUGGERS) and not self._is_attached(process, pid)


def _is_compiler(path: str) -> bool:
    return is_program(path, COMPILERS) or is_program(unversioned(path), COMPILERS)


def _pid_of(target: Other) -> int:
    return target.pid or target.passed_pid


def _signal(
    rule: str, event: Event, pid: int, other: Brief | None, flags: Sequence[str] = ()
) -> Iterator[Signal]:
    """What is done to the memory of another process; that of a guard is a matter of its own."""
    if is_guard(other):
        process = event.process
        if process is None or process.path == other.path or _is_guard_of_system(process):
            return
        rule = "guard_memory"
    context = described_target(other, pid)
    if flags:
        context["flags"] = list(flags)
    name = other.path if other is not None and other.path else f"process {pid}"
    yield Signal(rule, event, context, key=name)


def _is_guard_of_system(process: Process) -> bool:
    """Guards look into each other, as they do into all processes."""
    return process.of_host and is_program(process.path, GUARDS)
