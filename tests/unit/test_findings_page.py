# SPDX-License-Identifier: Apache-2.0
"""The pages about findings say what the code does, and what they show can be used."""

from __future__ import annotations

import re
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from nodeagent.cli.explain import ID
from nodeagent.detect.catalogue import RULES
from nodeagent.detect.describe import describe_process, describe_resource
from nodeagent.detect.detectors import own_detectors
from nodeagent.detect.lists import Match, ThreatLists
from nodeagent.detect.network import connection_action, request_action
from nodeagent.detect.pages import nearest, page_of, read_page, type_of
from nodeagent.detect.reach import Expected
from nodeagent.detect.suppress import Suppression, Suppressions, read_suppressions
from nodeagent.finding import Finding, Severity
from tests.detect.page import (
    ELSEWHERE,
    HEAD,
    PAGE,
    PAGES,
    TECHNIQUES,
    by_type,
    rendered,
    rendered_page,
)
from tests.detect.scenes import SCENES
from tests.detect.shapes import ANY, SHAPES, misfits
from tests.events import BOOT, a_connect, a_container, a_dns, a_finding, a_process

HINT: Final = "write it: python -m tests.detect.page"
SECTIONS: Final = (
    "What it means",
    "How it triggers",
    "How to check",
    "What to do",
    "How to silence",
)
LINES: Final = range(15, 41)
"""Of a page without its head."""
COLUMNS: Final = 160
SUPPRESSIONS: Final = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
TYPES: Final = tuple(by_type())

each_type = pytest.mark.parametrize("type_", TYPES)


def text_of(type_: str) -> str:
    return (PAGES / f"{page_of(type_)}.md").read_text()


def body_of(type_: str) -> str:
    return text_of(type_).partition(HEAD[1])[2].strip()


def test_table_is_up_to_date() -> None:
    text = PAGE.read_text()
    assert text == rendered(text), HINT


def test_scenes_and_tests_are_about_types_that_there_are() -> None:
    assert {scene.type for scene in SCENES} | set(ELSEWHERE) <= set(TYPES)


def test_each_type_has_a_page_and_each_page_a_type() -> None:
    names = {page_of(type_) for type_ in TYPES}
    assert len(names) == len(TYPES)
    assert {path.name for path in PAGES.iterdir()} == {f"{name}.md" for name in names}


@each_type
def test_head_is_up_to_date(type_: str) -> None:
    text = text_of(type_)
    assert text == rendered_page(type_, text), HINT


@each_type
def test_page_has_all_sections_and_is_short(type_: str) -> None:
    body = body_of(type_)
    assert tuple(re.findall(r"^## (.*)$", body, re.MULTILINE)) == SECTIONS
    parts = re.split(r"^## .*$", body, flags=re.MULTILINE)[1:]
    assert all(len(part.split()) > 10 for part in parts)
    lines = body.splitlines()
    assert len(lines) in LINES
    for line in lines:
        assert len(line) <= COLUMNS or line.startswith("where = "), line


@each_type
def test_page_says_how_to_look_at_the_finding(type_: str) -> None:
    check = body_of(type_).partition(f"## {SECTIONS[2]}")[2].partition("## ")[0]
    assert "`nodeagent findings show" in check
    assert "`nodeagent explain ID`" in check


@each_type
def test_rules_and_fields_that_a_page_names_are_those_of_the_code(type_: str) -> None:
    """Words in backquotes that look like one."""
    quoted = set(re.findall(r"`([^`\n]+)`", body_of(type_)))
    shown = [example(type_, rule) for rule in by_type()[type_]]
    for place in quoted:
        if re.match(r"(?:context|action|evidence|resource|process)\.\w[\w.]*$", place):
            assert any(has(finding, place) for finding in shown), place
    for named in quoted & set(RULES):
        assert named in by_type()[type_] or f"rule `{named}`" in body_of(type_), named
    types = {each for each in quoted if re.fullmatch(r"\w+:Runtime/[\w.&!]+", each)}
    assert types <= set(TYPES)
    for pattern in re.findall(r"--type '([^']+)'", body_of(type_)):
        assert any(fnmatchcase(each, pattern) for each in TYPES), pattern


