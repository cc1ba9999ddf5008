# SPDX-License-Identifier: Apache-2.0
"""User and group ids, capabilities, namespaces, keys."""

from __future__ import annotations

import errno

from tests.cases import Case, Said

ROOT = dict.fromkeys(("uid", "gid", "euid", "egid", "suid", "sgid", "fsuid", "fsgid"), 0)
USER = dict.fromkeys(ROOT, 1000)
NOTHING = {"asked_real": None, "asked_effective": None, "asked_saved": None, "asked_fs": None}


def ids(
    name: str,
    act: tuple[str, ...],
    *,
    asked: dict[str, int | None],
    new: dict[str, int],
    old: dict[str, int] = ROOT,
    result: int = 0,
) -> Case:
    """A case of one of the calls that change ids; `asked` and `new` are what is not as usual."""
    expect = {
        "call": act[0].removesuffix("_denied"),
        "result": result,
        "old": old,
        "new": old | new,
        **NOTHING,
        **{f"asked_{which}": value for which, value in asked.items()},
    }
    return Case(name, "setuid", ("credentials", *act), expect)


IDS = [
    ids(
        "setuid",
        ("setuid", "1000"),
        asked={"effective": 1000},
        new={"uid": 1000, "euid": 1000, "suid": 1000, "fsuid": 1000},
    ),
    ids(
        "setgid",
        ("setgid", "1000"),
        asked={"effective": 1000},
        new={"gid": 1000, "egid": 1000, "sgid": 1000, "fsgid": 1000},
    ),
    ids(
        "setreuid",
        ("setreuid", "1001", "1002"),
        asked={"real": 1001, "effective": 1002},
        new={"uid": 1001, "euid": 1002, "suid": 1002, "fsuid": 1002},
    ),
    ids(
        "setregid",
        ("setregid", "1001", "-1"),
        asked={"real": 1001},
        new={"gid": 1001, "sgid": 0},
    ),
    ids(
        "setresuid",
        ("setresuid", "1001", "1002", "1003"),
        asked={"real": 1001, "effective": 1002, "saved": 1003},
        new={"uid": 1001, "euid": 1002, "suid": 1003, "fsuid": 1002},
    ),
    ids(
        "setresuid-one",
        ("setresuid", "-1", "1002", "-1"),
        asked={"effective": 1002},
        new={"euid": 1002, "fsuid": 1002},
    ),
    ids(
        "setresgid",
        ("setresgid", "1001", "1002", "1003"),
        asked={"real": 1001, "effective": 1002, "saved": 1003},
        new={"gid": 1001, "egid": 1002, "sgid": 1003, "fsgid": 1002},
    ),
    ids("setfsuid", ("setfsuid", "1001"), asked={"fs": 1001}, new={"fsuid": 1001}),
    ids("setfsgid", ("setfsgid", "1001"), asked={"fs": 1001}, new={"fsgid": 1001}),
    ids(
        "setuid-denied",
        ("setuid_denied", "0"),
        asked={"effective": 0},
        old=USER,
        new={},
        result=-errno.EPERM,
    ),
    ids(
        "setresgid-denied",
        ("setresgid_denied", "0", "0", "0"),
        asked={"real": 0, "effective": 0, "saved": 0},
        old=USER,
        new={},
        result=-errno.EPERM,
    ),
    # It never says that it failed.
    ids("setfsuid-denied", ("setfsuid_denied", "0"), asked={"fs": 0}, old=USER, new={}),
]

CAPABILITIES = [
    Case(
        "capset",
        "capset",
        ("credentials", "capset"),
        {
            "result": 0,
            "old__effective": Said("old_effective"),
            "old__permitted": Said("old_permitted"),
            "old__inheritable": Said("old_inheritable"),
            "new__effective": Said("new_effective"),
            "new__permitted": Said("new_permitted"),
            "new__inheritable": Said("new_inheritable"),
        },
    ),
    Case(
        "capset-denied",
        "capset",
        ("credentials", "capset_denied"),
        {
            "result": Said("result"),
            "error": "EPERM",
            "old": {"effective": 0, "permitted": 0, "inheritable": Said("old_inheritable")},
            "new": {"effective": 0, "permitted": 0, "inheritable": Said("old_inheritable")},
        },
    ),
]

