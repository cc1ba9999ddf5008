# SPDX-License-Identifier: Apache-2.0
"""The recorded stream of all scenes gives the same findings; it stands behind them by its name."""

from __future__ import annotations

from pathlib import Path

from tests.detect.conftest import AT_ONCE, EXPECTED, Watch
from tests.detect.scenes import SCENES


def test_replay_gives_the_findings_of_all_scenes_again_byte_for_byte(
    watch: Watch, lists: list[str], tmp_path: Path
) -> None:
    # So that there is one when this runs alone.
    scene = SCENES[0]
    root = watch.play(scene.script, tmp_path, contained=scene.contained)
    watch.finding(root, scene.type, scene.severity)
    assert watch.stream.stop() == 143
    assert watch.recorded
    found = watch.recorded.findings()
    assert found
    assert watch.recorded.replayed((*AT_ONCE, *EXPECTED, *lists)) == found
