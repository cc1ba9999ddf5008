# SPDX-License-Identifier: Apache-2.0

import pytest

from nodeagent.kernel.cgroup import mount_point

TMPFS = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu"
PART = "40 31 0:38 /system.slice /part rw,relatime - cgroup2 cgroup2 rw"


def v2(where: str) -> str:
    return f"41 31 0:38 / {where} rw,relatime shared:9 - cgroup2 cgroup2 rw"


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        ([TMPFS, V1, v2("/sys/fs/cgroup/unified")], "/sys/fs/cgroup/unified"),
        ([PART, v2("/whole")], "/whole"),
        ([v2(r"/with\040blank\134and\303\244")], "/with blank\\andä"),
        ([TMPFS, V1, PART], None),
        ([""], None),
    ],
    ids=["beside version 1", "not a part of it", "escaped", "none", "empty"],
)
def test_whole_hierarchy_is_found_in_mountinfo(lines: list[str], where: str | None) -> None:
    assert mount_point("\n".join(lines)) == where
