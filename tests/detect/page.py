# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/findings.md, made from the catalogue and the scenes.

python -m tests.detect.page    writes them
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nodeagent.detect.catalogue import FINDING_WEIGHT, RULES
from tests.detect.scenes import SCENES

PAGE: Final = Path(__file__).parents[2] / "docs" / "findings.md"
START: Final = "<!-- types -->\n"
END: Final = "<!-- end of types -->"

LISTS: Final = "test_lists"
ELSEWHERE: Final = {
    "Execution:Runtime/NewBinaryExecuted": "containers/test_findings",
    "Execution:Runtime/NewLibraryLoaded": "containers/test_findings",
    "UnauthorizedAccess:Runtime/MetadataDNSRebind": LISTS,
    "Execution:Runtime/MaliciousFileExecuted": LISTS,
    "Execution:Runtime/MaliciousFileExecuted.Custom": LISTS,
    "DefenseEvasion:Runtime/KernelModuleLoaded": "unit/test_engine",
    "AttackSequence:Runtime/CompromisedContainer": "unit/test_engine",
    "AttackSequence:Runtime/CompromisedHost": "unit/test_engine",
}
"""Tests of types that are no scenes."""


def tests_of(type_: str, rules: list[str]) -> str:
    """Names of scenes, or the module of the test."""
    scenes = [scene.name for scene in SCENES if scene.type == type_]
    if scenes:
        return ", ".join(scenes)
    if any(name.endswith((".connect", ".dns")) for name in rules):
        return LISTS
    return ELSEWHERE.get(type_, "")


def rows() -> Iterator[str]:
    """One row for each type of finding."""
    by_type: dict[str, list[str]] = defaultdict(list)
    for name, rule in RULES.items():
        by_type[rule.type].append(name)
    yield "| type | severity | alone | MITRE ATT&CK | tested by |"
    yield "| --- | --- | --- | --- | --- |"
    for type_, names in sorted(by_type.items()):
        rules = [RULES[name] for name in names]
        severities = sorted({rule.severity for rule in rules}, reverse=True)
        shown = ", ".join(each.name.lower() for each in severities)
        alone = [rule.weight >= FINDING_WEIGHT for rule in rules]
        how = "yes" if all(alone) else "some" if any(alone) else "no"
        mitre = " ".join(sorted({each for rule in rules for each in rule.mitre}))
        yield f"| `{type_}` | {shown} | {how} | {mitre} | {tests_of(type_, names)} |"


def rendered(text: str) -> str:
    """The page with its table as the code says it."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    lines = "\n".join(rows())
    return f"{before}{START}{lines}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
