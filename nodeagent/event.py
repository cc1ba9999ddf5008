# SPDX-License-Identifier: Apache-2.0
"""The public schema: an event of each kind, field by field.

bpf/events.h says where the bytes of a record are, the classes here say what they
mean. The two are joined by field name when the object is loaded.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, ClassVar, Final

import msgspec

from nodeagent.dns import DnsMessage, read_dns
from nodeagent.field import (
    Address,
    At,
    Comm,
    Device,
    Found,
    Hidden,
    Id,
    Moment,
    Octal,
    Parsed,
    Path,
    Raw,
    Shared,
    Strings,
    Target,
    Text,
    Variables,
    Yes,
)
from nodeagent.names import (
    AT_FLAGS,
    BPF_ATTACH_TYPES,
    BPF_COMMANDS,
    BPF_PROGRAM_TYPES,
    CLONE_FLAGS,
    FAMILIES,
    FILE_TYPES,
    IO_URING_FLAGS,
    IO_URING_OPERATIONS,
    KEY_CALLS,
    KEYCTL_OPERATIONS,
    MAP_FLAGS,
    MEMFD_FLAGS,
    MODULE_FLAGS,
    MOUNT_ATTRIBUTES,
    MOUNT_CALLS,
    MOUNT_FLAGS,
    OPEN_FLAGS,
    PERSONALITY,
    PROTECTIONS,
    PROTOCOLS,
    PTRACE_REQUESTS,
    REGIONS,
    RENAME_FLAGS,
    SETUID_CALLS,
    SIGNALS,
    SOCKET_FILTERS,
    SOCKET_TYPES,
    UMOUNT_FLAGS,
    UNLINK_FLAGS,
    USERFAULTFD_FLAGS,
)

__all__ = [
    "EVENTS",
    "HIGH_VALUE",
    "PENDING",
    "TICK_NS",
    "Accept",
    "AgentEvent",
    "Ancestor",
    "Bind",
    "Bpf",
    "Brief",
    "CapabilitySets",
    "Capset",
    "Changing",
    "Chmod",
    "Chown",
    "Chroot",
    "Code",
    "Connect",
    "Contact",
    "Container",
    "Credentials",
    "Dns",
    "Dup",
    "EcsTask",
    "Endpoint",
    "Event",
    "Exec",
    "Exit",
    "FileFacts",
    "Fork",
    "Ids",
    "Incomplete",
    "Instance",
    "Interface",
    "IoUring",
    "KernelHook",
    "Keyctl",
    "Kill",
    "Link",
    "Listen",
    "Memfd",
    "Mmap",
    "Module",
    "Mount",
    "Mprotect",
    "Namespaces",
    "Network",
    "NewCgroup",
    "OlderProcess",
    "OlderSocket",
    "Open",
    "Other",
    "PivotRoot",
    "Pod",
    "Process",
    "ProcessFacts",
    "ProcessSeen",
    "Ptrace",
    "Rename",
    "Sendto",
    "Setns",
    "Setuid",
    "Socket",
    "SocketFilter",
    "Stream",
    "Symlink",
    "Targeted",
    "Task",
    "Umount",
    "Unlink",
    "Unshare",
    "Userfaultfd",
    "VmRead",
    "VmWrite",
    "Workload",
]

UserId = Annotated[int, Id()]
PathName = Annotated[str, Path()]
TargetName = Annotated[str, Target()]
Flag = Annotated[bool, Yes()]


class Endpoint(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """An Internet address and port; of IPv4 also where a socket of IPv6 has one (::ffff:0:0/96)."""

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
    inode: int = 0
    """Of a pipe, the same at its other end; 0 for others."""


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
    uuid: str
    namespace_pid: int | None
    """The pid inside its own pid namespace; None when it is not known."""
    uid: int | None
    """As it was when it made the next process of the lineage; None when it is not known."""
    euid: int | None
    of_host: Annotated[bool, Hidden()] = True
    """As for `Process`."""
    script: Annotated[str, Hidden()] = ""
    """As for `Process`."""


class Brief(msgspec.Struct, frozen=True, gc=False):
    """Which process it is."""

    pid: int
    path: str
    start_time: int
    """Boot-time clock, ns."""
    uuid: str
    json: str
    """The same as JSON, made once; see encode.py."""
    of_host: Annotated[bool, Hidden()] = True
    """As for `Process`."""
    script: Annotated[str, Hidden()] = ""
    """As for `Process`."""


class Workload(msgspec.Struct, frozen=True, gc=False):
    """What a pod belongs to, as its labels say."""

    kind: str
    """Deployment, StatefulSet, DaemonSet or Job."""
    name: str


class Pod(msgspec.Struct, frozen=True, gc=False):
    """A pod of Kubernetes."""

    name: str
    namespace: str
    uid: str
    sandbox_id: str
    """Of the container that holds its namespaces."""
    labels: dict[str, str] = {}
    """Those that `containers.labels` allows."""
    annotations: dict[str, str] = {}
    """Those that `containers.annotations` allows."""
    workload: Workload | None = None


class EcsTask(msgspec.Struct, frozen=True, gc=False):
    """A task of Amazon ECS."""

    arn: str
    cluster: str
    family: str


class Container(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where a process runs. What is not known is empty."""

    id: str
    runtime: str
    """containerd, cri-o, docker, podman; empty when the path of the cgroup does not tell."""
    enrichment: str
    """complete; timeout: the runtime did not answer in time; unknown: nobody knows more."""
    name: str = ""
    image: str = ""
    image_digest: str = ""
    created: str = ""
    """RFC 3339 in UTC."""
    sandbox: bool = False
    """It only holds the namespaces of its pod."""
    pod: Pod | None = None
    ecs: EcsTask | None = None


