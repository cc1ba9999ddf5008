# SPDX-License-Identifier: Apache-2.0
"""From events to findings: asks the detectors, adds up their signals, counts repeats.

All times are those of the events, so a replay gives the same findings.
"""

from __future__ import annotations

import hashlib
import logging
from collections import ChainMap, Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import msgspec

from nodeagent.detect import Detector, OpenDetector, Signal
from nodeagent.detect.catalogue import (
    ANCESTORS,
    RULES,
    SCOPE_WEIGHTS,
    SEQUENCE_TACTICS,
    SEQUENCE_WEIGHT,
    WINDOW_SECONDS,
    Rule,
)
from nodeagent.detect.components import is_expected
from nodeagent.detect.describe import describe_process, describe_resource, name_of
from nodeagent.detect.flood import Flood
from nodeagent.detect.recent import Recent
from nodeagent.detect.where import is_runtime_above
from nodeagent.encode import timestamp
from nodeagent.event import (
    EVENTS,
    PENDING,
    AgentEvent,
    Ancestor,
    Code,
    Event,
    Exec,
    Open,
    Process,
)
from nodeagent.finding import Finding, Severity

__all__ = ["Engine"]

log: Final = logging.getLogger(__name__)

SECOND_NS: Final = 1_000_000_000
PATHS_LIMIT: Final = 8192
SCOPES_LIMIT: Final = 4096
FINDINGS_LIMIT: Final = 4096
SCOPE_SIGNALS: Final = 32
"""A scope remembers so many; more of the same rule replace the older one."""
ID_DIGITS: Final = 32
WAITING_LIMIT: Final = 512
WAITING_EXECS: Final = 16
"""Of one file; the first ones."""
NEVER: Final = 1 << 63
"""Later than any event."""

CONTAINER: Final = "container"
NODE: Final = "node"


FileVersion = tuple[int, int, int, int]
"""Device, inode, time of change and size of a file."""


class _Seen(msgspec.Struct):
    """A signal that a scope remembers, without the event that it came from, which is large."""

    name: str
    """Of the rule."""
    rule: Rule
    process: Process
    kind: str
    time: int
    """Of the event, as are those around it."""
    cpu: int
    sequence: int
    sha256: str
    pending: FileVersion | None
    """Of the program, when its hash was not known."""
    key: str
    context: dict[str, object] = {}
    action: dict[str, object] | None = None
    matches: tuple[dict[str, object], ...] = ()
    evidence: dict[str, object] = {}
    is_told: bool = False
    chain: list[dict[str, object]] | None = None
    """What it came together with."""

    @property
    def title(self) -> str:
        """Of the finding that it becomes."""
        process = self.process
        name = name_of(process.path) or process.task.comm
        return self.rule.title.format(**{**self.context, "process": name, "key": self.key})


class _Scope(msgspec.Struct):
    """What was seen in a process and below it, in a container, or on the node."""

    kind: str
    name: str
    seen: dict[str, _Seen]
    """By rule; the last one of each."""
    is_sequence: bool = False
    """It was told as an attack sequence."""


class _Waiting(msgspec.Struct):
    """A file whose hash is not known yet."""

    execs: list[Exec]
    findings: list[str]
    """Their ids; they were told without."""
    sha256: str = ""
    """When it is known; then nothing waits."""


class _Known(msgspec.Struct):
    """A finding that was told."""

    finding: Finding
    """As it was told last."""
    told: int
    """When, ns since 1970."""
    count: int = 1
    again: _Seen | None = None
    """What was seen since; a finding is made of it only when it is told."""


