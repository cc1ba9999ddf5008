# SPDX-License-Identifier: Apache-2.0
"""Threat lists with one entry of each sort in each category."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Final

from nodeagent.detect.lists import CATEGORIES
from nodeagent.detect.pages import read_page

__all__ = ["ADDRESSES", "DOMAINS", "MALWARE", "TRUSTED_ADDRESS", "TRUSTED_DOMAIN", "write_lists"]

ADDRESSES: Final = {name: f"127.7.{number}.1" for number, name in enumerate(CATEGORIES)}
DOMAINS: Final = {name: f"{name}.test" for name in CATEGORIES}
TRUSTED_ADDRESS: Final = ADDRESSES["c2"].removesuffix(".1") + ".7"
TRUSTED_DOMAIN: Final = f"good.{DOMAINS['c2']}"
"""On the list of c2, too."""
MALWARE: Final = b"#!/bin/true malware of this test\n"


def write_lists(folder: Path) -> list[str]:
    """Options of an agent that uses them."""
    options = []
    for category in CATEGORIES:
        path = folder / category
        network = ADDRESSES[category].removesuffix(".1") + ".0/24"
        entries = ["# made for a test", network, DOMAINS[category]]
        if category == "trusted":
            entries += [TRUSTED_ADDRESS, TRUSTED_DOMAIN]
        if category == "malware":
            entries.append(program_hash())
        path.write_text("\n".join(entries) + "\n")
        options += ["--set", f'detect.lists.{category}=["{path}"]']
    return options


def program() -> bytes:
    """A program that nobody else runs."""
    return Path("/bin/sleep").read_bytes() + MALWARE


def program_hash() -> str:
    """Of that program."""
    return hashlib.sha256(program()).hexdigest()


def known_program() -> bytes:
    """The one that is on a list of the agent's own, from the page of its finding."""
    page = read_page("Execution:Runtime/MaliciousFileExecuted")
    _, _, rest = page.partition("base64 -d >alarm <<END\n")
    return base64.b64decode(rest.partition("END\n")[0])