class Process(msgspec.Struct, gc=False):
    """A process as it was when it did something."""

    task: Task
    path: str
    """The executable; empty for kernel threads and when it is not known."""
    facts: ProcessFacts | None
    """None when the process was first seen in the middle of its life."""
    lineage: tuple[Ancestor, ...]
    """The parent first, at most 16."""
    uuid: str
    """Of the process, whatever program it runs; see enrich/identity.py."""
    json: bytes
    """The same as JSON, made once for many events; see encode.py."""
    container: Container | None = None
    """None outside of containers."""
    user: str = ""
    """The name of the user `uid`, as the passwd in the root of the process has it."""
    user_is_of_host: bool = False
    """That passwd is the one of the host."""
    of_host: bool = True
    """Its program was started among the pids of the node, and not in a container.

    So its path is one of the node, also when the process is in a container by now, like what
    makes these. For detectors only, no line shows it.
    """
    script: str = ""
    """The script that the kernel was given to run; `path` is its interpreter.

    Only where it was named from the root, without `..` in it, so that it is what it says. For
    detectors only, no line shows it.
    """


class Incomplete(msgspec.Struct, frozen=True, gc=False):
    """What a record could not hold."""

    truncated: tuple[str, ...]
    """Fields that were longer than what is given."""
    unread: dict[str, str]
    """Fields that could not be read, with the name of the errno."""
    redacted: tuple[str, ...] = ()
    """Fields with `***` where a secret was."""


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
    added: dict[str, object] | None
    """What enrichers of others know about it, by their names."""

    def add(self, name: str, value: object) -> None:
        """Show a value, anything that JSON can hold, as `added.NAME` in the line."""
        if self.added is None:
            self.added = {}
        self.added[name] = value


PENDING: Final = "pending"
"""Why there is no hash: somebody was asked, and has not answered yet."""


class FileFacts(msgspec.Struct, frozen=True, gc=False):
    """What is found out about a file whose code runs."""

    sha256: str
    """In hexadecimal; empty when it is not known."""
    sha256_missing: str
    """Why it is not known; empty when it is.

    pending: an `agent.file` line will tell; gone: nothing has this content any more; too
    large; unreadable; stuck: the file system does not answer; busy: too many at once; off.
    """
    origin: str
    """Where the file comes from.

    image: of the container; upper: made or changed since the container started; volume:
    mounted into the container; tmpfs; memfd; host: outside of containers; unknown.
    """
    modified_by: Brief | None
    """Who opened it to write, made or renamed it last, as far as the stream showed it."""
    modified_at: int
    """When that was, ns since 1970; 0: not known."""
    json: str
    """The same as JSON, made once; see encode.py."""


