# SPDX-License-Identifier: Apache-2.0
"""What a line for people says about each kind of event.

22:56:09.123 open    python3[77]        /etc/passwd O_RDONLY|O_CLOEXEC = 3
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final, Protocol, get_type_hints, runtime_checkable

from nodeagent.encode import error_name
from nodeagent.event import (
    Accept,
    AgentEvent,
    Bind,
    Bpf,
    CapabilitySets,
    Capset,
    Chmod,
    Chown,
    Chroot,
    Connect,
    Container,
    Dns,
    Dup,
    Endpoint,
    Event,
    Exec,
    Exit,
    Fork,
    Ids,
    IoUring,
    KernelHook,
    Keyctl,
    Kill,
    Link,
    Listen,
    Memfd,
    Mmap,
    Module,
    Mount,
    Mprotect,
    Network,
    NewCgroup,
    OlderSocket,
    Open,
    PivotRoot,
    Ptrace,
    Rename,
    Sendto,
    Setns,
    Setuid,
    Socket,
    SocketFilter,
    Symlink,
    Targeted,
    Umount,
    Unlink,
    Unshare,
    Userfaultfd,
    VmRead,
    VmWrite,
)
from nodeagent.field import UNKNOWN_ID
from nodeagent.finding import Finding, Severity
from nodeagent.harmless import cut, harmless
from nodeagent.names import IO_URING_OPERATIONS, PROTECTIONS
from sinks.layout import Said, Style, lay_out

__all__ = ["pretty"]

COMM_COLUMNS: Final = 15

MILLISECONDS: Final = 1000
"""In a second."""

LAST_TIME_NS: Final = 1 << 62
"""In the year 2116."""

ASKED: Final[Mapping[str, tuple[str, ...]]] = {
    "setuid": ("asked_effective",),
    "setgid": ("asked_effective",),
    "setreuid": ("asked_real", "asked_effective"),
    "setregid": ("asked_real", "asked_effective"),
    "setresuid": ("asked_real", "asked_effective", "asked_saved"),
    "setresgid": ("asked_real", "asked_effective", "asked_saved"),
    "setfsuid": ("asked_fs",),
    "setfsgid": ("asked_fs",),
}
"""The arguments of the calls that change ids."""

UNDER_WAY: Final = frozenset({"EINPROGRESS", "EAGAIN"})
"""Errors of calls that do not wait: nothing went wrong."""


def pretty(item: Event | AgentEvent | Finding, style: Style, width: int | None) -> str:
    """`item` as a line without its end, in at most `width` columns (None: any number)."""
    said = _SAY.get(type(item), _unknown)(item)
    if isinstance(item, Finding):
        return lay_out(_clock(item.last_seen), "finding", said, style, width)
    if isinstance(item, Event) and item.process is not None and item.process.container:
        place = _place(item.process.container)
        said = said._replace(detail=f"{said.detail} in {place}".lstrip())
    kind = "agent" if isinstance(item, AgentEvent) else item.kind
    return lay_out(_clock(item.time), kind, said, style, width)


def _place(container: Container) -> str:
    """The pod and the container, or as much of them as is known."""
    pod = container.pod
    names = [pod.namespace, pod.name] if pod is not None else []
    names.append("sandbox" if container.sandbox else container.name or container.id[:12])
    return harmless("/".join(name for name in names if name))


def _clock(time_ns: int) -> str:
    # A damaged recording may hold a time that no calendar has.
    second, nanosecond = divmod(min(max(time_ns, 0), LAST_TIME_NS), 1_000_000_000)
    clock = time.strftime("%H:%M:%S", time.localtime(second))
    return f"{clock}.{nanosecond // 1_000_000:03d}"


def _actor(event: Event) -> str:
    if event.process is None:
        return f"?[{event.tid}]"
    task = event.process.task
    return f"{cut(harmless(task.comm), COMM_COLUMNS)}[{task.pid}]"


def _exec(event: Exec) -> Said:
    program = event.path or event.filename
    words = [f"{name}={_quote(value)}" for name, value in event.environment.items()]
    words.append(_quote(program))
    if event.argv and _base(event.argv[0]) != _base(program):
        words.append(f"(as {_quote(_base(event.argv[0]))})")
    words += map(_quote, event.argv[1:])
    if event.argc > len(event.argv) or _is_truncated(event, "argv"):
        words.append("…")
    outcome, bad = _result(event)
    return Said(_actor(event), " ".join(words), "(memfd)" if event.memfd else "", outcome, bad)


def _fork(event: Fork) -> Said:
    flags = _shown(type(event), "flags", event.flags).split("|")
    namespaces = [flag for flag in flags if flag.startswith("CLONE_NEW")]
    return Said(_actor(event), f"→ {event.child.pid}", "|".join(namespaces))


def _exit(event: Exit) -> Said:
    cpu = f"{_duration(event.cpu_ns)} CPU"
    if not event.signal:
        return Said(_actor(event), f"code {event.code}", cpu)
    dumped = ", core dumped" if event.core_dumped else ""
    signal = _shown(type(event), "signal", event.signal)
    return Said(_actor(event), f"signal {signal}{dumped}", cpu, bad=True)


def _open(event: Open) -> Said:
    path = _quote(event.path or event.argument)
    flags = _shown(type(event), "flags", event.flags)
    outcome, bad = _result(event, of_value=True)
    detail = f"{flags} created" if event.created else flags
    return Said(_actor(event), path, detail, outcome, bad, cut_middle=True)


def _rename(event: Rename) -> Said:
    flags = _shown(type(event), "flags", event.flags)
    names = f"{_quote(event.path)} → {_quote(event.new_path)}"
    return Said(_actor(event), names, flags, *_result(event), cut_middle=True)


def _link(event: Link | Symlink) -> Said:
    """As ls(1) shows links."""
    flags = _shown(type(event), "flags", event.flags) if isinstance(event, Link) else ""
    names = f"{_quote(event.path)} → {_quote(event.target)}"
    return Said(_actor(event), names, flags, *_result(event), cut_middle=True)


def _unlink(event: Unlink | Umount) -> Said:
    flags = _shown(type(event), "flags", event.flags)
    return Said(_actor(event), _quote(event.path), flags, *_result(event), cut_middle=True)


def _chmod(event: Chmod) -> Said:
    subject = f"{_quote(event.path)} {event.mode:04o}"
    return Said(_actor(event), subject, "", *_result(event), cut_middle=True)


def _chown(event: Chown) -> Said:
    """As chown(1) takes them: what is not changed is left out."""
    owner = ":".join(
        "" if number == UNKNOWN_ID else str(number) for number in (event.uid, event.gid)
    )
    subject = f"{_quote(event.path)} {owner}"
    return Said(_actor(event), subject, "", *_result(event), cut_middle=True)


def _mount(event: Mount) -> Said:
    source = [f"{_quote(event.source)} →"] if event.source else []
    path = [_quote(event.path)] if event.path else []
    kind = [f"({harmless(event.type)})"] if event.type else []
    flags = [_shown(type(event), name, getattr(event, name)) for name in ("flags", "attributes")]
    cleared = _shown(type(event), "cleared", event.cleared)
    flags += [f"not {cleared}"] if cleared else []
    subject, detail = " ".join([*source, *path, *kind]), " ".join(filter(None, flags))
    return Said(_actor(event), subject, detail, *_result(event), cut_middle=True)


def _pivot_root(event: PivotRoot) -> Said:
    names = f"{_quote(event.path)}, old root {_quote(event.put_old)}"
    return Said(_actor(event), names, "", *_result(event), cut_middle=True)


def _chroot(event: Chroot) -> Said:
    return Said(_actor(event), _quote(event.path), "", *_result(event), cut_middle=True)


def _cgroup(event: NewCgroup) -> Said:
    return Said(_actor(event), _quote(event.path), "", cut_middle=True)


def _ends(event: Network | Sendto, arrow: str) -> list[str]:
    words = [_protocol(event)]
    if event.local is not None:
        words.append(_endpoint(event.local))
    if event.remote is not None:
        words += [arrow, _endpoint(event.remote)]
    return words


def _peers(event: Network, arrow: str) -> str:
    """Both ends of a connection, as far as they are known."""
    words = _ends(event, arrow)
    if event.path or event.name:
        words.append(_quote(event.path or event.name))
    if event.unverified:
        words.append("(unverified)")
    return " ".join(words)


def _connect(event: Network) -> Said:
    outcome, bad = _result(event)
    return Said(_actor(event), _peers(event, "→"), "", outcome, bad)


def _sendto(event: Sendto) -> Said:
    return Said(_actor(event), " ".join(_ends(event, "→")), "")


def _accept(event: Network) -> Said:
    outcome, bad = _result(event, of_value=True)
    return Said(_actor(event), _peers(event, "←"), "", outcome, bad)


def _listen(event: Listen) -> Said:
    outcome, bad = _result(event)
    return Said(_actor(event), _peers(event, "→"), f"backlog {event.backlog}", outcome, bad)


def _older_socket(event: OlderSocket) -> Said:
    peers = _peers(event, "↔") or _shown(OlderSocket, "family", event.family)
    return Said(_actor(event), peers, "" if event.remote else "waits")


def _socket(event: Socket) -> Said:
    fields = ("family", "type", "protocol") if event.protocol else ("family", "type")
    words = [_shown(type(event), field, getattr(event, field)) for field in fields]
    return Said(_actor(event), " ".join(words), "", *_result(event, of_value=True))


def _socket_filter(event: SocketFilter) -> Said:
    kind, option = type(event), _shown(type(event), "option", event.option)
    words = [
        option,
        "→",
        *(_shown(kind, each, getattr(event, each)) for each in ("family", "type")),
    ]
    size = (
        f"program {event.program_id}" if event.program_id else f"{event.instructions} instructions"
    )
    return Said(_actor(event), " ".join(words), size, *_result(event))


def _kernel_hook(event: KernelHook) -> Said:
    where = f"{harmless(event.table)}[{event.index}] → {harmless(event.module) or 'nowhere'}"
    return Said(_actor(event), where, f"{event.address:#x}", bad=True)


def _dup(event: Dup) -> Said:
    words = [str(event.old_fd)]
    if event.process is not None and event.from_pid != event.process.task.pid:
        words.append(f"of {event.from_pid}")
    if event.new_fd != UNKNOWN_ID:
        words += ["→", str(event.new_fd)]
    if event.family:
        words.append(_protocol(event))
    if event.local is not None:
        words.append(_endpoint(event.local))
    if event.remote is not None:
        words += ["→", _endpoint(event.remote)]
    if event.path:
        words.append(_quote(event.path))
    return Said(_actor(event), " ".join(words), "", *_result(event))


def _dns(event: Dns) -> Said:
    message = event.message
    peer = "" if event.remote is None else _endpoint(event.remote)
    way = f"{'←' if event.incoming else '→'} {peer}"
    if message is None:
        end = event.message_offset + len(event.payload)
        part = f"{event.message_offset} to {end} of " if end - event.message_bytes else ""
        return Said(_actor(event), f"{part}{event.message_bytes} bytes {way}")
    asked = "nothing"
    if message.question is not None:
        question = message.question
        kind = _shown(type(question), "type", question.type)
        asked = f"{kind} {harmless(question.name)}"
    if not message.response:
        return Said(_actor(event), f"? {asked} {way}")
    found = ", ".join(harmless(answer.data) for answer in message.answers)
    rcode = _shown(type(message), "rcode", message.rcode)
    outcome = rcode if message.rcode or not found else found
    return Said(_actor(event), f"{asked} {way}", "", f"= {outcome}", bool(message.rcode))


def _mmap(event: Mmap) -> Said:
    what = _quote(event.path) if event.path else "anonymous"
    detail = f"{_rights(event.protection)} {event.length} bytes"
    outcome, bad = _result(event)
    return Said(_actor(event), what, detail, outcome, bad, cut_middle=True)


def _mprotect(event: Mprotect) -> Said:
    what = _quote(event.path) if event.path else _shown(type(event), "region", event.region)
    rights = f"{_rights(event.old_protection)} → {_rights(event.protection)}"
    outcome, bad = _result(event)
    detail = f"{event.length} bytes at {event.address:#x}"
    return Said(_actor(event), f"{what} {rights}", detail, outcome, bad, cut_middle=True)


def _memfd(event: Memfd) -> Said:
    name = "(secret)" if event.secret else _quote(event.name)
    flags = _shown(type(event), "flags", event.flags)
    return Said(_actor(event), name, flags, *_result(event, of_value=True))


def _ptrace(event: Ptrace) -> Said:
    request = _shown(type(event), "request", event.request)
    arrow = "←" if request == "PTRACE_TRACEME" else "→"
    return Said(_actor(event), f"{request} {arrow} {_target(event)}", "", *_result(event))


def _vm_read(event: VmRead) -> Said:
    outcome, bad = _result(event, of_value=True)
    return Said(_actor(event), f"← {_target(event)}", f"{event.address:#x}", outcome, bad)


def _vm_write(event: VmWrite) -> Said:
    outcome, bad = _result(event, of_value=True)
    return Said(_actor(event), f"→ {_target(event)}", f"{event.address:#x}", outcome, bad)


def _userfaultfd(event: Userfaultfd) -> Said:
    flags = _shown(type(event), "flags", event.flags)
    return Said(_actor(event), flags, "", *_result(event, of_value=True))


def _setuid(event: Setuid) -> Said:
    call = _shown(type(event), "call", event.call)
    asked = [getattr(event, argument) for argument in ASKED.get(call, ())]
    words = [call, *("-" if number == UNKNOWN_ID else str(number) for number in asked)]
    changes = [
        f"{name} {old} → {new}"
        for name, old, new in _changes(event.old, event.new)
        if old != UNKNOWN_ID
    ]
    return Said(_actor(event), " ".join(words), ", ".join(changes), *_result(event))


def _capset(event: Capset) -> Said:
    changes = [f"{name} {old:x} → {new:x}" for name, old, new in _changes(event.old, event.new)]
    first, *rest = changes or ["no change"]
    return Said(_actor(event), first, ", ".join(rest), *_result(event))


def _unshare(event: Unshare) -> Said:
    return Said(_actor(event), _shown(type(event), "flags", event.flags), "", *_result(event))


def _setns(event: Setns) -> Said:
    what = f"those of {event.target_pid}" if event.target_pid else "no namespace"
    if event.namespace_type:
        what = f"{harmless(event.namespace_type)}:[{event.inode}]"
    flags = _shown(type(event), "flags", event.flags)
    return Said(_actor(event), what, flags, *_result(event))


def _keyctl(event: Keyctl) -> Said:
    call = _shown(type(event), "call", event.call)
    what = _shown(type(event), "operation", event.operation) if call == "keyctl" else call
    words = [what, *map(_quote, filter(None, (event.type, event.description)))]
    key = f"key {event.key}" if event.key else ""
    return Said(_actor(event), " ".join(words), key, *_result(event, of_value=True))


def _module(event: Module) -> Said:
    words = ["unload" if event.unloaded else "load"]
    words += map(_quote, filter(None, (event.name, event.path)))
    flags = _shown(type(event), "flags", event.flags)
    detail = " ".join(filter(None, (harmless(event.parameters), flags)))
    return Said(_actor(event), " ".join(words), detail, *_result(event), cut_middle=True)


def _bpf(event: Bpf) -> Said:
    command = _shown(type(event), "command", event.command).removeprefix("BPF_")
    names = filter(None, (event.name, event.attach_point, event.pathname))
    details = ["of this agent"] if event.own else []
    if event.program_type != UNKNOWN_ID:
        shown = _shown(type(event), "program_type", event.program_type)
        details.append(shown.removeprefix("BPF_PROG_TYPE_"))
    ids = {"program": event.program_id, "map": event.map_id, "link": event.link_id}
    details += [f"{what} {number}" for what, number in ids.items() if number]
    outcome, bad = _result(event)
    subject = " ".join([command, *map(_quote, names)])
    return Said(_actor(event), subject, " ".join(details), outcome, bad or event.own)


def _kill(event: Kill) -> Said:
    signal = _shown(type(event), "signal", event.signal)
    thread = f"thread {event.target_tid}" if event.target_tid else ""
    return Said(_actor(event), f"{signal} → {_target(event)}", thread, *_result(event))


def _io_uring(event: IoUring) -> Said:
    operation = _shown(type(event), "operation", event.operation).removeprefix("IORING_OP_")
    words = [operation.lower()]
    if event.operation == IO_URING_OPERATIONS.unknown:
        words = ["set up", f"{event.entries} entries"]
    if event.argument or event.path:
        words.append(_quote(event.argument or event.path))
    if event.remote is not None:
        words += ["→", _endpoint(event.remote)]
    outcome, bad = _result(event)
    return Said(_actor(event), " ".join(words), "", outcome, bad)


def _unknown(event: Event) -> Said:
    """A kind for which nobody has written a line yet."""
    common = {*Event.__struct_fields__, "facts"}
    own = [name for name in event.__struct_fields__ if name not in common]
    shown = {name: _shown(type(event), name, getattr(event, name)) for name in own}
    outcome, bad = _result(event)
    return Said(_actor(event), _pairs(shown), "", outcome, bad)


def _agent(event: AgentEvent) -> Said:
    name = event.kind.removeprefix("agent.")
    say = _SAY_OF_AGENT.get(name)
    return say(name, event.details) if say else Said(name, _pairs(event.details), quiet=True)


def _started(name: str, details: Mapping[str, Any]) -> Said:
    version, kernel = details.get("version", "?"), details.get("kernel", "?")
    return Said(name, harmless(f"{version} on Linux {kernel}"), harmless(_gap(details)), quiet=True)


def _gap(details: Mapping[str, Any]) -> str:
    """Since when nothing was seen, and why."""
    previous = details.get("previous")
    if not previous:
        return ""
    ended, seconds = previous.get("ended"), previous.get("gap_seconds", 0)
    return f"{seconds:.1f} s after " + (f"the end by {ended}" if ended else "an end by surprise")


def _named(name: str, details: Mapping[str, Any]) -> Said:
    instance = details.get("instance") or {}
    words = [instance.get("instance_id"), instance.get("region"), details.get("cluster")]
    detail = " ".join(str(word) for word in words if word)
    return Said(name, harmless(str(details.get("name", "?"))), harmless(detail), quiet=True)


def _hashed(name: str, details: Mapping[str, Any]) -> Said:
    hashed = str(details.get("sha256") or f"no hash: {details.get('sha256_missing')}")
    subject, detail = str(details.get("path", "?")), f"{details.get('origin')} {hashed}"
    return Said(name, harmless(subject), harmless(detail), quiet=True)


def _covered(name: str, details: Mapping[str, Any]) -> Said:
    kinds = details.get("kinds", {})
    programs = sum(len(each.get("programs", ())) for each in kinds.values())
    issues = [f"{each['code']} {each['subject']}".strip() for each in details.get("issues", ())]
    outcome = ", ".join(issues)
    subject = f"{programs} hooks for {len(kinds)} kinds"
    why = details.get("why_no_trampolines")
    detail = f"no trampolines ({why})" if why else ""
    said = (harmless(subject), harmless(detail), harmless(outcome))
    return Said(name, *said, bad=bool(issues), quiet=True)


def _levelled(name: str, details: Mapping[str, Any]) -> Said:
    level = details.get("level", 0)
    subject = harmless(f"{level} {details.get('name', '')}")
    return Said(name, subject, harmless(str(details.get("why", ""))), bad=bool(level))


def _counted(name: str, details: Mapping[str, Any]) -> Said:
    kinds, sinks = details.get("kinds"), details.get("sinks")
    lost, dropped = _total(kinds, "lost"), _total(sinks, "dropped")
    seen = f"{_total(kinds, 'seen')} seen,"
    reason = f" ({harmless(str(details['reason']))})" if "reason" in details else ""
    outcome = f"{lost} lost, {dropped} dropped{reason}"
    return Said(name, seen, "", outcome, bad=bool(lost or dropped), quiet=True)


def _finding(finding: Finding) -> Said:
    times = f" ({finding.count} times)" if finding.count > 1 else ""
    subject = f"{harmless(finding.type)}: {harmless(finding.title)}{times}"
    severity = finding.severity
    bad = severity >= Severity.HIGH
    return Said(severity.name.lower(), subject, _pairs(finding.context), bad=bad)


_SAY_OF_AGENT: Final[Mapping[str, Callable[[str, Mapping[str, Any]], Said]]] = {
    "start": _started,
    "node": _named,
    "file": _hashed,
    "coverage": _covered,
    "level": _levelled,
    "ledger": _counted,
    "stop": _counted,
}

_SAY: Final[Mapping[type, Callable[[Any], Said]]] = {
    Exec: _exec,
    Fork: _fork,
    Exit: _exit,
    Open: _open,
    Rename: _rename,
    Link: _link,
    Symlink: _link,
    Unlink: _unlink,
    Chmod: _chmod,
    Chown: _chown,
    Mount: _mount,
    Umount: _unlink,
    PivotRoot: _pivot_root,
    NewCgroup: _cgroup,
    Chroot: _chroot,
    Connect: _connect,
    Sendto: _sendto,
    Bind: _connect,
    Listen: _listen,
    OlderSocket: _older_socket,
    Accept: _accept,
    Socket: _socket,
    SocketFilter: _socket_filter,
    Dup: _dup,
    Dns: _dns,
    Mmap: _mmap,
    Mprotect: _mprotect,
    Memfd: _memfd,
    Ptrace: _ptrace,
    VmRead: _vm_read,
    VmWrite: _vm_write,
    Userfaultfd: _userfaultfd,
    Setuid: _setuid,
    Capset: _capset,
    Unshare: _unshare,
    Setns: _setns,
    KernelHook: _kernel_hook,
    Keyctl: _keyctl,
    Module: _module,
    Bpf: _bpf,
    Kill: _kill,
    IoUring: _io_uring,
    AgentEvent: _agent,
    Finding: _finding,
}


def _result(event: Event, *, of_value: bool = False) -> tuple[str, bool]:
    """What the call returned, and whether that is an error."""
    if event.result < 0:
        name = error_name(event.result)
        return f"= {name}", name not in UNDER_WAY
    return f"= {event.result}" if of_value else "", False


def _is_truncated(event: Event, field: str) -> bool:
    return event.incomplete is not None and field in event.incomplete.truncated


def _quote(word: str) -> str:
    return harmless(shlex.quote(word))


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _rights(protection: int) -> str:
    """As in /proc/PID/maps."""
    if protection == PROTECTIONS.unknown:
        return "?"
    return "".join(letter if protection >> bit & 1 else "-" for bit, letter in enumerate("rwx"))


def _changes(
    old: Ids | CapabilitySets, new: Ids | CapabilitySets
) -> Iterator[tuple[str, int, int]]:
    """What is not as it was: its name and both values."""
    for name in old.__struct_fields__:
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield name, before, after


def _target(event: Targeted) -> str:
    """The other process, by the kernel's pid where it is known."""
    if event.target_process is not None:
        return f"{event.target_process.pid} {_quote(event.target_process.path)}"
    return str(event.target.pid or event.target.passed_pid)


