# SPDX-License-Identifier: Apache-2.0
"""Whom processes talk to, and what they are told about names."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

import msgspec

from nodeagent.detect import Signal
from nodeagent.detect.catalogue import rule_of_entry
from nodeagent.detect.describe import name_of
from nodeagent.detect.lists import ThreatLists
from nodeagent.detect.recent import Recent
from nodeagent.detect.where import WEB_SERVERS, is_below, is_contained
from nodeagent.dns import DnsMessage
from nodeagent.event import Accept, Contact, Dns, Endpoint, Event, Exec, Listen, Process

__all__ = ["NetworkTalk", "connection_action", "endpoint_action", "request_action"]

METADATA: Final = frozenset({"169.254.169.254", "fd00:ec2::254"})
METADATA_NAMES: Final = (
    ".internal",
    ".amazonaws.com",
    ".amazon.com",
    "metadata.google.internal",
    "instance-data",
)
"""Names that may lead to the metadata service."""
API_NAMES: Final = "kubernetes.default."
"""How pods call the API server, before the domain of the cluster."""
KUBERNETES_PORTS: Final = frozenset({6443, 10250, 10255, 2379})
"""API server, kubelet and etcd; 443 is of everybody."""
NODE_PORTS: Final = range(30000, 32768)
"""Those of services of Kubernetes on each node, unless the cluster says otherwise."""
SSH: Final = "ssh"
SSH_PORT: Final = 22
ADDRESS_TYPES: Final = (1, 28)
"""A and AAAA."""
SCANS_LIMIT: Final = 2048
SCAN_PORTS: Final = 20
"""Different ports of one machine, tried by one process within `SCAN_SECONDS`."""
SCAN_SECONDS: Final = 60
PROTOCOLS: Final = {socket.IPPROTO_TCP: "TCP", socket.IPPROTO_UDP: "UDP"}


class _Scan(msgspec.Struct):
    """Ports of one machine that one process has tried."""

    since: int
    ports: set[int]


class NetworkTalk:
    """Looks up in threat lists, and counts ports."""

    name = "network"
    kinds: ClassVar[tuple[str, ...]] = ("connect", "sendto", "dns", "exec", "listen")

    def __init__(self, lists: ThreatLists) -> None:
        self._lists = lists
        self._scans: Recent[tuple[str, str], _Scan] = Recent(SCANS_LIMIT)

    def inspect(self, event: Event) -> Iterable[Signal]:
        """A connection, a DNS message, or a program with its hash."""
        process = event.process
        if process is None:
            return ()
        if isinstance(event, Contact):
            return () if event.remote is None else self._on_contact(event, process, event.remote)
        if isinstance(event, Dns):
            return () if event.message is None else self._on_dns(event, process, event.message)
        if isinstance(event, Listen):
            return _on_listen(event, process)
        return self.inspect_hash(event)

    def _on_contact(self, event: Contact, process: Process, remote: Endpoint) -> Iterator[Signal]:
        address = remote.address
        for match in self._lists.address(address):
            if rule := rule_of_entry(match.category, "connect"):
                action = connection_action(event, remote)
                yield Signal(rule, event, {}, action, (match.shown(),), key=address)
        if address in METADATA and is_contained(process):
            yield Signal(
                "metadata_access", event, {}, connection_action(event, remote), key=address
            )
        if event.type == socket.SOCK_STREAM:
            yield from _odd_port(event, process, remote)
        yield from self._scan(event, process.uuid, remote)

    def _scan(self, event: Contact, uuid: str, remote: Endpoint) -> Iterator[Signal]:
        address, port = remote.address, remote.port
        scan = self._scans.get((uuid, address))
        if scan is None or event.time - scan.since > SCAN_SECONDS * 1_000_000_000:
            self._scans.put((uuid, address), _Scan(event.time, {port}))
            return
        known = len(scan.ports)
        if known < SCAN_PORTS:
            scan.ports.add(port)
            if known < len(scan.ports) == SCAN_PORTS:
                yield Signal("port_scan", event, {}, connection_action(event, remote), key=address)

    def _on_dns(self, event: Dns, process: Process, message: DnsMessage) -> Iterator[Signal]:
        question = message.question
        name = question.name.lower() if question is not None else ""
        if not message.response:
            if f"{name}.".startswith(API_NAMES) and is_contained(process):
                action = request_action(event, name)
                yield Signal("kubernetes_api_name", event, {}, action, key=name)
            for match in self._lists.domain(name):
                if rule := rule_of_entry(match.category, "dns"):
                    action = request_action(event, name)
                    yield Signal(rule, event, {}, action, (match.shown(),), key=name)
            return
        for answer in message.answers:
            if (
                answer.type in ADDRESS_TYPES
                and answer.data in METADATA
                and not _may_be_metadata(name)
            ):
                yield Signal("metadata_rebind", event, {}, request_action(event, name), key=name)
                return

    def inspect_hash(self, event: Event) -> Iterator[Signal]:
        """A program whose hash is known, at once or later."""
        if not isinstance(event, Exec) or event.file is None or not event.file.sha256:
            return
        for match in self._lists.file(event.file.sha256):
            rule = f"malicious_file{'.Custom' if match.is_custom else ''}"
            shown = {**match.shown(), "threatFileSha256": event.file.sha256}
            context: dict[str, object] = {"threatFilePath": event.path}
            yield Signal(rule, event, context, None, (shown,), key=event.file.sha256)


def _on_listen(event: Listen, process: Process) -> Iterator[Signal]:
    """What a web server starts answers it, and nobody else."""
    local = event.local
    if local is None or name_of(process.path) in WEB_SERVERS or not is_below(process, WEB_SERVERS):
        return
    yield Signal("server_listener", event, key=f"port {local.port}")


def _odd_port(event: Contact, process: Process, remote: Endpoint) -> Iterator[Signal]:
    """Of SSH, and those of Kubernetes for what runs in a container."""
    key = f"port {remote.port} of {remote.address}"
    if name_of(process.path) == SSH and remote.port != SSH_PORT:
        yield Signal("ssh_port", event, {}, connection_action(event, remote), key=key)
    elif remote.port in KUBERNETES_PORTS and is_contained(process):
        yield Signal("kubernetes_api", event, {}, connection_action(event, remote), key=key)
    elif remote.port in NODE_PORTS and is_contained(process):
        yield Signal("node_port", event, {}, connection_action(event, remote), key=key)


def _may_be_metadata(name: str) -> bool:
    return any(name == each or name.endswith(each) for each in METADATA_NAMES)


def connection_action(event: Contact | Accept, remote: Endpoint) -> dict[str, object]:
    """As findings show a connection."""
    local = event.local
    version = "ipAddressV6" if ":" in remote.address else "ipAddressV4"
    shown: dict[str, object] = {
        "blocked": False,
        "connectionDirection": "INBOUND" if isinstance(event, Accept) else "OUTBOUND",
        "protocol": PROTOCOLS.get(event.protocol, str(event.protocol)),
        "remoteIpDetails": {version: remote.address},
        "remotePortDetails": {"port": remote.port},
    }
    if local is not None:
        shown["localPortDetails"] = {"port": local.port}
        shown["localIpDetails"] = {version: local.address}
    return {"actionType": "NETWORK_CONNECTION", "networkConnectionAction": shown}


def endpoint_action(
    remote: Endpoint, direction: str
) -> tuple[dict[str, object], dict[str, object]]:
    """A TCP connection of which only the other end is known: the action and its context."""
    is_new = ":" in remote.address
    version = "ipAddressV6" if is_new else "ipAddressV4"
    action: dict[str, object] = {
        "actionType": "NETWORK_CONNECTION",
        "networkConnectionAction": {
            "connectionDirection": direction,
            "protocol": "TCP",
            "remoteIpDetails": {version: remote.address},
            "remotePortDetails": {"port": remote.port},
        },
    }
    context: dict[str, object] = {
        "addressFamily": "AF_INET6" if is_new else "AF_INET",
        "ianaProtocolNumber": int(socket.IPPROTO_TCP),
    }
    return action, context


def request_action(event: Dns, name: str) -> dict[str, object]:
    """As findings show a DNS request."""
    shown = {
        "domain": name,
        "protocol": PROTOCOLS.get(event.protocol, str(event.protocol)),
        "blocked": False,
    }
    return {"actionType": "DNS_REQUEST", "dnsRequestAction": shown}
