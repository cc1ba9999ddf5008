# SPDX-License-Identifier: Apache-2.0
"""E12: system calls of the 32-bit interface, and of x32. One act makes most of them."""

from __future__ import annotations

from typing import Final

from tests.cases import Case, Said

PASSED: Final = {"unverified": True}
ASKED_FOR: Final = {"target__passed_pid": (1 << 31) - 1}
"""A process that is not there."""
READ_EXEC: Final = ["PROT_READ", "PROT_EXEC"]


def call(name: str, kind: str, /, **expect: object) -> Case:
    """A call and what its event says."""
    act = ("ia32", "calls")
    return Case(f"e12-{name}", kind, act, {"result": Said(name), "unread": None, **expect})


def named(name: str, kind: str, **expect: object) -> Case:
    """A call that names a file like itself, which is not there."""
    return call(name, kind, path=f"{{cwd}}/{name}", error="ENOENT", **PASSED, **expect)


CLONE_NEWUTS: Final = 0x4000000


def child(name: str, number: int, passed: int, *flags: str) -> Case:
    """A process made by a call of 32 bits, which the same program sees as one of 64."""
    act = ("ia32", "child", str(number), str(passed))
    expect = {"child__parent_pid": Said("pid"), "flags": [*flags]}
    return Case(f"{name}-32-bits", "fork", act, expect, code=5)


def unlink(name: str) -> Case:
    """An unlink that fails."""
    expect = {"path": f"{{cwd}}/{name}", "error": "ENOENT", **PASSED}
    return Case(f"{name}-unlink", "unlink", ("ia32", f"{name}_unlink"), expect)


