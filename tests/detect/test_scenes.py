# SPDX-License-Identifier: Apache-2.0
"""Each type of finding by what it is about, really done on this kernel, and a near miss."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.detect.conftest import Watch
from tests.detect.scenes import INFORMATIONAL, SCENES, Scene
from tests.detect.shapes import misfits
from tests.findings import Note, note_found, note_near

each_scene = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)


def value_at(finding: Mapping[str, Any], place: str) -> Any:
    found: Any = finding
    for name in place.split("."):
        found = found[name]
    return found


@each_scene
def test_it_is_found_with_its_evidence(
    scene: Scene, watch: Watch, tmp_path: Path, record_property: Note
) -> None:
    root = watch.play(scene.script, tmp_path, contained=scene.contained)
    finding = watch.finding(root, scene.type, scene.severity)
    for place, wanted in scene.evidence.items():
        found = value_at(finding, place)
        if wanted is not ...:
            assert found == (wanted.format(cwd=tmp_path) if isinstance(wanted, str) else wanted)
    assert not list(misfits(finding))
    wanted = set() if scene.severity == INFORMATIONAL else {scene.type, *scene.made_of}
    assert {each["type"] for each in watch.findings(root)} == wanted
    note_found(record_property, finding)


@each_scene
def test_what_only_looks_like_it_is_not_found(
    scene: Scene, watch: Watch, tmp_path: Path, record_property: Note
) -> None:
    root = watch.play(scene.near, tmp_path, contained=scene.contained)
    seen = watch.signals(root) if scene.severity == INFORMATIONAL else watch.findings(root)
    assert scene.type not in {each["type"] for each in seen}
    note_near(record_property, scene.type)
