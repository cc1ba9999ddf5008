# SPDX-License-Identifier: Apache-2.0
"""What detectors say about events that no scene on one machine can bring about."""

from __future__ import annotations

import mmap
import os
import stat
from typing import Any

import msgspec
import pytest

from nodeagent.detect import Detector
from nodeagent.detect.containers import Containers
from nodeagent.detect.drift import Drift
from nodeagent.detect.integrity import Integrity
from nodeagent.detect.sensitive import Sensitive
from nodeagent.detect.shells import Shells
from nodeagent.detect.tampering import Tampering
from nodeagent.detect.where import is_runtime_path
from nodeagent.encode import timestamp
from nodeagent.event import Ancestor, Brief, Container, Event, FileFacts, Incomplete, Process
from tests.events import (
    TIME,
    a_bpf,
    a_container,
    a_kernel_hook,
    a_module,
    a_mount,
    a_process,
    a_socket_filter,
    a_symlink,
    an_exec,
    an_mmap,
    an_open,
    inside,
    some_facts,
)

SETUID = 0o104755


def rules(detector: Detector, event: Event) -> list[str]:
    return [each.rule for each in detector.inspect(event)]


@pytest.mark.parametrize("argv", [(), ("",)])
def test_no_argument_is_told_from_arguments_that_could_not_be_read(argv: tuple[str, ...]) -> None:
    event = an_exec(argv, mode=SETUID)
    assert rules(Drift(), event) == ["pkexec_exploit"]
    event.incomplete = Incomplete(truncated=("cwd",), unread={"cwd": "EFAULT"})
    assert rules(Drift(), event) == ["pkexec_exploit"]
    event.incomplete = Incomplete(truncated=(), unread={"argv": "EFAULT"})
    assert rules(Drift(), event) == []


@pytest.mark.parametrize(
    ("path", "target", "is_secret"),
    [
        ("/tmp/x", "/etc/shadow", True),
        ("/tmp/x", "//etc/./shadow", True),
        ("/tmp/x", "../etc/shadow", True),
        ("/x", "../../etc/shadow", True),
        ("/etc/x", "shadow", True),
        ("/tmp/a/x", "../etc/shadow", False),
        ("/tmp/x", "etc/shadow", False),
        ("x", "etc/shadow", False),
    ],
)
def test_links_lead_from_their_own_folder(path: str, target: str, is_secret: bool) -> None:
    event = a_symlink(path=path, target=target)
    assert rules(Sensitive(), event) == ["sensitive_link"] * is_secret


@pytest.mark.parametrize(
    ("loader", "comm", "path", "rule"),
    [
        ("/usr/bin/kmod", "modprobe", "/lib/modules/6.1/dummy.ko", "module_of_system"),
        ("/usr/bin/kmod", "modprobe", "", "module_of_system"),
        ("/usr/lib/systemd/systemd", "systemd", "", "module_of_system"),
        ("/usr/lib/systemd/systemd-udevd", "(udev-worker)", "", "module_of_system"),
        ("/usr/bin/kmod", "insmod", "/lib/modules/6.1/dummy.ko", "module_of_system"),
        ("/usr/bin/kmod", "insmod", "", "module"),
        ("/usr/bin/kmod", "modprobe", "/tmp/dummy.ko", "module"),
        ("/tmp/modprobe", "modprobe", "", "module"),
        ("/usr/bin/python3.11", "python3", "", "module"),
    ],
)
def test_modules_from_memory_are_those_of_the_system_by_its_loaders(
    loader: str, comm: str, path: str, rule: str
) -> None:
    process = a_process(loader, comm=comm)
    assert rules(Drift(), a_module(path=path, process=process)) == [rule]
    assert rules(Drift(), a_module(path=path, process=inside(process, a_container()))) == ["module"]


@pytest.mark.parametrize("folder", ["/usr/sbin", "/tmp"])
def test_expected_programs_are_those_that_lie_where_the_system_has_them(folder: str) -> None:
    told = folder == "/tmp"
    loaded = a_bpf(process=a_process(f"{folder}/bpftool"))
    assert rules(Drift(), loaded) == ["bpf_program"] * told
    path = "/proc/sys/kernel/core_pattern"
    written = an_open(path=path, flags=os.O_WRONLY, process=a_process(f"{folder}/sysctl"))
    assert rules(Containers(), written) == ["kernel_helper"] * told


