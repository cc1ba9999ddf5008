# SPDX-License-Identifier: Apache-2.0
"""What this machine offers the agent, found out by trying.

Nothing stays: the object is loaded and let go again, and only the two probe programs
are attached, for the time of one open(2) of /dev/null each.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
from collections.abc import Iterable
from contextlib import ExitStack, closing
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from nodeagent.config import Config, KernelConfig
from nodeagent.errors import BadRecord, BpfError, ConfigError, StartError
from nodeagent.event import EVENTS
from nodeagent.kernel.cgroup import controller_of
from nodeagent.kernel.features import LISTING, PROBES, SERVES, Hook, KernelTypes, family_of, plan
from nodeagent.kernel.integrity import Addresses
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import BpfObject, find_object
from nodeagent.kernel.policy import Rules
from nodeagent.kernel.privileges import Privileges
from nodeagent.kernel.probe import count_runs, enable_statistics, map_memory
from nodeagent.kernel.tracepoint import SYS_PERF_EVENT_OPEN, Tracepoints, open_tracepoint
from nodeagent.parts import sigma_of
from nodeagent.source.live import Kernel, load_kernel
from nodeagent.throttle import EVENT_BYTES, IDLE_BYTES, budget_of, queue_limit

__all__ = ["Check", "Coverage", "Diagnosis", "State", "examine"]

BTF_KIND_FUNC: Final = 12
ENOTSUPP: Final = 524
"""Of the kernel alone, without a name in user space."""

TRACEPOINT: Final = "tracepoint"
TRAMPOLINE: Final = "trampoline"

PAST_BOTH: Final = (
    "sendto(2) and sendmsg(2) with MSG_FASTOPEN, which connect while they send",
    "writes into /proc/PID/mem: the open of it is an event, each write is none",
    "memory made executable by shmat(2) or the personality READ_IMPLIES_EXEC",
)
"""What passes by tracepoints and trampolines."""
PAST_TRACEPOINTS: Final = (
    "io_uring: what it does shows as events of kind io_uring, not as open, connect or rename",
    "32-bit calls (ia32, x32, arm32): all but fork, exit and an exec that works",
    *PAST_BOTH,
)
PAST_TRAMPOLINES: Final = (
    "calls that seccomp refuses: kernel.hooks = tracepoint sees them",
    "io_uring that renames, links or removes: it shows as events of kind io_uring",
    "32-bit calls on arm64 that do not share their function with 64 bits, as ptrace(2)",
    *PAST_BOTH,
)

BY_CALL: Final = "not by io_uring or 32-bit calls"
LIMITS: Final = {
    "exec": "failed attempts of 32-bit processes are not seen",
    "fork": "",
    "exit": "",
    "io_uring": "",
    "new_cgroup": "",
    "connect": "not by io_uring, 32-bit calls or MSG_FASTOPEN",
}
"""The same by kind, where it is not `BY_CALL`."""
BY_FUNCTION: Final = "not what seccomp refuses"
LIMITS_OF_TRAMPOLINES: Final = {
    **dict.fromkeys(
        ("rename", "link", "symlink", "unlink", "socket_filter"), f"{BY_FUNCTION}, not by io_uring"
    ),
    "connect": f"{BY_FUNCTION}, not by MSG_FASTOPEN",
}
"""What passes by trampolines, by kind, where it is not `BY_FUNCTION`."""

REFUSALS: Final = {
    errno.EPERM: "kernel lockdown?",
    errno.EACCES: "a security module?",
    errno.EINVAL: "not built into this kernel?",
    errno.ESRCH: "not built into this kernel?",
    errno.ENOENT: "no ftrace?",
    errno.EOPNOTSUPP: "no trampolines on this architecture?",
    ENOTSUPP: "no trampolines on this architecture?",
}
"""What is most likely behind an errno of a trampoline."""

ONLY_ROOT: Final = "not tried: only root may"

REFUSALS_SHOWN: Final = 10

WITHOUT_PROBE: Final = "no harm: tracepoints serve every kind"


class State(StrEnum):
    """How a check went."""

    OK = "ok"
    INFO = "info"
    """Good to know, neither good nor bad."""
    DEGRADED = "degraded"
    """The agent runs, with less."""
    MISSING = "missing"
    """The agent cannot run."""
    UNKNOWN = "unknown"
    """It could not be checked."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    state: State
    found: str
    advice: str = ""
    """What to do about it."""
    log: str = ""
    """What libbpf logged."""


