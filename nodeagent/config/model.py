# SPDX-License-Identifier: Apache-2.0
"""Every key that there is, with its type, its default and a sentence about it."""

from __future__ import annotations

import mmap
from typing import Annotated, Any, Final, Literal, TypeGuard

import msgspec
from msgspec import Meta
from msgspec.structs import FieldInfo

from nodeagent.detect.reach import Expected
from nodeagent.event import EVENTS
from nodeagent.places import CONTROL, LISTS, SPOOL
from nodeagent.setting import Among
from nodeagent.sink import SinkConfig
from nodeagent.spool import Fsync


def is_struct(hint: object) -> TypeGuard[type[msgspec.Struct]]:
    """Whether a field of this type is a table with keys of its own."""
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def default_of(field: FieldInfo) -> Any:
    """The value of a field that nobody set; the field must not be required."""
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory()


SMALLEST_RING: Final = mmap.PAGESIZE
LARGEST_RING: Final = 1 << 30

RING_BYTES: Final = Among(
    [1 << bit for bit in range(31) if SMALLEST_RING <= 1 << bit <= LARGEST_RING],
    f"a power of two from {SMALLEST_RING} to {LARGEST_RING}",
)


Pattern = Annotated[str, Meta(min_length=1, max_length=500)]
Prefix = Annotated[str, Meta(pattern="^/", max_length=128)]


class KernelConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The eBPF side."""

    high_ring_bytes: Annotated[int, RING_BYTES] = 1 << 20
    """Size of the ring buffer for exec, fork and exit; a power of two."""
    bulk_ring_bytes: Annotated[int, RING_BYTES] = 1 << 23
    """Size of the ring buffer for all other events; a power of two."""
    argv_bytes: Annotated[int, Meta(ge=64, le=8192)] = 4096
    """Copy at most this much of the arguments of a program."""
    dns_ports: Annotated[list[Annotated[int, Meta(ge=1, le=65535)]], Meta(max_length=4)] = (
        msgspec.field(default_factory=lambda: [53])
    )
    """Look for DNS messages in the packets from and to these ports."""
    hooks: Literal["auto", "trampoline", "tracepoint"] = "auto"
    """Which family of hooks to use: trampolines see more and cost other calls nothing, but not
    every kernel takes them; auto tries. Only tracepoints see calls that seccomp refuses."""
    cgroups: Literal["auto", "v1", "v2"] = "auto"
    """In which hierarchy of cgroups to look for containers; auto: in that of version 2
    wherever it is mounted."""
    object: str = ""
    """Path of another eBPF object; empty: the one that comes with the agent."""


class FilterConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What the kernel leaves out, and what it counts instead of reporting."""

    repeated_opens: Literal["count", "report"] = "count"
    """Opens of the same file by the same program that only read: report the first two and
    count the others, since they say nothing new, or report each. Opens that may write
    are always reported."""
    summary_seconds: Annotated[float, Meta(ge=1)] = 5.0
    """Tell how many were counted this often. A count is told at the latest two of these
    later, and a program that has ended is remembered so long."""
    failed_opens: Literal["denied", "all", "none"] = "denied"
    """Which opens that failed to report: those that were refused, since programs look
    for files that do not exist all the time, or all, or none."""
    exclude_uids: list[Annotated[int, Meta(ge=0, lt=1 << 32)]] = []
    """Report nothing that these users do."""
    exclude_cgroups: list[Prefix] = []
    """Report nothing of these cgroups and those below them, as paths from the root of
    their hierarchy, for example /system.slice/backup.service. One that is made while the
    agent runs is left out a second later."""
    exclude_paths: list[Prefix] = []
    """Report no opens of files whose path starts like this; end it with / for a folder."""
    watch_paths: list[Prefix] = []
    """Report each open of files whose path starts like this; the longest prefix decides."""


class ContainersConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Whom to ask what a container is."""

    ask: bool = True
    """Ask the container runtimes; otherwise only the id of a container is known."""
    cri_sockets: list[Prefix] = []
    """Sockets of the CRI (containerd, CRI-O); empty: the usual places."""
    docker_socket: Prefix = "/run/docker.sock"
    """Socket of the Docker Engine, asked when no CRI knows a container."""
    wait_seconds: Annotated[float, Meta(gt=0, le=60)] = 2.0
    """Hold the first events of a new container back for at most this long until it is
    known; then they go on without, marked."""
    wait_events: Annotated[int, Meta(ge=0, le=100_000)] = 1000
    """Hold back at most this many events of one container."""
    labels: list[str] = msgspec.field(
        default_factory=lambda: ["app", "app.kubernetes.io/*", "k8s-app"]
    )
    """Show these labels of pods; * stands for anything."""
    annotations: list[str] = []
    """Show these annotations of pods; * stands for anything."""


class FilesConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What is found out about the files whose code runs."""

    hash: bool = True
    """Hash programs, libraries and kernel modules (SHA-256), and find out where they come
    from. No event waits for it: an agent.file line tells what an event did not know yet."""
    hash_bytes: Annotated[int, Meta(ge=0)] = 256 << 20
    """Do not hash files that are larger."""
    hash_cpu_percent: Annotated[float, Meta(gt=0, le=100)] = 5.0
    """Spend at most this share of one CPU on hashing."""


class NodeConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Which node this is."""

    name: str = ""
    """Its name in every event; empty: the environment's NODE_NAME, else that of the host."""
    cluster: str = ""
    """The cluster that it belongs to; empty: what the tags of the instance tell."""
    instance: Literal["auto", "aws", "none"] = "auto"
    """Ask the metadata service of EC2 who we are; auto: where the firmware says EC2."""
    instance_seconds: Annotated[float, Meta(gt=0, le=60)] = 2.0
    """Wait at most this long for each answer of the metadata service."""
    interfaces: bool = True
    """Tell which network interfaces and addresses there are, and each change of them."""
    metadata_endpoint: str = ""
    """Where the metadata service is; empty: where EC2 has it."""


class NetworkConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What is expected of the network; everything, of whom nothing is said."""

    egress: dict[str, list[str]] = {}
    """Where connections may go: addresses and networks (CIDR), by whom they are for. That is *,
    node, containers, NAMESPACE/WORKLOAD or the path of a program of the node, in which * stands
    for anything; what is said of several of these counts together."""
    ingress: dict[str, list[str]] = {}
    """From where connections may come, in the same way."""

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot be meant."""
        self.expected()

    def expected(self) -> Expected:
        """The same for detection."""
        return Expected(self.egress, self.ingress)


class DetectConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What looks wrong in the stream."""

    findings: bool = True
    """Look for what is wrong, and add findings to the stream."""
    signals: bool = False
    """Show signals, too, that are too weak to be findings."""
    only: bool = False
    """Send findings and what the agent says of itself, but no events."""
    builtin_lists: bool = True
    """Use the short threat lists that come with the agent."""
    update_seconds: Annotated[float, Meta(ge=0)] = 300.0
    """Tell a finding that is seen again at most this often, with its count."""
    sigma: list[Pattern] = []
    """Rules of Sigma: files, or folders with *.yml files, see docs/rules.md."""
    plugins: list[str] = []
    """Ask these detectors, which installed packages bring, too."""
    suppressions: list[str] = []
    """Files with findings that nobody wants to see, see docs/findings.md."""
    lists: dict[str, list[str]] = {}
    """Threat lists of your own, by category: c2, mining, tor, malware …, and trusted, whose entries
    are no threat. Each is a file, or an https:// address from which it is fetched; text, STIX 2.1
    or MISP."""
    lists_seconds: Annotated[float, Meta(ge=10)] = 3600.0
    """Fetch lists this often."""
    lists_ca_file: str = ""
    """Trust these authorities (PEM) for that, instead of those of the system."""
    lists_folder: Prefix = LISTS
    """What was fetched is kept here, for a start without the network."""
    network: NetworkConfig = NetworkConfig()
    """What is expected of the network; everything, of whom nothing is said."""


class RedactConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What no event shows."""

    argv: bool = True
    """Put *** where arguments of programs hold passwords, tokens and keys, and say so by
    `redacted`; detection sees them as they are."""
    patterns: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=500)]], Meta(max_length=100)
    ] = []
    """Regular expressions that find further secrets in an argument: their first group, or
    all that they match."""


class LedgerConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The counts of everything that was seen, sent and lost."""

    interval_seconds: Annotated[float, Meta(ge=0)] = 60.0
    """Write the counts into the stream this often; 0: only at the end."""


class ControlConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """How a running agent is asked what it does."""

    socket: str = CONTROL
    """For `nodeagent status` and `nodeagent top`; only root and the user of the agent may
    ask. Empty: nobody may."""


class MetricsConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The agent's own numbers over HTTP."""

    listen: Annotated[str, Meta(pattern=r"^$|^.+:\d{1,5}$")] = ""
    """Serve /metrics, /healthz and /readyz there, for example 127.0.0.1:9464; there is no
    password, so do not open it to others. Empty: nowhere."""


class BudgetConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What the agent may use; beyond it frequent events are shed, counted and announced."""

    cpu_percent: Annotated[float, Meta(ge=0, le=100)] = 10.0
    """Of one core; 0: no limit. A lower limit of the own cgroup counts, too."""
    memory_bytes: Annotated[int, Meta(ge=0)] = 128 << 20
    """Resident; 0: no limit. Nine tenths of what the own cgroup may hold count, too."""


class CanaryConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Proof that the hooks are alive."""

    interval_seconds: Annotated[float, Meta(ge=0)] = 60.0
    """Do something harmless of each kind this often, and say which hooks did not see it;
    0: never."""


class StateConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What one run tells the next one."""

    file: Annotated[str, Meta(pattern="^(/.*)?$")] = ""
    """Where it is kept how the run before ended, which `agent.start` tells; only one agent at
    a time can use it, another one refuses to start. Empty: nowhere."""
    take_over: bool = False
    """Take over from an agent that has the file, without a gap, instead of refusing to start.
    One that has handed over rests until it is ended, or until the other one has gone: so
    whoever keeps it running does not start it at once again."""


class SpoolConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What sinks could not send yet waits here."""

    folder: Prefix = SPOOL
    """Each sink has a folder in this one; made with mode 0700."""
    fsync: Fsync = "interval"
    """When what was written must be on the disk: whenever the kernel likes, every
    `fsync_seconds`, or before it is sent."""
    fsync_seconds: Annotated[float, Meta(gt=0)] = 1.0
    """How much a power loss may cost with `fsync = "interval"`."""


class SinkSetting(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One sink: where events go."""

    type: str
    """Which kind of sink it is; may be left out when the name of the table says it."""
    config: SinkConfig
    """An instance of the `Config` of that type."""


class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Configuration of nodeagent."""

    kinds: Annotated[list[str], Meta(min_length=1), Among(EVENTS, "known kinds of events")] = (
        msgspec.field(default_factory=lambda: list(EVENTS))
    )
    """Stream these kinds of events."""
    enrichers: list[str] = []
    """Ask these enrichers, which installed packages bring, about each event."""
    shutdown_seconds: Annotated[float, Meta(ge=0)] = 5.0
    """At the end, wait at most this long until the sinks have taken what is queued."""
    kernel: KernelConfig = KernelConfig()
    """The eBPF side."""
    filter: FilterConfig = FilterConfig()
    """What the kernel leaves out, and what it counts instead of reporting."""
    node: NodeConfig = NodeConfig()
    """Which node this is."""
    containers: ContainersConfig = ContainersConfig()
    """Whom to ask what a container is."""
    files: FilesConfig = FilesConfig()
    """What is found out about the files whose code runs."""
    detect: DetectConfig = DetectConfig()
    """What looks wrong in the stream."""
    redact: RedactConfig = RedactConfig()
    """What no event shows."""
    ledger: LedgerConfig = LedgerConfig()
    """The counts of everything that was seen, sent and lost."""
    control: ControlConfig = ControlConfig()
    """How a running agent is asked what it does."""
    metrics: MetricsConfig = MetricsConfig()
    """The agent's own numbers over HTTP."""
    budget: BudgetConfig = BudgetConfig()
    """What the agent may use; beyond it frequent events are shed, counted and announced."""
    canary: CanaryConfig = CanaryConfig()
    """Proof that the hooks are alive."""
    state: StateConfig = StateConfig()
    """What one run tells the next one."""
    spool: SpoolConfig = SpoolConfig()
    """What sinks could not send yet waits here."""
    sinks: dict[str, SinkSetting] = {}
    """Where events go, by a name of your choice; standard output when there is none."""
