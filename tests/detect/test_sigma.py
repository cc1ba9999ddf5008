# SPDX-License-Identifier: Apache-2.0
"""Rules of Sigma: what they mean, which are refused and why, and what their findings say."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from re import DOTALL, IGNORECASE, fullmatch
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sigma.modifiers import modifier_mapping
from sigma.types import SigmaString

from nodeagent.detect import Signal
from nodeagent.detect.catalogue import FINDING_WEIGHT, SIGMA_LEVELS
from nodeagent.detect.detectors import own_detectors
from nodeagent.detect.engine import Engine
from nodeagent.detect.lists import ThreatLists
from nodeagent.detect.reach import Expected
from nodeagent.detect.sigma.correlate import GROUPS_LIMIT, Correlator
from nodeagent.detect.sigma.detector import SigmaRules
from nodeagent.detect.sigma.fields import CATEGORIES, FIELDS, View
from nodeagent.detect.sigma.match import compiled
from nodeagent.detect.sigma.read import read_rules
from nodeagent.detect.sigma.rules import RuleSet
from nodeagent.detect.sigma.translate import compared
from nodeagent.detect.sigma.tree import (
    Compare,
    Constant,
    Either,
    Every,
    Node,
    Not,
    Operator,
    weakened,
)
from nodeagent.dns import DnsAnswer, DnsMessage, DnsQuestion
from nodeagent.errors import ConfigError
from nodeagent.event import (
    Accept,
    Ancestor,
    Chmod,
    Chown,
    Connect,
    Dns,
    Endpoint,
    Event,
    Exec,
    Link,
    Open,
    Rename,
    Sendto,
    Symlink,
    Unlink,
)
from nodeagent.finding import Finding, Severity
from tests.events import (
    BOOT,
    TIME,
    a_chmod,
    a_chown,
    a_connect,
    a_container,
    a_dns,
    a_link,
    a_process,
    a_rename,
    a_sendto,
    a_symlink,
    an_accept,
    an_exec,
    an_open,
    an_unlink,
    inside,
)

SECOND = 1_000_000_000
WRITE = os.O_WRONLY | os.O_CREAT

HEAD = """
title: A rule
logsource: {{product: linux, category: {category}}}
"""


def a_rule(detection: str, category: str = "process_creation", **more: str) -> str:
    """A rule whose detection is given as YAML, indented or on one line."""
    extra = "".join(f"{name}: {value}\n" for name, value in more.items())
    return f"{HEAD.format(category=category)}{extra}detection:\n{detection}\n"


def selects(selection: str, category: str = "process_creation", **more: str) -> str:
    """A rule with one selection."""
    return a_rule(f"  selection: {{{selection}}}\n  condition: selection", category, **more)


def read(folder: Path, *texts: str) -> RuleSet:
    """The rules of a file with these documents."""
    (folder / "rules.yml").write_text("\n---\n".join(texts))
    return read_rules([folder])


def rules_of(folder: Path, *texts: str) -> SigmaRules:
    """A detector with these rules, none of which may be refused."""
    chosen = read(folder, *texts)
    assert [str(each) for each in chosen.refusals] == []
    return SigmaRules(chosen)


def matches(detector: SigmaRules, event: Event) -> bool:
    """Whether there is a signal, asked as the engine asks."""
    if isinstance(event, Open) and not detector.wants_path(event.path):
        return False
    return bool(list(detector.inspect(event)))


def runs(line: str, **changes: Any) -> Exec:
    """A program that starts with these words."""
    argv = tuple(line.split(" "))
    return an_exec(argv, **{"path": argv[0], **changes})


def child_of(path: str, uuid: str = "parent", **changes: Any) -> Any:
    """A process whose parent runs this program."""
    process = a_process(**changes)
    above = Ancestor(50, path, 0, uuid, namespace_pid=50, uid=0, euid=0)
    return msgspec.structs.replace(process, lineage=(above,))


def asks(name: str, type_: int = 1) -> Dns:
    """A question to a DNS server."""
    message = DnsMessage(1, False, 0, DnsQuestion(name, type_), (), 0)
    return a_dns(message=message)


def answers(name: str, *addresses: str, rcode: int = 0) -> Dns:
    """What a DNS server said."""
    found = tuple(DnsAnswer(name, 1, 60, each) for each in addresses)
    message = DnsMessage(1, True, rcode, DnsQuestion(name, 1), found, len(found))
    return a_dns(message=message, incoming=True)


# What rules mean

CURL = "/usr/bin/curl -k https://Example.org/a?b=1"
MEANINGS: Sequence[tuple[str, str, str]] = (
    ("Image: /usr/bin/curl", CURL, "/usr/bin/curly"),
    ("Image: /USR/BIN/CURL", CURL, "/usr/bin/wget"),
    ("Image|cased: /usr/bin/curl", CURL, "/USR/bin/curl"),
    ("Image|endswith: /curl", CURL, "/usr/bin/mycurl"),
    ("Image|endswith: [/wget, /curl]", CURL, "/usr/bin/nc"),
    ("Image|startswith: /usr/", CURL, "/opt/usr/curl"),
    ("Image|endswith|cased: /cUrl", "/usr/bin/cUrl", CURL),
    ("CommandLine|contains: example.ORG", CURL, "/usr/bin/curl https://example.com"),
    ("CommandLine|contains|cased: Example.org", CURL, "/usr/bin/curl example.org"),
    ("CommandLine|contains|all: [' -k ', 'https']", CURL, "/usr/bin/curl -k http://a"),
    ("CommandLine: '*curl*https*'", CURL, "https curl"),
    ("CommandLine: 'curl*l'", "curl -l", "curl"),
    ("CommandLine: 'a*b*c'", "a-b-b-c", "a-c-b"),
    ("CommandLine: 'ab*bc'", "ab-bc", "abc"),
    ("CommandLine: 'ls -?'", "ls -l", "ls -la"),
    ("CommandLine|contains: 'a?c'", "xx abc", "xx ac"),
    ("CommandLine|contains: 'what\\?'", "echo what?", "echo whats"),
    ("CommandLine|contains: 'a\\*b'", "echo a*b", "echo axb"),
    ("CommandLine|contains: 'a\\\\b'", "echo a\\b", "echo a/b"),
    ("CommandLine|re: '^curl .*[0-9]{3,}$'", "curl x 1234", "curl x 12"),
    ("CommandLine|re: 'CURL'", "CURL", "curl"),
    ("CommandLine|re|i: 'CURL'", "curl", "wget"),
    ("CommandLine|re|s: 'a.b'", "a\nb", "ab"),
    ("CommandLine|re|m: '^b$'", "a\nb\nc", "abc"),
    ("CommandLine|re|contains: 'a|b'", "xbx", "xcx"),
    ("CommandLine|windash|contains: ' -enc '", "run /enc x", "run enc x"),
    ("CommandLine|base64offset|contains: '/bin/bash'", "echo L2Jpbi9iYXNo", "echo /bin/bash"),
    ("CommandLine|base64offset|contains: '/bin/bash'", "echo eC9iaW4vYmFzaA==", "echo L2Jpbi9"),
    ("CommandLine|base64|contains: 'hello'", "echo aGVsbG8=", "echo hello"),
    ("CommandLine|wide|base64offset|contains: 'ab'", "echo YQBiAA==", "echo YWI="),
    ("CommandLine|exists: true, Image|endswith: ls", "ls", "nc"),
    ("ParentImage: null, Image: ls", "ls", "nc"),
    ("ParentImage|exists: false, Image: ls", "ls", "nc"),
    ("Image|fieldref: CommandLine", "/bin/ls", "/bin/ls -l"),
    ("CommandLine|fieldref|startswith: CurrentDirectory", "/root/x", "x /root"),
    ("CommandLine|fieldref|contains: CurrentDirectory", "ls /root/x", "ls /rot"),
    ("CommandLine|fieldref|endswith: CurrentDirectory", "ls /root", "ls /root/x"),
    ("Image|neq: /bin/ls", "/bin/cat", "/bin/ls"),
    ("ProcessId|gt: 1000, Image: ls", "ls", "nc"),
    ("ProcessId|gte: 1234, ProcessId|lte: 1234, Image: ls", "ls", "nc"),
    ("ProcessId: 1234, Image: ls", "ls", "nc"),
    ("User: root, Image: ls", "ls", "nc"),
    ("Image|endswith: ''", "ls", ""),
)


@pytest.mark.parametrize(("selection", "line", "near"), MEANINGS, ids=lambda text: text[:40])
def test_a_comparison_means_what_sigma_says(
    selection: str, line: str, near: str, tmp_path: Path
) -> None:
    detector = rules_of(tmp_path, selects(selection))
    without_parent = msgspec.structs.replace(a_process(), lineage=())
    for words, wanted in ((line, True), (near, False)):
        event = runs(words, process=without_parent)
        assert matches(detector, event) is (wanted and bool(words)), words


CONDITIONS: Sequence[tuple[str, str, bool]] = (
    ("one and two", "12", True),
    ("one and two", "1", False),
    ("one or two", "2", True),
    ("one or two", "3", False),
    ("not one", "2", True),
    ("not one", "1", False),
    ("one and not two", "1", True),
    ("one and not (two or three)", "13", False),
    ("one and not (two or three)", "14", True),
    ("1 of them", "3", True),
    ("1 of them", "4", False),
    ("all of them", "123", True),
    ("all of them", "12", False),
    ("1 of t*", "2", True),
    ("1 of t*", "1", False),
    ("all of t*", "23", True),
    ("all of t* and not one", "123", False),
    ("any of them", "1", True),
    ("not 1 of t*", "1", True),
    ("[one, three]", "3", True),
    ("[one, three]", "2", False),
)


@pytest.mark.parametrize(("condition", "line", "wanted"), CONDITIONS)
def test_a_condition_means_what_sigma_says(
    condition: str, line: str, wanted: bool, tmp_path: Path
) -> None:
    named = {"one": 1, "two": 2, "three": 3}
    parts = [f"  {name}: {{CommandLine|contains: '{n}'}}" for name, n in named.items()]
    detector = rules_of(tmp_path, a_rule("\n".join([*parts, f"  condition: {condition}"])))
    assert matches(detector, runs(line)) is wanted


def test_items_of_a_list_are_alternatives_and_keys_of_a_mapping_are_not(tmp_path: Path) -> None:
    detection = "  s:\n  - {Image: a, User: root}\n  - {Image: b, User: bin}\n  condition: s"
    detector = rules_of(tmp_path, a_rule(detection))
    assert matches(detector, runs("a"))
    assert not matches(detector, runs("b"))


REMOTE = Endpoint("203.0.113.9", 4444)
WRITTEN = {"flags": WRITE, "created": True}
EVENTS: Sequence[tuple[str, str, Event, Event]] = (
    ("file_event", "TargetFilename: /etc/cron.d/x", an_open(path="/etc/cron.d/x", **WRITTEN), an_open(path="/etc/cron.d/x")),
    ("file_event", "TargetFilename: /tmp/b", a_rename(), a_rename(new_path="/tmp/c")),
    ("file_event", "SourceFilename: /tmp/a", a_rename(), an_open(path="/tmp/a", **WRITTEN)),
    ("file_event", "TargetFilename: /tmp/b", a_link(), a_link(result=-13)),
    ("file_event", "TargetFilename: /tmp/b", a_symlink(), a_symlink(path="/tmp/c")),
    ("file_event", "TargetFilename|contains: '{echo'", an_open(path="/a{echo", **WRITTEN), an_open(path="/a", **WRITTEN)),
    ("file_change", "TargetFilename: /a", an_open(path="/a", flags=WRITE), an_open(path="/a", **WRITTEN)),
    ("file_change", "TargetFilename: /tmp/a", a_chmod(), a_chmod(result=-1)),
    ("file_change", "TargetFilename: /tmp/a", a_chown(), a_chown(path="/tmp/b")),
    ("file_access", "TargetFilename|endswith: /passwd", an_open(), an_open(path="/etc/group")),
    ("file_delete", "TargetFilename: /tmp/a", an_unlink(), an_unlink(result=-2)),
    ("file_rename", "SourceFilename: /tmp/a", a_rename(), a_rename(path="/tmp/c")),
    ("network_connection", "Initiated: 'true'", a_connect(), an_accept()),
    ("network_connection", "Initiated: false", an_accept(), a_connect()),
    ("network_connection", "DestinationPort: 4444", a_connect(remote=REMOTE), a_connect()),
    ("network_connection", "DestinationIp|cidr: 203.0.113.0/24", a_connect(remote=REMOTE), a_connect()),
    ("network_connection", "DestinationIp|cidr: 2001:db8::/32", a_connect(remote=Endpoint("2001:db8::1", 1)), a_connect()),
    ("network_connection", "DestinationIsIpv6: 'true'", a_connect(remote=Endpoint("::1", 1)), a_connect()),
    ("network_connection", "DestinationPort|lt: 1024", a_connect(), a_connect(remote=REMOTE)),
    ("network_connection", "SourceIp: 203.0.113.9", an_accept(remote=REMOTE), an_accept()),
    ("network_connection", "Protocol: tcp, DestinationPort: 80", a_connect(), a_connect(remote=None)),
    ("dns_query", "QueryName|endswith: .onion.example", asks("a.ONION.example"), answers("a.onion.example", "1.2.3.4")),
    ("dns_query", "record_type: TXT", asks("a", 16), asks("a")),
    ("dns_query", "QueryResults|contains: 192.0.2.7", answers("a", "192.0.2.1", "192.0.2.7"), answers("a", "192.0.2.1")),
    ("dns_query", "QueryStatus: 3", answers("a", rcode=3), answers("a")),
)  # fmt: skip


@pytest.mark.parametrize(("category", "selection", "event", "near"), EVENTS)
def test_a_category_stands_for_events_of_ours(
    category: str, selection: str, event: Event, near: Event, tmp_path: Path
) -> None:
    detector = rules_of(tmp_path, selects(selection, category))
    assert matches(detector, event)
    assert not matches(detector, near)


def test_a_parent_is_known_by_its_command_line(tmp_path: Path) -> None:
    detector = rules_of(tmp_path, selects("ParentCommandLine|contains: '--worker', Image: id"))
    parent = msgspec.structs.replace(a_process(), uuid="parent")
    assert not matches(detector, runs("/srv/app --worker 1", process=parent))
    assert matches(detector, runs("id", process=child_of("/srv/app")))
    # The parent runs another program now.
    assert not matches(detector, runs("id", process=child_of("/usr/bin/bash")))


def test_a_connection_is_known_by_the_name_that_was_asked_for(tmp_path: Path) -> None:
    rule = selects("DestinationHostname|endswith: .tunnel.example", "network_connection")
    detector = rules_of(tmp_path, rule)
    assert not matches(detector, a_connect(remote=REMOTE))
    assert not matches(detector, answers("x.tunnel.example", REMOTE.address))
    assert matches(detector, a_connect(remote=REMOTE))


def test_containers_and_pods_are_fields(tmp_path: Path) -> None:
    detector = rules_of(tmp_path, selects("ContainerImage|contains: /web, PodNamespace: shop"))
    assert matches(detector, runs("ls", process=inside(a_process(), a_container())))
    assert not matches(detector, runs("ls"))


MAKERS: dict[type[Event], Callable[[], Event]] = {
    Exec: lambda: runs("ls -l"),
    Open: an_open,
    Rename: a_rename,
    Link: a_link,
    Symlink: a_symlink,
    Chmod: a_chmod,
    Chown: a_chown,
    Unlink: an_unlink,
    Connect: a_connect,
    Sendto: a_sendto,
    Accept: an_accept,
    Dns: lambda: answers("a", "192.0.2.1"),
}


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_field_can_be_asked_of_every_event(category: str, tmp_path: Path) -> None:
    for name in FIELDS[category]:
        detector = rules_of(tmp_path, selects(f"{name}|exists: true, ProcessId|gte: 0", category))
        watched = [each for way in CATEGORIES[category] for each in way if name in each.fields]
        for each in watched:
            list(detector.inspect(MAKERS[each.kind]()))


# Random trees and texts

WORDS = st.text("ab/*", max_size=4)
FIELD = st.sampled_from(["Image", "CommandLine"])
PLAIN = (Operator.IS, Operator.CONTAINS, Operator.STARTS, Operator.ENDS)
COMPARES = st.builds(Compare, FIELD, st.sampled_from(PLAIN), WORDS, st.booleans())
TREES = st.recursive(
    COMPARES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(lambda parts: Every(tuple(parts)), st.lists(inner, min_size=1, max_size=4)),
        st.builds(lambda parts: Either(tuple(parts)), st.lists(inner, min_size=1, max_size=4)),
    ),
    max_leaves=12,
)
SEEN = st.none() | st.text("abAB/*", max_size=6)


def plainly(node: Node, seen: dict[str, str | None]) -> bool:
    """What a tree means, said as simply as it can be."""
    match node:
        case Not(part):
            return not plainly(part, seen)
        case Every(parts):
            return all(plainly(part, seen) for part in parts)
        case Either(parts):
            return any(plainly(part, seen) for part in parts)
        case Constant(value):
            return value
        case Compare():
            text, wanted = seen[node.field], str(node.value)
            if text is None:
                return False
            if not node.cased:
                text, wanted = text.lower(), wanted.lower()
            ways = {
                Operator.IS: text == wanted,
                Operator.CONTAINS: wanted in text,
                Operator.STARTS: text[: len(wanted)] == wanted,
                Operator.ENDS: wanted == "" or text[-len(wanted) :] == wanted,
            }
            return ways[node.operator]


@given(TREES, SEEN, SEEN)
def test_a_compiled_tree_says_what_the_tree_says(
    node: Node, image: str | None, line: str | None
) -> None:
    view = View.of({"Image": image, "CommandLine": line})
    assert compiled(node)(view) is plainly(node, {"Image": image, "CommandLine": line})


@given(TREES, SEEN, SEEN)
def test_a_rule_that_matches_is_never_left_out_by_its_key(
    node: Node, image: str | None, line: str | None
) -> None:
    seen = {"Image": image, "CommandLine": line}
    gate = compiled(weakened(node, "Image"))(View.of({"Image": image}))
    assert gate or not plainly(node, seen)
    certain = compiled(weakened(node, "Image", up=False))(View.of({"Image": image}))
    assert not certain or plainly(node, seen)


@given(st.text("ab*?\\", max_size=6), st.text("abAB*?\\", max_size=8))
def test_stars_and_question_marks_are_those_of_pysigma(pattern: str, text: str) -> None:
    value = SigmaString(pattern)
    wanted = fullmatch(str(value.to_regex().regexp), text, IGNORECASE | DOTALL)
    assert compiled(compared("Image", value))(View.of({"Image": text})) is (wanted is not None)


@given(st.ip_addresses(), st.integers(0, 32))
def test_networks_are_those_of_the_library(address: Any, prefix: int) -> None:
    network = ip_network(("192.0.2.0", prefix), strict=False)
    holds = compiled(Compare("DestinationIp", Operator.IN_NETWORK, str(network)))
    assert holds(View.of({"DestinationIp": str(address)})) is (ip_address(address) in network)


def test_a_path_that_is_no_utf8_harms_nothing(tmp_path: Path) -> None:
    odd = os.fsdecode(b"/tmp/\xff/curl")
    detector = rules_of(tmp_path, selects("Image|re: '/curl$', CommandLine|contains: curl"))
    assert matches(detector, runs(odd))


# Regular expressions take linear time


def test_a_regular_expression_that_explodes_elsewhere_takes_no_time(tmp_path: Path) -> None:
    detector = rules_of(tmp_path, selects("CommandLine|re: '^(([a-z])+.)+[A-Z]([a-z])+$'"))
    started = time.process_time()
    assert not matches(detector, runs("a" * 8192))
    assert time.process_time() - started < 0.5


# Refused

GOOD = selects("Image: a")
REFUSED: Sequence[tuple[str, str]] = (
    (selects("Imagee: a"), "rules.yml:5: A rule: process_creation has no field Imagee: did you mean Image?"),
    (selects("OriginalFileName: a"), "process_creation has no field OriginalFileName"),
    (selects("QueryName: a"), "process_creation has no field QueryName"),
    (selects("Image|fieldref: Nothing"), "process_creation has no field Nothing"),
    (selects("Image|unheard: a"), "Unknown modifier 'unheard'"),
    (selects("Image|expand: '%names%'"), "nobody has values for its placeholders"),
    (selects("Image|re: '(?=a)b'"), "none that runs in linear time (invalid perl operator: (?=)"),
    (selects("Image|re: '(a)\\1'"), "none that runs in linear time"),
    (selects("Image|re: '['"), "none that runs in linear time (missing ]: [)"),
    (selects("Image|re: '((a{100}){100}){100}'"), "none that runs in linear time"),
    (selects("Image|re|startswith: a"), "re cannot be joined with startswith or endswith"),
    (selects("ProcessId|hour: 3"), "parts of a time are not supported"),
    (selects("Image|cidr: 1.2.3.4/99", "process_creation"), "Invalid CIDR expression"),
    (a_rule("  words: [a, b]\n  condition: words"), "it looks for words without a field"),
    (a_rule("  s: {Image: a}\n  condition: s and t"), "Detection 't' not defined"),
    (a_rule("  s: {Image: a}\n  condition: s | count() > 3"), "pipe syntax"),
    (a_rule("  s: {Image: a}\n  condition: s and ("), "A rule"),
    (a_rule("  s: {Image: a}"), "must contain at least one condition"),
    (a_rule("  s: {Image: a}\n  timeframe: 5m\n  condition: s"), "timeframe is no part of Sigma"),
    (selects("Image: a", "registry_event"), "its category is registry_event; known are process_creation"),
    (GOOD.replace("product: linux", "product: windows"), "it is for the product windows"),
    (GOOD.replace("category: process_creation", "service: auditd"), "it is for the service auditd"),
    (GOOD.replace("logsource", "source"), "must have a log source"),
    (GOOD.replace("title: A rule", ""), "title"),
    (selects("Image: a", level="terrible"), "terrible"),
    (selects("Image: a", status="deprecated"), "its status is deprecated"),
    (selects("Image: a", id="not-a-uuid"), "must be an UUID"),
    (selects("Image: a", action="global"), "collections by action"),
    (selects("Image: a", filter="{}"), "filters are not supported: use detect.suppressions"),
    ("just words", "this is no rule: one has a title"),
    ("[1, 2]", "this is no rule: one has a title"),
    ("a: [", "this is no YAML"),
    ("a: 1\na: 2", "this is no YAML: Duplicate key 'a'"),
    ("a: &x {b: 1}\nc: {<<: *x}", "merges mappings by <<"),
    ("a: " + "[" * 40 + "]" * 40, "it is nested more than 32 deep"),
    ("? [a]\n: b", "rules.yml"),
    ("date: 2024-99-99", "rules.yml"),
    (selects("SourceFilename: a, TargetFilename|exists: true, Image: a", "file_delete"), "has no field SourceFilename"),
)  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), REFUSED, ids=lambda text: text[:50])
def test_what_cannot_be_used_is_refused_in_one_sentence(
    text: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "good.yml").write_text(GOOD.replace("A rule", "Good"))
    chosen = read(tmp_path, text)
    assert [each.title for each in chosen.rules] == ["Good"]
    (refusal,) = chosen.refusals
    assert sentence in str(refusal)
    assert "\n" not in str(refusal)
    assert str(tmp_path / "rules.yml") in str(refusal)


def test_one_bad_rule_leaves_the_others_of_its_file(tmp_path: Path) -> None:
    chosen = read(tmp_path, GOOD, selects("Imagee: a"), GOOD.replace("A rule", "Another"))
    assert [each.title for each in chosen.rules] == ["A rule", "Another"]
    assert len(chosen.refusals) == 1


def test_a_second_rule_with_the_same_id_is_refused(tmp_path: Path) -> None:
    number = "929a690e-bef0-4204-a928-ef5e620d6fcc"
    (tmp_path / "a.yml").write_text(selects("Image: a", id=number))
    chosen = read(tmp_path, selects("Image: b", id=number))
    assert len(chosen.rules) == 1
    assert f"a.yml has the same id {number}" in str(chosen.refusals[0])


def test_rules_of_the_same_title_have_types_of_their_own(tmp_path: Path) -> None:
    ids = [f"{n}29a690e-bef0-4204-a928-ef5e620d6fcc" for n in (1, 2)]
    chosen = read(tmp_path, *(selects("Image: a", id=each) for each in ids))
    assert [each.rule.type for each in chosen.rules] == [
        "Sigma:Runtime/ARule",
        "Sigma:Runtime/ARule.229a690e",
    ]


def a_bomb() -> bytes:
    """Nine times nine times nine … of something small."""
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 12):
        same = ", ".join([f"*a{n - 1}"] * 9)
        rows.append(f"a{n}: &a{n} [{same}]")
    return "\n".join([GOOD.strip(), *rows]).encode()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x7fELF\x02\x01\x01\x00" + os.urandom(64) + b"\xff", "it is no text in UTF-8"),
        (b"title: \x00\n", "this is no YAML"),
        (b"# " + b"x" * (2 << 20), "it has more than 1 MiB"),
        (a_bomb(), "YAML aliases expand to too many nodes"),
        (b"- " * 200_000, "it is nested more than 32 deep"),
        (b"a: &a [*a]", "Recursive YAML"),
        ("title: \ud83d".encode("utf-8", "surrogatepass"), "it is no text in UTF-8"),
    ],
    ids=["binary", "nul", "2 MiB", "aliases", "nested", "itself", "surrogate"],
)
def test_a_file_that_is_none_harms_only_itself(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_bytes(content)
    started = time.process_time()
    chosen = read(tmp_path, GOOD)
    assert time.process_time() - started < 2
    assert len(chosen.rules) == 1
    assert why in str(chosen.refusals[0])


def test_a_file_that_blocks_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yml")
    assert read(tmp_path, GOOD).refusals == ()
    assert "no regular file" in str(read_rules([tmp_path / "pipe.yml"]).refusals[0])


def test_a_place_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"detect\.sigma: .*/none cannot be read: No such file"):
        read_rules([tmp_path / "none"])


def test_folders_are_read_to_the_bottom_but_not_what_is_hidden(tmp_path: Path) -> None:
    for folder in ("linux/deep", "..2026_11_29"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.yaml").write_text(GOOD)
    (tmp_path / "readme.txt").write_text("no rule")
    assert [each.file for each in read_rules([tmp_path]).rules] == [
        str(tmp_path / "linux/deep/a.yaml")
    ]


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates()
)
MODIFIERS = st.lists(st.sampled_from(sorted(modifier_mapping)), max_size=3)
KEYS = st.one_of(
    st.sampled_from(["condition", "selection", "timeframe", "type", "rules", "timespan"]),
    st.builds(lambda field, more: "|".join([field, *more]), FIELD, MODIFIERS),
    st.text(max_size=4),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
ODD = st.fixed_dictionaries(
    {
        "title": st.just("A") | SCALARS,
        "logsource": st.just({"category": "process_creation"}) | ANYTHING,
    },
    optional={
        "detection": st.fixed_dictionaries(
            {"selection": ANYTHING, "condition": st.just("selection") | SCALARS}
        ),
        "correlation": ANYTHING,
        **dict.fromkeys(("id", "level", "tags", "status", "name"), ANYTHING),
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ODD)
def test_whatever_a_rule_holds_it_is_used_or_refused(tmp_path: Path, rule: object) -> None:
    (tmp_path / "a.yml").write_text(yaml.safe_dump(rule, allow_unicode=True))
    chosen = read_rules([tmp_path])
    assert chosen.count + len(chosen.refusals) == 1
    assert all("\n" not in str(each) for each in chosen.refusals)
    list(SigmaRules(chosen).inspect(runs("/bin/ls a")))


# Correlations

BASE = selects("Image|endswith: /su", name="failed")
OTHER = selects("Image|endswith: /id", name="other").replace("A rule", "Other")


def a_correlation(body: str, **more: str) -> str:
    """A correlation rule with these lines."""
    extra = "".join(f"{name}: {value}\n" for name, value in more.items())
    lines = "".join(f"  {line.strip()}\n" for line in body.split(";"))
    return f"title: Together\nlevel: high\n{extra}correlation:\n{lines}"


def told(
    detector: SigmaRules, *events: tuple[float, str] | tuple[float, str, str]
) -> list[tuple[int, str]]:
    """Which events have which signals: number and title."""
    found = []
    for number, (seconds, path, *user) in enumerate(events):
        event = runs(path)
        event.time = TIME + round(seconds * SECOND)
        if user and event.process is not None:
            event.process.user = user[0]
        shown = [each.evidence["sigma"] for each in detector.inspect(event)]
        found += [(number, str(each["title"])) for each in shown if isinstance(each, dict)]
    return found


def test_so_many_events_within_the_time_span(tmp_path: Path) -> None:
    body = "type: event_count; rules: [failed]; group-by: [User]; timespan: 1m; condition: {gte: 3}"
    detector = rules_of(tmp_path, BASE, a_correlation(body))
    spread = [(n * 40.0, "/bin/su", "root") for n in range(10)]
    assert told(detector, *spread) == []
    detector = rules_of(tmp_path, BASE, a_correlation(body))
    users = ["a", "b", "a", "b", "a", "b"]
    assert told(detector, *((n, "/bin/su", user) for n, user in enumerate(users))) == [
        (4, "Together"),
        (5, "Together"),
    ]


@pytest.mark.parametrize(("condition", "first"), [("gte: 2", 1), ("gt: 2", 2), ("eq: 2", 1)])
def test_it_takes_as_many_as_the_condition_says(condition: str, first: int, tmp_path: Path) -> None:
    body = f"type: event_count; rules: failed; timespan: 10s; condition: {{{condition}}}"
    detector = rules_of(tmp_path, BASE, a_correlation(body))
    found = told(detector, *((0.1 * n, "/bin/su") for n in range(first + 1)))
    assert found == [(first, "Together")]


def test_so_many_different_values(tmp_path: Path) -> None:
    body = "type: value_count; rules: [failed]; timespan: 5m; condition: {field: User, gte: 3}"
    detector = rules_of(tmp_path, BASE, a_correlation(body))
    users = ["a", "a", "b", "b", "a", "c"]
    found = told(detector, *((n, "/bin/su", user) for n, user in enumerate(users)))
    assert found == [(5, "Together")]


def test_all_rules_in_any_order(tmp_path: Path) -> None:
    body = "type: temporal; rules: [failed, other]; timespan: 10s"
    detector = rules_of(tmp_path, BASE, OTHER, a_correlation(body))
    found = told(detector, (0, "/id"), (11, "/su"), (12, "/su"), (15, "/id"))
    assert found == [(3, "Together")]


def test_all_rules_in_their_order(tmp_path: Path) -> None:
    body = "type: temporal_ordered; rules: [failed, other]; timespan: 10s"
    detector = rules_of(tmp_path, BASE, OTHER, a_correlation(body))
    found = told(detector, (0, "/id"), (1, "/su"), (13, "/id"), (14, "/su"), (20, "/id"))
    assert found == [(4, "Together")]


def test_fields_of_several_rules_can_have_one_name(tmp_path: Path) -> None:
    connects = selects("DestinationPort: 80", "network_connection", name="connects")
    body = (
        "type: temporal; rules: [failed, connects]; group-by: who; timespan: 10s;"
        "aliases: {who: {failed: ProcessGuid, connects: ProcessGuid}}"
    )
    detector = rules_of(tmp_path, BASE, connects.replace("A rule", "C"), a_correlation(body))
    assert not matches(detector, runs("/bin/su"))
    other = msgspec.structs.replace(a_process(), uuid="other")
    assert not matches(detector, a_connect(process=other))
    (signal,) = detector.inspect(a_connect())
    assert signal.evidence["sigma"]["group"] == {"who": a_process().uuid}  # type: ignore[index]


@pytest.mark.parametrize(("generate", "titles"), [("false", {"Together"}), ("true", {"A rule", "Together"})])  # fmt: skip
def test_a_rule_that_only_serves_a_correlation_is_quiet(
    generate: str, titles: set[str], tmp_path: Path
) -> None:
    body = (
        "type: event_count; rules: [failed]; timespan: 1m; condition: {gte: 2};"
        f"generate: {generate}"
    )
    detector = rules_of(tmp_path, BASE, a_correlation(body))
    assert {title for _, title in told(detector, (0, "/su"), (1, "/su"))} == titles


COUNT = "rules: [failed]; timespan: 1m; condition: {gte: 2}"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (f"type: event_count; {COUNT.replace('failed', 'nobody')}", "it refers to nobody"),
        (f"type: event_count; {COUNT.replace('gte: 2', 'lt: 2')}", "the condition lt 2"),
        (f"type: event_count; {COUNT.replace('gte: 2', 'gte: 0')}", "it can be from 1 to 1000"),
        (f"type: event_count; {COUNT.replace('gte: 2', 'gte: 9999')}", "it can be from 1 to 1000"),
        (f"type: event_count; group-by: [Nope]; {COUNT}", "the rule A rule has no field Nope"),
        (f"type: value_count; {COUNT}", "without field reference"),
        (f"type: event_count; {COUNT.replace('1m', 'soon')}", "Timespan 'soon' is invalid"),
        ("type: value_sum; rules: [failed]; timespan: 1m; condition: {gte: 2, field: ProcessId}", "correlations of type value_sum"),
        ("type: temporal; timespan: 1m; condition: failed and other", "conditions with and"),
        ("type: temporal_ordered; rules: [failed, other]; timespan: 1m; condition: {gte: 1}", "it takes all its 2 rules"),
        ("type: guessed; rules: [failed]; timespan: 1m", "no valid Sigma correlation type"),
    ],
)  # fmt: skip
def test_a_correlation_that_cannot_be_counted_is_refused(
    body: str, why: str, tmp_path: Path
) -> None:
    chosen = read(tmp_path, BASE, OTHER, a_correlation(body))
    assert chosen.correlations == ()
    assert why in str(chosen.refusals[0])
    # The rules that it wanted are told as if it were not there.
    assert all(each.is_told for each in chosen.rules)


def test_a_correlation_remembers_a_bounded_number_of_groups(tmp_path: Path) -> None:
    body = "type: event_count; rules: failed; group-by: [User]; timespan: 1d; condition: {gte: 900}"
    (wanted,) = read(tmp_path, BASE, a_correlation(body)).correlations
    counts = Correlator(wanted)
    for n in range(10 * GROUPS_LIMIT):
        counts.add(0, TIME + n, (n,), ())
    assert len(counts._groups._new) + len(counts._groups._old) <= 36


# Findings


def an_engine(detector: SigmaRules, *, signals: bool = False) -> Engine:
    return Engine(
        (*own_detectors(ThreatLists([]), Expected({}, {})), detector),
        boot_ns=BOOT,
        node="n",
        failures=Counter(),
        signals=signals,
        update_seconds=300,
    )


def found_by(detector: SigmaRules, *events: Event) -> list[Finding]:
    return [each for each in an_engine(detector).inspect(events) if each.type.startswith("Sigma:")]


def test_a_finding_says_which_rule_and_what_it_has_seen(tmp_path: Path) -> None:
    number = "929a690e-bef0-4204-a928-ef5e620d6fcc"
    tags = "[attack.defense-evasion, attack.t1562.001, attack.g0035, cve.2024-1]"
    rule = selects(
        "Image|endswith: /mytool, CommandLine|contains: secret",
        id=number,
        level="high",
        tags=tags,
    ).replace("A rule", "Something {strange} it is")
    event = runs("/opt/mytool --password secret-hunter2")
    (finding,) = found_by(rules_of(tmp_path, rule), event)
    assert finding.type == "Sigma:Runtime/SomethingStrangeItIs"
    assert finding.title == "bash: Something {strange} it is"
    assert (finding.severity, finding.mitre) == (Severity.HIGH, ("T1562.001",))
    assert finding.evidence["rule"] == f"sigma:{number}"
    assert finding.evidence["sigma"] == {
        "title": "Something {strange} it is",
        "id": number,
        "file": str(tmp_path / "rules.yml"),
        "matchedFields": [
            {
                "field": "Image",
                "operator": "endswith",
                "wanted": "*/mytool",
                "found": "/opt/mytool",
            },
            {"field": "CommandLine", "operator": "contains", "wanted": "*secret*"},
        ],
    }
    assert b"hunter2" not in msgspec.json.encode(finding.details)


@pytest.mark.parametrize("level", SIGMA_LEVELS)
def test_the_level_says_how_bad_it_is(level: str, tmp_path: Path) -> None:
    severity, weight = SIGMA_LEVELS[level]
    findings = found_by(rules_of(tmp_path, selects("Image: /a", level=level)), runs("/a"))
    alone = [severity] if weight >= FINDING_WEIGHT else []
    assert [each.severity for each in findings] == alone


def test_light_rules_add_up_with_what_the_agent_knows_itself(tmp_path: Path) -> None:
    texts = [selects(f"Image: /{n}", level="low").replace("A rule", f"Rule {n}") for n in "ab"]
    findings = found_by(rules_of(tmp_path, *texts), runs("/a"), runs("/b"))
    assert {each.type for each in findings} == {"Sigma:Runtime/RuleA", "Sigma:Runtime/RuleB"}


def test_tactics_of_rules_make_an_attack_sequence(tmp_path: Path) -> None:
    tactics = ("execution", "persistence", "credential-access")
    texts = [
        selects(f"Image: /{tactic}", level="high", tags=f"[attack.{tactic}]").replace(
            "A rule", tactic
        )
        for tactic in tactics
    ]
    engine = an_engine(rules_of(tmp_path, *texts))
    found = engine.inspect([runs(f"/{tactic}") for tactic in tactics])
    assert "AttackSequence:Runtime/CompromisedHost" in {each.type for each in found}


def test_other_rules_take_the_place_of_these(tmp_path: Path) -> None:
    detector = rules_of(tmp_path, selects("TargetFilename: /a", "file_event"))
    engine = an_engine(detector)
    writes = [an_open(path=path, **WRITTEN) for path in ("/a", "/b")]
    assert [each.context["filePath"] for each in engine.inspect(writes)] == ["/a"]
    detector.replace(read(tmp_path, selects("TargetFilename: /b", "file_event")))
    engine.forget_paths()
    assert [each.context["filePath"] for each in engine.inspect(writes)] == ["/b"]
    detector.replace(RuleSet())
    engine.forget_paths()
    assert engine.inspect(writes) == []


def test_a_correlation_that_stays_goes_on_counting(tmp_path: Path) -> None:
    body = "type: event_count; rules: failed; timespan: 1m; condition: {gte: 2}"
    detector = rules_of(tmp_path, BASE, a_correlation(body))
    assert told(detector, (0, "/su")) == []
    detector.replace(read(tmp_path, BASE, OTHER, a_correlation(body)))
    assert told(detector, (1, "/su")) == [(0, "Together")]


def test_signals_name_their_rule_for_the_engine(tmp_path: Path) -> None:
    detector = rules_of(tmp_path, GOOD)
    signals: list[Signal] = list(detector.inspect(runs("a")))
    assert [each.rule for each in signals] == ["sigma:A rule"]
    assert list(detector.rules) == ["sigma:A rule"]
