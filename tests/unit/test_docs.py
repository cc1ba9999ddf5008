# SPDX-License-Identifier: Apache-2.0
"""What the documents show can be used as it stands, and their links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

from nodeagent import config
from nodeagent.detect.suppress import read_suppressions
from sinks import SINKS

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("**/*.md"))]
TOML: Final = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^#+ (.*)$", re.MULTILINE)


def pieces() -> list[str]:
    """Everything in TOML in the documents."""
    return [found for page in DOCUMENTS for found in TOML.findall(page.read_text())]


def shown() -> list[str]:
    """Every piece of configuration."""
    return [text for text in pieces() if "suppress" not in tomllib.loads(text)]


def anchors(page: Path) -> set[str]:
    """Where a link into a page may lead."""
    headings = HEADING.findall(page.read_text())
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_suppressions_that_are_shown_can_be_used(tmp_path: Path) -> None:
    texts = [text for text in pieces() if "suppress" in tomllib.loads(text)]
    assert texts
    for text in texts:
        path = tmp_path / "suppressions.toml"
        path.write_text(text)
        assert read_suppressions(path)


@pytest.mark.parametrize("text", shown(), ids=lambda text: text.splitlines()[0])
def test_configuration_that_is_shown_is_valid(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    loaded = config.load(path, {}, (), SINKS)
    assert loaded.config.sinks


def test_every_sink_is_shown() -> None:
    tables = [tomllib.loads(text).get("sinks", {}) for text in shown()]
    named = {table.get("type", name) for sinks in tables for name, table in sinks.items()}
    assert named == set(SINKS)
