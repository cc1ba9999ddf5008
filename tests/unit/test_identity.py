# SPDX-License-Identifier: Apache-2.0
"""The UUID of a process is the same for everybody who knows boot, pid and start time."""

from uuid import UUID, uuid5

import pytest

from nodeagent.enrich.identity import identities
from nodeagent.event import TICK_NS

BOOT_ID = "8c1f5a0e-6a53-4a0c-9a3e-3f2f4f0a7b11"


@pytest.mark.parametrize(
    ("pid", "ticks"), [(1, 0), (4194304, 123_456_789), *((pid, 5) for pid in range(40))]
)
def test_it_is_the_uuid_that_the_standard_library_computes(pid: int, ticks: int) -> None:
    identity = identities(BOOT_ID)(pid, ticks * TICK_NS + 17)
    assert identity == str(uuid5(UUID(BOOT_ID), f"{pid}:{ticks}"))


def test_pid_start_and_boot_each_make_another() -> None:
    identity = identities(BOOT_ID)
    others = {identity(7, TICK_NS), identity(8, TICK_NS), identity(7, 2 * TICK_NS)}
    assert len(others | {identities(str(UUID(int=1)))(7, TICK_NS)}) == 4


@pytest.mark.parametrize("boot_id", ["", "no uuid", "\0"])
def test_without_a_boot_id_there_still_is_one(boot_id: str) -> None:
    assert UUID(identities(boot_id)(7, TICK_NS)).version == 5
