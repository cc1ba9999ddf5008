# SPDX-License-Identifier: Apache-2.0
"""What this kernel offers, and which program serves which kind.

Features are asked for by trying, never by reading a version.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from nodeagent.errors import BpfError
from nodeagent.kernel.cgroup import why_no_root
from nodeagent.kernel.libbpf import Libbpf
from nodeagent.kernel.object import BpfObject
from nodeagent.kernel.privileges import Privileges
from nodeagent.kernel.tracepoint import Tracepoints

__all__ = [
    "ITERATOR",
    "LISTING",
    "ON_DEMAND",
    "PROBES",
    "PROCESS_KINDS",
    "SERVES",
    "Hook",
    "KernelTypes",
    "family_of",
    "plan",
]

BY_64_BITS: Final = {
    "on_exec": "exec",
    "enter_execve": "exec",
    "enter_execveat": "exec",
    "exit_execve": "exec",
    "exit_execveat": "exec",
    "on_fork": "fork",
    "on_exit": "exit",
    "exit_open": "open",
    "exit_openat": "open",
    "exit_openat2": "open",
    "exit_creat": "open",
    "exit_open_by_handle_at": "open",
    "end_filp_open": "open",
    "end_file_open": "open",
    "exit_rename": "rename",
    "exit_renameat": "rename",
    "exit_renameat2": "rename",
    "exit_link": "link",
    "exit_linkat": "link",
    "exit_symlink": "symlink",
    "exit_symlinkat": "symlink",
    "exit_unlink": "unlink",
    "exit_unlinkat": "unlink",
    "exit_rmdir": "unlink",
    "exit_chmod": "chmod",
    "exit_fchmodat": "chmod",
    "exit_fchmodat2": "chmod",
    "exit_fchmod": "chmod",
    "exit_chown": "chown",
    "exit_lchown": "chown",
    "exit_fchownat": "chown",
    "exit_fchown": "chown",
    "exit_mount": "mount",
    "exit_move_mount": "mount",
    "exit_mount_setattr": "mount",
    "enter_umount": "umount",
    "exit_umount": "umount",
    "enter_pivot_root": "pivot_root",
    "exit_pivot_root": "pivot_root",
    "exit_chroot": "chroot",
    "on_submit_request": "io_uring",
    "on_submit_sqe": "io_uring",
    "exit_io_uring_setup": "io_uring",
    "exit_socket": "socket",
    "end_socket": "socket",
    "end_connect": "connect",
    "end_bind": "bind",
    "end_listen": "listen",
    "end_accept": "accept",
    "exit_connect": "connect",
    "exit_bind": "bind",
    "exit_listen": "listen",
    "exit_accept": "accept",
    "exit_accept4": "accept",
    "exit_setsockopt": "socket_filter",
    "end_setsockopt": "socket_filter",
    "exit_dup": "dup",
    "exit_dup2": "dup",
    "exit_dup3": "dup",
    "exit_fcntl": "dup",
    "exit_pidfd_getfd": "dup",
    "on_send4": "sendto",
    "on_send6": "sendto",
    "on_receive4": "sendto",
    "on_receive6": "sendto",
    "on_packet_out": "dns",
    "on_packet_in": "dns",
    "on_bind4": "dns",
    "on_bind6": "dns",
    "exit_mmap": "mmap",
    "enter_mprotect": "mprotect",
    "exit_mprotect": "mprotect",
    "enter_pkey_mprotect": "mprotect",
    "exit_pkey_mprotect": "mprotect",
    "exit_memfd_create": "memfd",
    "exit_memfd_secret": "memfd",
    "exit_ptrace": "ptrace",
    "exit_process_vm_readv": "vm_read",
    "exit_process_vm_writev": "vm_write",
    "exit_userfaultfd": "userfaultfd",
    "enter_setuid": "setuid",
    "exit_setuid": "setuid",
    "begin_setuid": "setuid",
    "end_setuid": "setuid",
    "enter_setgid": "setuid",
    "exit_setgid": "setuid",
    "begin_setgid": "setuid",
    "end_setgid": "setuid",
    "enter_setreuid": "setuid",
    "exit_setreuid": "setuid",
    "begin_setreuid": "setuid",
    "end_setreuid": "setuid",
    "enter_setregid": "setuid",
    "exit_setregid": "setuid",
    "begin_setregid": "setuid",
    "end_setregid": "setuid",
    "enter_setresuid": "setuid",
    "exit_setresuid": "setuid",
    "begin_setresuid": "setuid",
    "end_setresuid": "setuid",
    "enter_setresgid": "setuid",
    "exit_setresgid": "setuid",
    "begin_setresgid": "setuid",
    "end_setresgid": "setuid",
    "enter_setfsuid": "setuid",
    "exit_setfsuid": "setuid",
    "begin_setfsuid": "setuid",
    "end_setfsuid": "setuid",
    "enter_setfsgid": "setuid",
    "exit_setfsgid": "setuid",
    "begin_setfsgid": "setuid",
    "end_setfsgid": "setuid",
    "enter_capset": "capset",
    "exit_capset": "capset",
    "exit_unshare": "unshare",
    "exit_setns": "setns",
    "exit_keyctl": "keyctl",
    "exit_add_key": "keyctl",
    "exit_request_key": "keyctl",
    "on_module_load": "module",
    "on_module_free": "module",
    "exit_init_module": "module",
    "exit_finit_module": "module",
    "exit_delete_module": "module",
    "exit_bpf": "bpf",
    "exit_kill": "kill",
    "exit_tkill": "kill",
    "exit_tgkill": "kill",
    "exit_rt_sigqueueinfo": "kill",
    "exit_rt_tgsigqueueinfo": "kill",
    "exit_pidfd_send_signal": "kill",
    "on_cgroup_mkdir": "new_cgroup",
    "list_sockets": "older_socket",
    "check_kernel": "kernel_hook",
    "tell_hooks": "kernel_hook",
}
"""The kind that each program serves, but for those below."""

CHANGES_IDS: Final = (
    *("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid"),
    *("setfsuid", "setfsgid"),
)
"""The calls that change ids; each has a function of its own, for 64 and 32 bits."""

OPENS: Final = frozenset({"exit_open", "exit_openat", "exit_openat2", "exit_creat"})

SHARED: Final[dict[str, frozenset[str]]] = {
    "end_filp_open": OPENS,
    "end_file_open": OPENS,
    "end_socket": frozenset({"exit_socket"}),
    "end_connect": frozenset({"exit_connect"}),
    "end_bind": frozenset({"exit_bind"}),
    "end_listen": frozenset({"exit_listen"}),
    "end_accept": frozenset({"exit_accept", "exit_accept4"}),
    "end_setsockopt": frozenset({"exit_setsockopt"}),
    **{f"end_{call}": frozenset({f"enter_{call}", f"exit_{call}"}) for call in CHANGES_IDS},
}
"""Programs on functions that calls of 64 and of 32 bits share, and those of tracepoints that each
makes needless."""

OF_ONE_CALL: Final = {
    program: kind
    for program, kind in BY_64_BITS.items()
    if program.startswith(("enter_", "exit_"))
    if not any(program in replaced for replaced in SHARED.values())
}
"""Programs on tracepoints of calls that share no function with others."""


def _on_function(program: str) -> str:
    """What does the same as a program of a tracepoint, on the function behind the call."""
    side, _, call = program.partition("_")
    return f"{'begin' if side == 'enter' else 'end'}_{call}"


REPLACES: Final = {
    **SHARED,
    **{_on_function(program): frozenset({program}) for program in OF_ONE_CALL},
}
"""The tracepoint programs that a trampoline makes needless.