class Coverage(msgspec.Struct, frozen=True):
    """How one kind is seen."""

    kind: str
    state: State
    family: str
    """Of the hooks; empty when none can be used or it is not known."""
    programs: list[str]
    note: str


class Diagnosis(msgspec.Struct):
    """Everything that was found."""

    checks: list[Check] = []
    kinds: list[Coverage] = []
    why_no_trampolines: str = ""
    """They are the better family of hooks; empty when they are used or it is not known."""
    not_reached: tuple[str, ...] = PAST_TRACEPOINTS
    memory_bytes: dict[str, int] = {}
    """Kernel memory of each map."""

    @property
    def can_run(self) -> bool:
        """Whether the agent would start here."""
        return all(check.state is not State.MISSING for check in self.checks)


def examine(config: Config) -> Diagnosis:
    """Look at this machine. Raises nothing on purpose."""
    settings = config.kernel
    path = Path(settings.object) if settings.object else find_object()
    found = Diagnosis()
    privileged = Privileges.of_this_process()
    found.checks += [
        _privileges(privileged),
        _architecture(),
        _kernel(),
        _lockdown(),
        _unprivileged(),
        _budget(config),
        *_rules(config),
    ]
    with ExitStack() as stack:
        libbpf = _libbpf(found)
        if libbpf is None:
            return _not_served(found)
        types = _kernel_types(found, libbpf)
        if types is not None:
            stack.callback(types.close)
        found.checks += [_memlock(libbpf, privileged), _jit(), _statistics(libbpf, privileged)]
        tracepoints = _tracepoints(found, libbpf, privileged)
        if tracepoints is not None:
            stack.enter_context(tracepoints)
            found.checks.append(_perf_events(libbpf, tracepoints))
        found.checks.append(_kernel_tables(privileged))
        opened = _object(found, libbpf, path)
        if opened is None:
            return _not_served(found)
        stack.callback(opened.close)
        trampolines = privileged.enough and _probes(found, libbpf, path)
        if not privileged.enough:
            untried = ("programs", "rings", "process list", *PROBES.values())
            found.checks += [Check(name, State.UNKNOWN, ONLY_ROOT) for name in untried]
        if types is None or tracepoints is None:
            return _not_served(found)
        trampolines = trampolines and settings.hooks != TRACEPOINT
        found.not_reached = PAST_TRAMPOLINES if trampolines else PAST_TRACEPOINTS
        hooks = _hooks(found, opened, types, tracepoints, trampolines=trampolines)
        if privileged.enough:
            _load(found, opened, libbpf, settings)
        found.kinds = [_coverage(kind, hooks, found.can_run) for kind in EVENTS]
    return found


def _budget(config: Config) -> Check:
    """What the agent may use, and what of that the rings and queues can take."""
    budget = budget_of(config)
    cpu = f"{budget.cpu:.0%} of a core" if budget.cpu else "any CPU"
    memory = _size(budget.memory_bytes) if budget.memory_bytes else "any memory"
    limit = queue_limit(config)
    asked = [sink.config.queue_events for sink in config.sinks.values()]
    held = sum(min(each, limit) for each in asked) * EVENT_BYTES
    found = f"{cpu}, {memory}: {_size(IDLE_BYTES)} at rest, queues take {_size(held)} at most"
    if any(each > limit for each in asked):
        advice = "raise budget.memory_bytes, or the queues are shorter than queue_events says"
        return Check("budget", State.DEGRADED, found, advice)
    return Check("budget", State.OK, found)


def _privileges(may: Privileges) -> Check:
    who = "root" if may.uid == 0 else f"user {may.uid}"
    if may.own_namespace:
        advice = "start it outside of the rootless container or user namespace"
        return Check(
            "privileges", State.MISSING, f"{who} of a user namespace only: no eBPF", advice
        )
    if not may.enough:
        found = f"{who} without {' and '.join(may.missing)}"
        return Check("privileges", State.MISSING, found, "run it as root, for example with `sudo`")
    if may.losses:
        return Check("privileges", State.DEGRADED, f"{who}, {'; '.join(may.losses)}")
    if not may.has("CAP_SYS_ADMIN"):
        found = f"{who} with CAP_BPF and CAP_PERFMON but without CAP_SYS_ADMIN"
        advice = "add CAP_SYS_ADMIN for run-time statistics and for tracefs where not mounted"
        return Check("privileges", State.DEGRADED, found, advice)
    return Check("privileges", State.OK, f"{who} with every capability that is needed")


