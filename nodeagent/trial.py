# SPDX-License-Identifier: Apache-2.0
"""Rules tried without a node: over recordings, and over events that somebody wrote down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from nodeagent.config import Config
from nodeagent.detect import Detector, ProcessOf
from nodeagent.detect.catalogue import RULES, Rule
from nodeagent.detect.detectors import own_detectors
from nodeagent.detect.engine import Engine
from nodeagent.detect.lists import ThreatLists
from nodeagent.detect.reach import Expected
from nodeagent.detect.sigma.detector import SigmaRules
from nodeagent.detect.sigma.fields import FIELDS, Value, View
from nodeagent.detect.sigma.match import compiled
from nodeagent.detect.sigma.rules import RuleSet
from nodeagent.detection import plugins_of
from nodeagent.errors import ConfigError
from nodeagent.finding import Finding
from nodeagent.kernel.btf import Btf
from nodeagent.kernel.wire import Decoder
from nodeagent.ledger import Ledger
from nodeagent.outlet import Router
from nodeagent.parts import lists_of, sigma_of, tables_of
from nodeagent.pipeline import Pipeline
from nodeagent.sink import Batch
from nodeagent.source.recording import Facts, Recording

__all__ = ["Cost", "Listed", "Verdict", "check_folder", "costs", "listed"]

BUILT_IN: Final = "built-in"
FILE_BYTES: Final = 1 << 20
RECORDED: Final = ".rec"
REPEATS: Final = 3
BATCH_EVENTS: Final = 512


class Listed(msgspec.Struct, frozen=True):
    """A rule that is active."""

    name: str
    origin: str
    """`built-in`, the file of a rule of Sigma, or `plug-in NAME`."""
    type: str
    severity: str
    weight: int
    title: str
    is_signal: bool = True
    """It gives signals; a rule that only serves a correlation does not."""


class Cost(msgspec.Struct, frozen=True):
    """What a detector or a rule takes when it is the only one."""

    name: str
    origin: str
    us_per_event: float
    """CPU, over all events of the recording."""
    findings: int
    """Those that it alone gives rise to, light signals included."""


class Verdict(msgspec.Struct, frozen=True):
    """How a test of rules went."""

    name: str
    problems: list[str]
    """Empty when it is as was expected."""


class EventCase(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An event by the names of Sigma, and who must match it."""

    category: str
    fields: dict[str, str | int | bool]
    rules: list[str] = []
    """Titles or ids of the rules that match, and of no others."""