It sees what they see and more, but for what seccomp refuses.
"""

BY_FUNCTION: Final = {_on_function(program): kind for program, kind in OF_ONE_CALL.items()}
"""Programs on the functions behind calls."""

BY_32_BITS: Final = {
    **{f"ia32_{program.removeprefix('exit_')}": kind for program, kind in OF_ONE_CALL.items()},
    "ia32_chown16": "chown",
    "ia32_lchown16": "chown",
    "ia32_fchown16": "chown",
    "ia32_enter_oldumount": "umount",
    "ia32_oldumount": "umount",
    "ia32_fcntl64": "dup",
    "ia32_mmap2": "mmap",
}
"""Programs on the functions behind calls of 32 bits, which tracepoints do not see.

Each call that no function common to 64 and 32 bits shows has one; some calls have 32 bits only.
"""

SERVES: Final = {**BY_64_BITS, **BY_FUNCTION, **BY_32_BITS}
"""The kind that each program serves."""

ITERATOR: Final = "iterator"
"""The family of programs that are run, most of them once, when all others are attached."""

TRAMPOLINES: Final = frozenset({"fentry", "fexit", "lsm"})
"""Sections of programs that need trampolines."""

LISTING: Final = "list_processes"
"""The iterator that lists all processes."""

ON_DEMAND: Final = frozenset({"check_kernel", "tell_hooks"})
"""Iterators that are run again and again, see kernel/integrity.py."""

PROBES: Final = {"probe_trampoline": "fentry", "probe_lsm": "BPF LSM"}
"""Programs that are only tried, by the doctor."""

TABLE_KINDS: Final = frozenset({"exec", "fork", "exit", "new_cgroup"})
"""Kinds that the tables of processes and containers are made of, whatever is asked for."""

PROCESS_KINDS: Final = frozenset({"exec", "fork", "exit"})
"""Kinds without which the agent does not start: the process table is made of them."""

BTF_KIND_STRUCT: Final = 4
BTF_KIND_TYPEDEF: Final = 8
BTF_KIND_FUNC: Final = 12
CGROUP_SKB: Final = 8
"""BPF_PROG_TYPE_CGROUP_SKB."""


class Hook(msgspec.Struct, frozen=True):
    """One program and where it goes."""

    program: str
    kind: str
    section: str
    missing: str | None
    """Why it cannot be used, None when it can."""

    @property
    def family(self) -> str:
        """trampoline, tracepoint, iterator or cgroup."""
        attach = self.section.partition("/")[0]
        if attach in TRAMPOLINES:
            return "trampoline"
        if attach == "iter":
            return ITERATOR
        return "cgroup" if attach.startswith("cgroup") else "tracepoint"


def family_of(hooks: Iterable[Hook]) -> str | None:
    """The family that serves a kind; None when none of its hooks can be used."""
    families = {hook.family for hook in hooks if not hook.missing}
    # The better one decides; what else is loaded beside it sees what is left.
    return "trampoline" if "trampoline" in families else min(families, default=None)


class KernelTypes:
    """What we ask of the kernel's own BTF; libbpf reads it, which takes milliseconds."""

    def __init__(self, libbpf: Libbpf) -> None:
        """Raises BpfError when the kernel has no BTF."""
        self._calls = libbpf.calls
        self._btf = libbpf.check(
            self._calls.btf__load_vmlinux_btf(),
            "there is no /sys/kernel/btf/vmlinux, so programs cannot be fitted to this kernel: show"
            " it to the container, or use a kernel that was built with CONFIG_DEBUG_INFO_BTF=y",
        )

    def close(self) -> None:
        """Free it."""
        self._calls.btf__free(self._btf)

    def tracepoint_arguments(self, name: str) -> int | None:
        """How many arguments a tracepoint hands to a raw program; None when it does not exist."""
        number = self._calls.btf__find_by_name_kind(
            self._btf, f"btf_trace_{name}".encode(), BTF_KIND_TYPEDEF
        )
        if number < 0:
            return None
        pointer = self._calls.btf__type_by_id(self._btf, self._type(number).size_or_type)
        prototype = self._type(pointer.contents.size_or_type)
        # The first parameter is the tracepoint's own data.
        return int(prototype.info & 0xFFFF) - 1

    def has_function(self, name: str) -> bool:
        """Whether the kernel has a function of this name that can be traced."""
        return bool(self._calls.btf__find_by_name_kind(self._btf, name.encode(), BTF_KIND_FUNC) > 0)

    def has_iterator(self, name: str) -> bool:
        """Whether the kernel lets programs iterate over this."""
        struct = f"bpf_iter__{name}".encode()
        number = self._calls.btf__find_by_name_kind(self._btf, struct, BTF_KIND_STRUCT)
        return bool(number > 0)

    def why_no_packets(self) -> str | None:
        """Why no program can look at packets; None when one can."""
        if not Privileges.of_this_process().has("CAP_NET_ADMIN"):
            return "that needs CAP_NET_ADMIN"
        if self._calls.libbpf_probe_bpf_prog_type(CGROUP_SKB, None) != 1:
            return "this kernel takes no such programs (CONFIG_CGROUP_BPF)"
        return None

    def _type(self, number: int) -> ctypes.Structure:
        return self._calls.btf__type_by_id(self._btf, number).contents  # type: ignore[no-any-return]


