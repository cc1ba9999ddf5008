# SPDX-License-Identifier: Apache-2.0
"""What is said of capabilities that are not there."""

from __future__ import annotations

import pytest

from nodeagent.errors import BpfError
from nodeagent.kernel.privileges import Privileges
from nodeagent.names import CAPABILITIES


def having(*names: str, own_namespace: bool = False, own_pids: bool = False) -> Privileges:
    bits = sum(1 << CAPABILITIES[f"CAP_{name}"] for name in names)
    return Privileges(0, bits, own_namespace, own_pids)


@pytest.mark.parametrize(
    ("may", "named"),
    [
        (having("PERFMON"), "without CAP_BPF:"),
        (having("BPF"), "without CAP_PERFMON:"),
        (having(), "without CAP_BPF and CAP_PERFMON:"),
        (having("SYS_ADMIN", own_namespace=True), "initial user namespace"),
    ],
)
def test_what_stands_in_the_way_is_named(may: Privileges, named: str) -> None:
    assert not may.enough
    with pytest.raises(BpfError, match=named):
        may.demand()


@pytest.mark.parametrize("names", [("BPF", "PERFMON"), ("SYS_ADMIN",)])
def test_these_are_enough(names: tuple[str, ...]) -> None:
    may = having(*names)
    may.demand()
    assert may.enough


@pytest.mark.parametrize(
    ("may", "losses"),
    [
        (having(*(name.removeprefix("CAP_") for name in CAPABILITIES)), []),
        (having("NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"), []),
        (having("SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"), ["without CAP_NET_ADMIN"]),
        (having("SYS_PTRACE", "DAC_READ_SEARCH"), ["without CAP_NET_ADMIN"]),
        (having("NET_ADMIN", "DAC_READ_SEARCH"), ["without CAP_SYS_PTRACE"]),
        (having("NET_ADMIN", "SYS_PTRACE"), ["without CAP_DAC_READ_SEARCH"]),
        (
            having("NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", own_pids=True),
            ["with pids of its own instead of the node's"],
        ),
    ],
)
def test_what_is_missed_is_told(may: Privileges, losses: list[str]) -> None:
    assert [loss.partition(":")[0] for loss in may.losses] == losses
