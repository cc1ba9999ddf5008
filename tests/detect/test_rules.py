# SPDX-License-Identifier: Apache-2.0
"""`nodeagent rules`: what is active, and tests of rules that need no recording."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nodeagent import doctor
from nodeagent.cli import main
from nodeagent.config import Config
from nodeagent.config.model import DetectConfig
from nodeagent.detect.catalogue import RULES
from nodeagent.detect.sigma.fields import CATEGORIES, FIELDS
from nodeagent.detect.sigma.read import read_rules
from nodeagent.ledger import Ledger
from nodeagent.parts import sigma_of, tell_rules

PAGE = Path(__file__).parents[2] / "docs/rules.md"

RULE = """
title: Curl uploads
id: 0d3f5c1e-8a56-4d0c-9a0b-0b5a6d9f1c21
level: high
logsource: {product: linux, category: process_creation}
detection:
  tool: {Image|endswith: /curl, CommandLine|contains: ' --upload-file '}
  ours: {ParentImage|endswith: /backup, User: backup}
  condition: tool and not ours
---
title: Connection to a strange port
logsource: {category: network_connection}
detection:
  selection: {Initiated: true, DestinationPort|gte: 60000, DestinationIp|cidr: 192.0.2.0/24}
  condition: selection
"""
PASSES = """
[[event]]
category = "process_creation"
fields = { Image = "/usr/bin/curl", CommandLine = "curl --upload-file a b" }
rules = ["Curl uploads"]

[[event]]
category = "process_creation"

[event.fields]
Image = "/usr/bin/curl"
CommandLine = "curl --upload-file a b"
ParentImage = "/opt/backup"
User = "backup"

[[event]]
category = "network_connection"
fields = { Initiated = true, DestinationPort = 60001, DestinationIp = "192.0.2.9" }
rules = ["Connection to a strange port"]
"""
FAILS = """
[[event]]
category = "process_creation"
fields = { Image = "/usr/bin/curl", CommandLine = "curl --upload-file a b" }

