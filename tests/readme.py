# SPDX-License-Identifier: Apache-2.0
"""The tables of the README that are made from the code.

python -m tests.readme    writes them
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nodeagent.encode import HIDDEN
from nodeagent.event import EVENTS
from nodeagent.schema import summary
from tests.cases.holes import HOLES

README: Final = Path(__file__).parents[1] / "README.md"


def kinds() -> Iterator[str]:
    """One row for each kind: when it comes, and its own fields."""
    yield "| kind | when | its own fields |"
    yield "| --- | --- | --- |"
    for kind, event in EVENTS.items():
        fields = [name for name in event.__struct_fields__ if name not in HIDDEN]
        when = summary(event).removesuffix(".")
        yield f"| `{kind}` | {when} | {', '.join(fields)} |"


def holes() -> Iterator[str]:
    """One row for each thing that some kernel does not show."""
    yield "| what | kernel | hooks | why |"
    yield "| --- | --- | --- | --- |"
    for hole in HOLES:
        where = ("all" if part == "*" else part for part in (hole.release, hole.family))
        yield f"| {hole.what} | {' | '.join(where)} | {hole.reason} |"


TABLES: Final = {"kinds": kinds, "holes": holes}


def rendered(text: str) -> str:
    """The README with its tables as the code says them."""
    for name, table in TABLES.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        lines = "\n".join(table())
        text = f"{before}{start}{lines}\n{end}{after}"
    return text


if __name__ == "__main__":
    README.write_text(rendered(README.read_text()))
