# SPDX-License-Identifier: Apache-2.0
"""What `nodeagent --version` says: which program this is, and what it was built from."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nodeagent import __version__
from nodeagent.errors import BpfError

__all__ = ["ShowVersion"]


class ShowVersion(argparse.Action):
    """Found out only when somebody asks."""

    def __init__(self, option_strings: Sequence[str], **_: Any) -> None:
        """It takes no value."""
        about = "show the version and what it was built from, and exit"
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=about)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print it."""
        sys.stdout.writelines(f"{line}\n" for line in _lines())
        parser.exit()


def _lines() -> list[str]:
    # Not above, so that other commands need not wait for them.
    from nodeagent.kernel.libbpf import Libbpf
    from nodeagent.kernel.object import find_object

    commit, by = "a checkout", ""
    # What `make dist` writes down of itself; the commit with `-dirty` when files were changed.
    facts = Path(__file__).parents[1] / "build.json"
    if facts.exists():
        build = json.loads(facts.read_bytes())
        commit, by = build["commit"], f", by {build['compiler']}"
    try:
        digest = hashlib.sha256(find_object().read_bytes()).hexdigest()
    except OSError as error:
        digest = f"none: {error.strerror}"
    try:
        libbpf = Libbpf().version
    except BpfError as error:
        libbpf = f"none: {error}"
    return [
        f"nodeagent {__version__}",
        f"source  {commit}",
        f"object  {digest}{by}",
        f"libbpf  {libbpf}",
        f"python  {platform.python_version()}, {platform.machine()}",
    ]
