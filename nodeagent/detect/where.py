# SPDX-License-Identifier: Apache-2.0
"""Where a process is and what kind of program it runs, as all detectors see it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeGuard

from nodeagent.detect.describe import name_of
from nodeagent.event import Ancestor, Brief, Process, ProcessFacts
from nodeagent.names import CAPABILITIES

__all__ = [
    "BUSYBOX",
    "GUARDS",
    "PACKAGE_MANAGERS",
    "POWERS",
    "POWERS_OF_ROOT",
    "RUNTIMES",
    "SHELLS",
    "WEB_SERVERS",
    "is_below",
    "is_below_host",
    "is_contained",
    "is_guard",
    "is_one",
    "is_program",
    "is_runtime",
    "is_runtime_above",
    "is_runtime_path",
    "is_shell",
    "is_system_path",
    "powers_of",
    "program_of",
]

SHELLS: Final = frozenset(
    {"sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "fish", "csh", "tcsh", "rbash"}
)
BUSYBOX: Final = "busybox"
"""One file that is many programs, by what it is called."""
RUNTIMES: Final = frozenset(
    {
        "runc",
        "crun",
        "youki",
        "conmon",
        "conmonrs",
        "containerd",
        "containerd-shim",
        "containerd-shim-runc-v2",
        "dockerd",
        "docker-init",
        "crio",
        "podman",
        "buildah",
        "kubelet",
        "k3s",
        "rke2",
    }
)
"""Programs that make containers; what they do inside of one is how it is made."""
PACKAGE_MANAGERS: Final = frozenset(
    {"dpkg", "apt", "apt-get", "aptitude", "unattended-upgrade", "unattended-upgrades"}
    | {"rpm", "dnf", "dnf-3", "dnf5", "dnf5daemon-server", "dnf-automatic", "microdnf", "tdnf"}
    | {"yum", "yum-cron", "rpm-ostree", "zypper", "transactional-update", "packagekitd"}
    | {"apk", "pacman", "xbps-install", "snapd", "flatpak", "cloud-init"}
)
"""Those of systems; many are scripts. Those of languages install what anybody may publish, so
nothing is expected of these."""
WEB_SERVERS: Final = frozenset(
    {"nginx", "apache2", "httpd", "lighttpd", "caddy", "tomcat", "uwsgi", "gunicorn"}
    | {f"php-fpm{version}" for version in ("", "7.4", "8.1", "8.2", "8.3", "8.4", "8.5")}
)
GUARDS: Final = frozenset(
    {"nodeagent", "falco", "tetragon", "tracee", "auditd", "osqueryd", "rsyslogd", "wazuh-agentd"}
    | {"falcon-sensor", "amazon-guardduty-agent", "systemd-journald", "clamd", "fail2ban-server"}
)
"""Programs that guard a node, or write down what happens."""
SYSTEM_FOLDERS: Final = (
    "/usr/",
    "/bin/",
    "/sbin/",
    "/lib/",
    "/lib64/",
    "/opt/",
    "/snap/",
    "/nix/store/",
    "/etc/init.d/",
    "/x86_64-bottlerocket-linux-gnu/sys-root/usr/",
    "/aarch64-bottlerocket-linux-gnu/sys-root/usr/",
)
RUNTIME_FOLDER: Final = re.compile(r"/var/lib/rancher/(?:k3s|rke2)/data/[^/]+/bin/[^/]+")
"""Where k3s and RKE2 unpack theirs."""
MEMFD: Final = "/memfd:"
FIRST_USERS: Final = 0xEFFFFFFD
"""The inode number of the first user namespace, PROC_USER_INIT_INO of the kernel."""
POWERS: Final = {
    name: 1 << CAPABILITIES[name]
    for name in (
        *("CAP_DAC_READ_SEARCH", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_PTRACE"),
        *("CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_PERFMON", "CAP_BPF"),
    )
}
"""Capabilities that lead to all others; no container has one unless somebody asks for it."""
POWERS_OF_ROOT: Final = POWERS | {
    name: 1 << CAPABILITIES[name]
    for name in ("CAP_DAC_OVERRIDE", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP")
}
"""The same with those that root has in each container, and no other user anywhere."""


def is_contained(process: Process) -> bool:
    """It runs in a container, or in a pid namespace of its own as if in one."""
    if process.container is not None:
        return True
    facts = process.facts
    return facts is not None and facts.namespace_pid != process.task.pid


def is_runtime(process: Process) -> bool:
    """It is a container runtime of the host, also where it copied itself, and in containers."""
    if not process.of_host:
        return False
    if not _is_nameless(process.path):
        return is_runtime_path(process.path)
    above = (each for each in process.lineage if not _is_nameless(each.path))
    first = next(above, None)
    return first is not None and is_runtime_above(first)


def _is_nameless(path: str) -> bool:
    """A runtime runs as a copy of itself in memory, or on a mount that is in no folder."""
    return path == "/" or path.startswith(MEMFD)


def is_runtime_above(ancestor: Ancestor | Brief) -> bool:
    """What has started or written something is a container runtime of the host."""
    return ancestor.of_host and is_runtime_path(ancestor.path)


def is_runtime_path(path: str) -> bool:
    """It is where a system has a container runtime."""
    return name_of(path) in RUNTIMES and (
        is_system_path(path) or RUNTIME_FOLDER.fullmatch(path) is not None
    )


def is_guard(other: Brief | None) -> TypeGuard[Brief]:
    """It guards a node; what it is called counts, wherever it lies."""
    return other is not None and name_of(other.path) in GUARDS


def is_shell(process: Process, argv: tuple[str, ...]) -> bool:
    """It is a shell, also one that busybox is when it is called so."""
    name = name_of(process.path)
    if name in SHELLS:
        return True
    return name == BUSYBOX and bool(argv) and name_of(argv[0]).lstrip("-") in SHELLS


def is_system_path(path: str) -> bool:
    """It lies where a system has its programs, which only root can write."""
    return path.startswith(SYSTEM_FOLDERS)


def is_program(path: str, names: frozenset[str]) -> bool:
    """It has one of these names, and is not where anybody can put a file of that name."""
    return name_of(path) in names and is_system_path(path)


def program_of(process: Process | Ancestor) -> str:
    """The path of what it runs: a script of the system counts, and not what interprets it."""
    if process.script and is_system_path(process.path):
        return process.script
    return process.path


def is_below(process: Process, names: frozenset[str]) -> bool:
    """It is one of these programs of the system or of its image, or was started by one of them."""
    return is_one(process, names) or any(is_one(each, names) for each in process.lineage)


def is_below_host(process: Process, names: frozenset[str]) -> bool:
    """The same with programs of the host: who makes an image chooses what it calls its own."""
    return (process.of_host and is_one(process, names)) or any(
        each.of_host and is_one(each, names) for each in process.lineage
    )


def is_one(process: Process | Ancestor, names: frozenset[str]) -> bool:
    """It runs one of these programs or scripts of the system."""
    return is_program(program_of(process), names)


def powers_of(facts: ProcessFacts, capabilities: int, powers: Mapping[str, int]) -> list[str]:
    """Which of these capabilities a process has over the node.

    In a user namespace of its own it may have all of them, and none over the node.
    """
    if facts.namespaces.user != FIRST_USERS:
        return []
    return [name for name, bit in powers.items() if capabilities & bit]