class Code(Event):
    """What the kinds about code in a file have in common."""

    path: PathName
    """The file; for exec the program that runs now, for a script its interpreter.

    Empty when it failed, for memory without a file, and for a module that came without one.
    """
    inode: Annotated[int, At("file.inode")]
    device: Annotated[int, At("file.device"), Device()]
    mode: Annotated[int, At("file.mode"), Octal()]
    file_bytes: Annotated[int, At("version.bytes")]
    """Its size."""
    file_changed: Annotated[int, At("version.changed_ns"), Moment()]
    """When its content or inode changed last (ctime)."""
    file: Annotated[FileFacts | None, Found()]
    """What is found out about it; None without a file."""


INTERPRETERS: Final = re.compile(
    r"(?:python|perl|ruby|node|php|lua|sh|bash|dash|ash|zsh|ksh|mksh)[\d.]*"
)
CODE_ELSEWHERE: Final = frozenset({"-", "--eval", "--print"})
WITH_VALUE: Final = frozenset({"-o", "+o", "-O", "+O", "-W", "-X", "--rcfile", "--init-file"})
"""Options of interpreters whose value is the next word."""


class Exec(Code):
    """A process runs a new program, or tried to."""

    kind = "exec"

    argv: Annotated[tuple[str, ...], Strings()]
    argc: int
    cwd: PathName
    filename: Annotated[str, Text()]
    """As passed to execve(2)."""
    script: Annotated[str, Text()]
    """The file name when it is a script."""
    script_file: Annotated[FileFacts | None, Found()]
    """Who wrote the script; it is not hashed. None when nobody was seen, and for others.

    For detectors only, no line shows it.
    """
    interpreter: Annotated[str, Text()]
    """What the script's first line names."""
    environment: Annotated[dict[str, str], Variables()]
    """Only LD_PRELOAD and LD_LIBRARY_PATH."""
    file_uid: Annotated[int, At("owner.uid")]
    file_gid: Annotated[int, At("owner.gid")]
    links: Annotated[int, At("owner.links")]
    """Hard links of the executable; 0 when it was deleted."""
    memfd: Annotated[bool, At("owner.memfd"), Yes()]
    """The executable lives in memory and never had a name."""
    old: Annotated[Credentials, Shared()]
    """Before the call; the new ones are in `process`."""
    personality: Annotated[int, PERSONALITY]
    """Flags of personality(2) that the program runs with."""
    stdio: Annotated[tuple[Stream, Stream, Stream], Shared()]
    facts: ProcessFacts

    @property
    def absolute_script(self) -> str:
        """The script that the kernel was given, where its name alone says where it lies."""
        name = self.script
        return name if name.startswith("/") and posixpath.normpath(name) == name else ""

    @property
    def script_name(self) -> str:
        """The script as it was passed, also to an interpreter as in `sh x.sh`; empty: none."""
        return self.script or _passed_script(self.path, self.argv)

    @property
    def script_path(self) -> str:
        """Where the script lies; empty when it is none, or cannot be told."""
        name = self.script_name
        if not name or not (self.cwd or name.startswith("/")):
            return ""
        return posixpath.normpath(posixpath.join(self.cwd, name))


def _passed_script(path: str, argv: tuple[str, ...]) -> str:
    """The first word that is no option, unless the code comes from elsewhere."""
    name = posixpath.basename(argv[0] if argv and path.endswith("/busybox") else path)
    if not INTERPRETERS.fullmatch(name):
        return ""
    inline = "cs" if name.rstrip("0123456789.").endswith("sh") else "cmeE"
    words = iter(argv[1:])
    for word in words:
        if word == "--":
            return next(words, "")
        if not word.startswith(("-", "+")):
            return word
        is_short = word[:2] != "--"
        if word in CODE_ELSEWHERE or (is_short and any(each in inline for each in word[1:])):
            return ""
        if word in WITH_VALUE:
            next(words, None)
    return ""


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
    count: int
    """Opens of this file by this program that the event stands for."""
    summary: Flag
    """They are repeats since the last such event; the time is when they were counted up."""


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


