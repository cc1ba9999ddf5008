# SPDX-License-Identifier: Apache-2.0
"""Files that decide who may do what, that hold secrets, or that tell what happened."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

import msgspec

from nodeagent.detect import Signal
from nodeagent.detect.describe import name_of
from nodeagent.detect.recent import Recent
from nodeagent.detect.where import (
    PACKAGE_MANAGERS,
    SHELLS,
    WEB_SERVERS,
    is_below,
    is_below_host,
    is_runtime,
    is_system_path,
)
from nodeagent.event import Event, Link, Network, Open, Process, Rename, Symlink, Unlink

__all__ = ["Sensitive"]

WRITING: Final = os.O_WRONLY | os.O_RDWR
PATHS_LIMIT: Final = 8192
RELATED_LIMIT: Final = 25
PROCESSES_LIMIT: Final = 1024

READ: Final = "Read"
WRITE, DELETE, RENAME, LINK, SYMLINK = "Write", "Delete", "Rename", "Link", "Symlink"
CHANGES: Final = frozenset({WRITE, DELETE, RENAME, LINK, SYMLINK})


class _Guard(msgspec.Struct, frozen=True):
    """What may not happen to some files, and who may do it nevertheless."""

    rule: str
    paths: re.Pattern[str]
    operations: frozenset[str]
    expected: frozenset[str]
    """Programs of the system."""
    only_new: bool = False
    """To open a file is to make it; what is there already may be written."""


def _guard(rule: str, paths: str, expected: str, operations: frozenset[str] = CHANGES) -> _Guard:
    return _Guard(rule, re.compile(paths), operations, frozenset(expected.split()))


ADMINISTRATION: Final = (
    "passwd useradd usermod userdel groupadd groupmod groupdel chpasswd chage vipw pwck grpck"
    " adduser deluser newusers gpasswd chsh chfn pwconv systemd-sysusers accounts-daemon"
)
SYSTEM: Final = "systemd systemd-tmpfiles systemctl systemd-sysv-install deb-systemd-helper"

GUARDS: Final = (
    _guard(
        "sensitive_privilege",
        r"/etc/(?:sudoers(?:\.d/.*)?|pam\.d/.*|pam\.conf|security/.*|nsswitch\.conf|doas\.conf"
        r"|polkit-1/rules\.d/.*|login\.defs)|(?:/usr)?/lib/.*/security/pam_.*\.so",
        "visudo pam-auth-update authselect authconfig",
    ),
    _guard(
        "sensitive_persistence",
        r"(?:/root|/home/[^/]+)/\.ssh/(?:authorized_keys2?|rc|config)"
        r"|(?:/root|/home/[^/]+)/\.(?:bashrc|bash_profile|bash_login|bash_logout|profile|zshrc|zprofile"
        r"|zshenv|zlogin|config/autostart/.*)"
        r"|/etc/(?:passwd|shadow|group|gshadow)"
        r"|/etc/(?:crontab|cron\.(?:d|hourly|daily|weekly|monthly)/.*|anacrontab|at\.allow)"
        r"|/var/spool/(?:cron/.*|at/.*)"
        r"|/etc/(?:profile|profile\.d/.*|bash\.bashrc|environment|rc\.local|init\.d/.*|inittab"
        r"|ld\.so\.preload|ld\.so\.conf(?:\.d/.*)?)"
        r"|(?:/etc|/usr/lib|/lib|/run)/systemd/(?:system|user)/.*\.(?:service|timer|socket|path)"
        r"|/etc/udev/rules\.d/.*|/etc/ssh/sshd_config(?:\.d/.*)?",
        f"{ADMINISTRATION} {SYSTEM} crontab cron crond atd at ldconfig ssh-copy-id",
    ),
    _guard(
        "sensitive_evasion",
        r"/var/log/(?:auth|secure|syslog|messages|kern|daemon|cron|maillog|boot)(?:\.log)?"
        r"|/var/log/(?:audit/.*|wtmp|btmp|lastlog|faillog|journal/.*\.journal)|/var/run/utmp",
        "logrotate systemd-journald journalctl rsyslogd syslog-ng auditd systemd-tmpfiles savelog",
        CHANGES - {WRITE},
    ),
    _guard(
        "sensitive_evasion",
        r"(?:/root|/home/[^/]+)/\.(?:bash|zsh|ash|python|mysql|psql)_?history|/root/\.history",
        "",
        CHANGES - {WRITE},
    ),
    _guard(
        "sensitive_evasion",
        r"/etc/(?:audit/.*|rsyslog\.conf|rsyslog\.d/.*|systemd/journald\.conf)",
        "augenrules auditctl",
    ),
    _guard(
        "sensitive_read",
        r"/etc/(?:shadow|gshadow)-?|(?:/root|/home/[^/]+)/\.ssh/(?:id_[^./]+|[^/]+\.pem)"
        r"|(?:/root|/home/[^/]+)/\.(?:aws/credentials|config/gcloud/.*\.(?:db|json)|azure/.*|kube/config"
        r"|docker/config\.json|netrc|git-credentials|gnupg/private-keys.*|pgpass|my\.cnf)"
        r"|/etc/kubernetes/(?:(?:super-)?admin\.conf|pki/.*\.key)|/var/lib/kubelet/pki/.*\.(?:pem|key)"
        r"|/var/lib/rancher/(?:k3s|rke2)/(?:server/(?:tls/.*\.key|cred/.*|token)|agent/.*\.key)"
        r"|/etc/rancher/(?:k3s|rke2)/(?:k3s|rke2)\.yaml|/etc/ssh/ssh_host_[^/]*_key|/proc/kcore",
        f"{ADMINISTRATION} {SYSTEM} sshd sshd-session ssh ssh-add ssh-agent ssh-keygen scp sftp login su"
        " sudo pkexec unix_chkpwd cron crond atd aws gcloud az kubectl helm docker git gpg gpg-agent"
        " kubelet kube-apiserver etcd k3s rke2 gdm-session-worker sddm lightdm systemd-logind polkitd screen",
        frozenset({READ}),
    ),
    _guard(
        "sensitive_kernel",
        r"/proc/sysrq-trigger|/proc/sys/kernel/(?:sysrq|randomize_va_space|kptr_restrict|dmesg_restrict"
        r"|perf_event_paranoid|unprivileged_bpf_disabled|yama/ptrace_scope|kexec_load_disabled"
        r"|modules_disabled)|/proc/sys/vm/mmap_min_addr|/proc/sys/fs/(?:suid_dumpable|protected_.*)"
        r"|/sys/kernel/debug/(?!tracing/).*",
        "systemd-sysctl sysctl systemd",
    ),
    _guard(
        "sensitive_authority",
        r"/usr/local/share/ca-certificates/.*|/usr/share/pki/(?:ca-trust-source|trust)/anchors/.*"
        r"|/etc/pki/(?:ca-trust/source|trust)/anchors/.*|/etc/ca-certificates/trust-source/.*",
        "trust update-ca-trust",
    ),
    _Guard(
        "file_in_dev",
        re.compile(
            r"/dev/(?!(?:shm|mqueue|hugepages|pts|\.?udev|\.lxc|\.lxd-mounts|\.mdadm)/"
            r"|(?:null|zero|full|u?random|tty[^/]*|ptmx|console|kmsg|log|std(?:in|out|err))$).+"
        ),
        frozenset({WRITE, RENAME, LINK}),
        frozenset(f"{SYSTEM} systemd-udevd udevadm mdadm lvm dmsetup dmeventd".split()),
        only_new=True,
    ),
    _guard(
        "sensitive_packages",
        r"/var/lib/(?:dpkg|rpm|pacman/local)/.*|/usr/lib/sysimage/rpm/.*|/lib/apk/db/.*"
        r"|/etc/apt/(?:sources\.list|(?:sources\.list\.d|trusted\.gpg\.d|apt\.conf\.d)/.*)"
        r"|/etc/(?:yum|zypp)(?:/repos\.d|\.repos\.d)/.*|/etc/apk/(?:repositories|keys/.*)",
        f"{SYSTEM} deb-systemd-invoke dpkg-divert dpkg-statoverride update-alternatives rpmdb"
        " add-apt-repository apt-key packagekitd update-notifier",
    ),
    _guard(
        "sensitive_binary",
        r"(?:/usr(?:/local)?)?/s?bin/[^/]+",
        f"{SYSTEM} update-alternatives alternatives",
    ),
    _guard(
        "environment_read",
        r"/proc/\d+/(?:task/\d+/)?environ",
        f"{SYSTEM} systemd-logind systemd-coredump ps pgrep polkitd sshd apport udisksd",
        frozenset({READ}),
    ),
    _guard(
        "token_read",
        r"(?:/var)?/run/secrets/(?:kubernetes\.io/serviceaccount|eks\.amazonaws\.com/serviceaccount"
        r"|azure/tokens)/(?:.*/)?[\w-]*token",
        "kubelet",
        frozenset({READ}),
    ),
    _guard(
        "sensitive_link",
        r"/etc/(?:shadow|gshadow|sudoers)|(?:/root|/home/[^/]+)/\.ssh/id_[^./]+",
        "",
        frozenset({"Target"}),
    ),
)
ONLY_AT_START: Final = frozenset({"sshd"})
"""Expected servers whose connections have processes of their own, which read what they need."""
INTERNET: Final = frozenset({socket.AF_INET, socket.AF_INET6})
SCRIPTS: Final = frozenset(
    [
        "php",
        "php5",
        "php7",
        "phtml",
        "phar",
        "jsp",
        "jspx",
        "asp",
        "aspx",
        "sh",
        "pl",
        "cgi",
        "so",
        "elf",
    ]
)
"""By the end of the name."""
GUARDED: Final = re.compile("|".join(f"(?:{each.paths.pattern})" for each in GUARDS))
"""Any of them: one look for the many paths that nothing guards."""


class Sensitive:
    """Finds out once for each path what guards it."""

    name = "sensitive"
    kinds: ClassVar[tuple[str, ...]] = (
        *("open", "rename", "link", "symlink", "unlink"),
        *("listen", "older_socket"),
    )

    def __init__(self) -> None:
        self._guarding: Recent[str, tuple[_Guard, ...]] = Recent(PATHS_LIMIT)
        self._related: Recent[str, list[str]] = Recent(PROCESSES_LIMIT)
        """What else a process changed, by its UUID."""
        self._serving: Recent[tuple[str, int], bool] = Recent(PROCESSES_LIMIT)
        """Programs that wait for connections, by UUID and `exec_id`."""
        self._takes: Mapping[type[Event], Callable[[Any], Iterable[tuple[str, str]]]] = {
            Open: _opened,
            Rename: lambda event: ((event.path, RENAME), (event.new_path, RENAME)),
            Link: lambda event: ((event.path, LINK), (event.target, "Target")),
            Symlink: lambda event: ((event.path, SYMLINK), (_target_of(event), "Target")),
            Unlink: lambda event: ((event.path, DELETE),),
        }

    def wants_path(self, path: str) -> bool:
        """What is guarded, and what a server of the web might write."""
        return _is_script(path) or bool(self._guards_of(path))

    def inspect(self, event: Event) -> Iterable[Signal]:
        """What is done to a file with this name."""
        if isinstance(event, Network):
            self._learn(event)
            return ()
        signals: list[Signal] = []
        for path, operation in self._takes[type(event)](event):
            guards = self._guards_of(path)
            if guards and event.process is not None:
                signals += self._judge(event, event.process, path, operation, guards)
            elif operation == WRITE and event.process is not None and _is_script(path):
                signals += _by_web_server(event, event.process, path)
        return signals

    def _learn(self, event: Network) -> None:
        """Whoever waits for connections has started."""
        if event.family in INTERNET and event.remote is None and event.process is not None:
            self._serving.put((event.process.uuid, event.process.task.exec_id), value=True)

    def _is_late(self, process: Process, name: str) -> bool:
        """It reads its secrets once, when it starts; and that is over."""
        return name in ONLY_AT_START and bool(
            self._serving.get((process.uuid, process.task.exec_id))
        )

    def _guards_of(self, path: str) -> tuple[_Guard, ...]:
        guards = self._guarding.get(path)
        if guards is None:
            guards = ()
            if GUARDED.fullmatch(path):
                guards = tuple(each for each in GUARDS if each.paths.fullmatch(path))
            self._guarding.put(path, guards)
        return guards

    def _judge(
        self,
        event: Event,
        process: Process,
        path: str,
        operation: str,
        guards: tuple[_Guard, ...],
    ) -> Iterator[Signal]:
        if is_runtime(process) or is_below_host(process, PACKAGE_MANAGERS):
            return
        is_packaged = operation in CHANGES and is_below(process, PACKAGE_MANAGERS)
        name = name_of(process.path)
        for guard in guards:
            truncated = operation == WRITE and _truncates(event)
            wanted = operation in guard.operations or (truncated and DELETE in guard.operations)
            if not wanted or (guard.only_new and isinstance(event, Open) and not event.created):
                continue
            is_late = False
            if name in guard.expected and is_system_path(process.path):
                is_late = operation == READ and self._is_late(process, name)
                if not is_late:
                    continue
            if guard.rule == "environment_read" and _is_own(process, path):
                continue
            if truncated and WRITE not in guard.operations and name in SHELLS and "history" in path:
                # A shell that ends writes its history anew.
                continue
            context: dict[str, object] = {"filePath": path, "fileOperation": operation}
            if related := self._relate(process, path):
                context["relatedFilePaths"] = related
            if guard.rule == "sensitive_evasion" and "history" in path:
                context["shellHistoryFilePath"] = path
            rule = "packaged_change" if is_packaged else guard.rule
            if is_late:
                rule = "sensitive_read_late"
            yield Signal(rule, event, context, key=path)

    def _relate(self, process: Process, path: str) -> list[str]:
        """The other sensitive files that this process has touched."""
        known = self._related.get(process.uuid) or []
        others = [each for each in known if each != path]
        self._related.put(process.uuid, [*others, path][-RELATED_LIMIT:])
        return others


def _is_own(process: Process, path: str) -> bool:
    """It is about the process itself, or what it has started from."""
    pid = path.split("/")[2]
    own = process.facts.namespace_pid if process.facts is not None else process.task.pid
    return pid in (str(process.task.pid), str(own))


def _is_script(path: str) -> bool:
    return path.rpartition(".")[2] in SCRIPTS


def _opened(event: Open) -> Iterable[tuple[str, str]]:
    if event.flags & WRITING:
        return ((event.path or event.argument, WRITE),)
    return ((event.path or event.argument, READ),)


def _target_of(event: Symlink) -> str:
    """Where the link leads: what it says counts from its own folder."""
    target = event.target
    if not target.startswith("/"):
        target = f"{event.path.rpartition('/')[0]}/{target}" if event.path[:1] == "/" else ""
    # Two slashes at the start would be kept as they are.
    return os.path.normpath(f"/{target.lstrip('/')}")


def _truncates(event: Event) -> bool:
    return isinstance(event, Open) and bool(event.flags & os.O_TRUNC) and not event.created


def _by_web_server(event: Event, process: Process, path: str) -> Iterator[Signal]:
    if name_of(process.path) in WEB_SERVERS and isinstance(event, Open) and event.created:
        yield Signal(
            "sensitive_persistence", event, {"filePath": path, "fileOperation": WRITE}, key=path
        )
