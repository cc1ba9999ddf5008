# SPDX-License-Identifier: Apache-2.0
"""The public schema: an event of each kind, field by field.

bpf/events.h says where the bytes of a record are, the classes here say what they
mean. The two are joined by field name when the object is loaded.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import msgspec

from nodeagent.field import (
    CLONE_FLAGS,
    FAMILIES,
    FILE_TYPES,
    OPEN_FLAGS,
    PROTOCOLS,
    SIGNALS,
    SOCKET_TYPES,
    Address,
    At,
    Comm,
    Device,
    Hidden,
    Id,
    Octal,
    Path,
    Shared,
    Strings,
    Text,
    Variables,
    Yes,
)

__all__ = [
    "EVENTS",
    "TICK_NS",
    "Accept",
    "AgentEvent",
    "Ancestor",
    "Bind",
    "Connect",
    "Credentials",
    "Endpoint",
    "Event",
    "Exec",
    "Exit",
    "Fork",
    "Incomplete",
    "Listen",
    "Namespaces",
    "OlderProcess",
    "Open",
    "Process",
    "ProcessFacts",
    "ProcessSeen",
    "Stream",
    "Task",
]

UserId = Annotated[int, Id()]
PathName = Annotated[str, Path()]


class Endpoint(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """An Internet address and port."""

    address: str
    port: int


class Credentials(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """User and group ids; None where they are not known."""

    uid: UserId
    gid: UserId
    euid: UserId
    egid: UserId


class Stream(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """What a standard stream of a process is connected to."""

    type: Annotated[int, FILE_TYPES]
    remote: Annotated[Endpoint | None, Address()]
    """The peer of a connected Internet socket."""


class Namespaces(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """Inode numbers as in /proc/PID/ns; 0 where the kernel has none."""

    cgroup: int
    ipc: int
    mnt: int
    net: int
    pid: int
    time: int
    user: int
    uts: int


class Task(msgspec.Struct, frozen=True, gc=False):
    """Who did it, as every record says."""

    start_time: Annotated[int, Hidden()]
    """Boot-time clock, ns; together with `pid` the identity of a process."""
    cgroup: Annotated[int, Hidden()]
    pid: int
    parent_pid: int
    uid: int
    gid: int
    euid: int
    egid: int
    login_uid: UserId
    """The user that logged in, whatever su or sudo came after (audit's loginuid)."""
    session_id: UserId
    """Audit's session."""
    exec_id: Annotated[int, Hidden()]
    """Changes with each exec, so it tells the programs of one process apart."""
    comm: Annotated[str, Comm()]


class ProcessFacts(msgspec.Struct, frozen=True, gc=False):
    """What changes rarely in the life of a process."""

    parent_start_time: int
    capabilities: int
    """Effective capabilities, bit n is capability n."""
    namespaces: Annotated[Namespaces, Shared()]
    namespace_pid: int
    """The pid inside its own pid namespace."""
    kernel_thread: Annotated[bool, Yes()]


class Ancestor(msgspec.Struct, frozen=True, gc=False):
    """One step of a lineage."""

    pid: int
    path: str
    start_time: int
    """Boot-time clock, ns."""


class Process(msgspec.Struct, gc=False):
    """A process as it was when it did something."""

    task: Task
    path: str
    """The executable; empty for kernel threads and when it is not known."""
    facts: ProcessFacts | None
    """None when the process was first seen in the middle of its life."""
    lineage: tuple[Ancestor, ...]
    """The parent first, at most 16."""
    json: bytes
    """The same as JSON, made once for many events; see encode.py."""


class Incomplete(msgspec.Struct, frozen=True, gc=False):
    """What a record could not hold."""

    truncated: tuple[str, ...]
    """Fields that were longer than what is given."""
    unread: dict[str, str]
    """Fields that could not be read, with the name of the errno."""


class Event(msgspec.Struct, gc=False):
    """What every kind has in common."""

    kind: ClassVar[str]
    attempt: ClassVar[bool] = True
    """The operation can fail, so its result is shown."""

    time: int
    """Wall clock, ns since 1970."""
    sequence: int
    """Counts the records of this kind on this CPU, so a gap is a lost record."""
    cpu: int
    tid: int
    """The thread that did it."""
    result: int
    """What the system call returned: negative errno when it failed."""
    task: bytes
    """`struct task` as it came, the key under which the process is known."""
    process: Process | None
    """Set by the process enricher."""
    incomplete: Incomplete | None


class Exec(Event):
    """A process runs a new program, or tried to."""

    kind = "exec"

    path: PathName
    """The executable that runs now, for a script its interpreter; empty when it failed."""
    argv: Annotated[tuple[str, ...], Strings()]
    argc: int
    cwd: PathName
    filename: Annotated[str, Text()]
    """As passed to execve(2)."""
    script: Annotated[str, Text()]
    """The file name when it is a script."""
    interpreter: Annotated[str, Text()]
    """What the script's first line names."""
    environment: Annotated[dict[str, str], Variables()]
    """Only LD_PRELOAD and LD_LIBRARY_PATH."""
    inode: Annotated[int, At("file.inode")]
    device: Annotated[int, At("file.device"), Device()]
    mode: Annotated[int, At("file.mode"), Octal()]
    file_uid: Annotated[int, At("owner.uid")]
    file_gid: Annotated[int, At("owner.gid")]
    links: Annotated[int, At("owner.links")]
    """Hard links of the executable; 0 when it was deleted."""
    memfd: Annotated[bool, At("owner.memfd"), Yes()]
    """The executable lives in memory and never had a name."""
    old: Annotated[Credentials, Shared()]
    """Before the call; the new ones are in `process`."""
    stdio: Annotated[tuple[Stream, Stream, Stream], Shared()]
    facts: ProcessFacts


class Fork(Event):
    """A process made another one."""

    kind = "fork"
    attempt = False

    child: Task
    flags: Annotated[int, CLONE_FLAGS]
    facts: ProcessFacts
    """Of the child."""


class Exit(Event):
    """The last thread of a process ended."""

    kind = "exit"
    attempt = False

    code: int
    """As passed to exit(2)."""
    signal: Annotated[int, SIGNALS]
    """The signal that ended it."""
    core_dumped: Annotated[bool, Yes()]
    group_exit: Annotated[bool, Yes()]
    """It ended by exit_group(2) or a fatal signal, not thread by thread."""
    cpu_ns: int
    """User and system time of all its threads."""
    max_rss_bytes: int


class Open(Event):
    """A file was opened, or the attempt failed."""

    kind = "open"

    path: PathName
    """The real path of the file that was opened, through links and mounts."""
    argument: Annotated[str, Text()]
    """What was passed when nothing was opened; from the caller's memory."""
    flags: Annotated[int, OPEN_FLAGS]
    created: Annotated[bool, Yes()]
    inode: Annotated[int, At("file.inode")]
    device: Annotated[int, At("file.device"), Device()]
    mode: Annotated[int, At("file.mode"), Octal()]


class Network(Event):
    """What the kinds about sockets have in common."""

    family: Annotated[int, FAMILIES]
    type: Annotated[int, SOCKET_TYPES]
    protocol: Annotated[int, PROTOCOLS]
    local: Annotated[Endpoint | None, Address()]
    remote: Annotated[Endpoint | None, Address()]
    path: PathName
    """The file of an AF_UNIX socket: the peer's for connect, else its own."""
    name: Annotated[str, Text()]
    """Abstract AF_UNIX name with a leading @, or the name that a failed call passed."""
    fd: int
    backlog: int
    """Of listen(2)."""
    unverified: Annotated[bool, Yes()]
    """The address is what the caller passed, not what the socket holds."""


class Connect(Network):
    """A socket was connected, or the attempt failed or goes on (EINPROGRESS)."""

    kind = "connect"


class Bind(Network):
    """A socket got a local address."""

    kind = "bind"


class Listen(Network):
    """A socket waits for connections."""

    kind = "listen"


class Accept(Network):
    """A connection was accepted."""

    kind = "accept"


class ProcessSeen(Event):
    """A process that was there when the agent looked; fills the process table, never sent."""

    kind = "process"

    path: PathName
    facts: ProcessFacts


TICK_NS: Final = 10_000_000
"""The grain of start times in /proc/PID/stat: USER_HZ is 100 on all architectures we run on."""


class OlderProcess(msgspec.Struct, frozen=True, gc=False):
    """A process as /proc shows it, where the kernel's own list lacks it; never sent."""

    pid: int
    parent_pid: int
    start_time: int
    """Boot-time clock, ns, rounded down to a multiple of `TICK_NS`."""
    path: str
    """The executable; empty when it cannot be read."""


class AgentEvent(msgspec.Struct, gc=False):
    """What the agent says about itself."""

    kind: str
    """`agent.start`, `agent.ledger` or `agent.stop`."""
    time: int
    """Wall clock, ns since 1970."""
    details: dict[str, object]


EVENTS: Final[dict[str, type[Event]]] = {
    event.kind: event for event in (Exec, Fork, Exit, Open, Connect, Bind, Listen, Accept)
}
"""The kinds that can be asked for, by name."""