def _rules(config: Config) -> list[Check]:
    """The rules of Sigma, where there are some."""
    if not config.detect.sigma:
        return []
    try:
        chosen = sigma_of(config)
    except ConfigError as error:
        return [Check("sigma rules", State.MISSING, *_said(error))]
    if not chosen.refusals:
        return [Check("sigma rules", State.OK, f"{chosen.count}, all of them can be used")]
    refused = [str(each) for each in chosen.refusals[:REFUSALS_SHOWN]]
    more = len(chosen.refusals) - len(refused)
    found = f"{chosen.count} can be used; refused: {len(chosen.refusals)} ({'; '.join(refused)})"
    advice = "`nodeagent rules list` shows all of them" if more else ""
    return [Check("sigma rules", State.DEGRADED, found, advice)]


def _architecture() -> Check:
    machine = platform.machine()
    if machine in SYS_PERF_EVENT_OPEN:
        return Check("architecture", State.OK, machine)
    known = " or ".join(SYS_PERF_EVENT_OPEN)
    return Check("architecture", State.MISSING, machine, f"use a machine with {known}")


def _kernel() -> Check:
    return Check("kernel", State.INFO, f"{platform.system()} {platform.release()}")


def _lockdown() -> Check:
    modes = _read("/sys/kernel/security/lockdown")
    if not modes:
        where = "/sys/kernel/security is not mounted or has no lockdown"
        return Check("lockdown", State.UNKNOWN, where)
    mode = modes.partition("[")[2].partition("]")[0]
    if mode == "confidentiality":
        advice = "boot with lockdown=integrity: this mode keeps eBPF from reading memory"
        return Check("lockdown", State.DEGRADED, mode, advice)
    return Check("lockdown", State.OK, mode)


def _unprivileged() -> Check:
    value = _read("/proc/sys/kernel/unprivileged_bpf_disabled").strip()
    if value == "0":
        advice = "close that door: `sysctl kernel.unprivileged_bpf_disabled=2`"
        return Check("other users", State.INFO, "any user may load eBPF programs", advice)
    if not value:
        return Check("other users", State.UNKNOWN, "no kernel.unprivileged_bpf_disabled")
    found = f"only root may load eBPF programs (kernel.unprivileged_bpf_disabled={value})"
    return Check("other users", State.OK, found)


def _libbpf(found: Diagnosis) -> Libbpf | None:
    try:
        libbpf = Libbpf()
    except BpfError as error:
        found.checks.append(Check("libbpf", State.MISSING, *_said(error)))
        return None
    version = libbpf.calls.libbpf_version_string
    version.restype = ctypes.c_char_p
    found.checks.append(Check("libbpf", State.OK, version().decode().removeprefix("v")))
    return libbpf


def _kernel_types(found: Diagnosis, libbpf: Libbpf) -> KernelTypes | None:
    try:
        types = KernelTypes(libbpf)
    except BpfError as error:
        found.checks.append(Check("kernel BTF", State.MISSING, *_said(error), error.log))
        return None
    found.checks.append(Check("kernel BTF", State.OK, "/sys/kernel/btf/vmlinux"))
    return types


def _memlock(libbpf: Libbpf, privileged: Privileges) -> Check:
    """Maps were charged to RLIMIT_MEMLOCK before commit d5299b67dd59 (v5.11).

    Asks for a helper that came with the same release, as libbpf does.
    """
    calls = libbpf.calls
    types = calls.btf__load_vmlinux_btf()
    charged_to_cgroup = types is not None and (
        calls.btf__find_by_name_kind(types, b"bpf_ktime_get_coarse_ns", BTF_KIND_FUNC) > 0
    )
    calls.btf__free(types)
    if charged_to_cgroup:
        return Check("RLIMIT_MEMLOCK", State.OK, "does not matter: this kernel charges the cgroup")
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY or privileged.has("CAP_SYS_RESOURCE"):
        return Check("RLIMIT_MEMLOCK", State.OK, "unlimited, or can be raised")
    advice = "`ulimit -l unlimited`, or LimitMEMLOCK=infinity in the unit"
    return Check("RLIMIT_MEMLOCK", State.DEGRADED, f"{soft} bytes may be too little", advice)


