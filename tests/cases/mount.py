# SPDX-License-Identifier: Apache-2.0
"""Mounts and roots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.cases import Case, Said

DONE: Final = {"result": 0, "error": None, "truncated": None, "unread": None}
PASSED: Final = {"unverified": True}
"""What a hook says that sees no more of a folder than its name."""
NOT_THERE: Final = {"result": -2, "error": "ENOENT"}
INVALID: Final = {"result": -22, "error": "EINVAL"}


def case(
    name: str, kind: str, arguments: str, expect: Mapping[str, object], **passed: object
) -> Case:
    """The act has the name of the call; `passed` is told of names as they were passed."""
    act = ("mount", name.partition("-")[0], *arguments.split())
    return Case(name, kind, act, {**DONE, **PASSED, **expect, **passed})


POD: Final = "0a0a0a0a-0b0b-4c0c-8d0d-0e0e0e0e0e0e"
SLICE: Final = f"kubepods-besteffort-pod{POD.replace('-', '_')}.slice"
CONTAINERS: Final = (
    (
        "of-systemd",
        f"kubepods.slice/kubepods-besteffort.slice/{SLICE}/cri-containerd-{'c' * 64}.scope",
        "containerd",
        POD,
    ),
    ("of-cgroupfs", f"kubepods/burstable/pod{POD}/{'c' * 64}", "", POD),
    ("of-docker", f"system.slice/docker-{'c' * 64}.scope", "docker", None),
)
"""Names of cases; cgroups as a kubelet and Docker make them, and what they tell."""

CASES: Final = [
    case(
        "mount",
        "mount",
        "at",
        {
            "source": "something",
            "path": "{cwd}/at",
            "type": "tmpfs",
            "flags": ["MS_NOSUID", "MS_NODEV"],
            "attributes": [],
            "cleared": [],
            "call": "mount",
        },
    ),
    case("mount-not-there", "mount", "nothing", {"path": "{cwd}/nothing", **NOT_THERE}),
    case("mount-up", "mount", "at/../at", {"type": "tmpfs"}, path="{cwd}/at/../at"),
    case(
        "mount_of_no_type",
        "mount",
        "at",
        {
            "result": -19,
            "error": "ENODEV",
            "source": "something",
            "path": "{cwd}/at",
            "type": "no such type",
            "flags": ["MS_RDONLY"],
        },
    ),
    case("mount_in_root", "mount", "/at", {"source": "something", "path": "{cwd}/at", "flags": []}),
    case(
        "mount_unmapped",
        "mount",
        "at",
        {
            "result": -14,
            "error": "EFAULT",
            "source": None,
            "path": "{cwd}/at",
            "type": None,
            "unread": {"source": "EFAULT", "type": "EFAULT"},
        },
    ),
    case(
        "private",
        "mount",
        "",
        {"source": None, "path": "/", "type": None, "flags": ["MS_REC", "MS_PRIVATE"]},
    ),
    case(
        "bind",
        "mount",
        "at",
        {"source": "{cwd}/from", "path": "{cwd}/at", "type": None, "flags": ["MS_BIND"]},
    ),
    case(
        "moved",
        "mount",
        "to",
        {"source": "{cwd}/at", "path": "{cwd}/to", "type": None, "flags": ["MS_MOVE"]},
    ),
    case(
        "remount",
        "mount",
        "at",
        {"source": None, "path": "{cwd}/at", "flags": ["MS_RDONLY", "MS_REMOUNT"]},
    ),
    case(
        "move_mount",
        "mount",
        "at",
        {
            "source": "something",
            "path": "{cwd}/at",
            "type": "tmpfs",
            "flags": [],
            "call": "move_mount",
        },
    ),
    # Where the mount is now, not what was passed.
    case("move_mount-link", "mount", "link/../at", {"source": "something", "path": "{cwd}/at"}),
    case(
        "move_mount-not-there",
        "mount",
        "nothing",
        {"source": "something", "path": "{cwd}/nothing", "type": "tmpfs", **NOT_THERE},
    ),
    case(
        "move_mount_named",
        "mount",
        "at to",
        {"source": "{cwd}/at", "path": "{cwd}/to", "type": None, "call": "move_mount"},
    ),
    case(
        "move_mount_to_open",
        "mount",
        "file",
        {"source": "something", "path": "{cwd}/file", **INVALID},
    ),
    case("move_mount_copy", "mount", "to", {"source": "something", "path": "{cwd}/to"}),
    case(
        "move_mount_closed",
        "mount",
        "at",
        {
            "result": -9,
            "error": "EBADF",
            "source": None,
            "path": "{cwd}/at",
            "unread": {"source": "EBADF"},
        },
    ),
    case(
        "mount_setattr",
        "mount",
        "at",
        {
            "result": Said("result"),
            "source": None,
            "path": "{cwd}/at",
            "type": None,
            "flags": [],
            "attributes": ["MOUNT_ATTR_RDONLY"],
            "cleared": ["MOUNT_ATTR_NOSUID"],
            "call": "mount_setattr",
        },
    ),
    case(
        "mount_setattr-not-there",
        "mount",
        "nothing",
        {"path": "{cwd}/nothing", "attributes": ["MOUNT_ATTR_RDONLY"], **NOT_THERE},
    ),
    case(
        "mount_setattr_open",
        "mount",
        "at",
        {"source": "something", "path": "{cwd}/at", "type": "tmpfs", "cleared": []},
    ),
    # It is nowhere yet.
    case(
        "mount_setattr_detached",
        "mount",
        "",
        {"source": "something", "path": None, "type": "tmpfs", "attributes": ["MOUNT_ATTR_NODEV"]},
    ),
    case("umount", "umount", "at", {"path": "{cwd}/at", "flags": ["MNT_DETACH"]}),
    case("umount_itself", "umount", "at", {"flags": ["MNT_DETACH"]}, path="{cwd}/at/."),
    case("umount-no-mount", "umount", "at/..", {**INVALID}, path="{cwd}/at/.."),
    case("umount-not-there", "umount", "nothing", {"path": "{cwd}/nothing", **NOT_THERE}),
    # An initramfs is a root that cannot be replaced.
    case(
        "pivot_root",
        "pivot_root",
        "at at/old",
        {
            "result": Said("result"),
            "path": "{cwd}/at",
            "put_old": "{cwd}/at/old",
        },
    ),
    case("pivot_root_here", "pivot_root", "at", {}, path="{cwd}/at/.", put_old="{cwd}/at/."),
    case(
        "pivot_root-not-there",
        "pivot_root",
        "nothing at",
        {"path": "{cwd}/nothing", "put_old": "{cwd}/at", **NOT_THERE},
    ),
    Case(
        "make-cgroup",
        "new_cgroup",
        ("mount", "make_cgroup"),
        {"id": Said("id"), "path": "/nodeagent-act-{pid}", "truncated": None, "unread": None},
    ),
    *(
        Case(
            f"chroot-in-container-{name}",
            "chroot",
            ("mount", "chroot_in_cgroup", path),
            {
                "path": "/nothing",
                "container__id": "c" * 64,
                "container__runtime": runtime,
                "container__enrichment": "unknown",
                "container__pod__uid": uid,
            },
        )
        for name, path, runtime, uid in CONTAINERS
    ),
    case("chroot", "chroot", "link", {"path": "{cwd}/root"}, unverified=False),
    case("chroot-up", "chroot", "link/../root/.", {"path": "{cwd}/root"}, unverified=False),
    case("chroot-not-there", "chroot", "nothing", {"path": "{cwd}/nothing", **NOT_THERE}),
]