class Sendto(Event):
    """A datagram was sent to an address that its socket is not connected to.

    The first one that a socket sends to an address, and for up to 64 other addresses a minute.
    """

    kind = "sendto"
    attempt = False

    family: Annotated[int, FAMILIES]
    type: Annotated[int, SOCKET_TYPES]
    protocol: Annotated[int, PROTOCOLS]
    local: Annotated[Endpoint | None, Address()]
    remote: Annotated[Endpoint | None, Address()]


Contact = Connect | Sendto
"""A process turns to somebody else."""


class Bind(Network):
    """A socket got a local address."""

    kind = "bind"


class Listen(Network):
    """A socket waits for connections."""

    kind = "listen"


class Accept(Network):
    """A connection was accepted."""

    kind = "accept"


class OlderSocket(Network):
    """A socket that was open when the agent started: it is connected, waits, or takes packets."""

    kind = "older_socket"
    attempt = False


class Socket(Event):
    """A socket was made."""

    kind = "socket"

    family: Annotated[int, FAMILIES]
    type: Annotated[int, SOCKET_TYPES]
    protocol: Annotated[int, PROTOCOLS]
    """As passed; 0: the usual one of the type."""


class SocketFilter(Event):
    """A program was attached to a socket that picks its packets, or who gets them."""

    kind = "socket_filter"

    family: Annotated[int, FAMILIES]
    """Of the socket behind the descriptor; AF_UNSPEC when it is none."""
    type: Annotated[int, SOCKET_TYPES]
    protocol: Annotated[int, PROTOCOLS]
    fd: int
    option: Annotated[int, SOCKET_FILTERS]
    """As passed to setsockopt(2)."""
    instructions: int
    """Of a classic filter; from the caller's memory."""
    program_id: int
    """Of eBPF; 0 for a classic filter."""


class Dup(Event):
    """A socket got another descriptor, or one of the standard streams was replaced."""

    kind = "dup"

    old_fd: int
    new_fd: Annotated[int, Id()]
    """None when the call failed."""
    from_pid: int
    """Whose descriptor it was; another process only for pidfd_getfd(2)."""
    family: Annotated[int, FAMILIES]
    """Of the socket behind the descriptor; AF_UNSPEC when it is none."""
    type: Annotated[int, SOCKET_TYPES]
    protocol: Annotated[int, PROTOCOLS]
    local: Annotated[Endpoint | None, Address()]
    remote: Annotated[Endpoint | None, Address()]
    path: PathName
    """Of the file behind the descriptor."""


class Dns(Event):
    """A DNS message was sent or received."""

    kind = "dns"
    attempt = False

    protocol: Annotated[int, PROTOCOLS]
    incoming: Flag
    """It came from the remote end."""
    local: Annotated[Endpoint | None, Address()]
    remote: Annotated[Endpoint | None, Address()]
    message_bytes: int
    """Of the whole message."""
    message_offset: int
    """Where in the message the payload starts; a message over TCP may come in pieces."""
    payload: Annotated[bytes, Raw()]
    message: Annotated[
        DnsMessage | None, Parsed(read_dns, ("payload", "message_offset", "message_bytes"))
    ]
    """What it says; None when it is no DNS message, or not the start of one."""


class Rename(Event):
    """A file got another name."""

    kind = "rename"

    path: Annotated[str, At("old"), Target()]
    new_path: Annotated[str, At("new"), Target()]
    flags: Annotated[int, RENAME_FLAGS]
    unverified: Flag
    """The paths are what the caller passed, not what the kernel resolved."""


class Link(Event):
    """A file got a second name."""

    kind = "link"

    path: Annotated[str, At("link"), Target()]
    """The new name."""
    target: TargetName
    """The name that was there already."""
    flags: Annotated[int, AT_FLAGS]
    unverified: Flag
    """The paths are what the caller passed, not what the kernel resolved."""


class Symlink(Event):
    """A symbolic link was made."""

    kind = "symlink"

    path: Annotated[str, At("link"), Target()]
    target: Annotated[str, Text()]
    """What the link says."""
    unverified: Flag
    """The path is what the caller passed, not what the kernel resolved."""


