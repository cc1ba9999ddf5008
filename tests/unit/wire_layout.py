# SPDX-License-Identifier: Apache-2.0
"""Writes wire_layout.txt again after a wanted change: `python -m tests.unit.wire_layout`."""

from __future__ import annotations

from pathlib import Path

from nodeagent.kernel.wire import layout_text
from tests.object import object_btf

if __name__ == "__main__":
    Path(__file__).with_suffix(".txt").write_text(layout_text(object_btf()), encoding="ascii")
