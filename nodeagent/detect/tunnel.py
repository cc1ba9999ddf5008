# SPDX-License-Identifier: Apache-2.0
"""Data that travels in names and answers of DNS.

A tunnel has to ask for ever new names below a domain of its own, since a name that was asked for
is answered from a cache. So what counts is how much text is new below one domain, asked for by one
program: the names of machines, of shards and of services differ in a short label, what a search
list appends and what carries an octet is not new or too short.

A domain is here the last two labels of a name, also where that is `co.uk`: names of several
owners are then added up, which takes many long ones to matter, and nobody can hide in a
list of such suffixes that is out of date.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

import msgspec

from nodeagent.detect import Signal
from nodeagent.detect.network import request_action
from nodeagent.detect.recent import Recent
from nodeagent.dns import DnsAnswer, DnsMessage
from nodeagent.event import Dns, Event, Process

__all__ = ["Tunnel"]

WINDOW_NS: Final = 600_000_000_000
SHORT: Final = 3
"""Labels of so many characters say nothing: an octet of an address, one digit of it."""
CARRIED: Final = 32
"""A name carries something when so many characters of it are new; names of machines have fewer."""
ANSWERED: Final = 64
"""The same of an answer; longer than what is said of networks and of policies of mail."""
NAMES: Final = 16
"""Fewer are an oddity, and no tunnel."""
SENT_LIMIT: Final = 4096
RECEIVED_LIMIT: Final = 16384
"""Keys and policies of mail are some hundred characters each."""
RESOLVER: Final = 8
"""So many times as much may come together where others ask through a program."""

LABELS_LIMIT: Final = 16384
FLOWS_LIMIT: Final = 1024
RESOLVERS_LIMIT: Final = 256

NOT_DELEGATED: Final = frozenset(
    {"arpa", "local", "internal", "localhost", "home", "corp", "lan", "consul"}
)
"""Last labels of names that no server of an attacker is asked for."""
OWNED: Final = frozenset(
    # Clouds, and what delivers for others: long names of machines, clusters, buckets and users.
    {"amazonaws.com", "amazonaws.com.cn", "cloudfront.net", "windows.net", "azure.com"}
    | {"azure.net", "azmk8s.io", "azurewebsites.net", "cloudapp.net", "trafficmanager.net"}
    | {"googleapis.com", "googleusercontent.com", "googlesyndication.com", "googlevideo.com"}
    | {"run.app", "akamaihd.net", "akamaized.net", "edgekey.net", "fbcdn.net", "nflxvideo.net"}
    | {"aliyuncs.com", "oraclecloud.com", "dweb.link", "plex.direct"}
    # Blocklists, and guards against malware, that are asked about a hash.
    | {"spamhaus.org", "spamhaus.net", "msbl.org", "surbl.org", "uribl.com", "rspamd.com"}
    | {"cymru.com", "sophosxl.net", "mcafee.com", "e5.sk"}
)
"""Domains with long names by the thousand, below which only their owner answers, so that nobody
else learns what was asked."""

TEXTS: Final = frozenset({16, 10, 65399})
"""TXT, NULL, and the one for private use that tunnels take."""
NAMED: Final = frozenset({5, 15, 33})
"""CNAME, MX and SRV."""
GENERAL: Final = frozenset({"ac", "co", "com", "edu", "go", "gov", "ne", "net", "or", "org"})
"""Before the label of a country they are nobody's domain; only what is shown depends on it."""
COUNTRY: Final = 2
"""Characters of such a label."""


class _Flow(msgspec.Struct):
    """What went by names below one domain, in one direction."""

    since: int
    names: int = 0
    characters: int = 0