class Unlink(Event):
    """A name of a file, or an empty folder, was removed."""

    kind = "unlink"

    path: Annotated[str, At("file"), Target()]
    flags: Annotated[int, UNLINK_FLAGS]
    unverified: Flag
    """The path is what the caller passed, not what the kernel resolved."""


class Chmod(Event):
    """The permissions of a file were changed."""

    kind = "chmod"

    path: Annotated[str, At("file"), Target()]
    mode: Annotated[int, Octal()]
    """The new permissions."""
    unverified: Flag
    """The path is what the caller passed, not what the kernel resolved."""


class Chown(Event):
    """The owner of a file was changed."""

    kind = "chown"

    path: Annotated[str, At("file"), Target()]
    uid: UserId
    """The new owner; None: not changed."""
    gid: UserId
    """The new group; None: not changed."""
    unverified: Flag
    """The path is what the caller passed, not what the kernel resolved."""


class Mount(Event):
    """A file system was mounted, moved or changed."""

    kind = "mount"

    source: Annotated[str, Target()]
    """A device, a folder, or any word."""
    path: Annotated[str, At("target"), Target()]
    """Where it is mounted."""
    type: Annotated[str, Text()]
    """Of the file system."""
    flags: Annotated[int, MOUNT_FLAGS]
    attributes: Annotated[int, MOUNT_ATTRIBUTES]
    """What mount_setattr(2) sets."""
    cleared: Annotated[int, MOUNT_ATTRIBUTES]
    """What mount_setattr(2) clears."""
    call: Annotated[int, MOUNT_CALLS]
    unverified: Flag
    """The path is what the caller passed, not what the kernel resolved."""


class Umount(Event):
    """A file system was unmounted."""

    kind = "umount"

    path: Annotated[str, At("target"), Target()]
    flags: Annotated[int, UMOUNT_FLAGS]
    unverified: Flag
    """The path is what the caller passed, not what the kernel resolved."""


class Mmap(Code):
    """Code was mapped: a file to execute, or memory that can be written and executed."""

    kind = "mmap"

    address: int
    """Where it was mapped, or was to be when the call failed."""
    length: int
    protection: Annotated[int, PROTECTIONS]
    flags: Annotated[int, MAP_FLAGS]


class Mprotect(Event):
    """Memory was made executable."""

    kind = "mprotect"

    address: int
    length: int
    region: Annotated[int, REGIONS]
    """What the first address belongs to."""
    protection: Annotated[int, PROTECTIONS]
    old_protection: Annotated[int, PROTECTIONS]
    """Of the first address; None when it is not known."""
    path: PathName
    """Of the file that is mapped there."""


class Memfd(Event):
    """A file without a name was made in memory."""

    kind = "memfd"

    name: Annotated[str, Text()]
    """Any word, which the caller chose; secret ones have none."""
    flags: Annotated[int, MEMFD_FLAGS]
    fd: Annotated[int, Id()]
    """None when the call failed."""
    secret: Flag
    """Made by memfd_secret(2): not even the kernel reads what it holds."""


class Other(msgspec.Struct, frozen=True, gc=False):
    """Another process as the record names it."""

    start_time: Annotated[int, Hidden()]
    """Boot-time clock, ns; 0 when the hook sees no kernel object."""
    pid: int
    """The kernel's pid; 0 when the hook sees no kernel object."""
    passed_pid: int
    """What was passed; counts in the pid namespace of the caller, and may be negative."""


class Targeted(Event):
    """What the kinds about another process have in common."""

    target: Other
    target_process: Annotated[Brief | None, Found()]
    """The other process, None when it is not known."""


class Ptrace(Targeted):
    """A process took control of another one, changed it, or failed to do so.

    The target is the process that is traced. With PTRACE_TRACEME a process asks to be
    traced itself, and the target is its parent, which becomes the tracer; the number that
    was passed means nothing then.
    """

    kind = "ptrace"

    request: Annotated[int, PTRACE_REQUESTS]
    address: int
    data: int