def _pairs(values: Mapping[str, object]) -> str:
    return " ".join(f"{harmless(name)}={harmless(str(value))}" for name, value in values.items())


def _protocol(event: Network | Sendto | Dup) -> str:
    family = _shown(type(event), "family", event.family).removeprefix("AF_").lower()
    protocol = _shown(type(event), "protocol", event.protocol)
    # The numbers mean something else in other families.
    return protocol if family.startswith("inet") and not protocol.isdigit() else family


def _endpoint(end: Endpoint) -> str:
    address = harmless(end.address)
    return f"[{address}]:{end.port}" if ":" in address else f"{address}:{end.port}"


def _duration(nanoseconds: int) -> str:
    milliseconds = nanoseconds / 1_000_000
    if milliseconds >= MILLISECONDS:
        return f"{milliseconds / MILLISECONDS:.1f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 1 else f"{milliseconds:.1f} ms"


def _total(rows: object, column: str) -> int:
    """The sum of a column of the ledger, whose cells are counts or counts by reason."""
    if not isinstance(rows, dict):
        return 0
    cells = [row.get(column, 0) for row in rows.values()]
    return sum(sum(cell.values()) if isinstance(cell, dict) else cell for cell in cells)


@runtime_checkable
class _Marker(Protocol):
    def show(self, value: int) -> object: ...


@cache
def _markers(event: type) -> dict[str, _Marker]:
    """How the fields of an event are shown, as their annotations say."""
    return {
        name: marker
        for name, hint in get_type_hints(event, include_extras=True).items()
        for marker in getattr(hint, "__metadata__", ())
        if isinstance(marker, _Marker)
    }


def _shown(event: type, field: str, value: object) -> str:
    marker = _markers(event).get(field)
    shown = marker.show(value) if marker is not None and isinstance(value, int) else value
    if isinstance(shown, list):
        return "|".join(shown)
    return "?" if shown is None else harmless(str(shown))
