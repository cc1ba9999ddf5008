# SPDX-License-Identifier: Apache-2.0
"""Findings that nobody wants to see: which, until when, and how they are counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nodeagent.detect.suppress import MOST, Suppression, Suppressions, read_suppressions
from nodeagent.errors import ConfigError
from tests.events import TIME, a_finding

DAY_NS = 24 * 3600 * 10**9
EXAMPLE = """
[[suppress]]
reason = "our backup"
owner = "ops"
until = 2025-11-24
where = { type = "Execution:*", "process.executablePath" = "/opt/backup/*" }
"""


def left(*wheres: dict[str, str], **changes: Any) -> int:
    rules = [Suppression("r", where, "o") for where in wheres]
    return len(Suppressions(rules, Counter()).wanted([a_finding(**changes)]))


@pytest.mark.parametrize(
    "where",
    [
        {"type": "Execution:Runtime/ReverseShell"},
        {"type": "Execution:*", "severity": "high"},
        {"title": "* talks to 192.0.2.?"},
        {"process.pid": "1234"},
        {"evidence.weight": "80"},
        {"evidence.listed.names": "b"},
        {"mitre": "T1059.*"},
    ],
)
def test_finding_where_all_fits_is_left_out(where: dict[str, str]) -> None:
    evidence = {"weight": 80, "listed": [{"names": ["a", "b"]}]}
    assert left(where, evidence=evidence) == 0


@pytest.mark.parametrize(
    "where",
    [
        {"type": "execution:*"},
        {"type": "Execution:*", "severity": "low"},
        {"process.nothing": "*"},
        {"process": "*"},
        {"process.pid.more": "*"},
        {"": "*"},
    ],
)
def test_finding_where_something_does_not_fit_stays(where: dict[str, str]) -> None:
    assert left(where) == 1


def test_it_ends_after_its_day_and_hits_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "suppressions.toml"
    path.write_text(EXAMPLE)
    hits: Counter[str] = Counter()
    suppressions = Suppressions(read_suppressions(path), hits)
    assert hits == {"our backup": 0}
    process = {"executablePath": "/opt/backup/bin/run"}
    # TIME is 23:11 on that day.
    assert suppressions.wanted([a_finding(process=process, last_seen=TIME)]) == []
    after = a_finding(process=process, last_seen=TIME + DAY_NS)
    assert not caplog.messages
    assert suppressions.wanted([after, after]) == [after, after]
    assert hits == {"our backup": 1}
    (told,) = caplog.messages
    assert 'until=2025-11-24 what=the suppression "our backup" of ops' in told


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[[suppress]]\nwhere = { type = "x" }\n', "missing required field `reason`"),
        ('[[suppress]]\nreason = "x"\n', "missing required field `where`"),
        (
            '[[suppress]]\nreason = "x"\nwhere = { type = "x" }\n',
            r"missing required field `owner` - at `\$.suppress\[0\]`",
        ),
        ('[[suppress]]\nreason = "x"\nowner = "o"\nwhere = {}\n', "length >= 1"),
        ('[[suppress]]\nreason = "x"\nwhere = { type = 7 }\n', r"suppress\[0\].where"),
        (
            '[[suppress]]\nreason = "x"\nowner = "o"\nwhere = { a = "b" }\nuntil = "soon"\n',
            "got `str`",
        ),
        ('[[supress]]\nreason = "x"\n', "unknown field `supress`"),
        ("<html>", "Invalid"),
    ],
)
def test_file_that_is_wrong_says_where(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "suppressions.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=why) as raised:
        read_suppressions(path)
    assert str(path) in str(raised.value)


def test_file_that_is_missing_binary_or_huge_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "suppressions.toml"
    with pytest.raises(ConfigError, match="No such file"):
        read_suppressions(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be used"):
        read_suppressions(path)
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="more than 1 MiB"):
        read_suppressions(path)
    with pytest.raises(ConfigError, match=f"at most {MOST}"):
        Suppressions([Suppression("r", {"type": "x"}, "o")] * (MOST + 1), Counter())