@pytest.mark.parametrize(
    ("path", "is_device"),
    [
        *((f"/dev/{name}", True) for name in ("sda1", "mmcblk0", "md0", "md/home", "loop7")),
        *((f"/dev/{name}", True) for name in ("nbd0p1", "dm-3", "mapper/vg-root", "nvme0n1")),
        *((f"/dev/{name}", False) for name in ("loop-control", "null", "mdx", "memory", "shm/sda")),
    ],
)
def test_devices_that_hold_file_systems(path: str, is_device: bool) -> None:
    process = inside(a_process(), a_container())
    opened = an_open(path=path, mode=stat.S_IFBLK | 0o600, process=process)
    assert rules(Containers(), opened) == ["raw_device"] * is_device
    mounted = a_mount(source=path, type="", process=process)
    assert rules(Containers(), mounted) == ["host_mount"] * is_device


def a_shell(container: Container, namespace_pid: int, runtime: str = "/usr/bin/runc") -> Event:
    process = a_process("/usr/bin/dash")
    above = msgspec.structs.replace(process.lineage[0], pid=9, path=runtime)
    facts = some_facts(namespace_pid=namespace_pid)
    process = msgspec.structs.replace(process, lineage=(above,), facts=facts)
    return an_exec(("sh",), path="/usr/bin/dash", process=inside(process, container))


def test_a_shell_from_outside_is_told_even_when_the_container_is_older_than_the_agent() -> None:
    told = ["container_shell"]
    older = a_container(created=timestamp(TIME - 1_000_000_000))
    newer = a_container(created=timestamp(TIME + 1_000_000_000))
    unknown = a_container(created="", enrichment="unknown")
    for container, first in ((older, told), (newer, []), (unknown, [])):
        shells = Shells()
        assert rules(shells, a_shell(container, 7)) == first
        assert rules(shells, a_shell(container, 8)) == told
    # What it was started for: it was made long ago, but runs only now.
    shells = Shells()
    assert rules(shells, a_shell(older, 1)) == []
    assert rules(shells, a_shell(older, 7)) == told
    assert rules(shells, a_shell(older, 8, runtime="/usr/bin/dash")) == []


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("/usr/bin/runc", True),
        ("/var/lib/rancher/k3s/data/3a1f/bin/containerd-shim-runc-v2", True),
        ("/var/lib/rancher/rke2/data/v1.31.2-rke2r1-3a1f/bin/kubelet", True),
        ("/var/lib/rancher/k3s/data/3a1f/bin/busybox", False),
        ("/var/lib/rancher/k3s/data/3a1f/bin/x/runc", False),
        ("/var/lib/rancher/k3s/storage/bin/runc", False),
        ("/tmp/runc", False),
    ],
)
def test_runtimes_are_where_a_system_or_k3s_has_them(path: str, is_one: bool) -> None:
    assert is_runtime_path(path) is is_one


@pytest.mark.parametrize(
    ("path", "script", "is_expected"),
    [
        ("/usr/bin/python3.9", "/usr/bin/dnf", True),
        ("/usr/bin/dpkg", "", True),
        # Another root: its interpreter lies elsewhere for the kernel.
        ("/home/user/usr/bin/python3.9", "/usr/bin/dnf", False),
        ("/usr/bin/python3.9", "/home/user/dnf", False),
        ("/usr/bin/python3.9", "", False),
    ],
)
def test_scripts_of_the_system_count_when_the_system_runs_them(
    path: str, script: str, is_expected: bool
) -> None:
    process = a_process(path)
    process.script = script
    written = an_open(path="/etc/pam.d/su", flags=os.O_WRONLY, process=process)
    assert rules(Sensitive(), written) == ["sensitive_privilege"] * (not is_expected)


@pytest.mark.parametrize(
    ("script", "counts"),
    [
        ("/usr/bin/dnf", True),
        ("./dnf", False),
        ("/tmp/link/../../usr/bin/dnf", False),
        ("/usr/bin//dnf", False),
        ("", False),
    ],
)
def test_script_counts_by_a_name_that_no_link_can_bend(script: str, counts: bool) -> None:
    assert an_exec(script=script).absolute_script == (script if counts else "")


READERS = {
    "/etc/shadow": "login sudo cron vipw systemd-executor unix_chkpwd sssd lslogins",
    "/etc/ssh/ssh_host_rsa_key": "ssh-keysign sshd-auth",
    "/root/.ssh/id_ed25519": "ssh ssh-add",
    "/root/.aws/credentials": "aws terraform mysql mariadb-dump",
    "/etc/kubernetes/pki/ca.key": "etcd kube-apiserver kube-controller-manager",
}