class Tunnel:
    """Counts by program, container and domain."""

    name = "tunnel"
    kinds: ClassVar[tuple[str, ...]] = ("dns",)

    def __init__(self) -> None:
        self._seen: Recent[int, bool] = Recent(LABELS_LIMIT)
        """Hashes of labels that were asked for, and of names that were answered."""
        self._flows: Recent[tuple[str, str, str, str], _Flow] = Recent(FLOWS_LIMIT)
        self._resolvers: Recent[str, bool] = Recent(RESOLVERS_LIMIT)
        """Processes that others ask, by UUID."""

    def inspect(self, event: Event) -> Iterable[Signal]:
        """A message, as the one who asks sends or gets it."""
        if not isinstance(event, Dns) or event.message is None or event.process is None:
            return ()
        message = event.message
        if event.incoming and not message.response:
            self._resolvers.put(event.process.uuid, value=True)
            return ()
        if message.question is None or event.incoming != message.response:
            return ()
        name = message.question.name
        if message.response:
            return self._on_answers(event, event.process, name, message)
        # Most are shorter, and cost no more than this.
        return self._on_question(event, event.process, name) if len(name) > CARRIED else ()

    def _on_question(self, event: Dns, process: Process, name: str) -> Iterator[Signal]:
        labels = name.lower().split(".")
        domain = ".".join(labels[-2:])
        if _is_told_to_nobody(labels, domain):
            return
        asker = _asker(process)
        key = (*asker, domain, "names")
        new = sum(
            len(label)
            for label in labels[:-2]
            if len(label) > SHORT and self._is_new((*asker, domain, label))
        )
        if new < CARRIED:
            return
        if flow := self._add(event, process.uuid, key, new, SENT_LIMIT):
            yield _signal("data_in_names", event, name, labels, flow)

    def _on_answers(
        self, event: Dns, process: Process, name: str, message: DnsMessage
    ) -> Iterator[Signal]:
        carried = sum(map(_carried, message.answers))
        if carried < ANSWERED:
            return
        labels = name.lower().split(".")
        domain = ".".join(labels[-2:])
        asker = _asker(process)
        if _is_told_to_nobody(labels, domain) or not self._is_new((*asker, "", name.lower())):
            return
        if flow := self._add(
            event, process.uuid, (*asker, domain, "answers"), carried, RECEIVED_LIMIT
        ):
            yield _signal("data_in_answers", event, name, labels, flow)

    def _is_new(self, what: tuple[str, ...]) -> bool:
        number = hash(what)
        if self._seen.get(number):
            return False
        self._seen.put(number, value=True)
        return True

    def _add(
        self, event: Dns, uuid: str, key: tuple[str, str, str, str], characters: int, limit: int
    ) -> _Flow | None:
        """The flow, when it is too much; then it begins anew."""
        flow = self._flows.get(key)
        if flow is None or event.time - flow.since > WINDOW_NS:
            flow = _Flow(event.time)
            self._flows.put(key, flow)
        flow.names += 1
        flow.characters += characters
        if self._resolvers.get(uuid):
            limit *= RESOLVER
        if flow.characters < limit or flow.names < NAMES:
            return None
        self._flows.put(key, _Flow(event.time))
        return flow


def _asker(process: Process) -> tuple[str, str]:
    """A program in its container: some tunnels start a process for each name."""
    container = process.container
    return container.id if container is not None else "", process.path


def _is_told_to_nobody(labels: list[str], domain: str) -> bool:
    return (
        labels[-1] in NOT_DELEGATED
        or domain in OWNED
        or (len(labels[-1]) == COUNTRY and ".".join(labels[-3:]) in OWNED)
    )


def _carried(answer: DnsAnswer) -> int:
    """Characters that may be data."""
    if answer.type in TEXTS:
        return len(answer.data)
    if answer.type in NAMED:
        return sum(len(label) for label in answer.data.split(".") if len(label) >= CARRIED)
    return 0


def _signal(rule: str, event: Dns, name: str, labels: list[str], flow: _Flow) -> Signal:
    is_general = labels[-2] in GENERAL and len(labels[-1]) == COUNTRY
    domain = ".".join(labels[-3:] if is_general else labels[-2:])
    context: dict[str, object] = {
        "tunnelDomain": domain,
        "tunnelNames": flow.names,
        "tunnelCharacters": flow.characters,
    }
    return Signal(rule, event, context, request_action(event, name), key=domain)
