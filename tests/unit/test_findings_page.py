# SPDX-License-Identifier: Apache-2.0
"""The page about findings says what the code does."""

from __future__ import annotations

from nodeagent.detect.catalogue import RULES
from tests.detect.page import ELSEWHERE, PAGE, rendered
from tests.detect.scenes import SCENES


def test_table_is_up_to_date() -> None:
    text = PAGE.read_text()
    assert text == rendered(text), "write it: python -m tests.detect.page"


def test_scenes_and_tests_are_about_types_that_there_are() -> None:
    types = {rule.type for rule in RULES.values()}
    assert {scene.type for scene in SCENES} | set(ELSEWHERE) <= types