@pytest.mark.parametrize("path", READERS)
def test_secrets_are_read_by_programs_that_are_for_them_and_no_others(path: str) -> None:
    for secret, names in READERS.items():
        for name in names.split():
            opened = an_open(path=path, process=a_process(f"/usr/bin/{name}"))
            is_told = name not in READERS[path].split()
            assert rules(Sensitive(), opened) == ["sensitive_read"] * is_told, (secret, name)


@pytest.mark.parametrize(
    ("path", "line", "script"),
    [
        ("/usr/bin/dash", "sh x.sh a", "/home/me/x.sh"),
        ("/usr/bin/bash", "bash -eu -o pipefail x.sh", "/home/me/x.sh"),
        ("/usr/bin/bash", "bash -c x.sh", ""),
        ("/usr/bin/bash", "bash -lc x.sh", ""),
        ("/usr/bin/bash", "bash -s x.sh", ""),
        ("/usr/bin/bash", "bash - x.sh", ""),
        ("/usr/bin/bash", "bash -i", ""),
        ("/usr/bin/bash", "bash -- /x/../y.sh", "/y.sh"),
        ("/usr/bin/python3.11", "python3 -W ignore x.py", "/home/me/x.py"),
        ("/usr/bin/python3.11", "python3 -m x.py", ""),
        ("/usr/bin/perl", "perl -ne print", ""),
        ("/usr/bin/busybox", "sh x.sh", "/home/me/x.sh"),
        ("/usr/bin/busybox", "cat x.sh", ""),
        ("/usr/bin/cat", "cat x.sh", ""),
    ],
)
def test_script_that_an_interpreter_is_given(path: str, line: str, script: str) -> None:
    assert an_exec(tuple(line.split()), path=path, cwd="/home/me").script_path == script


def written_by(path: str, *, script: str = "", of_host: bool = True, pid: int = 50) -> FileFacts:
    by = Brief(pid, path, 0, f"uuid of {pid}", "{}", of_host, script)
    return FileFacts("", "off", "host", by, TIME, "")


LIBRARY = "/usr/local/lib/libodd.so.1"
NGINX = "/usr/sbin/nginx"
SHELL = Ancestor(9, "/usr/bin/bash", 0, "shell", namespace_pid=9, uid=0, euid=0)


def loads(
    process: Process, path: str = LIBRARY, by: str = "/usr/bin/cp", **writer: Any
) -> list[str]:
    file = written_by(by, **writer)
    event = an_mmap(process=process, path=path, file=file, protection=mmap.PROT_EXEC)
    return rules(Drift(), event)


def a_server(path: str = NGINX, *above: Ancestor, **task: Any) -> Process:
    """A service of root, unless something else is said."""
    process = a_process(path, **{"uid": 0, "euid": 0, **task})
    return msgspec.structs.replace(process, lineage=(*above, *process.lineage))


def test_a_library_that_no_package_has_brought_weighs_more_in_a_service_of_root() -> None:
    assert loads(a_server()) == ["planted_library"]
    assert loads(a_server(NGINX, SHELL)) == ["host_library"]
    assert loads(a_server(NGINX, SHELL, uid=1000)) == ["planted_library"]
    assert loads(a_server(euid=33)) == ["host_library"]
    assert loads(a_server("/home/me/server")) == ["host_library"]
    assert loads(a_server(), path="/usr/local/lib/python3.11/dist-packages/x.so") == [
        "host_library"
    ]
    own = a_server()
    own.uuid = "uuid of 50"
    assert loads(own) == ["host_library"]


def test_a_library_of_a_program_that_is_as_new_is_no_more_than_that() -> None:
    drift, process = Drift(), a_server("/usr/local/bin/odd")
    started = an_exec(process=process, path=process.path, file=written_by("/usr/bin/cp"))
    assert rules(drift, started) == ["host_binary"]
    file = written_by("/usr/bin/cp")
    event = an_mmap(process=process, path=LIBRARY, file=file, protection=mmap.PROT_EXEC)
    assert rules(drift, event) == ["host_library"]


