# SPDX-License-Identifier: Apache-2.0
"""Connections to and from networks that nobody has said to expect."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_network
from typing import ClassVar, Final

from nodeagent.detect import Signal
from nodeagent.detect.network import connection_action
from nodeagent.detect.networks import Networks, networks_of
from nodeagent.detect.recent import Recent
from nodeagent.event import Accept, Connect, Contact, Event, Process

__all__ = ["Expected", "Reach"]

EVERYBODY: Final = "*"
NODE: Final = "node"
CONTAINERS: Final = "containers"
WHOM: Final = f"{EVERYBODY}, {NODE}, {CONTAINERS}, NAMESPACE/WORKLOAD, or the path of a program"

LEFT_OUT: Final = networks_of(
    ("127.0.0.0/8", "::1", "0.0.0.0/32", "::", "255.255.255.255", "224.0.0.0/24", "ff02::/16")
)
"""The machine itself, and what no router lets through to another network."""
PROBES: Final = frozenset({0, 9, 65535})
"""Ports of UDP to which resolvers of names connect, only to learn which address is the best."""
SENT: Final = frozenset(
    {0, errno.EINPROGRESS, errno.EINTR, 512, errno.ECONNREFUSED, errno.ECONNRESET}
    | {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EPERM, errno.EACCES}
)
"""How calls end that have sent something, or were forbidden to; 512 is the kernel's ERESTARTSYS."""

PROGRAMS_LIMIT: Final = 4096
ADDRESSES_LIMIT: Final = 8192
NETWORKS_LIMIT: Final = 16
"""Of one program that are told one by one."""
FURTHER: Final = "many other networks"
AGAIN_NS: Final = 100_000_000
"""A network is told again after this."""
SAME_NETWORK: Final = {4: 24, 6: 64}
"""Addresses with that many bits in common are told as one network."""

Fitting = tuple[Networks, ...]


class Expected:
    """What is said of both directions."""

    def __init__(
        self, egress: Mapping[str, Sequence[str]], ingress: Mapping[str, Sequence[str]]
    ) -> None:
        """By whom; raises ValueError for what says nothing."""
        self.egress = _Direction("egress", egress)
        self.ingress = _Direction("ingress", ingress)

    def replace(self, other: Expected) -> None:
        """Expect this from now on."""
        self.egress, self.ingress = other.egress, other.ingress


class _Direction:
    """Networks by whom they are meant for; nothing is unexpected of whom nothing is said."""

    def __init__(self, name: str, said: Mapping[str, Sequence[str]]) -> None:
        self._said: dict[str, Networks] = {}
        for whom, entries in said.items():
            if whom not in {EVERYBODY, NODE, CONTAINERS} and "/" not in whom:
                raise ValueError(f'{name} is for "{whom}", which is nobody: take {WHOM}')
            try:
                self._said[whom] = networks_of(entries)
            except ValueError as error:
                raise ValueError(f'{name} of "{whom}" has an entry of no use: {error}') from error
        self._fitting: Recent[tuple[str, str, str], Fitting] = Recent(PROGRAMS_LIMIT)
        self._known: Recent[tuple[Fitting, str], str] = Recent(ADDRESSES_LIMIT)

    def __bool__(self) -> bool:
        """Whether anything is said."""
        return bool(self._said)

    def unexpected(self, process: Process, address: str) -> str:
        """The network of the address; empty when it is expected."""
        container = process.container
        if container is None:
            key = ("", "", process.path)
        else:
            # What is known of it may come later.
            key = (container.id, container.enrichment, process.path)
        fitting = self._fitting.get(key)
        if fitting is None:
            fitting = tuple(self._for(process))
            self._fitting.put(key, fitting)
        if not fitting:
            return ""
        network = self._known.get((fitting, address))
        if network is None:
            network = _network_of(address, fitting)
            self._known.put((fitting, address), network)
        return network

    def _for(self, process: Process) -> Iterator[Networks]:
        container = process.container
        words = {EVERYBODY, NODE if container is None else CONTAINERS}
        if container is None:
            name = process.path
        elif (pod := container.pod) is not None:
            name = f"{pod.namespace}/{pod.workload.name if pod.workload else pod.name}"
        else:
            name = f"{container.runtime}/{container.name}"
        for whom, networks in self._said.items():
            # Only paths begin like this.
            is_named = whom.startswith("/") == (container is None) and fnmatchcase(name, whom)
            if whom in words or (is_named and "/" in whom):
                yield networks


def _network_of(address: str, expected: Fitting) -> str:
    if LEFT_OUT.has(address) or any(each.has(address) for each in expected):
        return ""
    bits = SAME_NETWORK[6 if ":" in address else 4]
    return str(ip_network(f"{address}/{bits}", strict=False))


class Reach:
    """Compares connections with what is expected."""

    name = "reach"
    kinds: ClassVar[tuple[str, ...]] = ("connect", "sendto", "accept")

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._told: Recent[tuple[str, str, str], dict[str, int]] = Recent(PROGRAMS_LIMIT)
        """Networks and when they were told last, by rule, container and program."""

    def inspect(self, event: Event) -> Iterable[Signal]:
        """A connection that is made, or that is accepted."""
        expected = self._expected
        if isinstance(event, Accept):
            return self._compare(event, expected.ingress, "unexpected_ingress")
        if isinstance(event, Contact) and expected.egress and _may_arrive(event):
            return self._compare(event, expected.egress, "unexpected_egress")
        return ()

    def _compare(
        self, event: Contact | Accept, direction: _Direction, rule: str
    ) -> Iterable[Signal]:
        process, remote, local = event.process, event.remote, event.local
        if not direction or process is None or remote is None:
            return ()
        network = direction.unexpected(process, remote.address)
        if not network or (local is not None and local.address == remote.address):
            return ()
        times = self._times_of(rule, process)
        if network not in times and len(times) >= NETWORKS_LIMIT:
            network = FURTHER
        # A busy server may take thousands in that time.
        if event.time - times.get(network, 0) < AGAIN_NS:
            return ()
        times[network] = event.time
        return (Signal(rule, event, {}, connection_action(event, remote), key=network),)

    def _times_of(self, rule: str, process: Process) -> dict[str, int]:
        container = process.container
        program = (rule, container.id if container is not None else "", process.path)
        times = self._told.get(program)
        if times is None:
            times = {}
            self._told.put(program, times)
        return times


def _may_arrive(event: Contact) -> bool:
    if not isinstance(event, Connect):
        return True
    remote = event.remote
    if remote is None or -min(event.result, 0) not in SENT:
        return False
    return event.type != socket.SOCK_DGRAM or remote.port not in PROBES