class Case(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A test of rules."""

    expect: list[str] = []
    """Types of findings, or patterns of them, that the recording of the same name must give."""
    quiet: list[str] = []
    """Those that it must not give."""
    event: list[EventCase] = []


def listed(config: Config) -> tuple[list[Listed], RuleSet]:
    """All rules that are active, the heaviest first; and what was read, refusals included."""
    chosen = sigma_of(config)
    rows = [_listed(name, BUILT_IN, rule) for name, rule in RULES.items()]
    rows += [
        _listed(each.name, each.file, each.rule, is_signal=each.is_told) for each in chosen.rules
    ]
    rows += [_listed(each.name, each.file, each.rule) for each in chosen.correlations]
    for plugin in plugins_of(config, Ledger().failures):
        rows += [_listed(name, f"plug-in {plugin.name}", r) for name, r in plugin.rules.items()]
    return sorted(rows, key=lambda row: (-row.weight, row.type, row.name)), chosen


def _listed(name: str, origin: str, rule: Rule, *, is_signal: bool = True) -> Listed:
    severity = rule.severity.name.lower()
    return Listed(name, origin, rule.type, severity, rule.weight, rule.title, is_signal)


class _Kept(Router):
    """Keeps what comes out of a pipeline."""

    def __init__(self) -> None:
        super().__init__(())
        self.events: list[Any] = []
        self.findings: list[Finding] = []

    def offer(self, batch: Batch) -> None:
        """Take all of it."""
        self.findings += batch.findings
        self.events += batch.items[: len(batch.items) - len(batch.findings)]


def _play(path: Path, engine: Callable[[Facts, ProcessOf], Engine | None]) -> tuple[Facts, _Kept]:
    """Put a recording through a pipeline; raises NodeagentError when it is none, or torn."""
    recording, ledger, kept = Recording(path), Ledger(), _Kept()
    try:
        facts, btf = recording.facts, Btf(recording.btf)
        decoder = Decoder(btf)
        processes, files = tables_of(facts, btf)
        made = engine(facts, processes.process_of)
        pipeline = Pipeline(decoder, processes, kept, ledger, facts.kinds, files=files, engine=made)
        for item in recording:
            pipeline.feed(item)
        pipeline.finish()
    finally:
        recording.close()
    return facts, kept


def costs(config: Config, path: Path) -> list[Cost]:
    """What each detector takes of the CPU over a recording, and each rule of Sigma; dear first."""
    facts, kept = _play(path, lambda _facts, _process_of: None)
    events = [event for event in kept.events if hasattr(event, "process")]
    if not events:
        raise ConfigError(f"{path} has no events")
    return sorted(
        (_cost(name, origin, make, events, facts) for name, origin, make in _measured(config)),
        key=lambda cost: -cost.us_per_event,
    )


def _measured(config: Config) -> Iterator[tuple[str, str, Callable[[], Detector]]]:
    """Each detector by itself: its name, where it comes from, how to make a new one."""
    lists, expected = ThreatLists(lists_of(config)), config.detect.network.expected()
    for number, detector in enumerate(own_detectors(lists, expected)):
        yield detector.name, BUILT_IN, partial(_own, lists, expected, number)
    chosen = sigma_of(config)
    if chosen.count:
        yield "all rules of Sigma", "sigma", partial(SigmaRules, chosen)
    for rule in chosen.rules:
        alone = RuleSet((msgspec.structs.replace(rule, is_told=True),))
        yield rule.title, rule.file, partial(SigmaRules, alone)
    for correlation in chosen.correlations:
        names = {source.rule for source in correlation.sources}
        sources = tuple(each for each in chosen.rules if each.name in names)
        alone = RuleSet(sources, (correlation,))
        yield correlation.title, correlation.file, partial(SigmaRules, alone)
    for number, plugin in enumerate(plugins_of(config, Ledger().failures)):
        yield plugin.name, "plug-in", partial(_plugin, config, number)


def _own(lists: ThreatLists, expected: Expected, number: int) -> Detector:
    return own_detectors(lists, expected)[number]


def _plugin(config: Config, number: int) -> Detector:
    return plugins_of(config, Ledger().failures)[number]


def _cost(
    name: str,
    origin: str,
    make: Callable[[], Detector],
    events: Sequence[Any],
    facts: Facts,
) -> Cost:
    """The best of several runs: what disturbs a run only makes it longer."""
    spent, findings = [], 0
    for _ in range(REPEATS):
        engine = _engine([make()], facts)
        findings = 0
        started = time.thread_time_ns()
        for at in range(0, len(events), BATCH_EVENTS):
            findings += len(engine.inspect(events[at : at + BATCH_EVENTS]))
        spent.append(time.thread_time_ns() - started)
    return Cost(name, origin, min(spent) / len(events) / 1000, findings)


def check_folder(config: Config, folder: Path) -> list[Verdict]:
    """Run all tests in a folder and below it: *.toml files, with recordings of the same name.

    A rule that is refused is a test that fails. Raises NodeagentError for a folder without tests.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder with tests of rules")
    files = sorted(folder.rglob("*.toml"))
    if not files:
        raise ConfigError(f"{folder} has no tests of rules: they are *.toml files")
    chosen = sigma_of(config)
    refused = [Verdict(each.file, [f"refused: {each}"]) for each in chosen.refusals]
    return refused + [
        Verdict(
            str(file.relative_to(folder).with_suffix("")), list(_problems(config, chosen, file))
        )
        for file in files
    ]


def _problems(config: Config, chosen: RuleSet, file: Path) -> Iterator[str]:
    case = _case(file)
    for number, each in enumerate(case.event, 1):
        yield from (f"event {number}: {problem}" for problem in _misses(chosen, each))
    recording = file.with_suffix(RECORDED)
    if recording.exists():
        found = _found(config, chosen, recording)
        for pattern in case.expect:
            if not any(fnmatchcase(each, pattern) for each in found):
                yield f"- {pattern} was not found"
        for type_ in found:
            if any(fnmatchcase(type_, pattern) for pattern in case.quiet):
                yield f"+ {type_} was found"
    elif case.expect or case.quiet:
        raise ConfigError(f"{file} expects findings of {recording}, which is not there")
    elif not case.event:
        raise ConfigError(f"{file} tests nothing: it has no event, and there is no {recording}")


def _found(config: Config, chosen: RuleSet, recording: Path) -> list[str]:
    """The types of all findings and light signals, each once."""

    def engine(facts: Facts, process_of: ProcessOf) -> Engine:
        expected = config.detect.network.expected()
        own = own_detectors(ThreatLists(lists_of(config)), expected, process_of)
        others = plugins_of(config, Ledger().failures)
        return _engine([*own, SigmaRules(chosen), *others], facts)

    _, kept = _play(recording, engine)
    return sorted({each.type for each in kept.findings})


def _engine(detectors: Sequence[Detector], facts: Facts) -> Engine:
    """One that tells everything, as soon as it comes."""
    return Engine(
        detectors,
        boot_ns=facts.boot_ns,
        node=facts.node_name,
        failures=Ledger().failures,
        update_seconds=0,
        signals=True,
    )


def _misses(chosen: RuleSet, case: EventCase) -> Iterator[str]:
    """In what the rules that match differ from those that should."""
    known = FIELDS.get(case.category)
    if known is None:
        yield f"there is no category {case.category}: take one of {', '.join(FIELDS)}"
        return
    if unknown := sorted(case.fields.keys() - known):
        yield f"{case.category} has no field {', '.join(unknown)}"
        return
    view = _view(known, case.fields)
    rules = [each for each in chosen.rules if each.category == case.category]
    matching = [each for each in rules if compiled(each.node)(view)]
    for name in case.rules:
        if not any(name in (each.title, each.id) for each in matching):
            yield f"- {name} does not match"
    for each in matching:
        if each.title not in case.rules and each.id not in case.rules:
            yield f"+ {each.title} matches"


def _view(known: frozenset[str], fields: Mapping[str, str | int | bool]) -> View:
    values: dict[str, Value] = dict.fromkeys(known)
    for name, value in fields.items():
        values[name] = str(value).lower() if isinstance(value, bool) else value
    return View.of(values)


def _case(file: Path) -> Case:
    try:
        with file.open("rb") as opened:
            data = opened.read(FILE_BYTES)
        return msgspec.toml.decode(data, type=Case)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no test of rules: {error}") from error