@pytest.mark.parametrize(
    ("by", "writer", "is_told"),
    [
        ("/usr/bin/dpkg", {}, False),
        ("/tmp/dpkg", {}, True),
        ("/usr/bin/dpkg", {"of_host": False}, True),
        ("/usr/bin/python3.11", {"script": "/usr/bin/dnf"}, False),
        ("/usr/bin/python3.11", {"script": "/tmp/dnf"}, True),
        ("/tmp/python3.11", {"script": "/usr/bin/dnf"}, True),
        ("/usr/bin/x86_64-linux-gnu-ld.bfd", {}, False),
        ("/tmp/ld", {}, True),
        ("/usr/bin/containerd-shim-runc-v2", {}, False),
    ],
)
def test_who_brings_code_to_a_host_is_known_by_where_it_lies(
    by: str, writer: dict[str, Any], is_told: bool
) -> None:
    assert bool(loads(a_server(), by=by, **writer)) == is_told


@pytest.mark.parametrize(
    ("path", "is_told"),
    [
        ("/home/me/libodd.so", False),
        ("/root/libodd.so", False),
        ("/var/lib/jenkins/libodd.so", False),
        ("/builds/libodd.so", False),
        ("/nix/store/libodd.so", False),
        ("/opt/libodd.so", True),
        ("/var/www/libodd.so", True),
    ],
)
def test_homes_and_folders_of_builds_are_left_out(path: str, is_told: bool) -> None:
    assert bool(loads(a_server(), path=path)) == is_told


def test_of_the_own_ebpf_changes_weigh_and_a_hold_is_told_once() -> None:
    tampering = Tampering()
    held = a_bpf(command=13, own=True, name="on_fork")
    assert rules(tampering, held) == ["agent_bpf_held"]
    assert rules(tampering, held) == []
    changed = a_bpf(command=2, own=True, name="settings")
    assert rules(tampering, changed) == rules(tampering, changed) == ["agent_bpf_changed"]
    assert rules(tampering, a_bpf(command=2, own=False)) == []


@pytest.mark.parametrize("path", ["/usr/bin/nodeagent", "/var/lib/nodeagent/spool/1"])
def test_files_of_the_agent_in_an_image_are_not_those_of_the_node(path: str) -> None:
    event = an_open(path=path, flags=os.O_WRONLY)
    assert event.process is not None
    assert rules(Sensitive(), event) == ["guard_file"]
    event.process = inside(event.process, a_container())
    assert rules(Sensitive(), event) == []


PACKET, INTERNET, NETLINK = 17, 2, 16
RAW, DATAGRAM = 3, 2


@pytest.mark.parametrize(
    ("path", "family", "kind", "protocol", "expected"),
    [
        ("/usr/sbin/odd", PACKET, RAW, 0, ["packet_filter"]),
        ("/usr/bin/tcpdump", PACKET, RAW, 0, []),
        ("/tmp/tcpdump", PACKET, RAW, 0, ["packet_filter"]),
        ("/usr/sbin/odd", INTERNET, RAW, 6, ["packet_filter"]),
        ("/usr/sbin/odd", INTERNET, RAW, 1, ["socket_filter"]),
        ("/usr/bin/ping", INTERNET, RAW, 1, []),
        ("/usr/sbin/odd", INTERNET, DATAGRAM, 17, ["socket_filter"]),
        ("/usr/sbin/odd", NETLINK, RAW, 15, []),
    ],
)
def test_filters_are_for_programs_that_look_at_packets_all_day(
    path: str, family: int, kind: int, protocol: int, expected: list[str]
) -> None:
    event = a_socket_filter(
        process=a_process(path), family=family, type=kind, protocol=protocol, option=26
    )
    assert rules(Integrity(), event) == expected


def test_image_does_not_choose_who_looks_at_packets_all_day() -> None:
    process = inside(a_process("/usr/bin/tcpdump"), a_container())
    assert rules(Integrity(), a_socket_filter(process=process)) == ["packet_filter_contained"]


@pytest.mark.parametrize("change", [{"option": 51}, {"option": 52}, {"result": -1}], ids=str)
def test_filters_that_share_out_connections_or_failed_are_no_signal(
    change: dict[str, int],
) -> None:
    assert not rules(Integrity(), a_socket_filter(**change))


def test_hook_of_a_module_that_cannot_be_seen_is_hidden() -> None:
    (signal,) = Integrity().inspect(a_kernel_hook(module=""))
    assert (signal.rule, signal.key) == ("kernel_hooked", "sys_call_table[62]")
    assert signal.context["moduleName"] == "hidden"
