# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: the arrows of ARCHITECTURE.md, checked over the source."""

import ast
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BASIC = "event field names dns finding errors ledger identity"
LIGHT = "setting harmless store control usage places"
SHOWN = "event field names finding errors encode identity ocsf"
FOUNDATION = f"{BASIC} {LIGHT}"
PARTS = f"{FOUNDATION} kernel enrich detect sink worker spool route outlet encode"
RUN = (
    "coverage source pipeline config schema doctor throttle delivery parts reload canary metrics"
    " takeover"
)
TRIED = "detection trial"
MIDDLE = f"{PARTS} redact notify pods life {RUN}"

# A part is the word behind "nodeagent." in the name of a module; the package "sinks" is one part.
# A part may import itself, __version__, and:
ARROWS = {
    FOUNDATION: FOUNDATION,
    "kernel encode": FOUNDATION,
    "enrich sink ocsf detect": f"{FOUNDATION} encode",
    "worker": "sink",
    "spool": f"{FOUNDATION} sink",
    "route": f"{FOUNDATION} sink",
    "outlet": f"{FOUNDATION} encode sink spool route worker",
    "compliance": f"{FOUNDATION} encode sink outlet",
    "redact notify pods life demo": FOUNDATION,
    "governor": FOUNDATION,
    RUN: f"{MIDDLE} governor",
    TRIED: f"{MIDDLE} {TRIED}",
    "follow": MIDDLE,
    "agent": f"{MIDDLE} {TRIED} follow sinks",
    "cli __main__": f"{MIDDLE} {TRIED} governor demo agent cli",
    "sinks": f"sink worker {SHOWN} harmless store places",
}
MAY_IMPORT = {
    part: {part, "__version__", *allowed.split()}
    for parts, allowed in ARROWS.items()
    for part in parts.split()
}


def part_of(name: str) -> str:
    """`sinks.file` → `sinks`, `nodeagent.kernel.btf` → `kernel`, `nodeagent` → nothing."""
    top, _, rest = name.partition(".")
    return "sinks" if top == "sinks" else rest.partition(".")[0]


def imports(source: str, package: str) -> Iterator[tuple[int, str]]:
    """The line and the full name of whatever the source of a module in `package` imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            # The name is needed too: "from nodeagent import event" imports a module.
            for alias in node.names:
                yield node.lineno, f"{origin}.{alias.name}"


def forbidden(path: Path, source: str) -> Iterator[str]:
    """A sentence for each import that the file at `path` must not make."""
    part = part_of(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
    if part and part not in MAY_IMPORT:
        yield f"{path}:1: {part} has no place in ARROWS"
        return
    for line, name in imports(source, package=".".join(path.parent.parts)):
        ours = name.partition(".")[0] in {"nodeagent", "sinks"}
        if ours and part_of(name) not in MAY_IMPORT.get(part, {part}):
            yield f"{path}:{line}: {part} must not import {name}"


@pytest.mark.parametrize("top", ["nodeagent", "sinks"])
def test_imports_follow_the_arrows(top: str) -> None:
    paths = sorted((ROOT / top).rglob("*.py"))
    assert paths, f"no modules below {ROOT / top}"
    wrong = [text for path in paths for text in forbidden(path.relative_to(ROOT), path.read_text())]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("nodeagent/event.py", "from nodeagent import agent"),
        ("nodeagent/event.py", "import nodeagent.kernel.btf"),
        ("nodeagent/kernel/btf.py", "from nodeagent.enrich.process import ProcessTable"),
        ("nodeagent/enrich/user.py", "from ..pipeline import Pipeline"),
        ("nodeagent/config.py", "from sinks import SINKS"),
        ("nodeagent/cli/run.py", "import sinks.file"),
        ("sinks/file.py", "from nodeagent.ledger import Ledger"),
        ("nodeagent/unheard_of.py", ""),
    ],
)
def test_a_forbidden_import_is_found(path: str, line: str) -> None:
    assert list(forbidden(Path(path), line))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("nodeagent/event.py", "import asyncio"),
        ("nodeagent/kernel/wire.py", "from nodeagent.kernel.btf import Btf"),
        ("nodeagent/enrich/user.py", "from .process import ProcessTable"),
        ("nodeagent/agent.py", "from sinks import SINKS"),
        ("nodeagent/cli/__init__.py", "from nodeagent import __version__"),
        ("sinks/__init__.py", "from sinks.file import File"),
    ],
)
def test_an_allowed_import_is_not(path: str, line: str) -> None:
    assert not list(forbidden(Path(path), line))
