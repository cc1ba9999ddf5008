# SPDX-License-Identifier: Apache-2.0
"""Names, permissions and owners of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.cases import Case

DONE: Final = {"result": 0, "error": None, "truncated": None, "unread": None}
PASSED: Final = {"unverified": True}
"""What a hook says that sees no more of a file than its name."""
NOT_THERE: Final = {"result": -2, "error": "ENOENT"}
THERE: Final = {"result": -17, "error": "EEXIST"}
CLOSED: Final = {"result": -9, "error": "EBADF"}


def case(
    name: str, kind: str, arguments: str, expect: Mapping[str, object], **passed: object
) -> Case:
    """The act has the name of the call; `passed` is told of names as they were passed."""
    act = ("file", name.partition("-")[0], *arguments.split())
    return Case(name, kind, act, {**DONE, **PASSED, **expect, **passed})


CASES: Final = [
    case(
        "rename",
        "rename",
        "dir/file dir/other",
        {"path": "{cwd}/dir/file", "new_path": "{cwd}/dir/other", "flags": []},
    ),
    case(
        "rename-not-there",
        "rename",
        "nothing other",
        {"path": "{cwd}/nothing", "new_path": "{cwd}/other", **NOT_THERE},
    ),
    case(
        "renameat",
        "rename",
        "file other",
        {"path": "{cwd}/dir/file", "new_path": "{cwd}/dir/other"},
    ),
    case(
        "renameat2",
        "rename",
        "file other",
        {"path": "{cwd}/dir/file", "new_path": "{cwd}/other", "flags": ["RENAME_NOREPLACE"]},
    ),
    case(
        "renameat2-there",
        "rename",
        "file dir/file",
        {"path": "{cwd}/dir/file", "new_path": "{cwd}/dir/file", **THERE},
    ),
    case(
        "renameat2_exchange",
        "rename",
        "file other",
        {
            "path": "{cwd}/dir/file",
            "new_path": "{cwd}/dir/other",
            "flags": ["RENAME_EXCHANGE"],
        },
    ),
    case(
        "rename-up",
        "rename",
        "dir/../dir/file ./other",
        {},
        path="{cwd}/dir/../dir/file",
        new_path="{cwd}/./other",
    ),
    case(
        "rename_in_root",
        "rename",
        "/dir/file /other",
        {"path": "{cwd}/dir/file", "new_path": "{cwd}/other"},
    ),
    case(
        "rename_unmapped",
        "rename",
        "other",
        {
            "result": -14,
            "error": "EFAULT",
            "path": None,
            "new_path": "{cwd}/other",
            "unread": {"path": "EFAULT"},
        },
    ),
    case(
        "renameat_closed",
        "rename",
        "file other",
        {"path": "file", "new_path": "{cwd}/other", "unread": {"path": "EBADF"}, **CLOSED},
    ),
    case(
        "link",
        "link",
        "dir/file dir/other",
        {"target": "{cwd}/dir/file", "path": "{cwd}/dir/other", "flags": []},
    ),
    case(
        "linkat",
        "link",
        "file other",
        {
            "target": "{cwd}/dir/file",
            "path": "{cwd}/dir/other",
            "flags": ["AT_SYMLINK_FOLLOW"],
        },
    ),
    case(
        "linkat_open",
        "link",
        "dir/file other",
        {"target": "{cwd}/dir/file", "path": "{cwd}/dir/other", "flags": ["AT_EMPTY_PATH"]},
    ),
    case("link-not-there", "link", "nothing other", {"target": "{cwd}/nothing", **NOT_THERE}),
    case("link-there", "link", "dir/file dir/file", {"path": "{cwd}/dir/file", **THERE}),
    case(
        "symlink",
        "symlink",
        "../anywhere dir/other",
        {"target": "../anywhere", "path": "{cwd}/dir/other"},
    ),
    case(
        "symlinkat",
        "symlink",
        "/anywhere other",
        {"target": "/anywhere", "path": "{cwd}/dir/other"},
    ),
    case(
        "symlink-not-there",
        "symlink",
        "/anywhere nothing/other",
        {"path": "{cwd}/nothing/other", **NOT_THERE},
    ),
    case("symlink-there", "symlink", "x dir/file", {"path": "{cwd}/dir/file", **THERE}),
    case("unlink", "unlink", "dir/file", {"path": "{cwd}/dir/file", "flags": []}),
    case("unlinkat", "unlink", "file", {"path": "{cwd}/dir/file", "flags": []}),
    case("rmdir", "unlink", "empty", {"path": "{cwd}/empty", "flags": ["AT_REMOVEDIR"]}),
    case(
        "unlinkat_folder",
        "unlink",
        "empty",
        {"path": "{cwd}/empty", "flags": ["AT_REMOVEDIR"]},
    ),
    case(
        "rmdir-itself",
        "unlink",
        ".",
        {"result": -22, "error": "EINVAL", "flags": ["AT_REMOVEDIR"]},
        path="{cwd}/.",
    ),
    case("unlink-not-there", "unlink", "/nothing", {"path": "/nothing", **NOT_THERE}),
    case("chmod", "chmod", "dir/../dir/file", {"mode": "0600"}, path="{cwd}/dir/../dir/file"),
    case(
        "fchmod",
        "chmod",
        "dir/file",
        {"path": "{cwd}/dir/file", "mode": "4755"},
        unverified=False,
    ),
    case("fchmodat", "chmod", "file", {"path": "{cwd}/dir/file", "mode": "0640"}),
    case("fchmodat2", "chmod", "file", {"path": "{cwd}/dir/file", "mode": "0604"}),
    case("chmod_typed", "chmod", "dir/file", {"path": "{cwd}/dir/file", "mode": "0644"}),
    case("fchmodat2_open", "chmod", "dir/file", {"path": "{cwd}/dir/file", "mode": "0604"}),
    case("fchmod_pipe", "chmod", "", {"path": None, "mode": "0600"}, unverified=False),
    case(
        "fchmod_closed",
        "chmod",
        "",
        {
            "path": None,
            "mode": "0600",
            "unread": {"path": "EBADF"},
            **CLOSED,
        },
        unverified=False,
    ),
    case("chmod-not-there", "chmod", "nothing", {"path": "{cwd}/nothing", **NOT_THERE}),
    case("chown", "chown", "dir/file", {"path": "{cwd}/dir/file", "uid": 1000, "gid": 1001}),
    case("lchown", "chown", "dir/file", {"path": "{cwd}/dir/file", "uid": None, "gid": 1001}),
    case(
        "fchown",
        "chown",
        "dir/file",
        {"path": "{cwd}/dir/file", "uid": 1000, "gid": None},
        unverified=False,
    ),
    case("fchownat", "chown", "file", {"path": "{cwd}/dir/file", "uid": 1002, "gid": 1003}),
    case("fchownat_open", "chown", "", {"path": "{cwd}/dir", "uid": 1002, "gid": 1003}),
    case("fchownat_here", "chown", "", {"path": "{cwd}", "uid": None, "gid": None}),
    case(
        "fchown_closed",
        "chown",
        "",
        {"path": None, "unread": {"path": "EBADF"}, **CLOSED},
        unverified=False,
    ),
    case("chown-not-there", "chown", "nothing", {"path": "{cwd}/nothing", **NOT_THERE}),
]
