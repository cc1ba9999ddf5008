# SPDX-License-Identifier: Apache-2.0
"""Which files of a system matter, what may not happen to them, and who does it all day.

A program is expected by what it is for: who asks for a password may read passwords, and no
keys of a cloud. It counts where only root can have put it, see `where.program_of`.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

__all__ = [
    "CHANGES",
    "DELETE",
    "GUARDED",
    "GUARDS",
    "LINK",
    "READ",
    "RENAME",
    "SYMLINK",
    "WRITE",
    "Guard",
]

READ: Final = "Read"
WRITE, DELETE, RENAME, LINK, SYMLINK = "Write", "Delete", "Rename", "Link", "Symlink"
CHANGES: Final = frozenset({WRITE, DELETE, RENAME, LINK, SYMLINK})


class Guard(msgspec.Struct, frozen=True):
    """What may not happen to some files, and who may do it nevertheless."""

    rule: str
    paths: re.Pattern[str]
    operations: frozenset[str]
    expected: frozenset[str]
    """Programs or scripts of the system, by name or by path."""
    only_new: bool = False
    """To open a file is to make it; what is there already may be written."""
    only_at_start: bool = False
    """Expected servers read it before they wait for connections, and then by other processes."""
    script: str = ""
    """What this script of the host has started is expected, too."""
    of_host: bool = False
    """In a container it is a file of the image, and says nothing of the node."""


def _guard(
    rule: str,
    paths: str,
    expected: str,
    operations: frozenset[str] = CHANGES,
    *,
    of_host: bool = False,
) -> Guard:
    names = frozenset(expected.split())
    return Guard(rule, re.compile(paths), operations, names, of_host=of_host)


ADMINISTRATION: Final = (
    "passwd useradd usermod userdel groupadd groupmod groupdel groupmems chpasswd chgpasswd chage vipw"
    " pwck grpck pwconv pwunconv grpconv grpunconv adduser deluser addgroup delgroup newusers gpasswd"
    " chsh chfn lslogins systemd-sysusers systemd-firstboot accounts-daemon"
)
LOGINS: Final = (
    "sshd sshd-session dropbear login su runuser sudo sudo-rs doas pkexec sulogin newgrp screen"
    " unix_chkpwd unix_update pwhistory_helper mkhomedir_helper polkit-agent-helper-1 polkitd"
    " cron crond anacron atd at batch crontab systemd-executor systemd-logind systemd-homed"
    " systemd-userdbd systemd-userwork gdm-session-worker sddm sddm-helper lightdm xrdp-sesexec"
    " cockpit-session vmtoolsd VGAuthService saslauthd sssd proxy_child krb5_child"
)
"""Programs that ask who somebody is, or whether the account still counts: PAM reads passwords in
the process that wants to know, or in a helper."""
CLUSTER: Final = (
    "kubelet kubeadm kubectl helm kube-apiserver kube-controller-manager kube-scheduler etcd etcdctl"
    " kubelite k3s rke2"
)
CLOUD: Final = "amazon-ssm-agent ssm-agent-worker ssm-session-worker google_guest_agent"
"""Agents that make users and their keys where the cloud says so."""
SCHEDULED: Final = "/etc/cron.daily/passwd"
"""The script by which older Debians and Ubuntus keep a copy of the passwords each day."""
SYSTEM: Final = "systemd systemd-tmpfiles systemctl systemd-sysv-install deb-systemd-helper"

TOOLS: Final = (
    r"(?:nodeagent|auditd|falco(?:ctl|-[\w-]+)?|tetragon|tracee|osqueryd|wazuh-agent|falcon-sensor)"
)
"""What guards a node: programs and their units."""
UNIT_FOLDERS: Final = r"(?:/etc|/usr/lib|/lib|/run)/systemd/system/"

GUARDS: Final = (
    _guard(
        "guard_file",
        rf"(?:/usr(?:/local)?)?/s?bin/{TOOLS}|/usr/lib/nodeagent/.*|/opt/osquery/.*"
        rf"|{UNIT_FOLDERS}(?:[^/]+\.wants/)?{TOOLS}\.service"
        r"|/var/lib/nodeagent/.*|(?:/var)?/run/nodeagent/.*",
        f"{SYSTEM} nodeagent",
        of_host=True,
    ),
    _guard(
        "guard_settings",
        rf"/etc/(?:nodeagent|falco|osquery|tetragon)/.*|{UNIT_FOLDERS}{TOOLS}\.service\.d/.*",
        f"{SYSTEM} falcoctl",
        of_host=True,
    ),
    _guard(
        "guard_cgroup",
        rf"/sys/fs/cgroup/(?:[^/]+/)?system\.slice/(?:(?:{TOOLS}|rsyslog|systemd-journald)\.service/)?"
        r"(?:cgroup\.(?:freeze|kill)|freezer\.state|memory\.(?:max|high|limit_in_bytes)"
        r"|cpu\.(?:max|cfs_quota_us))",
        f"{SYSTEM} systemd-oomd",
        frozenset({WRITE}),
    ),
    _guard(
        "sensitive_privilege",
        r"/etc/(?:sudoers(?:\.d/.*)?|pam\.d/.*|pam\.conf|security/.*|nsswitch\.conf|doas\.conf"
        r"|polkit-1/rules\.d/.*|login\.defs)|(?:/usr)?/lib/.*/security/pam_.*\.so",
        f"visudo pam-auth-update authselect authconfig {CLOUD}",
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
        r"|(?:/etc|/usr/lib|/lib|/run)/systemd/(?:system|user)/"
        rf"(?!(?:[^/]+\.wants/)?{TOOLS}\.service).*\.(?:service|timer|socket|path)"
        r"|/etc/udev/rules\.d/.*|/etc/ssh/sshd_config(?:\.d/.*)?",
        f"{ADMINISTRATION} {SYSTEM} {CLOUD} crontab cron crond atd at ldconfig ssh-copy-id update-rc.d"
        " chkconfig /usr/libexec/netplan/generate /usr/lib/netplan/generate",
    ),
    _guard(
        "sensitive_evasion",
        r"/var/log/(?:auth|secure|syslog|messages|kern|daemon|cron|maillog|boot)(?:\.log)?"
        r"|/var/log/(?:audit/.*|nodeagent/.*|wtmp|btmp|lastlog|faillog|journal/.*\.journal)|/var/run/utmp",
        "logrotate systemd-journald journalctl rsyslogd syslog-ng auditd systemd-tmpfiles savelog nodeagent",
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
    Guard(
        "sensitive_read",
        re.compile(r"/etc/(?:shadow|gshadow)-?"),
        frozenset({READ}),
        frozenset(f"{ADMINISTRATION} {SYSTEM} {LOGINS}".split()),
        only_at_start=True,
        script=SCHEDULED,
    ),
    Guard(
        "sensitive_read",
        re.compile(r"/etc/ssh/ssh_host_[^/]*_key"),
        frozenset({READ}),
        frozenset({"sshd", "sshd-session", "sshd-auth", "ssh-keygen", "ssh-keysign"}),
        only_at_start=True,
    ),
    _guard(
        "sensitive_read",
        r"(?:/root|/home/[^/]+)/\.ssh/(?:id_[^./]+|[^/]+\.pem)",
        "ssh ssh-add ssh-agent ssh-keygen scp sftp",
        frozenset({READ}),
    ),
    _guard(
        "sensitive_read",
        r"(?:/root|/home/[^/]+)/\.(?:aws/credentials|config/gcloud/.*\.(?:db|json)|azure/.*|kube/config"
        r"|docker/config\.json|netrc|git-credentials|pgpass|my\.cnf)",
        f"{CLOUD} kubelet kubeadm kubectl helm k3s rke2 kubelite aws gcloud az terraform packer eksctl k9s ansible ansible-playbook amazon-cloudwatch-agent"
        " docker podman buildah skopeo git git-remote-http git-remote-https git-credential-store psql pg_dump"
        " pg_dumpall pg_restore mysql mysqldump mysqladmin mariadb mariadb-dump mariadb-admin",
        frozenset({READ}),
    ),
    _guard(
        "sensitive_read",
        r"(?:/root|/home/[^/]+)/\.gnupg/private-keys.*",
        "gpg gpg-agent gpgsm gpgconf",
        frozenset({READ}),
    ),
    _guard(
        "sensitive_read",
        r"/etc/kubernetes/(?:(?:super-)?admin\.conf|pki/.*\.key)|/var/lib/kubelet/pki/.*\.(?:pem|key)"
        r"|/var/lib/rancher/(?:k3s|rke2)/(?:server/(?:tls/.*\.key|cred/.*|token)|agent/.*\.key)"
        r"|/etc/rancher/(?:k3s|rke2)/(?:k3s|rke2)\.yaml",
        CLUSTER,
        frozenset({READ}),
    ),
    _guard("sensitive_read", r"/proc/kcore", "", frozenset({READ})),
    _guard(
        "scheduler_read",
        r"/proc/sched_debug|/sys/kernel/debug/sched/debug",
        "",
        frozenset({READ}),
    ),
    _guard(
        "sensitive_kernel",
        r"/proc/sysrq-trigger|/proc/sys/kernel/(?:sysrq|randomize_va_space|kptr_restrict|dmesg_restrict"
        r"|perf_event_paranoid|unprivileged_bpf_disabled|yama/ptrace_scope|kexec_load_disabled"
        r"|modules_disabled)|/proc/sys/vm/mmap_min_addr|/proc/sys/fs/(?:suid_dumpable|protected_.*)"
        r"|/sys/kernel/debug/(?!tracing/).*",
        "systemd-sysctl sysctl systemd apport tuned",
    ),
    _guard(
        "sensitive_authority",
        r"/usr/local/share/ca-certificates/.*|/usr/share/pki/(?:ca-trust-source|trust)/anchors/.*"
        r"|/etc/pki/(?:ca-trust/source|trust)/anchors/.*|/etc/ca-certificates/trust-source/.*",
        "trust update-ca-trust",
    ),
    Guard(
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
        rf"(?:/usr(?:/local)?)?/s?bin/(?!{TOOLS}$)[^/]+",
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
GUARDED: Final = re.compile("|".join(f"(?:{each.paths.pattern})" for each in GUARDS))
"""Any of them: one look for the many paths that nothing guards."""