NAMESPACES = [
    Case(
        "unshare",
        "unshare",
        ("credentials", "unshare", "0x0c000000"),
        {"result": 0, "flags": ["CLONE_NEWUTS", "CLONE_NEWIPC"]},
    ),
    # One of the flags is only for clone(2).
    Case(
        "unshare-refused",
        "unshare",
        ("credentials", "unshare", "0x04002000"),
        {
            "result": Said("result"),
            "error": "EINVAL",
            "flags": ["CLONE_PTRACE", "CLONE_NEWUTS"],
        },
    ),
    Case(
        "setns",
        "setns",
        ("credentials", "setns", "uts", "0x04000000"),
        {
            "result": 0,
            "flags": ["CLONE_NEWUTS"],
            "namespace_type": "uts",
            "inode": Said("inode"),
            "target_pid": 0,
        },
    ),
    Case(
        "setns-whatever",
        "setns",
        ("credentials", "setns", "net", "0"),
        {"result": 0, "flags": [], "namespace_type": "net", "inode": Said("inode")},
    ),
    Case(
        "setns-refused",
        "setns",
        ("credentials", "setns", "mnt", "0x40000000"),
        {
            "result": Said("result"),
            "error": "EINVAL",
            "flags": ["CLONE_NEWNET"],
            "namespace_type": "mnt",
            "inode": Said("inode"),
        },
    ),
    Case(
        "setns-no-namespace",
        "setns",
        ("credentials", "setns_file", "/dev/null", "0"),
        {
            "result": Said("result"),
            "error": "EINVAL",
            "namespace_type": None,
            "inode": 0,
            "target_pid": 0,
        },
    ),
    Case(
        "setns-pidfd",
        "setns",
        ("credentials", "setns_pidfd", "0x04020000"),
        {
            "result": Said("result"),
            "flags": ["CLONE_NEWNS", "CLONE_NEWUTS"],
            "namespace_type": None,
            "inode": 0,
            "target_pid": Said("child"),
        },
    ),
]


def long_type(length: int, *, truncated: list[str] | None) -> Case:
    """A case of a type of key, of which an event has room for 31 bytes."""
    expect = {"type": "x" * min(length, 31), "truncated": truncated, "unread": None}
    act = ("credentials", "add_key", "x" * length, "nodeagent-added")
    return Case(f"add-key-of-a-type-of-{length}-bytes", "keyctl", act, expect)


KEYS = [
    Case(
        "add-key",
        "keyctl",
        ("credentials", "add_key", "user", "nodeagent-added"),
        {
            "result": Said("result"),
            "call": "add_key",
            "operation": None,
            "key": -2,
            "type": "user",
            "description": "nodeagent-added",
        },
    ),
    Case(
        "add-key-of-no-type",
        "keyctl",
        ("credentials", "add_key", "no-such-type", "nodeagent-added"),
        {
            "result": Said("result"),
            "error": "ENODEV",
            "call": "add_key",
            "type": "no-such-type",
            "description": "nodeagent-added",
        },
    ),
    long_type(30, truncated=None),
    long_type(31, truncated=None),
    long_type(32, truncated=["type"]),
    Case(
        "request-key",
        "keyctl",
        ("credentials", "request_key", "user", "nodeagent-requested"),
        {
            "result": Said("result"),
            "call": "request_key",
            "key": -1,
            "type": "user",
            "description": "nodeagent-requested",
        },
    ),
    Case(
        "request-key-that-is-not-there",
        "keyctl",
        ("credentials", "request_key", "user", "nodeagent-missing"),
        {
            "result": Said("result"),
            "error": "ENOKEY",
            "call": "request_key",
            "description": "nodeagent-missing",
        },
    ),
    Case(
        "keyctl-join-session-keyring",
        "keyctl",
        ("credentials", "join_session_keyring", "nodeagent-session"),
        {
            "result": Said("result"),
            "call": "keyctl",
            "operation": "KEYCTL_JOIN_SESSION_KEYRING",
            "key": 0,
            "type": None,
            "description": "nodeagent-session",
        },
    ),
    Case(
        "keyctl-search",
        "keyctl",
        ("credentials", "key_search", "user", "nodeagent-searched"),
        {
            "result": Said("result"),
            "call": "keyctl",
            "operation": "KEYCTL_SEARCH",
            "key": -2,
            "type": "user",
            "description": "nodeagent-searched",
        },
    ),
    Case(
        "keyctl-read",
        "keyctl",
        ("credentials", "key_read"),
        {
            "result": Said("result"),
            "operation": "KEYCTL_READ",
            "key": Said("key"),
            "type": None,
            "description": None,
        },
    ),
    Case(
        "keyctl-describe-that-is-not-there",
        "keyctl",
        ("credentials", "keyctl", "6", "0x7fffff00"),
        {
            "result": Said("result"),
            "error": "ENOKEY",
            "operation": "KEYCTL_DESCRIBE",
            "key": 0x7FFFFF00,
        },
    ),
    # The argument is no key.
    Case(
        "keyctl-set-reqkey-keyring",
        "keyctl",
        ("credentials", "keyctl", "14", "-1"),
        {"result": Said("result"), "operation": "KEYCTL_SET_REQKEY_KEYRING", "key": 0},
    ),
]

CASES: list[Case] = [*IDS, *CAPABILITIES, *NAMESPACES, *KEYS]