class VmRead(Targeted):
    """A process reads the memory of another one."""

    kind = "vm_read"

    address: int
    """Where in the other process the first piece starts."""
    flags: int


class VmWrite(Targeted):
    """A process writes into the memory of another one."""

    kind = "vm_write"

    address: int
    """Where in the other process the first piece starts."""
    flags: int


class Changing(Event):
    """What the kinds have in common that change what a process may do or see."""

    facts: ProcessFacts
    """After the call."""


class Ids(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """All user and group ids of a process; None where they are not known."""

    uid: UserId
    gid: UserId
    euid: UserId
    egid: UserId
    suid: UserId
    sgid: UserId
    fsuid: UserId
    fsgid: UserId


class Setuid(Changing):
    """A process changed one of its user or group ids."""

    kind = "setuid"

    call: Annotated[int, SETUID_CALLS]
    old: Annotated[Ids, Shared()]
    new: Annotated[Ids, Shared()]
    asked_real: UserId
    """What was passed, in the user namespace of the caller; None: left as it was."""
    asked_effective: UserId
    asked_saved: UserId
    asked_fs: UserId
    """setfsuid(2) and setfsgid(2) never fail: `new` says whether they did it."""


class CapabilitySets(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """Bit n is capability n."""

    effective: int
    permitted: int
    inheritable: int


class Capset(Changing):
    """A process changed its capabilities."""

    kind = "capset"

    old: Annotated[CapabilitySets, Shared()]
    """All bits set when the start of the call was not seen."""
    new: Annotated[CapabilitySets, Shared()]


class Module(Code):
    """A kernel module was loaded or unloaded."""

    kind = "module"

    name: Annotated[str, Text()]
    parameters: Annotated[str, Text()]
    flags: Annotated[int, MODULE_FLAGS]
    unloaded: Flag


class Bpf(Event):
    """An eBPF program or map was loaded, attached or taken hold of."""

    kind = "bpf"

    command: Annotated[int, BPF_COMMANDS]
    program_type: Annotated[int, BPF_PROGRAM_TYPES]
    attach_type: Annotated[int, BPF_ATTACH_TYPES]
    program_id: int
    map_id: int
    link_id: int
    """These are 0 where there is none."""
    name: Annotated[str, Text()]
    """Of the program or map; at most 15 bytes."""
    attach_point: Annotated[str, Text()]
    """The function or tracepoint, where the kernel knows."""
    pathname: Annotated[str, Text()]
    """Of the pin; from the caller's memory."""
    own: Flag
    """It is about a program or map of this agent."""


class Userfaultfd(Event):
    """A process will handle page faults by itself."""

    kind = "userfaultfd"

    flags: Annotated[int, USERFAULTFD_FLAGS]


class Unshare(Changing):
    """A process left namespaces for new ones of its own."""

    kind = "unshare"

    flags: Annotated[int, CLONE_FLAGS]


class Setns(Changing):
    """A process entered namespaces of others."""

    kind = "setns"

    flags: Annotated[int, CLONE_FLAGS]
    """What was asked for; none: whatever the descriptor is."""
    namespace_type: Annotated[str, Text()]
    """mnt, net, pid …"""
    inode: int
    """As in /proc/PID/ns; 0 for a pidfd."""
    target_pid: int
    """Whose namespaces, for a pidfd."""


class PivotRoot(Event):
    """The root of a mount namespace was replaced."""

    kind = "pivot_root"

    path: Annotated[str, At("new_root"), Target()]
    put_old: TargetName
    unverified: Flag
    """The paths are what the caller passed, not what the kernel resolved."""


class Chroot(Event):
    """A process got another root."""

    kind = "chroot"

    path: Annotated[str, At("root"), Target()]
    unverified: Flag
    """The path is what the caller passed, not what the kernel resolved."""


class Keyctl(Event):
    """A key of the kernel was used or made."""

    kind = "keyctl"

    call: Annotated[int, KEY_CALLS]
    operation: Annotated[int, KEYCTL_OPERATIONS]
    """None for the other calls."""
    key: int
    """Serial of the key that is acted on, or of the keyring that gets a new one; 0: none.

    Negative ones are KEY_SPEC_*, such as the session keyring of the caller, -3.
    """
    type: Annotated[str, Text()]
    description: Annotated[str, Text()]


class IoUring(Event):
    """A ring of io_uring was set up, or did something that a system call could do."""

    kind = "io_uring"

    operation: Annotated[int, IO_URING_OPERATIONS]
    """None: the ring was set up."""
    flags: Annotated[int, IO_URING_FLAGS]
    """Of the ring that was set up."""
    fd: Annotated[int, Id()]
    """The ring, or what the request acts on."""
    entries: int
    """Submissions that fit in the ring that was set up."""
    path: PathName
    """Of the file that the request acts on."""
    argument: Annotated[str, Text()]
    """The file name in the request."""
    remote: Annotated[Endpoint | None, Address()]


class Kill(Targeted):
    """A process sent a signal to another one; to itself is no event, nor is signal 0."""

    kind = "kill"

    signal: Annotated[int, SIGNALS]
    target_tid: int
    """One thread and not all; 0: all."""


class KernelHook(Event):
    """A pointer of the kernel leads out of the kernel's own code, as the agent has seen there."""

    kind = "kernel_hook"
    attempt = False

    table: Annotated[str, Text()]
    """The kernel's name of where the pointer is: `sys_call_table`, `tcp4_seq_ops`."""
    index: int
    """Which pointer of the table; in that of system calls the number of the call."""
    address: int
    """Where it leads."""
    module: Annotated[str, Text()]
    """Whose address that is; empty: of no module that can be seen."""


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


class NewCgroup(Event):
    """A cgroup was made, as for each new container."""

    kind = "new_cgroup"
    attempt = False

    id: int
    """By which events name it, `cgroup_id` of their process."""
    path: Annotated[str, Text()]
    """From the root of its hierarchy."""


class Instance(msgspec.Struct, frozen=True, rename="camel"):
    """What an instance of Amazon EC2 says of itself: its identity document, and its tags."""

    account_id: str
    region: str
    availability_zone: str
    instance_id: str
    instance_type: str
    image_id: str
    tags: dict[str, str] | None = None
    """None when instance metadata may not show them."""
    cluster: str = ""
    """The cluster of Kubernetes that the user data lets it join; empty when it names none."""


class Interface(msgspec.Struct, frozen=True):
    """A network interface of the node."""

    name: str
    mac: str
    up: bool
    addresses: tuple[str, ...]
    """With their prefix length."""


class AgentEvent(msgspec.Struct, gc=False):
    """What the agent says about itself."""

    kind: str
    """`agent.start`, `agent.node`, `agent.coverage`, `agent.file`, `agent.level`,
    `agent.canary`, `agent.clock`, `agent.reload`, `agent.hand_over`, `agent.ledger` or
    `agent.stop`."""
    time: int
    """Wall clock, ns since 1970."""
    details: dict[str, object]


EVENTS: Final[dict[str, type[Event]]] = {
    event.kind: event
    for event in (
        *(Exec, Fork, Exit),
        *(Open, Rename, Link, Symlink, Unlink, Chmod, Chown, Mount, Umount),
        *(Socket, Connect, Sendto, Bind, Listen, Accept, OlderSocket, SocketFilter, Dup, Dns),
        *(Mmap, Mprotect, Memfd, Ptrace, VmRead, VmWrite, Userfaultfd),
        *(Setuid, Capset, Unshare, Setns, PivotRoot, Chroot),
        *(Module, Bpf, KernelHook, Keyctl, IoUring, Kill, NewCgroup),
    )
}
"""The kinds that can be asked for, by name."""

HIGH_VALUE: Final = frozenset(
    {
        *("exec", "fork", "exit", "mount", "umount", "memfd", "ptrace", "vm_read", "vm_write"),
        *("setuid", "capset", "module", "bpf", "userfaultfd", "unshare", "setns", "pivot_root"),
        *("chroot", "keyctl", "kill", "new_cgroup", "socket_filter", "kernel_hook"),
    }
)
"""Rare and precious kinds, as `HIGH_VALUE` in bpf/events.h names them."""
