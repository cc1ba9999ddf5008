# SPDX-License-Identifier: Apache-2.0
"""The table of docs/findings.md and the head of each page in docs/findings/.

Made from the catalogue, the shapes and the scenes.

python -m tests.detect.page    writes them
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from nodeagent.detect.catalogue import (
    FINDING_WEIGHT,
    RULES,
    SCOPE_WEIGHTS,
    SEQUENCE_TACTICS,
    SEQUENCE_WEIGHT,
    WINDOW_SECONDS,
    Rule,
)
from nodeagent.detect.pages import page_of
from nodeagent.finding import Severity
from tests.detect.scenes import SCENES
from tests.detect.shapes import SHAPES

PAGE: Final = Path(__file__).parents[2] / "docs" / "findings.md"
PAGES: Final = PAGE.parent / "findings"
TYPES: Final = ("<!-- types -->\n", "<!-- end of types -->")
HEAD: Final = ("<!-- head -->\n", "<!-- end of head -->")

LISTS: Final = "test_lists"
ELSEWHERE: Final = {
    "Execution:Runtime/ContainerExec": "containers/test_shells",
    "Execution:Runtime/NewBinaryExecuted": "containers/test_findings",
    "Execution:Runtime/NewLibraryLoaded": "containers/test_findings",
    "UnauthorizedAccess:Runtime/MetadataDNSRebind": LISTS,
    "Execution:Runtime/MaliciousFileExecuted": LISTS,
    "Execution:Runtime/MaliciousFileExecuted.Custom": LISTS,
    "DefenseEvasion:Runtime/KernelModuleLoaded": "vm/test_matrix",
    "PrivilegeEscalation:Runtime/PrivilegedContainerStarted": "containers/test_findings",
    "AttackSequence:Runtime/CompromisedContainer": "containers/test_findings",
    "DefenseEvasion:Runtime/AgentFlooded": "kernel/test_flood",
}
"""Tests that are no scenes, by type."""

TECHNIQUES: Final = {
    "T1003.007": "Proc Filesystem",
    "T1003.008": "/etc/passwd and /etc/shadow",
    "T1005": "Data from Local System",
    "T1006": "Direct Volume Access",
    "T1014": "Rootkit",
    "T1016": "System Network Configuration Discovery",
    "T1021.004": "Remote Services: SSH",
    "T1027": "Obfuscated Files or Information",
    "T1033": "System Owner/User Discovery",
    "T1036": "Masquerading",
    "T1036.005": "Match Legitimate Resource Name or Location",
    "T1040": "Network Sniffing",
    "T1041": "Exfiltration Over C2 Channel",
    "T1046": "Network Service Discovery",
    "T1048": "Exfiltration Over Alternative Protocol",
    "T1049": "System Network Connections Discovery",
    "T1053": "Scheduled Task/Job",
    "T1053.003": "Cron",
    "T1055": "Process Injection",
    "T1055.008": "Ptrace System Calls",
    "T1055.009": "Proc Memory",
    "T1057": "Process Discovery",
    "T1059": "Command and Scripting Interpreter",
    "T1059.004": "Unix Shell",
    "T1068": "Exploitation for Privilege Escalation",
    "T1070": "Indicator Removal",
    "T1070.002": "Clear Linux or Mac System Logs",
    "T1070.003": "Clear Command History",
    "T1070.006": "Timestomp",
    "T1071": "Application Layer Protocol",
    "T1071.004": "DNS",
    "T1072": "Software Deployment Tools",
    "T1078.003": "Local Accounts",
    "T1087.001": "Local Account",
    "T1087.004": "Cloud Account",
    "T1090.003": "Multi-hop Proxy",
    "T1098": "Account Manipulation",
    "T1105": "Ingress Tool Transfer",
    "T1133": "External Remote Services",
    "T1136.001": "Create Account: Local Account",
    "T1140": "Deobfuscate/Decode Files or Information",
    "T1189": "Drive-by Compromise",
    "T1190": "Exploit Public-Facing Application",
    "T1195.002": "Compromise Software Supply Chain",
    "T1204": "User Execution",
    "T1204.002": "Malicious File",
    "T1205.002": "Socket Filters",
    "T1222.002": "Linux and Mac File and Directory Permissions Modification",
    "T1485": "Data Destruction",
    "T1486": "Data Encrypted for Impact",
    "T1489": "Service Stop",
    "T1496": "Resource Hijacking",
    "T1499": "Endpoint Denial of Service",
    "T1505.003": "Web Shell",
    "T1518.001": "Security Software Discovery",
    "T1528": "Steal Application Access Token",
    "T1529": "System Shutdown/Reboot",
    "T1543.002": "Systemd Service",
    "T1546": "Event Triggered Execution",
    "T1547.006": "Kernel Modules and Extensions",
    "T1548.001": "Setuid and Setgid",
    "T1548.003": "Sudo and Sudo Caching",
    "T1552.001": "Credentials In Files",
    "T1552.005": "Cloud Instance Metadata API",
    "T1552.007": "Container API",
    "T1553.004": "Install Root Certificate",
    "T1554": "Compromise Host Software Binary",
    "T1556": "Modify Authentication Process",
    "T1561": "Disk Wipe",
    "T1562": "Impair Defenses",
    "T1562.001": "Disable or Modify Tools",
    "T1562.004": "Disable or Modify System Firewall",
    "T1564": "Hide Artifacts",
    "T1564.001": "Hidden Files and Directories",
    "T1566": "Phishing",
    "T1568.002": "Domain Generation Algorithms",
    "T1571": "Non-Standard Port",
    "T1572": "Protocol Tunneling",
    "T1574.006": "Dynamic Linker Hijacking",
    "T1580": "Cloud Infrastructure Discovery",
    "T1588.002": "Obtain Capabilities: Tool",
    "T1609": "Container Administration Command",
    "T1610": "Deploy Container",
    "T1611": "Escape to Host",
    "T1613": "Container and Resource Discovery",
    "T1620": "Reflective Code Loading",
    "T1622": "Debugger Evasion",
}
"""Names of MITRE ATT&CK."""


def by_type() -> dict[str, list[str]]:
    """The rules of each type, in the order of types."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, rule in RULES.items():
        found[rule.type].append(name)
    return dict(sorted(found.items()))


