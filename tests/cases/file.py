# SPDX-License-Identifier: Apache-2.0
"""Names, permissions and owners of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.cases import Case

DONE: Final = {"result": 0, "error": None, "truncated": None, "unread": None}
PASSED: Final = {"unverified": True}
NOT_THERE: Final = {"result": -2, "error": "ENOENT"}


def case(name: str, kind: str, arguments: str, expect: Mapping[str, object]) -> Case:
    """The act has the name of the call."""
    call = name.partition("-")[0]
    return Case(name, kind, ("file", call, *arguments.split()), {**DONE, **PASSED, **expect})


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
    case("link-not-there", "link", "nothing other", {"target": "{cwd}/nothing", **NOT_THERE}),
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
    case("unlink", "unlink", "dir/file", {"path": "{cwd}/dir/file", "flags": []}),
    case("unlinkat", "unlink", "file", {"path": "{cwd}/dir/file", "flags": []}),
    case("rmdir", "unlink", "empty", {"path": "{cwd}/empty", "flags": ["AT_REMOVEDIR"]}),
    case("unlink-not-there", "unlink", "/nothing", {"path": "/nothing", **NOT_THERE}),
    case("chmod", "chmod", "dir/../dir/file", {"path": "{cwd}/dir/../dir/file", "mode": "0600"}),
    case(
        "fchmod",
        "chmod",
        "dir/file",
        {"path": "{cwd}/dir/file", "mode": "4755"} | {"unverified": False},
    ),
    case("fchmodat", "chmod", "file", {"path": "{cwd}/dir/file", "mode": "0640"}),
    case("fchmodat2", "chmod", "file", {"path": "{cwd}/dir/file", "mode": "0604"}),
    case(
        "fchmod_closed",
        "chmod",
        "",
        {"result": -9, "error": "EBADF", "path": None, "mode": "0600", "unverified": False},
    ),
    case("chmod-not-there", "chmod", "nothing", {"path": "{cwd}/nothing", **NOT_THERE}),
    case("chown", "chown", "dir/file", {"path": "{cwd}/dir/file", "uid": 1000, "gid": 1001}),
    case("lchown", "chown", "dir/file", {"path": "{cwd}/dir/file", "uid": None, "gid": 1001}),
    case(
        "fchown",
        "chown",
        "dir/file",
        {"path": "{cwd}/dir/file", "uid": 1000, "gid": None, "unverified": False},
    ),
    case("fchownat", "chown", "file", {"path": "{cwd}/dir/file", "uid": 1002, "gid": 1003}),
    case("chown-not-there", "chown", "nothing", {"path": "{cwd}/nothing", **NOT_THERE}),
]
