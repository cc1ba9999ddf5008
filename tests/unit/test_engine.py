# SPDX-License-Identifier: Apache-2.0
"""Signals become findings alone, together or not at all; repeats are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import msgspec
import pytest

from nodeagent.detect import Detector, Signal
from nodeagent.detect.catalogue import (
    RULES,
    SCOPE_WEIGHTS,
    WINDOW_SECONDS,
)
from nodeagent.detect.drift import Drift
from nodeagent.detect.engine import Engine
from nodeagent.event import Ancestor, Event, Process
from nodeagent.finding import Finding, Severity
from tests.events import BOOT, TIME, a_container, a_module, a_process, an_exec, an_open, inside

SECOND = 1_000_000_000
UPDATE_SECONDS = 300
STRONG, WEAK, OTHER_WEAK, THIRD_WEAK = "reverse_shell", "network_shell", "antidebug", "recon_user"


class Told:
    """Gives the signals that the first argument of an exec names."""

    name = "told"
    kinds: ClassVar[tuple[str, ...]] = ("exec",)

    def inspect(self, event: Any) -> Iterable[Signal]:
        return [Signal(rule, event, key="k") for rule in event.argv[0].split()]


class Broken:
    """Fails at each event."""

    name = "broken"
    kinds: ClassVar[tuple[str, ...]] = ("exec",)

    def inspect(self, event: Any) -> Iterator[Signal]:
        raise ValueError("oops")


def an_engine(*detectors: Detector, **changes: Any) -> Engine:
    options: dict[str, Any] = {"boot_ns": BOOT, "node": "n", "failures": Counter()}
    options |= {"update_seconds": UPDATE_SECONDS, **changes}
    return Engine(detectors or [Told()], **options)


def said(rules: str, seconds: float = 0.0, process: Process | None = None) -> Event:
    event = an_exec((rules,), process=process or child_of("shell"))
    event.time = TIME + int(seconds * SECOND)
    return event


def child_of(parent: str, pid: int = 77) -> Process:
    """A process whose parent has this UUID."""
    process = a_process(pid=pid)
    above = Ancestor(50, "/usr/bin/bash", 0, parent, namespace_pid=50, uid=0, euid=0)
    return msgspec.structs.replace(process, uuid=f"{parent}-{pid}", lineage=(above,))


def types(findings: Iterable[Finding]) -> list[str]:
    return [finding.type for finding in findings]


def test_a_strong_signal_is_a_finding_at_once() -> None:
    (finding,) = an_engine().inspect([said(STRONG)])
    assert finding.type == RULES[STRONG].type
    assert finding.severity == Severity.HIGH
    assert finding.process is not None
    assert finding.process["pid"] == 77
    assert finding.evidence["rule"] == STRONG


def test_a_weak_signal_is_none_but_can_be_shown() -> None:
    assert not an_engine().inspect([said(WEAK)])
    (shown,) = an_engine(signals=True).inspect([said(WEAK)])
    assert shown.severity == Severity.INFORMATIONAL


def test_weak_signals_of_one_tree_become_findings_with_each_other_as_evidence() -> None:
    engine = an_engine()
    assert not engine.inspect([said(WEAK, process=child_of("shell", 1001))])
    findings = engine.inspect([said(OTHER_WEAK, 60, process=child_of("shell", 1002))])
    assert types(findings) == [RULES[WEAK].type, RULES[OTHER_WEAK].type]
    for finding in findings:
        chain: Any = finding.evidence["signals"]
        assert [each["rule"] for each in chain] == [WEAK, OTHER_WEAK]


def test_weak_signals_of_different_trees_do_not_add_up() -> None:
    engine = an_engine()
    assert not engine.inspect([said(WEAK, process=child_of("one"))])
    assert not engine.inspect([said(OTHER_WEAK, process=child_of("two", 78))])


class Hashed(Told):
    """Looks at hashes, too."""

    name = "hashed"

    def inspect_hash(self, event: Any) -> Iterable[Signal]:
        return [Signal("malicious_file", event, key=event.file.sha256)]


def pending(rules: str) -> Any:
    event: Any = said(rules)
    event.file = msgspec.structs.replace(event.file, sha256="", sha256_missing="pending")
    return event


def test_hash_that_comes_later_completes_what_was_told_and_is_looked_up() -> None:
    engine = an_engine(Hashed())
    event = pending(STRONG)
    (finding,) = engine.inspect([event])
    assert finding.process is not None
    assert "executableSha256" not in finding.process
    file = (event.device, event.inode, event.file_changed, event.file_bytes)
    assert engine.learn_hash(file, "") == []
    found, completed = engine.learn_hash(file, "a" * 64)
    assert (found.type, found.count) == (RULES["malicious_file"].type, 1)
    assert completed.id == finding.id
    assert completed.process is not None
    assert completed.process["executableSha256"] == "a" * 64
    assert completed.count == 1
    assert "executableSha256" not in finding.process
    assert engine.learn_hash(file, "a" * 64) == []


def test_what_led_to_a_finding_does_so_again_in_the_same_tree_alone() -> None:
    engine = an_engine(update_seconds=0)
    assert len(engine.inspect([said(f"{WEAK} {OTHER_WEAK}", process=child_of("one"))])) == 2
    assert not engine.inspect([said(WEAK, 1, process=child_of("two", 78))])
    assert not engine.inspect([said("", 2)])
    engine.inspect([said(WEAK, 3, process=child_of("one", 79))])
    assert types(engine.inspect([said("", 4)])) == [RULES[WEAK].type]
    # Another program does it, which says why it is told.
    other = msgspec.structs.replace(child_of("one", 80), path="/usr/bin/other")
    (new,) = engine.inspect([said(WEAK, 5, process=other)])
    chain: Any = new.evidence["signals"]
    assert [each["rule"] for each in chain] == [WEAK, OTHER_WEAK]


def test_weak_signals_add_up_in_a_container() -> None:
    engine = an_engine()
    first = inside(child_of("one"), a_container())
    second = inside(child_of("two", 78), a_container())
    assert not engine.inspect([said(f"{WEAK} {THIRD_WEAK}", process=first)])
    findings = engine.inspect([said(OTHER_WEAK, process=second)])
    assert len(findings) == len((WEAK, OTHER_WEAK, THIRD_WEAK))
    assert (
        sum(RULES[each].weight for each in (WEAK, OTHER_WEAK, THIRD_WEAK))
        >= (SCOPE_WEIGHTS["container"])
    )


def test_several_tactics_in_one_container_are_an_attack_sequence() -> None:
    engine = an_engine()
    for number, rule in enumerate(("reverse_shell", "inject_vm", "add_user")):
        process = inside(child_of(f"tree-{number}", number + 2), a_container())
        findings = engine.inspect([said(rule, number, process)])
    assert types(findings)[-1] == "AttackSequence:Runtime/CompromisedContainer"
    assert findings[-1].resource["containerDetails"]


def test_the_next_tree_of_a_container_is_no_other_attack_sequence() -> None:
    engine = an_engine()
    attack = "reverse_shell inject_vm add_user"
    for number in range(3):
        process = inside(child_of(f"tree-{number}", number + 2), a_container())
        sequences = {
            each.type
            for each in engine.inspect([said(attack, number, process)])
            if each.type.startswith("AttackSequence")
        }
        expected = set() if number else {"AttackSequence:Runtime/CompromisedContainer"}
        assert sequences == expected
    # What leaves the container is one of the host.
    (left,) = engine.inspect([said("find_setuid", 9, child_of("tree-1", 9))])[-1:]
    assert left.type == "AttackSequence:Runtime/CompromisedHost"


def test_what_is_long_ago_does_not_count() -> None:
    engine = an_engine()
    assert not engine.inspect([said(WEAK)])
    assert not engine.inspect([said(OTHER_WEAK, WINDOW_SECONDS + 1)])


def test_the_same_signal_again_does_not_add_up() -> None:
    engine = an_engine()
    assert not engine.inspect([said(WEAK, second) for second in range(20)])


def test_a_repeated_finding_is_counted_and_told_at_a_bounded_rate() -> None:
    engine = an_engine()
    assert len(engine.inspect([said(STRONG, number / 1000) for number in range(1000)])) == 1
    (again,) = engine.inspect([said("", UPDATE_SECONDS + 2)])
    assert again.count == 1000
    assert again.first_seen == TIME
    assert again.last_seen == TIME + 999 * SECOND // 1000
    assert not engine.finish()


def test_what_was_not_told_yet_is_told_at_the_end() -> None:
    engine = an_engine()
    engine.inspect([said(STRONG), said(STRONG, 1)])
    (last,) = engine.finish()
    assert last.count == 2


def test_several_tactics_in_one_tree_are_an_attack_sequence_told_once() -> None:
    engine = an_engine()
    findings = engine.inspect([said("reverse_shell inject_vm add_user find_setuid")])
    (sequence,) = [each for each in findings if each.severity == Severity.CRITICAL]
    assert sequence.type == "AttackSequence:Runtime/CompromisedHost"
    assert sequence.mitre
    chain: Any = sequence.evidence["signals"]
    assert len({each["type"].partition(":")[0] for each in chain}) >= 3
    later = engine.inspect([said("sensitive_read", 5)])
    assert "AttackSequence:Runtime/CompromisedHost" not in types(later)


def test_ids_are_the_same_for_the_same_and_different_for_others() -> None:
    (one,) = an_engine().inspect([said(STRONG)])
    (same,) = an_engine().inspect([said(STRONG, 99)])
    (other,) = an_engine().inspect([said("inject_vm")])
    assert one.id == same.id != other.id


def test_rules_of_one_type_do_not_hide_each_other() -> None:
    two = ("sensitive_read", "sensitive_read_late")
    assert RULES[two[0]].type == RULES[two[1]].type
    found = an_engine().inspect([said(" ".join(two))])
    assert [each.evidence["rule"] for each in found if "rule" in each.evidence] == list(two)
    assert len({each.id for each in found}) == len(found)
    assert {each.count for each in found} == {1}


def test_a_detector_that_fails_is_counted_and_stops_nobody() -> None:
    failures: Counter[str] = Counter()
    engine = an_engine(Broken(), Told(), failures=failures)
    assert types(engine.inspect([said(STRONG)])) == [RULES[STRONG].type]
    assert failures == {"broken": 1}


def test_memory_is_bounded_whatever_comes() -> None:
    engine = an_engine()
    for number in range(6000):
        engine.inspect([said(f"{STRONG} {WEAK}", number, child_of(f"tree-{number}", number + 2))])
    assert len(engine._known) <= 4096
    assert len(engine._scopes._new) + len(engine._scopes._old) <= 4096


@pytest.mark.parametrize("name", RULES)
def test_every_rule_can_be_told(name: str) -> None:
    rule = RULES[name]
    context: dict[str, object] = {"signal": "SIGKILL", "moduleName": "dummy"}
    process = child_of("x")
    engine = an_engine(signals=True)
    event = said("")
    event.process = process
    findings = list(engine._take(Signal(name, event, context, key="key")))
    assert findings
    assert "{" not in findings[0].title
    assert rule.mitre or rule.type.startswith("AttackSequence")
    assert rule.is_alone or findings[0].severity == Severity.INFORMATIONAL


def test_kernel_module_is_found_and_its_end_is_not() -> None:
    engine = an_engine(Drift())
    process = a_process("/usr/bin/insmod")
    (finding,) = engine.inspect([a_module(process=process, path="/tmp/evil.ko", unloaded=False)])
    assert finding.type == "DefenseEvasion:Runtime/KernelModuleLoaded"
    assert finding.context["moduleFilePath"] == "/tmp/evil.ko"
    assert not engine.inspect([a_module(process=process, unloaded=True)])
    by_system = a_module(process=a_process("/usr/bin/kmod", pid=99), path="/usr/lib/modules/6/x.ko")
    assert not engine.inspect([by_system])


def test_opens_that_nobody_wants_reach_no_detector() -> None:
    asked: list[str] = []

    class Picky(Told):
        kinds: ClassVar[tuple[str, ...]] = ("open",)

        def wants_path(self, path: str) -> bool:
            return path == "/wanted"

        def inspect(self, event: Any) -> Iterable[Signal]:
            asked.append(event.path or event.argument)
            return ()

    engine = an_engine(Picky())
    failed = an_open(path="", argument="/wanted", result=-13)
    engine.inspect([an_open(path="/wanted"), an_open(path="/other"), failed])
    assert asked == ["/wanted", "/wanted"]