def tests_of(type_: str, rules: list[str]) -> str:
    """Names of scenes, or the module of the test."""
    scenes = [scene.name for scene in SCENES if scene.type == type_]
    if scenes:
        return ", ".join([*scenes, *filter(None, [ELSEWHERE.get(type_)])])
    if any(name.endswith((".connect", ".dns")) for name in rules):
        return LISTS
    return ELSEWHERE.get(type_, "")


def rows() -> Iterator[str]:
    """One row for each type of finding."""
    yield "| type | severity | alone | MITRE ATT&CK | tested by |"
    yield "| --- | --- | --- | --- | --- |"
    for type_, names in by_type().items():
        rules = [RULES[name] for name in names]
        link = f"[`{type_}`](findings/{page_of(type_)}.md)"
        mitre = " ".join(_techniques(rules))
        tested = tests_of(type_, names)
        yield f"| {link} | {_severities(rules)} | {_alone(rules)} | {mitre} | {tested} |"


def head(type_: str) -> Iterator[str]:
    """What the code knows about a type."""
    names = by_type()[type_]
    rules = [RULES[name] for name in names]
    yield f"# {type_}"
    yield ""
    yield f"- severity: {_severities(rules)}"
    yield f"- one signal is enough: {_alone(rules)}; {_needed(rules)}"
    mitre = ", ".join(f"{each} {TECHNIQUES[each]}" for each in _techniques(rules))
    yield f"- MITRE ATT&CK: {mitre or 'those of the signals that came together'}"
    yield f"- tested by: {tests_of(type_, names) or 'nothing that does it for real yet'}"
    yield f"- fields of its own: {', '.join(f'`{each}`' for each in own_fields(names))}"
    yield ""
    yield "| rule | weight | severity | events | title |"
    yield "| --- | --- | --- | --- | --- |"
    for name, rule in zip(names, rules, strict=True):
        kinds = ", ".join(SHAPES[name].kinds)
        level = rule.severity.name.lower()
        yield f"| `{name}` | {rule.weight} | {level} | {kinds} | {rule.title} |"


def own_fields(rules: Iterable[str]) -> list[str]:
    """Places that only some types of findings have."""
    shapes = [SHAPES[name] for name in rules]
    context = [f"context.{place}" for shape in shapes for place in shape.context]
    actions = [f"action.{shape.action}" for shape in shapes if shape.action]
    evidence = []
    if any(name.endswith((".connect", ".dns")) or "malicious" in name for name in rules):
        evidence = ["evidence.threatIntelligenceDetails"]
    elif _alone(RULES[name] for name in rules) != "yes":
        evidence = ["evidence.signals"]
    return list(dict.fromkeys((*context, *actions, *evidence))) or ["none"]


def rendered(text: str) -> str:
    """docs/findings.md with its table as the code says it."""
    return _between(TYPES, text, rows())


def rendered_page(type_: str, text: str) -> str:
    """A page with its head as the code says it."""
    return _between(HEAD, text or "".join(HEAD), head(type_))


def _between(marks: tuple[str, str], text: str, lines: Iterable[str]) -> str:
    start, end = marks
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    made = "\n".join(lines)
    return f"{before}{start}{made}\n{end}{after}"


def _severities(rules: Iterable[Rule]) -> str:
    found: list[Severity] = sorted({rule.severity for rule in rules}, reverse=True)
    return ", ".join(each.name.lower() for each in found)


def _alone(rules: Iterable[Rule]) -> str:
    alone = [rule.is_alone and not _is_sequence(rule) for rule in rules]
    return "yes" if all(alone) else "some" if any(alone) else "no"


def _needed(rules: Iterable[Rule]) -> str:
    """What it takes."""
    if any(map(_is_sequence, rules)):
        return (
            f"it takes {SEQUENCE_TACTICS} tactics that weigh {SEQUENCE_WEIGHT} together"
            f" within {WINDOW_SECONDS} s"
        )
    alone = f"a weight of {FINDING_WEIGHT} is a finding at once"
    if all(rule.enough for rule in rules):
        return "whatever it weighs"
    if _alone(rules) == "yes":
        return alone
    together = ", ".join(f"{weight} in a {scope}" for scope, weight in SCOPE_WEIGHTS.items())
    return f"{alone}, less only with others within {WINDOW_SECONDS} s: {together}"


def _is_sequence(rule: Rule) -> bool:
    """It is made of others, from which it has its techniques."""
    return not rule.mitre


def _techniques(rules: Iterable[Rule]) -> list[str]:
    return sorted({each for rule in rules for each in rule.mitre})


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
    for each in by_type():
        path = PAGES / f"{page_of(each)}.md"
        path.write_text(rendered_page(each, path.read_text() if path.exists() else ""))