def _jit() -> Check:
    if _read("/proc/sys/net/core/bpf_jit_enable").strip() == "0":
        advice = "`sysctl net.core.bpf_jit_enable=1`"
        return Check("eBPF compiler", State.DEGRADED, "off, so programs are interpreted", advice)
    return Check("eBPF compiler", State.OK, "on, or built in")


def _statistics(libbpf: Libbpf, privileged: Privileges) -> Check:
    try:
        os.close(enable_statistics(libbpf))
    except BpfError as error:
        if not privileged.enough:
            return Check("run-time stats", State.UNKNOWN, ONLY_ROOT)
        found = f"refused ({os.strerror(error.errno)})"
        advice = "needs CAP_SYS_ADMIN; without it the cost of the programs is not known"
        return Check("run-time stats", State.DEGRADED, found, advice)
    return Check("run-time stats", State.OK, "can be switched on (BPF_ENABLE_STATS)")


def _tracepoints(found: Diagnosis, libbpf: Libbpf, privileged: Privileges) -> Tracepoints | None:
    try:
        tracepoints = Tracepoints(libbpf)
    except (BpfError, OSError) as error:
        check = Check("tracefs", State.MISSING, *_said(error))
        if not privileged.enough:
            check = Check("tracefs", State.UNKNOWN, ONLY_ROOT)
        found.checks.append(check)
        return None
    found.checks.append(Check("tracefs", State.OK, tracepoints.where))
    return tracepoints


def _perf_events(libbpf: Libbpf, tracepoints: Tracepoints) -> Check:
    try:
        os.close(open_tracepoint(libbpf, tracepoints.id("syscalls/sys_exit_execveat")))
    except (BpfError, OSError, ValueError) as error:
        return Check("perf events", State.MISSING, *_said(error))
    return Check("perf events", State.OK, "can be opened on tracepoints")


def _kernel_tables(privileged: Privileges) -> Check:
    """Whether it can be seen that somebody has changed the kernel's own pointers."""
    if not privileged.enough:
        return Check("kernel tables", State.UNKNOWN, ONLY_ROOT)
    with closing(Addresses()) as addresses:
        try:
            tables = addresses.read().tables
        except BpfError as error:
            return Check("kernel tables", State.DEGRADED, *_said(error))
    count = sum(table.pointers for table in tables)
    return Check("kernel tables", State.OK, f"{len(tables)} with {count} pointers are looked at")


def _object(found: Diagnosis, libbpf: Libbpf, path: Path) -> BpfObject | None:
    try:
        opened = BpfObject(libbpf, path)
        opened.btf_bytes()
    except BpfError as error:
        advice = "`make build` makes it; a package brings it along"
        found.checks.append(Check("eBPF object", State.MISSING, str(error), advice, error.log))
        return None
    found.checks.append(Check("eBPF object", State.OK, str(path)))
    return opened


def _hooks(
    found: Diagnosis,
    opened: BpfObject,
    types: KernelTypes,
    tracepoints: Tracepoints,
    *,
    trampolines: bool,
) -> list[Hook]:
    try:
        hooks = plan(opened, types, tracepoints, EVENTS, trampolines=trampolines)
    except (StartError, OSError, KeyError) as error:
        found.checks.append(Check("hooks", State.MISSING, *_said(error)))
        return []
    missing = [hook for hook in hooks if hook.missing]
    state = State.DEGRADED if any(_is_bare(kind, hooks) for kind in EVENTS) else State.OK
    there = f"{len(hooks) - len(missing)} of {len(hooks)}"
    found.checks.append(Check("hooks", state, there))
    for hook in missing:
        place = hook.section.rpartition("/")[2]
        advice = "" if _is_bare(hook.kind, hooks) else "no loss where the call does not exist"
        found.checks.append(Check(place, State.DEGRADED, hook.missing or "", advice))
    return hooks


def _is_bare(kind: str, hooks: Iterable[Hook]) -> bool:
    return all(hook.missing for hook in hooks if hook.kind == kind)


