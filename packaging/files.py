# SPDX-License-Identifier: Apache-2.0
"""`python packaging/files.py BINARY FOLDER`: what packages bring beside the folder of the binary.

The configuration with every key explained, the manual page and the completions, all
made from what the program says of itself; and `libc`, the release that it needs at least.
"""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from argparse_manpage.manpage import Manpage

from nodeagent.cli import make_parser

HEAD: Final = """\
# Configuration of nodeagent. A line that begins with #: is what holds without it.
# `nodeagent config check` tells whether a change can be used.

"""
CHOSEN: Final = """\
[sinks.file]
path = "/var/log/nodeagent/events.ndjson"

[sinks.store]

[state]
file = "/var/lib/nodeagent/state.json"
"""
"""What the service does until somebody decides otherwise."""

DATA: Final = {"project_name": "nodeagent", "manual_title": "System Administration"}

ASSIGNMENT: Final = re.compile(r"^\w+ = ")

ASKED: Final = re.compile(r"Name: GLIBC_2\.(\d+)\S*  Flags: none")
"""A version of the C library that a file cannot do without, in what readelf(1) says."""


def main(binary: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(configuration())
    # Without a time, so that the same source gives the same file.
    manual = gzip.compress(manual_page().encode(), mtime=0)
    (folder / "nodeagent.1.gz").write_bytes(manual)
    (folder / "nodeagent.bash").write_text(said("completion", "bash"))
    (folder / "_nodeagent").write_text(said("completion", "zsh"))
    (folder / "libc").write_text(f"{libc(binary)}\n")


def libc(folder: Path) -> str:
    """The newest version of the C library that a file cannot do without."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    # It says of some that they are no programs.
    command = ["readelf", "--version-info", "--wide", *files]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return f"2.{max(map(int, ASKED.findall(done.stdout)))}"


def configuration() -> str:
    """Every key with its sentence; only what `CHOSEN` sets is in force."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(CHOSEN)
        file.flush()
        shown = said("config", "show", "--config", file.name)
    chosen = set(CHOSEN.splitlines())
    lines = []
    inside = False
    for line in shown.splitlines():
        value = line.partition("  # ")[0].rstrip()
        if ASSIGNMENT.match(line):
            inside = value.endswith("[")
            lines.append(value if value in chosen else f"#: {value}")
        elif inside:
            inside = value != "]"
            lines.append(f"#: {value}")
        else:
            lines.append(line)
    return HEAD + "\n".join(lines) + "\n"


def manual_page() -> str:
    """For man(1)."""
    parser = make_parser()
    parser.man_short_description = "runtime security for a Linux node"  # type: ignore[attr-defined]
    page = Manpage(parser, format="single-commands-section", _data=DATA)
    # The date of the build tells a reader nothing.
    page.date = ""
    return str(page)


def said(*arguments: str) -> str:
    command = [sys.executable, "-m", "nodeagent", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
