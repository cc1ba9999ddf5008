# SPDX-License-Identifier: Apache-2.0
"""What the kernel's numbers are called: flags, commands, types.

The numbers are part of the kernel's interface with user space (include/uapi), so they
never change. Names stand as in the manual pages.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import stat
from typing import Final

from nodeagent.field import UNKNOWN_ID, Bits, Choice


def _named(module: object, *names: str) -> dict[int, str]:
    return {int(getattr(module, name)): name for name in names}


def _numbered(prefix: str, names: str, enum: str = "", unknown: int | None = None) -> Choice:
    """Names without their prefix, in the order of their numbers from 0."""
    known = {number: prefix + name for number, name in enumerate(names.split())}
    return Choice(known, enum, unknown)


OPEN_FLAGS: Final = Bits(
    _named(
        os,
        *("O_CREAT", "O_EXCL", "O_NOCTTY", "O_TRUNC", "O_APPEND", "O_NONBLOCK", "O_DSYNC"),
        *("O_ASYNC", "O_DIRECT", "O_DIRECTORY", "O_NOFOLLOW", "O_NOATIME", "O_CLOEXEC"),
        *("O_SYNC", "O_PATH", "O_TMPFILE"),
    ),
    access=("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"),
    # O_LARGEFILE, which the kernel adds to every open of a 64-bit process.
    silent=0o100000 if platform.machine() == "x86_64" else 0o400000,
)
"""Flags of open(2). Their values differ between architectures, as in the `os` module."""

CLONE_FLAGS: Final = Bits(
    {
        0x00000080: "CLONE_NEWTIME",
        0x00000100: "CLONE_VM",
        0x00000200: "CLONE_FS",
        0x00000400: "CLONE_FILES",
        0x00000800: "CLONE_SIGHAND",
        0x00001000: "CLONE_PIDFD",
        0x00002000: "CLONE_PTRACE",
        0x00004000: "CLONE_VFORK",
        0x00008000: "CLONE_PARENT",
        0x00010000: "CLONE_THREAD",
        0x00020000: "CLONE_NEWNS",
        0x00040000: "CLONE_SYSVSEM",
        0x00080000: "CLONE_SETTLS",
        0x00100000: "CLONE_PARENT_SETTID",
        0x00200000: "CLONE_CHILD_CLEARTID",
        0x00400000: "CLONE_DETACHED",
        0x00800000: "CLONE_UNTRACED",
        0x01000000: "CLONE_CHILD_SETTID",
        0x02000000: "CLONE_NEWCGROUP",
        0x04000000: "CLONE_NEWUTS",
        0x08000000: "CLONE_NEWIPC",
        0x10000000: "CLONE_NEWUSER",
        0x20000000: "CLONE_NEWPID",
        0x40000000: "CLONE_NEWNET",
        0x80000000: "CLONE_IO",
        0x100000000: "CLONE_CLEAR_SIGHAND",
        0x200000000: "CLONE_INTO_CGROUP",
    },
    unknown=0xFFFFFFFFFFFFFFFF,
)
"""Flags of clone(2) and clone3(2), from include/uapi/linux/sched.h."""

CAPABILITIES: Final = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_MODULE": 16,
    "CAP_SYS_RAWIO": 17,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_BOOT": 22,
    "CAP_SYS_RESOURCE": 24,
    "CAP_SETFCAP": 31,
    "CAP_SYSLOG": 34,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
"""Bits of those that matter here, from include/uapi/linux/capability.h."""

FAMILIES: Final = Choice({int(family): family.name for family in socket.AddressFamily})
"""Address families of socket(2)."""

SOCKET_TYPES: Final = Choice(
    _named(socket, "SOCK_STREAM", "SOCK_DGRAM", "SOCK_RAW", "SOCK_RDM", "SOCK_SEQPACKET")
)
"""Socket types of socket(2)."""

SOCKET_FILTERS: Final = Choice(
    {
        26: "SO_ATTACH_FILTER",
        50: "SO_ATTACH_BPF",
        51: "SO_ATTACH_REUSEPORT_CBPF",
        52: "SO_ATTACH_REUSEPORT_EBPF",
    }
)
"""Options of setsockopt(2) that attach a program."""

PERSONALITY: Final = Bits(
    {
        0x0020000: "UNAME26",
        0x0040000: "ADDR_NO_RANDOMIZE",
        0x0080000: "FDPIC_FUNCPTRS",
        0x0100000: "MMAP_PAGE_ZERO",
        0x0200000: "ADDR_COMPAT_LAYOUT",
        0x0400000: "READ_IMPLIES_EXEC",
        0x0800000: "ADDR_LIMIT_32BIT",
        0x1000000: "SHORT_INODE",
        0x2000000: "WHOLE_SECONDS",
        0x4000000: "STICKY_TIMEOUTS",
        0x8000000: "ADDR_LIMIT_3GB",
    },
    # The lowest byte is a number: which system calls are meant.
    silent=0xFF,
)
"""Flags of personality(2)."""

PROTOCOLS: Final = Choice(
    {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp", 136: "udplite", 262: "mptcp"}
)
"""Names of the IANA protocol numbers that sockets commonly have, as in /etc/protocols."""

DNS_TYPES: Final = Choice(
    {
        1: "A",
        2: "NS",
        5: "CNAME",
        6: "SOA",
        10: "NULL",
        12: "PTR",
        13: "HINFO",
        15: "MX",
        16: "TXT",
        17: "RP",
        24: "SIG",
        25: "KEY",
        28: "AAAA",
        29: "LOC",
        33: "SRV",
        35: "NAPTR",
        37: "CERT",
        39: "DNAME",
        41: "OPT",
        43: "DS",
        44: "SSHFP",
        46: "RRSIG",
        47: "NSEC",
        48: "DNSKEY",
        50: "NSEC3",
        51: "NSEC3PARAM",
        52: "TLSA",
        59: "CDS",
        60: "CDNSKEY",
        61: "OPENPGPKEY",
        63: "ZONEMD",
        64: "SVCB",
        65: "HTTPS",
        99: "SPF",
        249: "TKEY",
        250: "TSIG",
        251: "IXFR",
        252: "AXFR",
        255: "ANY",
        256: "URI",
        257: "CAA",
    }
)
"""Types of DNS records, as IANA lists them."""

DNS_RCODES: Final = _numbered(
    "", "NOERROR FORMERR SERVFAIL NXDOMAIN NOTIMP REFUSED YXDOMAIN YXRRSET NXRRSET NOTAUTH NOTZONE"
)
"""What a DNS server answers, as IANA lists it."""

FILE_TYPES: Final = Choice(
    {
        0: "closed",
        stat.S_IFIFO: "pipe",
        stat.S_IFCHR: "character device",
        stat.S_IFDIR: "directory",
        stat.S_IFBLK: "block device",
        stat.S_IFREG: "file",
        stat.S_IFLNK: "symbolic link",
        stat.S_IFSOCK: "socket",
    }
)
"""What a descriptor refers to, by the type bits of stat(2)."""

SIGNALS: Final = Choice({0: "", **{int(number): number.name for number in signal.Signals}})
"""Names of signals; empty for none."""

RENAME_FLAGS: Final = Bits(
    {
        0x1: "RENAME_NOREPLACE",
        0x2: "RENAME_EXCHANGE",
        0x4: "RENAME_WHITEOUT",
    },
)
"""Flags of renameat2(2)."""

AT_FLAGS: Final = Bits(
    {
        0x100: "AT_SYMLINK_NOFOLLOW",
        0x400: "AT_SYMLINK_FOLLOW",
        0x800: "AT_NO_AUTOMOUNT",
        0x1000: "AT_EMPTY_PATH",
        0x8000: "AT_RECURSIVE",
    },
)
"""Flags of linkat(2) and its siblings."""

UNLINK_FLAGS: Final = Bits(
    {
        0x200: "AT_REMOVEDIR",
    },
)
"""Flags of unlinkat(2)."""

MOUNT_FLAGS: Final = Bits(
    {
        0x1: "MS_RDONLY",
        0x2: "MS_NOSUID",
        0x4: "MS_NODEV",
        0x8: "MS_NOEXEC",
        0x10: "MS_SYNCHRONOUS",
        0x20: "MS_REMOUNT",
        0x40: "MS_MANDLOCK",
        0x80: "MS_DIRSYNC",
        0x100: "MS_NOSYMFOLLOW",
        0x400: "MS_NOATIME",
        0x800: "MS_NODIRATIME",
        0x1000: "MS_BIND",
        0x2000: "MS_MOVE",
        0x4000: "MS_REC",
        0x8000: "MS_SILENT",
        0x10000: "MS_POSIXACL",
        0x20000: "MS_UNBINDABLE",
        0x40000: "MS_PRIVATE",
        0x80000: "MS_SLAVE",
        0x100000: "MS_SHARED",
        0x200000: "MS_RELATIME",
        0x800000: "MS_I_VERSION",
        0x1000000: "MS_STRICTATIME",
        0x2000000: "MS_LAZYTIME",
    },
)
"""Flags of mount(2)."""

MOUNT_ATTRIBUTES: Final = Bits(
    {
        0x1: "MOUNT_ATTR_RDONLY",
        0x2: "MOUNT_ATTR_NOSUID",
        0x4: "MOUNT_ATTR_NODEV",
        0x8: "MOUNT_ATTR_NOEXEC",
        0x10: "MOUNT_ATTR_NOATIME",
        0x20: "MOUNT_ATTR_STRICTATIME",
        0x80: "MOUNT_ATTR_NODIRATIME",
        0x100000: "MOUNT_ATTR_IDMAP",
        0x200000: "MOUNT_ATTR_NOSYMFOLLOW",
    },
)
"""Attributes of mount_setattr(2)."""

UMOUNT_FLAGS: Final = Bits(
    {
        0x1: "MNT_FORCE",
        0x2: "MNT_DETACH",
        0x4: "MNT_EXPIRE",
        0x8: "UMOUNT_NOFOLLOW",
    },
)
"""Flags of umount2(2)."""

MOUNT_CALLS: Final = Choice({0: "mount", 1: "move_mount", 2: "mount_setattr"}, enum="mount_call")
"""Which call mounted."""

PROTECTIONS: Final = Bits(
    {
        0x1: "PROT_READ",
        0x2: "PROT_WRITE",
        0x4: "PROT_EXEC",
        0x8: "PROT_SEM",
        0x1000000: "PROT_GROWSDOWN",
        0x2000000: "PROT_GROWSUP",
    },
    unknown=0xFFFFFFFF,
)
"""Protections of mmap(2)."""

MAP_FLAGS: Final = Bits(
    {
        0x1: "MAP_SHARED",
        0x2: "MAP_PRIVATE",
        0x10: "MAP_FIXED",
        0x20: "MAP_ANONYMOUS",
        0x40: "MAP_32BIT",
        0x100: "MAP_GROWSDOWN",
        0x800: "MAP_DENYWRITE",
        0x1000: "MAP_EXECUTABLE",
        0x2000: "MAP_LOCKED",
        0x4000: "MAP_NORESERVE",
        0x8000: "MAP_POPULATE",
        0x10000: "MAP_NONBLOCK",
        0x20000: "MAP_STACK",
        0x40000: "MAP_HUGETLB",
        0x80000: "MAP_SYNC",
        0x100000: "MAP_FIXED_NOREPLACE",
    },
)
"""Flags of mmap(2)."""

REGIONS: Final = Choice(
    {0: "unknown", 1: "stack", 2: "heap", 3: "file", 4: "anonymous"}, enum="memory_region"
)
"""What a range of addresses belongs to."""

MEMFD_FLAGS: Final = Bits(
    {
        0x1: "MFD_CLOEXEC",
        0x2: "MFD_ALLOW_SEALING",
        0x4: "MFD_HUGETLB",
        0x8: "MFD_NOEXEC_SEAL",
        0x10: "MFD_EXEC",
        0x80000: "O_CLOEXEC",
    },
)
"""Flags of memfd_create(2), and the one of memfd_secret(2)."""

PTRACE_REQUESTS: Final = Choice(
    {
        0x0: "PTRACE_TRACEME",
        0x1: "PTRACE_PEEKTEXT",
        0x2: "PTRACE_PEEKDATA",
        0x3: "PTRACE_PEEKUSR",
        0x4: "PTRACE_POKETEXT",
        0x5: "PTRACE_POKEDATA",
        0x6: "PTRACE_POKEUSR",
        0x7: "PTRACE_CONT",
        0x8: "PTRACE_KILL",
        0x9: "PTRACE_SINGLESTEP",
        0xC: "PTRACE_GETREGS",
        0xD: "PTRACE_SETREGS",
        0xE: "PTRACE_GETFPREGS",
        0xF: "PTRACE_SETFPREGS",
        0x10: "PTRACE_ATTACH",
        0x11: "PTRACE_DETACH",
        0x12: "PTRACE_GETFPXREGS",
        0x13: "PTRACE_SETFPXREGS",
        0x15: "PTRACE_OLDSETOPTIONS",
        0x18: "PTRACE_SYSCALL",
        0x19: "PTRACE_GET_THREAD_AREA",
        0x1A: "PTRACE_SET_THREAD_AREA",
        0x1E: "PTRACE_ARCH_PRCTL",
        0x1F: "PTRACE_SYSEMU",
        0x20: "PTRACE_SYSEMU_SINGLESTEP",
        0x21: "PTRACE_SINGLEBLOCK",
        0x4200: "PTRACE_SETOPTIONS",
        0x4201: "PTRACE_GETEVENTMSG",
        0x4202: "PTRACE_GETSIGINFO",
        0x4203: "PTRACE_SETSIGINFO",
        0x4204: "PTRACE_GETREGSET",
        0x4205: "PTRACE_SETREGSET",
        0x4206: "PTRACE_SEIZE",
        0x4207: "PTRACE_INTERRUPT",
        0x4208: "PTRACE_LISTEN",
        0x4209: "PTRACE_PEEKSIGINFO",
        0x420A: "PTRACE_GETSIGMASK",
        0x420B: "PTRACE_SETSIGMASK",
        0x420C: "PTRACE_SECCOMP_GET_FILTER",
        0x420D: "PTRACE_SECCOMP_GET_METADATA",
        0x420E: "PTRACE_GET_SYSCALL_INFO",
        0x420F: "PTRACE_GET_RSEQ_CONFIGURATION",
        0x4210: "PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG",
        0x4211: "PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG",
        0x4212: "PTRACE_SET_SYSCALL_INFO",
    }
)
"""Requests of ptrace(2), as on x86-64; arm64 shares those from 0x4200 and the first seventeen."""

SETUID_CALLS: Final = _numbered(
    "", "setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid", enum="setuid_call"
)
"""Which call changed the ids."""

MODULE_FLAGS: Final = Bits(
    {
        0x1: "MODULE_INIT_IGNORE_MODVERSIONS",
        0x2: "MODULE_INIT_IGNORE_VERMAGIC",
        0x4: "MODULE_INIT_COMPRESSED_FILE",
        0x200: "O_TRUNC",
        0x800: "O_NONBLOCK",
    },
)
"""Flags of finit_module(2) and delete_module(2)."""

BPF_COMMANDS: Final = _numbered(
    "BPF_",
    "MAP_CREATE MAP_LOOKUP_ELEM MAP_UPDATE_ELEM MAP_DELETE_ELEM MAP_GET_NEXT_KEY "
    "PROG_LOAD OBJ_PIN OBJ_GET PROG_ATTACH PROG_DETACH PROG_RUN PROG_GET_NEXT_ID "
    "MAP_GET_NEXT_ID PROG_GET_FD_BY_ID MAP_GET_FD_BY_ID OBJ_GET_INFO_BY_FD PROG_QUERY "
    "RAW_TRACEPOINT_OPEN BTF_LOAD BTF_GET_FD_BY_ID TASK_FD_QUERY "
    "MAP_LOOKUP_AND_DELETE_ELEM MAP_FREEZE BTF_GET_NEXT_ID MAP_LOOKUP_BATCH "
    "MAP_LOOKUP_AND_DELETE_BATCH MAP_UPDATE_BATCH MAP_DELETE_BATCH LINK_CREATE "
    "LINK_UPDATE LINK_GET_FD_BY_ID LINK_GET_NEXT_ID ENABLE_STATS ITER_CREATE "
    "LINK_DETACH PROG_BIND_MAP TOKEN_CREATE PROG_STREAM_READ_BY_FD",
)
"""Commands of bpf(2)."""

BPF_PROGRAM_TYPES: Final = _numbered(
    "BPF_PROG_TYPE_",
    "UNSPEC SOCKET_FILTER KPROBE SCHED_CLS SCHED_ACT TRACEPOINT XDP PERF_EVENT "
    "CGROUP_SKB CGROUP_SOCK LWT_IN LWT_OUT LWT_XMIT SOCK_OPS SK_SKB CGROUP_DEVICE "
    "SK_MSG RAW_TRACEPOINT CGROUP_SOCK_ADDR LWT_SEG6LOCAL LIRC_MODE2 SK_REUSEPORT "
    "FLOW_DISSECTOR CGROUP_SYSCTL RAW_TRACEPOINT_WRITABLE CGROUP_SOCKOPT TRACING "
    "STRUCT_OPS EXT LSM SK_LOOKUP SYSCALL NETFILTER",
)
"""Types of eBPF programs."""

BPF_ATTACH_TYPES: Final = _numbered(
    "BPF_",
    "CGROUP_INET_INGRESS CGROUP_INET_EGRESS CGROUP_INET_SOCK_CREATE CGROUP_SOCK_OPS "
    "SK_SKB_STREAM_PARSER SK_SKB_STREAM_VERDICT CGROUP_DEVICE SK_MSG_VERDICT "
    "CGROUP_INET4_BIND CGROUP_INET6_BIND CGROUP_INET4_CONNECT CGROUP_INET6_CONNECT "
    "CGROUP_INET4_POST_BIND CGROUP_INET6_POST_BIND CGROUP_UDP4_SENDMSG "
    "CGROUP_UDP6_SENDMSG LIRC_MODE2 FLOW_DISSECTOR CGROUP_SYSCTL CGROUP_UDP4_RECVMSG "
    "CGROUP_UDP6_RECVMSG CGROUP_GETSOCKOPT CGROUP_SETSOCKOPT TRACE_RAW_TP "
    "TRACE_FENTRY TRACE_FEXIT MODIFY_RETURN LSM_MAC TRACE_ITER "
    "CGROUP_INET4_GETPEERNAME CGROUP_INET6_GETPEERNAME CGROUP_INET4_GETSOCKNAME "
    "CGROUP_INET6_GETSOCKNAME XDP_DEVMAP CGROUP_INET_SOCK_RELEASE XDP_CPUMAP "
    "SK_LOOKUP XDP SK_SKB_VERDICT SK_REUSEPORT_SELECT SK_REUSEPORT_SELECT_OR_MIGRATE "
    "PERF_EVENT TRACE_KPROBE_MULTI LSM_CGROUP STRUCT_OPS NETFILTER TCX_INGRESS "
    "TCX_EGRESS TRACE_UPROBE_MULTI CGROUP_UNIX_CONNECT CGROUP_UNIX_SENDMSG "
    "CGROUP_UNIX_RECVMSG CGROUP_UNIX_GETPEERNAME CGROUP_UNIX_GETSOCKNAME "
    "NETKIT_PRIMARY NETKIT_PEER TRACE_KPROBE_SESSION TRACE_UPROBE_SESSION",
)
"""Where eBPF programs are attached."""

USERFAULTFD_FLAGS: Final = Bits(
    {
        0x1: "UFFD_USER_MODE_ONLY",
        0x800: "O_NONBLOCK",
        0x80000: "O_CLOEXEC",
    },
)
"""Flags of userfaultfd(2)."""

KEYCTL_OPERATIONS: Final = _numbered(
    "KEYCTL_",
    "GET_KEYRING_ID JOIN_SESSION_KEYRING UPDATE REVOKE CHOWN SETPERM DESCRIBE CLEAR "
    "LINK UNLINK SEARCH READ INSTANTIATE NEGATE SET_REQKEY_KEYRING SET_TIMEOUT "
    "ASSUME_AUTHORITY GET_SECURITY SESSION_TO_PARENT REJECT INSTANTIATE_IOV "
    "INVALIDATE GET_PERSISTENT DH_COMPUTE PKEY_QUERY PKEY_ENCRYPT PKEY_DECRYPT "
    "PKEY_SIGN PKEY_VERIFY RESTRICT_KEYRING MOVE CAPABILITIES WATCH_KEY",
    unknown=UNKNOWN_ID,
)
"""Operations of keyctl(2)."""

KEY_CALLS: Final = Choice({0: "keyctl", 1: "add_key", 2: "request_key"}, enum="key_call")
"""Which call it was."""

IO_URING_OPERATIONS: Final = _numbered(
    "IORING_OP_",
    "NOP READV WRITEV FSYNC READ_FIXED WRITE_FIXED POLL_ADD POLL_REMOVE "
    "SYNC_FILE_RANGE SENDMSG RECVMSG TIMEOUT TIMEOUT_REMOVE ACCEPT ASYNC_CANCEL "
    "LINK_TIMEOUT CONNECT FALLOCATE OPENAT CLOSE FILES_UPDATE STATX READ WRITE "
    "FADVISE MADVISE SEND RECV OPENAT2 EPOLL_CTL SPLICE PROVIDE_BUFFERS "
    "REMOVE_BUFFERS TEE SHUTDOWN RENAMEAT UNLINKAT MKDIRAT SYMLINKAT LINKAT MSG_RING "
    "FSETXATTR SETXATTR FGETXATTR GETXATTR SOCKET URING_CMD SEND_ZC SENDMSG_ZC "
    "READ_MULTISHOT WAITID FUTEX_WAIT FUTEX_WAKE FUTEX_WAITV FIXED_FD_INSTALL "
    "FTRUNCATE BIND LISTEN RECV_ZC EPOLL_WAIT READV_FIXED WRITEV_FIXED PIPE",
    unknown=UNKNOWN_ID,
)
"""Operations of io_uring."""

IO_URING_FLAGS: Final = Bits(
    {
        0x1: "IORING_SETUP_IOPOLL",
        0x2: "IORING_SETUP_SQPOLL",
        0x4: "IORING_SETUP_SQ_AFF",
        0x8: "IORING_SETUP_CQSIZE",
        0x10: "IORING_SETUP_CLAMP",
        0x20: "IORING_SETUP_ATTACH_WQ",
        0x40: "IORING_SETUP_R_DISABLED",
        0x80: "IORING_SETUP_SUBMIT_ALL",
        0x100: "IORING_SETUP_COOP_TASKRUN",
        0x200: "IORING_SETUP_TASKRUN_FLAG",
        0x400: "IORING_SETUP_SQE128",
        0x800: "IORING_SETUP_CQE32",
        0x1000: "IORING_SETUP_SINGLE_ISSUER",
        0x2000: "IORING_SETUP_DEFER_TASKRUN",
        0x4000: "IORING_SETUP_NO_MMAP",
        0x8000: "IORING_SETUP_REGISTERED_FD_ONLY",
        0x10000: "IORING_SETUP_NO_SQARRAY",
        0x20000: "IORING_SETUP_HYBRID_IOPOLL",
        0x40000: "IORING_SETUP_CQE_MIXED",
    },
)
"""Flags of io_uring_setup(2)."""