CASES: Final = [
    child("fork", 2, 0),
    child("vfork", 190, 0, "CLONE_VM", "CLONE_VFORK"),
    child("clone", 120, CLONE_NEWUTS, "CLONE_NEWUTS"),
    child("clone3", 435, CLONE_NEWUTS, "CLONE_NEWUTS"),
    Case(
        "exit-of-the-thread-32-bits",
        "exit",
        ("ia32", "leave", "7"),
        {"code": 7, "signal": "", "group_exit": False},
        code=7,
    ),
    unlink("x32"),
    unlink("arm32"),
    named("rename", "rename", new_path="{cwd}/other", flags=[]),
    named("renameat", "rename", new_path="{cwd}/other", flags=[]),
    named("renameat2", "rename", new_path="{cwd}/other", flags=["RENAME_NOREPLACE"]),
    call("link", "link", target="{cwd}/link", path="{cwd}/other", flags=[]),
    call("linkat", "link", target="{cwd}/linkat", flags=["AT_SYMLINK_FOLLOW"]),
    call("symlink", "symlink", target="anywhere", path="{cwd}/symlink"),
    call("symlinkat", "symlink", target="anywhere", path="{cwd}/symlinkat"),
    named("unlink", "unlink", flags=[]),
    named("unlinkat", "unlink", flags=["AT_REMOVEDIR"]),
    named("rmdir", "unlink", flags=["AT_REMOVEDIR"]),
    named("chmod", "chmod", mode="0601"),
    call("fchmod", "chmod", path="{cwd}/file", mode="0602", unverified=False),
    named("fchmodat", "chmod", mode="0603"),
    named("fchmodat2", "chmod", mode="0604"),
    named("chown16", "chown", uid=1000, gid=None),
    named("lchown16", "chown", uid=None, gid=1001),
    call("fchown16", "chown", path="{cwd}/file", uid=1002, gid=None, unverified=False),
    named("chown", "chown", uid=70000, gid=None),
    named("lchown", "chown", uid=None, gid=70001),
    call("fchown", "chown", path="{cwd}/file", uid=70002, gid=None, unverified=False),
    named("fchownat", "chown", uid=1003, gid=1004),
    call("open_by_handle_at", "open", flags=["O_RDONLY"], unread={"argument": "EFAULT"}),
    named("mount", "mount", source="none", type="tmpfs", flags=["MS_RDONLY"], call="mount"),
    named("move_mount", "mount", source="{cwd}/from", call="move_mount"),
    named("mount_setattr", "mount", attributes=["MOUNT_ATTR_RDONLY"], call="mount_setattr"),
    named("umount", "umount", flags=["MNT_DETACH"]),
    named("oldumount", "umount", flags=[]),
    named("pivot_root", "pivot_root", put_old="{cwd}/put_old"),
    named("chroot", "chroot"),
    call("socket", "socket", family="AF_INET", type="SOCK_DGRAM"),
    call("socketcall", "socket", family="AF_INET6", type="SOCK_DGRAM"),
    call("bind", "bind", family="AF_UNIX", error="EINVAL"),
    call("connect", "connect", family="AF_UNIX", name="ia32", error="ENOENT"),
    call("listen", "listen", family="AF_UNIX", backlog=7),
    call("accept", "accept", family="AF_UNIX", error="EINVAL"),
    call("dup", "dup", new_fd=Said("dup"), family="AF_UNIX"),
    call("dup2", "dup", new_fd=101, family="AF_UNIX"),
    call("dup3", "dup", new_fd=102, family="AF_UNIX"),
    call("fcntl", "dup", new_fd=103, family="AF_UNIX"),
    call("fcntl64", "dup", new_fd=104, family="AF_UNIX"),
    call("pidfd_getfd", "dup", old_fd=105, error="EBADF"),
    call("setsockopt", "socket_filter", family="AF_UNIX", instructions=7, error="EINVAL"),
    call("socketcall_setsockopt", "socket_filter", instructions=8, error="EINVAL"),
    call(
        *("mmap2", "mmap"),
        result=0,
        path="{cwd}/file",
        address=Said("mmap2"),
        length=4096,
        protection=READ_EXEC,
        flags=["MAP_PRIVATE"],
    ),
    call(
        *("mmap", "mmap"),
        result=0,
        path="{cwd}/file",
        address=Said("mmap"),
        length=8192,
        protection=READ_EXEC,
        flags=["MAP_PRIVATE"],
    ),
    call(
        *("mprotect", "mprotect"),
        region="anonymous",
        length=4096,
        protection=READ_EXEC,
        old_protection=["PROT_READ", "PROT_WRITE"],
    ),
    call(
        *("pkey_mprotect", "mprotect"),
        region="anonymous",
        protection=["PROT_EXEC"],
        old_protection=READ_EXEC,
    ),
    call("memfd_create", "memfd", name="ia32", fd=Said("memfd_create"), secret=False),
    call("memfd_secret", "memfd", flags=["0x40000000"], secret=True),
    call("ptrace", "ptrace", request="PTRACE_ATTACH", address=0x1234, data=0x5678),
    call("process_vm_readv", "vm_read", address=0x23456, target__passed_pid=-1),
    call("process_vm_writev", "vm_write", address=0x12345, target__passed_pid=-1),
    call("userfaultfd", "userfaultfd", error="EINVAL"),
    call("capset", "capset", error="EFAULT"),
    call("unshare", "unshare", flags=["CLONE_PTRACE", "CLONE_NEWUTS"]),
    call("setns", "setns", flags=["CLONE_NEWNET"], namespace_type="uts"),
    call("keyctl", "keyctl", operation="KEYCTL_DESCRIBE", key=0x7FFFFF00),
    call("add_key", "keyctl", type="no-such-type", description="ia32", key=-2),
    call("request_key", "keyctl", type="user", description="nodeagent-ia32"),
    call("init_module", "module", parameters="ia32=1", unloaded=False),
    call("finit_module", "module", parameters="ia32=2", path="{cwd}/file"),
    call("delete_module", "module", name="no_such_ia32", unloaded=True),
    call("bpf", "bpf", command="BPF_PROG_GET_FD_BY_ID", program_id=(1 << 31) - 1),
    call("kill", "kill", signal="SIGHUP", **ASKED_FOR),
    call("tkill", "kill", signal="SIGINT", **ASKED_FOR),
    call("tgkill", "kill", signal="SIGQUIT", target_tid=(1 << 31) - 1, **ASKED_FOR),
    call("rt_sigqueueinfo", "kill", signal="SIGILL", **ASKED_FOR),
    call("rt_tgsigqueueinfo", "kill", signal="SIGTRAP", **ASKED_FOR),
    call("pidfd_send_signal", "kill", signal="SIGABRT", error="EBADF"),
    call("io_uring_setup", "io_uring", entries=0, error="EINVAL"),
    call("execve", "exec", filename="execve", argv=["nowhere", "nothing"], error="ENOENT"),
    call("execveat", "exec", filename="execveat", argv=["at", "nothing"], error="ENOENT"),
]