class Engine:
    """Bounded: what is too old is forgotten, and only repeats are told anew."""

    def __init__(
        self,
        detectors: Sequence[Detector],
        *,
        boot_ns: int,
        node: str,
        failures: Counter[str],
        update_seconds: float,
        signals: bool = False,
    ) -> None:
        """`boot_ns` is when the machine started, ns since 1970.

        What is seen again is told again after `update_seconds`.

        `failures` counts, by name, how often a detector failed; it is asked again.
        With `signals` those that are too weak for a finding are told, too.
        """
        self._boot_ns = boot_ns
        self._node = node
        self._failures = failures
        self._signals = signals
        self._asked: dict[type[Event], Sequence[Detector]] = {}
        for detector in detectors:
            for kind in detector.kinds:
                self._asked[EVENTS[kind]] = [*self._asked.get(EVENTS[kind], ()), detector]
        others: list[dict[str, Rule]] = [getattr(each, "rules", {}) for each in detectors]
        self._rules = ChainMap(RULES, *others)
        self._openers: Recent[str, Sequence[Detector]] = Recent(PATHS_LIMIT)
        self._scopes: Recent[tuple[str, str], _Scope] = Recent(SCOPES_LIMIT)
        self._late = [each for each in detectors if hasattr(each, "inspect_hash")]
        self._waiting: Recent[FileVersion, _Waiting] = Recent(WAITING_LIMIT)
        """By file."""
        self._flood = Flood()
        self._known: dict[str, _Known] = {}
        self._update_ns = round(update_seconds * SECOND_NS)
        self._due: dict[str, _Known] = {}
        self._due_time = NEVER

    def inspect(self, events: Sequence[Any]) -> list[Finding]:
        """The findings that these events give rise to, and those that are told again."""
        findings: list[Finding] = []
        if self._flood.is_counting and (flooded := self._flood.count(events)) is not None:
            findings += self._take(flooded)
        asked = self._asked
        for event in events:
            if event.time >= self._due_time:
                findings += self._updates(event.time)
            kind = type(event)
            detectors = asked.get(kind)
            if detectors is None:
                continue
            if kind is Exec and _is_pending(event):
                self._wait(event)
            if kind is Open:
                detectors = self._interested(event.path or event.argument, detectors)
            for detector in detectors:
                try:
                    for signal in detector.inspect(event):
                        findings += self._take(signal)
                except Exception:  # a defect of one detector must not stop the others
                    if not self._failures[detector.name]:
                        log.exception("detector_failed name=%s", detector.name)
                    self._failures[detector.name] += 1
        return findings

    def hear(self, said: AgentEvent) -> None:
        """What the agent says about itself, at its place in the stream."""
        self._flood.hear(said)

    def forget_paths(self) -> None:
        """Ask the detectors again which opens they want to see: their rules have changed."""
        self._openers.clear()

    def _interested(self, path: str, detectors: Sequence[Detector]) -> Sequence[Detector]:
        """Who looks at opens of this path; found out once."""
        interested = self._openers.get(path)
        if interested is None:
            openers = cast("Sequence[OpenDetector]", detectors)
            interested = [each for each in openers if each.wants_path(path)]
            self._openers.put(path, interested)
        return interested

    def learn_hash(self, file: FileVersion, sha256: str) -> list[Finding]:
        """Take what was not known when a program ran: findings about it, told or new."""
        waiting = self._waiting.get(file)
        if waiting is None or not sha256:
            return []
        self._waiting.put(file, _Waiting([], [], sha256))
        findings: list[Finding] = []
        for event in waiting.execs:
            if event.file is None:
                continue
            event.file = msgspec.structs.replace(event.file, sha256=sha256, sha256_missing="")
            for detector in self._late:
                for signal in detector.inspect_hash(event):
                    findings += self._take(signal)
        for number in waiting.findings:
            known = self._known.get(number)
            if known is not None and known.finding.process is not None:
                process = {**known.finding.process, "executableSha256": sha256}
                known.finding = msgspec.structs.replace(known.finding, process=process)
                findings.append(known.finding)
        return findings

    def _wait(self, event: Exec) -> None:
        file = _version_of(event)
        waiting = self._waiting.get(file)
        if waiting is None:
            waiting = _Waiting([], [])
            self._waiting.put(file, waiting)
        if len(waiting.execs) < WAITING_EXECS:
            waiting.execs.append(event)

    def _wait_with(self, number: str, seen: _Seen) -> None:
        """Remember that a finding was told without the hash of the program."""
        if seen.pending is None:
            return
        waiting = self._waiting.get(seen.pending)
        if waiting is not None and len(waiting.findings) < WAITING_EXECS:
            waiting.findings.append(number)

    def finish(self) -> list[Finding]:
        """What was seen again and not yet told."""
        return list(self._updates(NEVER))

    def _take(self, signal: Signal) -> Iterator[Finding]:
        process = signal.event.process
        if process is None or is_expected(signal.rule, process, signal.context):
            return
        rule = self._rules[signal.rule]
        seen = _seen(signal, rule, process)
        if rule.is_alone:
            seen.is_told = True
            yield from self._tell(seen)
        elif self._signals:
            weak = msgspec.structs.replace(rule, severity=Severity.INFORMATIONAL)
            yield from self._tell(msgspec.structs.replace(seen, rule=weak))
        changed = []
        for scope in self._scopes_of(process):
            before = _remember(scope, seen)
            if before is None:
                changed.append(scope)
                yield from self._weigh(scope)
            elif before.is_told and not seen.is_told and scope.kind != NODE:
                # What led to a finding once does so again, where it did.
                seen.is_told = True
                seen.chain = before.chain
                yield from self._tell(seen)
        if changed:
            yield from self._sequence(changed, process)

    def _scopes_of(self, process: Process) -> Iterator[_Scope]:
        names = [("process", process.uuid, process.path)]
        names += [("process", ancestor.uuid, ancestor.path) for ancestor in _tree_above(process)]
        if process.container is not None:
            names.append((CONTAINER, process.container.id, process.container.name))
        names.append((NODE, "", self._node))
        for kind, identity, name in names:
            scope = self._scopes.get((kind, identity))
            if scope is None:
                scope = _Scope(kind, name or identity, {})
                self._scopes.put((kind, identity), scope)
            yield scope

    def _weigh(self, scope: _Scope) -> Iterator[Finding]:
        """Tell what has become heavy enough by a rule that is new in the scope."""
        # On a node much happens that has nothing to do with each other, findings included.
        counted = [each for each in scope.seen.values() if scope.kind != NODE or not each.is_told]
        if sum(each.rule.weight for each in counted) >= SCOPE_WEIGHTS[scope.kind]:
            yield from self._promote(scope)

    def _promote(self, scope: _Scope) -> Iterator[Finding]:
        """All signals of the scope become findings, each with the others as evidence."""
        if len(scope.seen) == 1:
            return
        chain = self._chain(scope)
        for each in scope.seen.values():
            if not each.is_told:
                each.is_told = True
                each.chain = chain
                yield from self._tell(each)

    def _sequence(self, scopes: Sequence[_Scope], process: Process) -> Iterator[Finding]:
        """One finding about the narrowest of the scopes in which several tactics came together.

        A tree that is in a container is part of it, and of no other scope.
        """
        contained = process.container is not None
        new = [
            scope
            for scope in scopes
            if (scope.kind == CONTAINER) == contained
            and not scope.is_sequence
            and _is_sequence(scope)
        ]
        for scope in new:
            scope.is_sequence = True
        if not new:
            return
        scope = new[0]
        rule = "attack_sequence_container" if contained else "attack_sequence_host"
        seen = list(scope.seen.values())
        mitre = tuple(sorted({each for one in seen for each in one.rule.mitre}))
        whole = msgspec.structs.replace(
            seen[-1],
            name=rule,
            rule=msgspec.structs.replace(RULES[rule], mitre=mitre),
            process=process,
            key=scope.name,
            context={},
            action=None,
            matches=(),
            evidence={},
            chain=self._chain(scope),
        )
        yield from self._tell(whole, min(each.time for each in seen))

    def _chain(self, scope: _Scope) -> list[dict[str, object]]:
        return [
            {
                "rule": name,
                "type": each.rule.type,
                "weight": each.rule.weight,
                "title": each.title,
                "time": timestamp(each.time),
                "scope": scope.kind,
            }
            for name, each in scope.seen.items()
        ]

    def _id(self, seen: _Seen) -> str:
        container = seen.process.container
        workload = ""
        if container is not None:
            pod = container.pod
            workload = f"{pod.namespace}/{pod.workload or pod.name}" if pod else container.image
        # The rule is part of it: two rules of one type must not hide each other.
        rule = (seen.rule.type, seen.name)
        parts = (*rule, self._node, workload, seen.process.path, seen.key)
        digest = hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogateescape"))
        number = digest.hexdigest()[:ID_DIGITS]
        return number if seen.rule.severity else f"{number[:-1]}s"

    def _finding(self, number: str, seen: _Seen) -> Finding:
        rule, process = seen.rule, seen.process
        sha256 = seen.sha256
        if not sha256 and seen.pending is not None:
            waiting = self._waiting.get(seen.pending)
            sha256 = waiting.sha256 if waiting is not None else ""
        evidence: dict[str, object] = {
            "rule": seen.name,
            "weight": rule.weight,
            "event": {
                "kind": seen.kind,
                "time": timestamp(seen.time),
                "cpu": seen.cpu,
                "sequence": seen.sequence,
            },
        }
        evidence |= seen.evidence
        if seen.matches:
            evidence["threatIntelligenceDetails"] = list(seen.matches)
        if seen.chain is not None:
            evidence["signals"] = seen.chain
        return Finding(
            id=number,
            type=rule.type,
            severity=rule.severity,
            title=seen.title,
            mitre=rule.mitre,
            resource=describe_resource(process.container, self._node),
            process=describe_process(process, self._boot_ns, sha256),
            context=seen.context,
            action=seen.action,
            evidence=evidence,
            first_seen=seen.time,
            last_seen=seen.time,
        )

    def _tell(self, seen: _Seen, first_seen: int | None = None) -> Iterator[Finding]:
        """A new one at once, a repeated one when it is due."""
        number = self._id(seen)
        known = self._known.pop(number, None)
        if known is None:
            if len(self._known) >= FINDINGS_LIMIT:
                forgotten = next(iter(self._known))
                self._due.pop(forgotten, None)
                del self._known[forgotten]
            finding = self._finding(number, seen)
            if first_seen is not None:
                finding.first_seen = first_seen
            self._known[number] = _Known(finding, finding.last_seen)
            self._wait_with(number, seen)
            yield finding
            return
        known.count += 1
        known.again = seen
        # At the end again, so that the oldest one stands first.
        self._known[number] = known
        self._due[number] = known
        self._due_time = min(self._due_time, known.told + self._update_ns)

    def _updates(self, now: int) -> Iterator[Finding]:
        """Those that were seen again, and are to be told by now."""
        due = [each for each in self._due.items() if each[1].told + self._update_ns <= now]
        for number, known in due:
            del self._due[number]
            known.told = now
            if known.again is not None:
                yield self._again(number, known, known.again)
        times = (each.told + self._update_ns for each in self._due.values())
        self._due_time = min(times, default=NEVER)

    def _again(self, number: str, known: _Known, seen: _Seen) -> Finding:
        finding = self._finding(number, seen)
        finding.first_seen = known.finding.first_seen
        finding.count = known.count
        if "signals" in known.finding.evidence:
            finding.evidence.setdefault("signals", known.finding.evidence["signals"])
        known.finding = finding
        known.again = None
        return finding


