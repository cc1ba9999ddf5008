# SPDX-License-Identifier: Apache-2.0
"""Modules, eBPF, signals."""

from __future__ import annotations

import errno
import signal

from tests.cases import Case, Said

UNKNOWN = 0xFFFFFFFF
NO_ID = "0x7fffffff"

# A kernel without modules has none of these calls; one that is locked down refuses them all.
MODULES = [
    Case(
        "init-module-refused",
        "module",
        ("system", "init_module", "this is no module", "answer=42"),
        {
            "result": Said("result"),
            "name": None,
            "path": None,
            "parameters": "answer=42",
            "flags": [],
            "unloaded": False,
            "inode": 0,
        },
    ),
    Case(
        "finit-module-refused",
        "module",
        ("system", "finit_module", "this is no module", "answer=42"),
        {
            "result": Said("result"),
            "name": None,
            "path": "{cwd}/no-module",
            "parameters": "answer=42",
            "flags": ["MODULE_INIT_IGNORE_VERMAGIC"],
            "unloaded": False,
            "inode": Said("inode"),
            "device": Said("device"),
            "mode": "0640",
        },
    ),
    Case(
        "delete-module-refused",
        "module",
        ("system", "delete_module", "no_such_module"),
        {
            "result": Said("result"),
            "name": "no_such_module",
            "path": None,
            "flags": ["O_NONBLOCK"],
            "unloaded": True,
            "inode": 0,
        },
    ),
]


def bpf(name: str, act: tuple[str, ...], command: str, /, **expect: object) -> Case:
    """A case of bpf(2); what is not said is not there."""
    usual = {
        "result": Said("result"),
        "command": f"BPF_{command}",
        "program_type": UNKNOWN,
        "attach_type": UNKNOWN,
        "program_id": 0,
        "map_id": 0,
        "link_id": 0,
        "name": None,
        "attach_point": None,
        "pathname": None,
        "own": False,
    }
    return Case(name, "bpf", ("system", *act), usual | expect)


FILTER = {
    "program_type": "BPF_PROG_TYPE_SOCKET_FILTER",
    "program_id": Said("program_id"),
    "name": "act_program",
}
RAW = FILTER | {"program_type": "BPF_PROG_TYPE_RAW_TRACEPOINT"}
DISSECTOR = FILTER | {"program_type": "BPF_PROG_TYPE_FLOW_DISSECTOR"}
ATTACHED = DISSECTOR | {"attach_type": "BPF_FLOW_DISSECTOR"}
LINKED = DISSECTOR | {"link_id": Said("link_id")}
MAP = {"map_id": Said("map_id"), "name": "act_map"}

BPF = [
    bpf("bpf-prog-load", ("prog_load", "1", "0"), "PROG_LOAD", **FILTER),
    bpf(
        "bpf-prog-load-for-cgroups",
        ("prog_load", "8", "0"),
        "PROG_LOAD",
        program_type="BPF_PROG_TYPE_CGROUP_SKB",
        attach_type="BPF_CGROUP_INET_INGRESS",
        program_id=Said("program_id"),
        name="act_program",
    ),
    bpf(
        "bpf-prog-load-refused",
        ("prog_load_refused", "18", "10"),
        "PROG_LOAD",
        error="E2BIG",
        program_type="BPF_PROG_TYPE_CGROUP_SOCK_ADDR",
        attach_type="BPF_CGROUP_INET4_CONNECT",
        name="act_program",
    ),
    bpf(
        "bpf-raw-tracepoint-open",
        ("raw_tracepoint_open", "task_newtask"),
        "RAW_TRACEPOINT_OPEN",
        **RAW,
        link_id=Said("link_id"),
        attach_point="task_newtask",
    ),
    bpf(
        "bpf-raw-tracepoint-open-refused",
        ("raw_tracepoint_open", "no_such_tracepoint"),
        "RAW_TRACEPOINT_OPEN",
        **RAW,
        error="ENOENT",
        attach_point="no_such_tracepoint",
    ),
    bpf("bpf-prog-attach", ("prog_attach",), "PROG_ATTACH", **ATTACHED),
    bpf(
        "bpf-prog-attach-refused",
        ("prog_attach_refused",),
        "PROG_ATTACH",
        result=-errno.EINVAL,
        attach_type="BPF_CGROUP_INET_EGRESS",
    ),
    bpf("bpf-prog-detach", ("prog_detach",), "PROG_DETACH", **ATTACHED),
    bpf(
        "bpf-link-create",
        ("link_create",),
        "LINK_CREATE",
        **ATTACHED,
        link_id=Said("link_id"),
    ),
    bpf("bpf-link-create-refused", ("link_create_refused",), "LINK_CREATE", **ATTACHED),
    bpf("bpf-link-update", ("link_update",), "LINK_UPDATE", **LINKED),
    bpf("bpf-link-detach", ("link_detach",), "LINK_DETACH", **LINKED),
    bpf("bpf-link-by-id", ("link_get_fd_by_id",), "LINK_GET_FD_BY_ID", **LINKED),
    bpf(
        "bpf-link-by-id-refused",
        ("get_fd_by_id", "30", NO_ID),
        "LINK_GET_FD_BY_ID",
        error="ENOENT",
        link_id=int(NO_ID, 0),
    ),
    bpf("bpf-prog-by-id", ("prog_get_fd_by_id",), "PROG_GET_FD_BY_ID", **FILTER),
    bpf(
        "bpf-prog-by-id-refused",
        ("get_fd_by_id", "13", NO_ID),
        "PROG_GET_FD_BY_ID",
        error="ENOENT",
        program_id=int(NO_ID, 0),
    ),
    bpf("bpf-map-by-id", ("map_get_fd_by_id",), "MAP_GET_FD_BY_ID", **MAP),
    bpf(
        "bpf-map-by-id-refused",
        ("get_fd_by_id", "14", NO_ID),
        "MAP_GET_FD_BY_ID",
        error="ENOENT",
        map_id=int(NO_ID, 0),
    ),
    bpf("bpf-obj-pin", ("obj_pin",), "OBJ_PIN", **MAP, pathname="pins/map"),
    bpf("bpf-obj-pin-refused", ("obj_pin_refused",), "OBJ_PIN", **FILTER, pathname="pin"),
    bpf("bpf-obj-get", ("obj_get",), "OBJ_GET", **FILTER, pathname="pins/program"),
    bpf(
        "bpf-obj-get-refused",
        ("obj_get_refused", "pins/nothing"),
        "OBJ_GET",
        error="ENOENT",
        pathname="pins/nothing",
    ),
]

