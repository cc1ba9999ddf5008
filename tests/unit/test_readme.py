# SPDX-License-Identifier: Apache-2.0
"""The tables of the README say what the code says."""

from __future__ import annotations

from tests.readme import README, TABLES, rendered


def test_tables_are_up_to_date() -> None:
    text = README.read_text()
    for name in TABLES:
        assert f"<!-- {name} -->" in text
    assert rendered(text) == text, "run python -m tests.readme"
