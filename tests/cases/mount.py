# SPDX-License-Identifier: Apache-2.0
"""Mounts and roots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.cases import Case, Said

DONE: Final = {"result": 0, "error": None, "truncated": None, "unread": None, "unverified": True}
NOT_THERE: Final = {"result": -2, "error": "ENOENT"}


def case(name: str, kind: str, arguments: str, expect: Mapping[str, object]) -> Case:
    """The act has the name of the call."""
    call = name.partition("-")[0]
    return Case(name, kind, ("mount", call, *arguments.split()), {**DONE, **expect})


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
            "call": "mount",
        },
    ),
    case("mount-not-there", "mount", "nothing", {"path": "{cwd}/nothing", **NOT_THERE}),
    case(
        "bind",
        "mount",
        "at",
        {"source": "from", "path": "{cwd}/at", "type": None, "flags": ["MS_BIND"]},
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
    case(
        "mount_setattr",
        "mount",
        "at",
        {
            "result": Said("result"),
            "path": "{cwd}/at",
            "attributes": ["MOUNT_ATTR_RDONLY"],
            "call": "mount_setattr",
        },
    ),
    case("umount", "umount", "at", {"path": "{cwd}/at", "flags": ["MNT_DETACH"]}),
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
    case(
        "pivot_root-not-there",
        "pivot_root",
        "nothing at",
        {"path": "{cwd}/nothing", "put_old": "{cwd}/at", **NOT_THERE},
    ),
    case("chroot", "chroot", "link", {"path": "{cwd}/root", "unverified": False}),
    case("chroot-not-there", "chroot", "nothing", {"path": "{cwd}/nothing", **NOT_THERE}),
]
