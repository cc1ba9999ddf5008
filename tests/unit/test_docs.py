# SPDX-License-Identifier: Apache-2.0
"""What the documents show can be used as it stands, and their links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from nodeagent import config
from nodeagent.coverage import ADVICE
from nodeagent.detect.catalogue import RULES
from nodeagent.detect.suppress import read_suppressions
from sinks import SINKS

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("**/*.md"))]
TOML: Final = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
TYPE: Final = re.compile(r"\b[A-Z]\w+:Runtime/[\w&]+(?:[.!]\w+)*")
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


def test_findings_that_are_named_exist() -> None:
    known = {rule.type for rule in RULES.values()}
    named = {each for page in DOCUMENTS for each in TYPE.findall(page.read_text())}
    # Those of the examples of rules and plug-ins.
    own = {name for name in named if name.startswith("Sigma:")} | {
        "DefenseEvasion:Runtime/HiddenProgramExecuted"
    }
    assert named - own <= known


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


def test_every_issue_of_coverage_has_its_heading() -> None:
    page = (ROOT / "docs/coverage.md").read_text()
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == list(ADVICE)


def test_every_page_is_reached_from_the_first_one() -> None:
    reached, ahead = set(), [ROOT / "docs/index.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        links = [link.partition("#")[0] for link in LINK.findall(page.read_text())]
        ahead += [(page.parent / link).resolve() for link in links if link.endswith(".md")]
    assert set((ROOT / "docs").glob("**/*.md")) <= reached


def test_site_is_built_without_a_warning(tmp_path: Path) -> None:
    build: list[str | Path] = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(
        [*build, "--site-dir", tmp_path], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "findings/Execution-ReverseShell.html").is_file()


def test_every_sink_is_shown() -> None:
    tables = [tomllib.loads(text).get("sinks", {}) for text in shown()]
    named = {table.get("type", name) for sinks in tables for name, table in sinks.items()}
    assert named == set(SINKS)