[[event]]
category = "process_creation"
fields = { Image = "/usr/bin/curl" }
rules = ["0d3f5c1e-8a56-4d0c-9a0b-0b5a6d9f1c21"]
"""


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Options that name a file with these rules."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/mine.yml").write_text(RULE)
    (tmp_path / "tests").mkdir()
    return "--set", f'detect.sigma=["{tmp_path}/rules"]'


def test_tests_that_pass(
    chosen: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tests/mine.toml").write_text(PASSES)
    assert main(["rules", "test", str(tmp_path / "tests"), *chosen]) == 0
    assert capsys.readouterr().out == "ok     mine\n1 passed, 0 failed\n"


def test_a_difference_is_told_and_fails(
    chosen: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tests/a.toml").write_text(FAILS)
    assert main(["rules", "test", str(tmp_path / "tests"), *chosen]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "FAILED a",
        "       event 1: + Curl uploads matches",
        "       event 2: - 0d3f5c1e-8a56-4d0c-9a0b-0b5a6d9f1c21 does not match",
        "0 passed, 1 failed",
    ]
    assert main(["rules", "test", str(tmp_path / "tests"), *chosen, "--output", "json"]) == 1
    (verdict,) = json.loads(capsys.readouterr().out)
    assert verdict["name"] == "a"
    assert len(verdict["problems"]) == 2


def test_a_refused_rule_fails(
    chosen: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules/bad.yml").write_text("title: Bad")
    (tmp_path / "tests/mine.toml").write_text(PASSES)
    assert main(["rules", "test", str(tmp_path / "tests"), *chosen]) == 1
    assert "bad.yml:1: Bad: Sigma rule must have a log source" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("expect = ['a']", "a.toml expects findings of"),
        ("", "a.toml tests nothing"),
        ("expects = ['a']", "a.toml is no test of rules: Object contains unknown field `expects`"),
        ("= 1", "a.toml is no test of rules"),
        ("[[event]]\ncategory = 5\nfields = {}", "a.toml is no test of rules"),
    ],
)
def test_what_is_no_test_is_told_in_one_sentence(
    text: str,
    says: str,
    chosen: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "tests/a.toml").write_text(text)
    assert main(["rules", "test", str(tmp_path / "tests"), *chosen]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ('category = "nothing"\nfields = {}', "there is no category nothing: take one of process"),
        ('category = "file_event"\nfields = { Imag = "a" }', "file_event has no field Imag"),
    ],
)
def test_an_event_that_cannot_be_is_a_failure(
    event: str,
    says: str,
    chosen: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "tests/a.toml").write_text(f"[[event]]\n{event}")
    assert main(["rules", "test", str(tmp_path / "tests"), *chosen]) == 1
    assert says in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["none", "tests"])
def test_a_folder_without_tests_is_told(
    folder: str, chosen: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rules", "test", str(tmp_path / folder), *chosen]) == 2
    assert f"{tmp_path / folder} " in capsys.readouterr().err


def test_all_rules_are_listed_with_where_they_come_from(
    chosen: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules/bad.yml").write_text("title: Bad")
    assert main(["rules", "list", *chosen]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["weight", "severity", "type", "where"]
    assert max(map(len, lines[: len(RULES) + 2])) <= 80
    (mine,) = (line for line in lines if "CurlUploads" in line)
    assert mine.split()[:3] == ["70", "high", "Sigma:Runtime/CurlUploads"]
    assert mine.endswith("mine.yml")
    assert lines[-1].startswith(f"refused: {tmp_path}/rules/bad.yml:1: Bad: ")
    assert main(["rules", "list", *chosen, "--output", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["rules"]) == len(RULES) + 2
    assert len(shown["refused"]) == 1


def test_cost_needs_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.rec").write_text("no recording")
    assert main(["rules", "cost", str(tmp_path / "a.rec")]) == 2
    assert "a.rec is no recording; make one with `run --record`" in capsys.readouterr().err


def blocks(language: str) -> list[str]:
    """The examples of the documentation."""
    fenced = rf"^```{language}\n(.*?)^```"
    return re.findall(fenced, PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_rules_and_tests_of_the_documentation_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = blocks("yaml")
    for number, text in enumerate(rules):
        (tmp_path / f"{number}.yml").write_text(text)
    chosen = read_rules([tmp_path])
    assert (chosen.count, chosen.refusals) == (3, ())
    assert chosen.rules[0].rule.type == "Sigma:Runtime/CurlUploadsAFile"
    (test,) = blocks("ini")
    (tmp_path / "upload.toml").write_text(test)
    options = ("--set", f'detect.sigma=["{tmp_path}"]')
    assert main(["rules", "test", str(tmp_path), *options]) == 0, capsys.readouterr().out


def test_every_category_and_field_is_in_the_documentation() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE.read_text()))
    assert named >= CATEGORIES.keys()
    assert named >= {name for fields in FIELDS.values() for name in fields}


def with_rules(place: Path, **more: Any) -> Config:
    return Config(detect=DetectConfig(sigma=[str(place)]), **more)


def test_the_check_of_a_configuration_names_what_is_not_used(
    chosen: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules/bad.yml").write_text("title: Bad")
    assert main(["config", "check", *chosen]) == 0
    assert f"\nnot used: {tmp_path}/rules/bad.yml:1: Bad: " in capsys.readouterr().out
    assert main(["config", "check", "--set", 'detect.sigma=["/none"]']) == 2
    assert "detect.sigma: /none cannot be read: No such file" in capsys.readouterr().err


def test_the_doctor_counts_rules_and_names_those_that_are_refused(
    chosen: tuple[str, str], tmp_path: Path
) -> None:
    (good,) = doctor._rules(with_rules(tmp_path / "rules"))
    assert (good.state, good.found) == ("ok", "2, all of them can be used")
    (tmp_path / "rules/bad.yml").write_text("title: Bad")
    (some,) = doctor._rules(with_rules(tmp_path / "rules"))
    assert some.state == "degraded"
    assert f"2 can be used; refused: 1 ({tmp_path}/rules/bad.yml:1: Bad: " in some.found
    (none,) = doctor._rules(with_rules(tmp_path / "none"))
    assert none.state == "missing"
    assert doctor._rules(Config()) == []


def test_a_rule_whose_events_nobody_asked_for_is_told(
    chosen: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = with_rules(tmp_path / "rules", kinds=["exec"])
    ledger = Ledger()
    tell_rules(sigma_of(config), config, ledger)
    told = "rule_sees_nothing title=Connection to a strange port kinds=connect,sendto,accept"
    assert [each for each in caplog.messages if "rule_sees" in each] == [told]
    assert ledger.rules == {"sigma": 2, "refused": 0}


def in_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run it in an interpreter that has imported nothing yet."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_rules_nobody_pays_for_what_reads_them() -> None:
    done = in_python(
        "import sys, nodeagent.agent, nodeagent.trial, nodeagent.parts as parts\n"
        "from nodeagent.config import Config\n"
        "parts.sigma_of(Config())\n"
        "print(sorted({'sigma', 'yaml', 're2', 'pyparsing'} & set(sys.modules)))"
    )
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("missing", ["sigma", "re2"])
def test_what_is_not_installed_is_told(missing: str, tmp_path: Path) -> None:
    done = in_python(
        f"import sys; sys.modules['{missing}'] = None\n"
        "from nodeagent.cli import main\n"
        f"sys.exit(main(['rules', 'list', '--set', 'detect.sigma=[\"{tmp_path}\"]']))"
    )
    assert done.returncode == 2
    assert done.stderr.startswith("nodeagent: detect.sigma needs packages that are missing (")
    assert done.stderr.endswith("install nodeagent[sigma]\n")
