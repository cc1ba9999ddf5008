# SPDX-License-Identifier: Apache-2.0

import pytest

from nodeagent.kernel.cgroup import CONTROLLERS, controller_of, mount_points

TMPFS = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu"
PART = "40 31 0:38 /system.slice /part rw,relatime - cgroup2 cgroup2 rw"


MEMORY = "33 31 0:30 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory"
BOTH = "34 31 0:31 / /sys/fs/cgroup/cpu,pids rw,relatime - cgroup cgroup rw,cpu,pids"


def v2(where: str) -> str:
    return f"41 31 0:38 / {where} rw,relatime shared:9 - cgroup2 cgroup2 rw"


@pytest.mark.parametrize(
    ("lines", "places"),
    [
        ([TMPFS, V1, v2("/sys/fs/cgroup/unified")], ["/sys/fs/cgroup/unified"]),
        ([PART, v2("/whole")], ["/part", "/whole"]),
        ([v2(r"/with\040blank\134and\303\244")], ["/with blank\\andä"]),
        ([TMPFS, V1], []),
        ([""], []),
    ],
    ids=["beside version 1", "a part of it, too", "escaped", "none", "empty"],
)
def test_hierarchy_is_found_in_mountinfo(lines: list[str], places: list[str]) -> None:
    assert list(mount_points("\n".join(lines))) == places


def test_hierarchy_of_a_controller_is_found_by_its_options() -> None:
    lines = "\n".join((TMPFS, V1, v2("/sys/fs/cgroup/unified"), MEMORY, BOTH))
    assert list(mount_points(lines, "memory")) == ["/sys/fs/cgroup/memory"]
    assert list(mount_points(lines, "pids")) == ["/sys/fs/cgroup/cpu,pids"]
    assert not list(mount_points(lines, "freezer"))


def test_version_2_is_taken_where_it_is_mounted() -> None:
    assert controller_of("v2") == ""
    assert controller_of("auto") in {"", *CONTROLLERS}