@each_type
def test_suppression_of_a_page_is_about_its_type_and_can_fit(type_: str, tmp_path: Path) -> None:
    (text,) = SUPPRESSIONS.findall(text_of(type_))
    path = tmp_path / "suppressions.toml"
    path.write_text(text)
    (rule,) = read_suppressions(path)
    assert fnmatchcase(type_, rule.where["type"])
    # It leaves out some findings of the type, never all of them.
    assert len(rule.where) > 1
    rules = by_type()[type_]
    if "evidence.rule" in rule.where:
        assert rule.where["evidence.rule"] in rules
        rules = [rule.where["evidence.rule"]]
    anything = Suppression("every value fits", dict.fromkeys(rule.where, "*"), "me")
    findings = [example(type_, name) for name in rules]
    assert len(Suppressions([anything], Counter()).wanted(findings)) < len(findings)


def has(finding: Finding, place: str) -> bool:
    shown: Any = finding.details
    for name in place.split("."):
        if isinstance(shown, list):
            shown = shown[0]
        if name not in shown:
            return False
        shown = shown[name]
    return True


def example(type_: str, rule: str) -> Finding:
    """A finding with everything that one of this rule can have."""
    shape = SHAPES[rule]
    context: dict[str, Any] = {}
    for place in shape.context:
        *above, name = place.split(".")
        inside = context
        for each in above:
            inside = inside.setdefault(each, {})
        inside[name] = "x"
    connect, dns = a_connect(), a_dns()
    assert connect.remote is not None
    actions = {
        "networkConnectionAction": connection_action(connect, connect.remote),
        "dnsRequestAction": request_action(dns, "a.test"),
    }
    match = Match("list", "c2", "x", is_custom=True)
    evidence = {
        "rule": rule,
        "weight": RULES[rule].weight,
        "event": {"kind": "exec"},
        "signals": [{"rule": rule, "weight": 1}],
        "threatIntelligenceDetails": [{**match.shown(), "threatFileSha256": "x"}],
    }
    process = msgspec.structs.replace(a_process(), user="root")
    return a_finding(
        type=type_,
        severity=Severity.HIGH,
        mitre=RULES[rule].mitre,
        resource=describe_resource(a_container(), "node-1"),
        process=describe_process(process, BOOT, sha256="x" * 64),
        context=context,
        action=actions.get(shape.action),
        evidence=evidence,
    )


def test_shapes_are_about_all_rules_and_about_kinds_that_detectors_look_at() -> None:
    assert set(SHAPES) == set(RULES)
    looked_at = {
        kind for each in own_detectors(ThreatLists(()), Expected({}, {})) for kind in each.kinds
    }
    for shape in SHAPES.values():
        assert shape.kinds == ANY or set(shape.kinds) <= looked_at


def test_field_that_is_in_no_shape_is_told() -> None:
    event = {"kind": "exec"}
    line = {"evidence": {"rule": "fileless", "event": event}, "context": {"threatFilePath": "x"}}
    assert not list(misfits(line))
    line |= {"context": {"other": {"deep": "x"}}, "action": {"dnsRequestAction": {}}}
    event["kind"] = "open"
    assert list(misfits(line)) == ["an event of kind open", "other.deep", "dnsRequestAction"]


def test_every_technique_has_its_name() -> None:
    assert set(TECHNIQUES) == {each for rule in RULES.values() for each in rule.mitre}


# Pages by name


@each_type
def test_page_is_found_by_type_by_its_own_name_and_by_rule(type_: str) -> None:
    for name in (type_, type_.upper(), page_of(type_), page_of(type_).lower(), *by_type()[type_]):
        assert type_of(name) == type_
        assert not ID.fullmatch(name)
    page = read_page(type_)
    assert page.startswith(f"# {type_}\n")
    assert "<!--" not in page


def test_name_of_a_page_can_be_typed_into_a_shell() -> None:
    assert page_of("Backdoor:Runtime/C&CActivity.B!DNS") == "Backdoor-C-CActivity.B-DNS"
    for type_ in TYPES:
        assert re.fullmatch(r"[A-Za-z0-9.-]+", page_of(type_))


@pytest.mark.parametrize(
    "name", ["", "../findings", "/etc/passwd", "x\0y", "*", "\udcff", "a" * 9999]
)
def test_name_that_resembles_none_has_no_page(name: str) -> None:
    assert type_of(name) is None
    assert nearest(name) == ""


def test_nearest_page_is_the_one_that_was_meant() -> None:
    assert nearest("Execution:Runtime/ReverseShel") == "Execution-ReverseShell"
    assert nearest("execution-bindshel") == "Execution-BindShell"
    assert nearest("reverse-shell") == "Execution-ReverseShell"