def plan(
    opened: BpfObject,
    types: KernelTypes,
    tracepoints: Tracepoints,
    kinds: Collection[str],
    *,
    trampolines: bool,
) -> list[Hook]:
    """Each program that is to serve one of `kinds`, and whether this kernel has its place.

    With `trampolines`, what they see is left to them where this kernel has their place.

    Raises BpfError when a high-value kind has no place at all.
    """
    hooks = [
        Hook(
            program,
            kind,
            opened.section(program),
            _missing(opened.section(program), types, tracepoints),
        )
        for program, kind in SERVES.items()
        if kind in kinds and (program in opened.programs or program not in BY_32_BITS)
    ]
    hooks = [hook for hook in hooks if trampolines or hook.family != "trampoline"]
    # Without such a function the call has its tracepoint, or there is no such call.
    of_calls = BY_FUNCTION | BY_32_BITS
    hooks = [hook for hook in hooks if not (hook.missing and hook.program in of_calls)]
    usable = {hook.program for hook in hooks if not hook.missing}
    needless = {name for program in usable for name in REPLACES.get(program, ())}
    hooks = [hook for hook in hooks if hook.program not in needless]
    for kind in PROCESS_KINDS & set(kinds):
        reasons = [hook.missing for hook in hooks if hook.kind == kind]
        if all(reasons):
            raise BpfError(f"kind {kind} cannot be seen on this kernel: {reasons[0]}")
    return hooks


def _missing(section: str, types: KernelTypes, tracepoints: Tracepoints) -> str | None:
    family, _, place = section.partition("/")
    if family == "tp_btf" and types.tracepoint_arguments(place) is None:
        return f"no tracepoint {place}"
    if family in TRAMPOLINES and not types.has_function(place):
        return f"no function {place}"
    if family == "iter" and not types.has_iterator(place):
        return f"no iterator {place}"
    if family == "tp" and not tracepoints.has(place):
        return f"no tracepoint {place}"
    if family.startswith("cgroup"):
        return why_no_root() or types.why_no_packets()
    return None
