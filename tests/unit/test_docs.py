# SPDX-License-Identifier: Apache-2.0
"""What the documents show can be used as it stands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

from nodeagent import config
from sinks import SINKS

ROOT: Final = Path(__file__).parents[2]
TOML: Final = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shown() -> list[str]:
    """Every piece of configuration in the documents."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    return [found for page in pages for found in TOML.findall(page.read_text())]


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