def _seen(signal: Signal, rule: Rule, process: Process) -> _Seen:
    event = signal.event
    return _Seen(
        signal.rule,
        rule,
        # What it looks like in the stream is most of it.
        msgspec.structs.replace(process, json=b""),
        event.kind,
        event.time,
        event.cpu,
        event.sequence,
        event.file.sha256 if isinstance(event, Code) and event.file else "",
        _version_of(event) if isinstance(event, Exec) and _is_pending(event) else None,
        signal.key,
        signal.context,
        signal.action,
        signal.matches,
        signal.evidence,
    )


def _tree_above(process: Process) -> Iterator[Ancestor]:
    """Whose doing it is, too; a container ends where what has made it begins."""
    for ancestor in process.lineage[:ANCESTORS]:
        if process.container is not None and is_runtime_above(ancestor):
            return
        if ancestor.pid > 1:
            yield ancestor


def _is_pending(event: Exec) -> bool:
    return event.file is not None and event.file.sha256_missing == PENDING


def _version_of(event: Exec) -> FileVersion:
    return event.device, event.inode, event.file_changed, event.file_bytes


def _remember(scope: _Scope, seen: _Seen) -> _Seen | None:
    """Put the signal in place of the last one of its rule, which is returned."""
    oldest = seen.time - WINDOW_SECONDS * SECOND_NS
    # The last one that came stands last.
    for name, each in list(scope.seen.items()):
        if each.time >= oldest:
            break
        del scope.seen[name]
    before = scope.seen.pop(seen.name, None)
    scope.seen[seen.name] = seen
    if len(scope.seen) > SCOPE_SIGNALS:
        del scope.seen[next(iter(scope.seen))]
    return before


def _is_sequence(scope: _Scope) -> bool:
    rules = [each.rule for each in scope.seen.values()]
    return (
        scope.kind != NODE
        and sum(rule.weight for rule in rules) >= SEQUENCE_WEIGHT
        and len({rule.tactic for rule in rules}) >= SEQUENCE_TACTICS
    )