# There may be other agents on the machine, so the ids are not known.
OWN = [
    Case(
        "bpf-map-of-the-agent-taken",
        "bpf",
        ("system", "own_map", "own_maps"),
        {"command": "BPF_MAP_GET_FD_BY_ID", "name": "own_maps", "own": True},
    ),
    Case(
        "bpf-map-of-the-agent-changed",
        "bpf",
        ("system", "own_map", "own_maps"),
        {
            "result": -errno.ENOENT,
            "command": "BPF_MAP_DELETE_ELEM",
            "name": "own_maps",
            "program_id": 0,
            "own": True,
        },
    ),
    Case(
        "bpf-map-of-the-agent-changed-at-once",
        "bpf",
        ("system", "own_map", "own_maps"),
        {
            "result": -errno.ENOENT,
            "command": "BPF_MAP_DELETE_BATCH",
            "name": "own_maps",
            "own": True,
        },
    ),
    Case(
        "bpf-program-of-the-agent-taken",
        "bpf",
        ("system", "own_program", "on_fork"),
        {"command": "BPF_PROG_GET_FD_BY_ID", "name": "on_fork", "map_id": 0, "own": True},
    ),
]

USR2 = str(signal.SIGUSR2.value)
THE_CHILD = {
    "target": {"pid": 0, "passed_pid": Said("child")},
    "target_process__pid": Said("child"),
}
BY_PIDFD = {"target": {"pid": Said("child"), "passed_pid": 0}}


def kill(name: str, act: tuple[str, ...], /, **expect: object) -> Case:
    """A case of kill(2) and its siblings."""
    usual = {"result": Said("result"), "signal": "SIGUSR2", "target_tid": 0}
    return Case(name, "kill", ("system", *act), usual | expect)


KILLS = [
    kill("kill", ("kill", USR2), **THE_CHILD),
    kill("kill-by-number", ("kill", "60"), **THE_CHILD, signal=60),
    kill(
        "kill-group",
        ("kill_group", USR2),
        target={"pid": 0, "passed_pid": Said("group")},
        target_process=None,
    ),
    kill(
        "kill-nobody",
        ("kill_number", "0x3fffffff", USR2),
        result=-errno.ESRCH,
        target={"pid": 0, "passed_pid": 0x3FFFFFFF},
        target_process=None,
    ),
    kill("tkill", ("tkill", USR2), **THE_CHILD, target_tid=Said("child")),
    kill("tgkill", ("tgkill", USR2), **THE_CHILD, target_tid=Said("child")),
    kill(
        "tgkill-wrong-thread",
        ("tgkill_wrong", USR2),
        **THE_CHILD,
        result=-errno.ESRCH,
        target_tid=Said("pid"),
    ),
    kill("rt-sigqueueinfo", ("rt_sigqueueinfo", USR2), **THE_CHILD),
    kill("rt-tgsigqueueinfo", ("rt_tgsigqueueinfo", USR2), **THE_CHILD, target_tid=Said("child")),
    kill(
        "pidfd-send-signal",
        ("pidfd_send_signal", USR2),
        **BY_PIDFD,
        target_process__pid=Said("child"),
    ),
    kill(
        "pidfd-send-signal-by-folder",
        ("pidfd_send_signal_folder", USR2),
        **BY_PIDFD,
        target_process__pid=Said("child"),
    ),
    kill("pidfd-send-signal-late", ("pidfd_send_signal_late", USR2), **BY_PIDFD, error="ESRCH"),
    kill(
        "pidfd-send-signal-nowhere",
        ("pidfd_send_signal_nowhere", USR2),
        error="EBADF",
        target={"pid": 0, "passed_pid": 0},
        target_process=None,
    ),
]

CASES: list[Case] = [*MODULES, *BPF, *OWN, *KILLS]