def _load(found: Diagnosis, opened: BpfObject, libbpf: Libbpf, settings: KernelConfig) -> None:
    """Load all programs as a run does, without attaching any."""
    high, bulk = settings.high_ring_bytes, settings.bulk_ring_bytes
    try:
        controller = controller_of(settings.cgroups)
        with load_kernel(
            opened,
            libbpf,
            Rules(kinds=list(EVENTS)),
            high_ring_bytes=high,
            bulk_ring_bytes=bulk,
            argv_bytes=settings.argv_bytes,
            controller=controller,
        ) as kernel:
            loaded = sum(not hook.missing for hook in kernel.hooks)
            found.checks += [
                Check("programs", State.OK, f"{loaded} pass the verifier"),
                Check("rings", State.OK, f"{_size(high)} and {_size(bulk)}"),
                Check("cgroups", State.OK, f"v1 ({controller})" if controller else "v2"),
                _process_list(kernel),
            ]
            found.memory_bytes = map_memory(libbpf)
    except BpfError as error:
        found.checks.append(Check("programs", State.MISSING, *_refusal(error), error.log))
    except StartError as error:
        found.checks.append(Check("programs", State.MISSING, *_said(error)))


def _refusal(error: BpfError) -> tuple[str, str]:
    """What the kernel said, and libbpf's first line about it."""
    first = error.log.partition("\n")[0].removeprefix("libbpf: ")
    if not error.errno:
        return str(error), first
    return f"refused ({os.strerror(error.errno)})", first


def _process_list(kernel: Kernel) -> Check:
    try:
        count = sum(1 for _ in kernel.decoder.decode_listing(kernel.loaded.iterate(LISTING), 0))
    except BpfError as error:
        advice = "no harm: /proc serves instead, with less about each process"
        return Check("process list", State.DEGRADED, _refusal(error)[0], advice, error.log)
    except (BadRecord, OSError) as error:
        return Check("process list", State.DEGRADED, str(error), "build it again: `make build`")
    return Check("process list", State.OK, f"{count} processes, by a task iterator")


def _probes(found: Diagnosis, libbpf: Libbpf, path: Path) -> bool:
    """Whether the better family of hooks can be used."""
    checks = [_probe(libbpf, path, program, name) for program, name in PROBES.items()]
    found.checks += checks
    if checks[0].state is State.OK:
        return True
    found.why_no_trampolines = checks[0].found
    return False


def _probe(libbpf: Libbpf, path: Path, program: str, name: str) -> Check:
    try:
        runs = count_runs(libbpf, path, program)
    except (BpfError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else os.strerror(error.errno)
        guess = REFUSALS.get(error.errno or 0, "--debug says more")
        log = error.log if isinstance(error, BpfError) else ""
        return Check(name, State.DEGRADED, f"refused ({reason}): {guess}", WITHOUT_PROBE, log)
    if runs == 0:
        advice = "boot with bpf in the list lsm=" if program == "probe_lsm" else WITHOUT_PROBE
        return Check(name, State.DEGRADED, "attaches but is never called", advice)
    return Check(name, State.OK, "loads, attaches and runs" if runs else "loads and attaches")


def _coverage(kind: str, hooks: Iterable[Hook], can_run: bool) -> Coverage:
    own = [hook for hook in hooks if hook.kind == kind]
    there = [hook.program for hook in own if not hook.missing]
    if not there:
        reason = next((hook.missing for hook in own if hook.missing), None)
        return Coverage(kind, State.MISSING, "", [], reason or "no hook can be used")
    family = family_of(own) or ""
    limit = _limit(kind, family)
    notes = [limit] if limit else []
    notes += [hook.missing for hook in own if hook.missing]
    state = State.OK if can_run else State.UNKNOWN
    return Coverage(kind, state, family, there, "; ".join(notes))


def _limit(kind: str, family: str) -> str:
    """What passes by the hooks of a kind; empty when nothing does."""
    if family == TRACEPOINT:
        return LIMITS.get(kind, BY_CALL)
    if family == TRAMPOLINE:
        return LIMITS_OF_TRAMPOLINES.get(kind, BY_FUNCTION)
    return ""


def _not_served(found: Diagnosis) -> Diagnosis:
    """No kind can be said to work."""
    for kind in EVENTS:
        programs = [program for program, served in SERVES.items() if served == kind]
        note = "see the checks above"
        found.kinds.append(Coverage(kind, State.UNKNOWN, TRACEPOINT, programs, note))
    return found


def _said(error: Exception) -> tuple[str, str]:
    """An error's sentence, split into what was found and what to do about it."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}", ""
    found, _, advice = str(error).partition(": ")
    return found, advice


def _size(size_bytes: int) -> str:
    """Bytes for people."""
    if size_bytes >= 1 << 20:
        return f"{size_bytes / (1 << 20):.3g} MiB"
    return f"{size_bytes / 1024:.3g} KiB"


def _read(path: str) -> str:
    """A small file of the kernel; empty when it cannot be read."""
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError):
        return ""
