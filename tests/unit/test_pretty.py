# SPDX-License-Identifier: Apache-2.0

import errno
import os
import re
import signal
import socket
import time
import unicodedata
from collections.abc import Iterator
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.dns import DnsAnswer, DnsQuestion
from nodeagent.event import AgentEvent, Brief, Endpoint, Event, Ids, Incomplete, Other
from nodeagent.field import UNKNOWN_ID
from nodeagent.finding import Finding, Severity
from nodeagent.harmless import columns, cut, harmless
from nodeagent.ledger import KernelCounts, Ledger
from nodeagent.names import OPEN_FLAGS
from sinks.layout import COLOURED, PLAIN
from sinks.pretty import pretty
from tests.events import (
    TIME,
    a_bind,
    a_bpf,
    a_capset,
    a_chmod,
    a_chown,
    a_chroot,
    a_connect,
    a_container,
    a_dns,
    a_dup,
    a_finding,
    a_fork,
    a_kernel_hook,
    a_keyctl,
    a_kill,
    a_link,
    a_listen,
    a_memfd,
    a_message,
    a_module,
    a_mount,
    a_pivot_root,
    a_process,
    a_ptrace,
    a_rename,
    a_sendto,
    a_setns,
    a_setuid,
    a_socket,
    a_socket_filter,
    a_symlink,
    a_task,
    a_userfaultfd,
    a_vm_read,
    a_vm_write,
    an_accept,
    an_agent_event,
    an_exec,
    an_exit,
    an_io_uring,
    an_mmap,
    an_mprotect,
    an_open,
    an_umount,
    an_unlink,
    an_unshare,
    inside,
)

ESCAPE = re.compile(r"\x1b\[\d+m")
NOBODY = Other(start_time=0, pid=0, passed_pid=-2)
IDS = Ids(*[0] * 8)
NO_IDS = Ids(*[UNKNOWN_ID] * 8)
NO_PROGRAM = {"program_type": 2**32 - 1, "attach_type": 2**32 - 1, "program_id": 0}
UNIX = {"family": socket.AF_UNIX, "protocol": 0, "local": None, "remote": None}


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def shown(item: Event | AgentEvent | Finding, width: int | None = None) -> str:
    return pretty(item, PLAIN, width)


def said(item: Event | AgentEvent | Finding) -> str:
    """What comes after time, kind and actor."""
    kind = item.kind if isinstance(item, Event) else ""
    return shown(item)[33 + max(len(kind), 7) :]


def test_a_line_begins_with_local_time_kind_and_process() -> None:
    assert shown(an_exec()) == "00:11:09.123 exec    bash[1234]         /usr/bin/ls -la /tmp"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (an_exec(argv=("ls", "a b", "")), "/usr/bin/ls 'a b' ''"),
        (an_exec(argv=("cat", "x")), "/usr/bin/ls (as cat) x"),
        (an_exec(argv=("ls", "x"), argc=9), "/usr/bin/ls x …"),
        (an_exec(incomplete=Incomplete(("argv",), {})), "/usr/bin/ls -la /tmp …"),
        (an_exec(environment={"LD_PRELOAD": "/x.so"}), "LD_PRELOAD=/x.so /usr/bin/ls -la /tmp"),
        (an_exec(memfd=True), "/usr/bin/ls -la /tmp (memfd)"),
        (an_exec(path="", argv=("ls",), result=-errno.ENOENT), "/usr/bin/ls = ENOENT"),
        (a_fork(), "→ 1235"),
        (a_fork(flags=0x20000000 | 17), "→ 1235 CLONE_NEWPID"),
        (a_fork(flags=2**64 - 1), "→ 1235"),
        (an_exit(code=3), "code 3 12 ms CPU"),
        (an_exit(cpu_ns=61_250_000_000), "code 0 61.2 s CPU"),
        (an_exit(cpu_ns=150_000), "code 0 0.1 ms CPU"),
        (an_exit(signal=signal.SIGKILL), "signal SIGKILL 12 ms CPU"),
        (an_exit(signal=signal.SIGSEGV, core_dumped=True), "signal SIGSEGV, core dumped 12 ms CPU"),
        (an_open(), "/etc/passwd O_RDONLY|O_CLOEXEC = 3"),
        (an_io_uring(), "openat /etc/shadow"),
        (an_io_uring(operation=2**32 - 1, argument="", entries=8, fd=3), "set up 8 entries"),
        (an_open(flags=os.O_WRONLY, created=True), "/etc/passwd O_WRONLY created = 3"),
        (
            an_open(path="", argument="nope.txt", flags=0, result=-errno.ENOENT),
            "nope.txt O_RDONLY = ENOENT",
        ),
        (a_rename(), "/tmp/a → /tmp/b RENAME_NOREPLACE"),
        (a_rename(path="/tmp/a b", flags=0, result=-errno.EXDEV), "'/tmp/a b' → /tmp/b = EXDEV"),
        (a_link(), "/tmp/b → /etc/shadow"),
        (a_link(flags=0x400), "/tmp/b → /etc/shadow AT_SYMLINK_FOLLOW"),
        (a_symlink(), "/tmp/b → ../etc"),
        (a_symlink(result=-errno.EEXIST), "/tmp/b → ../etc = EEXIST"),
        (an_unlink(), "/tmp/a"),
        (an_unlink(flags=0x200, result=-errno.ENOTEMPTY), "/tmp/a AT_REMOVEDIR = ENOTEMPTY"),
        (a_chmod(), "/tmp/a 4755"),
        (a_chmod(mode=0o644, result=-errno.EROFS), "/tmp/a 0644 = EROFS"),
        (a_chown(), "/tmp/a 1000:"),
        (a_chown(uid=UNKNOWN_ID, gid=0, result=-errno.EPERM), "/tmp/a :0 = EPERM"),
        (a_mount(), "/dev/sda1 → /mnt (ext4) MS_RDONLY"),
        (
            a_mount(source="", type="", flags=0, attributes=8, cleared=1, call=2),
            "/mnt MOUNT_ATTR_NOEXEC not MOUNT_ATTR_RDONLY",
        ),
        (
            a_mount(source="tmpfs", path="", type="tmpfs", flags=0, attributes=2, call=2),
            "tmpfs → (tmpfs) MOUNT_ATTR_NOSUID",
        ),
        (a_mount(source="a b", type="", flags=0, result=-errno.EPERM), "'a b' → /mnt = EPERM"),
        (an_umount(), "/mnt MNT_DETACH"),
        (a_pivot_root(result=-errno.EINVAL), "/mnt, old root /mnt/old = EINVAL"),
        (a_chroot(), "/srv/root"),
        (
            a_connect(result=-errno.EINPROGRESS),
            "tcp 127.0.0.1:4242 → 127.0.0.1:80 = EINPROGRESS",
        ),
        (a_connect(local=None, unverified=True), "tcp → 127.0.0.1:80 (unverified)"),
        (
            a_connect(family=socket.AF_INET6, local=None, remote=Endpoint("::1", 53)),
            "tcp → [::1]:53",
        ),
        (a_connect(**UNIX | {"path": "/run/x.sock"}), "unix /run/x.sock"),
        (a_connect(**UNIX | {"name": "@/tmp/x"}), "unix @/tmp/x"),
        (a_connect(**UNIX | {"family": socket.AF_NETLINK, "protocol": 6}), "netlink"),
        (a_sendto(), "udp 0.0.0.0:40000 → 192.0.2.1:123"),
        (a_bind(), "tcp 127.0.0.1:4242"),
        (a_listen(), "tcp 127.0.0.1:4242 backlog 128"),
        (an_accept(), "tcp 127.0.0.1:4242 ← 127.0.0.1:5050 = 5"),
        (an_mmap(), "/usr/lib/libc.so.6 r-x 8192 bytes"),
        (an_mmap(path="", protection=7), "anonymous rwx 8192 bytes"),
        (an_mmap(result=-errno.EACCES), "/usr/lib/libc.so.6 r-x 8192 bytes = EACCES"),
        (an_mprotect(region=1), "stack rw- → r-x 4096 bytes at 0x7f0000000000"),
        (
            an_mprotect(region=3, path="/lib/a b.so", old_protection=1),
            "'/lib/a b.so' r-- → r-x 4096 bytes at 0x7f0000000000",
        ),
        (
            an_mprotect(region=0, old_protection=0xFFFFFFFF, result=-errno.ENOMEM),
            "unknown ? → r-x 4096 bytes at 0x7f0000000000 = ENOMEM",
        ),
        (a_socket(), "AF_INET SOCK_STREAM = 3"),
        (a_socket(type=3, protocol=1), "AF_INET SOCK_RAW icmp = 3"),
        (a_socket(family=99, result=-errno.EAFNOSUPPORT), "99 SOCK_STREAM = EAFNOSUPPORT"),
        (a_dup(), "4 → 0 tcp 127.0.0.1:4242 → 127.0.0.1:80"),
        (a_dup(from_pid=77), "4 of 77 → 0 tcp 127.0.0.1:4242 → 127.0.0.1:80"),
        (
            a_dup(family=0, protocol=0, local=None, remote=None, path="/dev/null"),
            "4 → 0 /dev/null",
        ),
        (
            a_dup(new_fd=2**32 - 1, result=-errno.EMFILE, remote=None),
            "4 tcp 127.0.0.1:4242 = EMFILE",
        ),
        (a_dns(), "? A example.org → 127.0.0.1:53"),
        (
            a_dns(
                incoming=True,
                message=a_message(
                    response=True,
                    answers=(
                        DnsAnswer("example.org", 5, 60, "www.example.org"),
                        DnsAnswer("www.example.org", 1, 60, "192.0.2.1"),
                    ),
                ),
            ),
            "A example.org ← 127.0.0.1:53 = www.example.org, 192.0.2.1",
        ),
        (
            a_dns(incoming=True, message=a_message(response=True, rcode=3)),
            "A example.org ← 127.0.0.1:53 = NXDOMAIN",
        ),
        (
            a_dns(incoming=True, message=a_message(response=True)),
            "A example.org ← 127.0.0.1:53 = NOERROR",
        ),
        (a_dns(message=a_message(question=None)), "? nothing → 127.0.0.1:53"),
        (a_dns(message=None), "29 bytes → 127.0.0.1:53"),
        (
            a_dns(message=None, message_offset=20, payload=bytes(4)),
            "20 to 24 of 29 bytes → 127.0.0.1:53",
        ),
        (a_memfd(), "code MFD_CLOEXEC = 3"),
        (a_memfd(name="", flags=0), "'' = 3"),
        (a_memfd(name="", flags=0x80000, secret=True), "(secret) O_CLOEXEC = 3"),
        (a_ptrace(), "PTRACE_ATTACH → 1235 /usr/bin/sleep"),
        (a_ptrace(request=0), "PTRACE_TRACEME ← 1235 /usr/bin/sleep"),
        (
            a_ptrace(target=NOBODY, target_process=None, result=-errno.ESRCH),
            "PTRACE_ATTACH → -2 = ESRCH",
        ),
        (a_vm_read(), "← 1235 /usr/bin/sleep 0x7f0000000000 = 8"),
        (a_vm_write(result=-errno.EPERM), "→ 1235 /usr/bin/sleep 0x7f0000000000 = EPERM"),
        (a_userfaultfd(), "O_CLOEXEC = 3"),
        (a_kernel_hook(), "sys_call_table[62] → rootkit 0xffffffffc0001000"),
        (a_kernel_hook(module=""), "sys_call_table[62] → nowhere 0xffffffffc0001000"),
        (a_socket_filter(), "SO_ATTACH_FILTER → AF_PACKET SOCK_RAW 30 instructions"),
        (a_setuid(), "setreuid - 1000 euid 0 → 1000, fsuid 0 → 1000"),
        (a_setuid(call=0, new=IDS, asked_effective=0, result=-errno.EPERM), "setuid 0 = EPERM"),
        (a_setuid(call=6, new=IDS, asked_fs=7), "setfsuid 7"),
        (a_setuid(call=1, old=NO_IDS, new=IDS), "setgid 1000"),
        (a_capset(), "effective 3ff → 3df permitted 3ff → 3df"),
        (a_capset(new=a_capset().old, result=-errno.EPERM), "no change = EPERM"),
        (an_unshare(), "CLONE_NEWNS|CLONE_NEWUSER"),
        (a_setns(), "mnt:[4026531841] CLONE_NEWNS"),
        (a_setns(namespace_type="", inode=0, target_pid=77), "those of 77 CLONE_NEWNS"),
        (
            a_setns(namespace_type="", inode=0, flags=0, result=-errno.EBADF),
            "no namespace = EBADF",
        ),
        (a_keyctl(), "KEYCTL_SEARCH user 'krb5 ticket' key -3 = 77"),
        (a_keyctl(operation=11, type="", description="", key=5), "KEYCTL_READ key 5 = 77"),
        (a_keyctl(call=1, operation=2**32 - 1, key=-2), "add_key user 'krb5 ticket' key -2 = 77"),
        (a_module(), "load dummy /lib/modules/dummy.ko numdummies=2"),
        (
            a_module(path="", parameters="", flags=0x800, unloaded=True, result=-errno.EBUSY),
            "unload dummy O_NONBLOCK = EBUSY",
        ),
        (a_bpf(), "PROG_LOAD hide do_filp_open TRACING program 12"),
        (
            a_bpf(command=14, name="own_maps", attach_point="", map_id=9, **NO_PROGRAM, own=True),
            "MAP_GET_FD_BY_ID own_maps of this agent map 9",
        ),
        (
            a_bpf(command=7, name="", attach_point="", pathname="/sys/fs/bpf/x", **NO_PROGRAM),
            "OBJ_GET /sys/fs/bpf/x",
        ),
        (a_kill(), "SIGKILL → 1235 /usr/bin/sleep"),
        (a_kill(target=NOBODY, target_process=None, result=-errno.ESRCH), "SIGKILL → -2 = ESRCH"),
        (a_kill(signal=50, target_tid=1236), "50 → 1235 /usr/bin/sleep thread 1236"),
        (an_agent_event(version="1.0", kernel="6.12"), "1.0 on Linux 6.12"),
        (
            an_agent_event(version="1", kernel="6", previous={"ended": None, "gap_seconds": 3.21}),
            "1 on Linux 6 3.2 s after an end by surprise",
        ),
        (
            an_agent_event(version="1", kernel="6", previous={"ended": "SIGTERM"}),
            "1 on Linux 6 0.0 s after the end by SIGTERM",
        ),
        (
            an_agent_event("agent.level", level=2, name="sample", why="12.0% of a core"),
            "2 sample 12.0% of a core",
        ),
        (an_agent_event("agent.other", number=2, why="CPU"), "number=2 why=CPU"),
        (
            a_finding(count=3),
            (
                "Execution:Runtime/ReverseShell: A shell talks to 192.0.2.1 (3 times)"
                " addressFamily=AF_INET"
            ),
        ),
    ],
)
def test_each_kind_says_what_happened(event: Event, text: str) -> None:
    assert said(event).removesuffix(" pid=1234") == text


def test_what_happens_in_a_container_names_the_pod() -> None:
    event = an_open(process=inside(a_process(), a_container()))
    assert pretty(event, PLAIN, None).endswith("in shop/web-5d8f-abcde/main = 3")


def test_container_of_which_only_the_id_is_known_shows_its_start() -> None:
    event = an_open(process=inside(a_process(), a_container(name="", pod=None)))
    assert pretty(event, PLAIN, None).endswith(f"in {'c' * 12} = 3")


def test_name_of_a_container_cannot_speak_to_the_terminal() -> None:
    event = an_open(process=inside(a_process(), a_container(name="a\x1b[31mb")))
    assert "\x1b" not in pretty(event, PLAIN, None)


def test_a_ledger_is_one_line_with_totals() -> None:
    ledger = Ledger()
    ledger.kernel = {
        "exec": KernelCounts(seen=10, sent=7, lost={"ring full": 3}),
        "open": KernelCounts(seen=90, sent=90),
    }
    ledger.sink("file").dropped["queue full"] = 4
    event = an_agent_event("agent.ledger", **ledger.report())
    assert shown(event) == "00:11:09.123 agent   ledger             100 seen, 3 lost, 4 dropped"


def test_a_ledger_without_counts_says_zero() -> None:
    assert said(an_agent_event("agent.ledger")) == "0 seen, 0 lost, 0 dropped"


def test_a_kind_without_a_line_of_its_own_shows_its_fields() -> None:
    class Mount(Event):
        kind = "mount"
        source: str
        flags: Annotated[int, OPEN_FLAGS]

    made = Mount(
        TIME, 1, 0, 77, -errno.EPERM, b"", None, None, None, source="/dev/\x1bsda", flags=1
    )
    assert shown(made) == (
        "00:11:09.123 mount   ?[77]              source=/dev/\\x1bsda flags=O_WRONLY = EPERM"
    )


def test_errors_are_red_and_calls_under_way_are_not() -> None:
    red, end = COLOURED.bad, COLOURED.end
    assert f"{red}= EACCES{end}" in pretty(an_open(result=-errno.EACCES), COLOURED, None)
    assert red not in pretty(an_open(), COLOURED, None)
    assert red not in pretty(a_connect(result=-errno.EINPROGRESS), COLOURED, None)
    assert f"{red}signal SIGKILL" in pretty(an_exit(signal=signal.SIGKILL), COLOURED, None)
    assert red in pretty(a_finding(), COLOURED, None)
    assert red not in pretty(a_finding(severity=Severity.LOW), COLOURED, None)


def test_coverage_names_what_is_missing() -> None:
    kinds = {
        "exec": {"family": "tracepoint", "programs": ["on_exec", "exit_execve"], "missing": {}},
        "dns": {"family": None, "programs": [], "missing": {"on_packet": "no cgroup2"}},
    }
    issues = [
        {"code": "KIND_NOT_SEEN", "subject": "dns", "why": "no cgroup2"},
        {"code": "OVER_BUDGET", "subject": "", "why": "level 2"},
    ]
    event = an_agent_event(
        "agent.coverage", kinds=kinds, why_no_trampolines="lockdown", issues=issues
    )
    shown = "2 hooks for 2 kinds no trampolines (lockdown) KIND_NOT_SEEN dns, OVER_BUDGET"
    assert said(event) == shown


def test_agent_events_are_dim() -> None:
    line = pretty(an_agent_event("agent.other", number=2), COLOURED, None)
    assert f"{COLOURED.dim}number=2{COLOURED.end}" in line


@pytest.mark.parametrize("event", [an_exec(), an_open(), a_connect(), an_exit(), a_finding()])
@pytest.mark.parametrize("width", [None, 80, 50, 10])
def test_colour_changes_nothing_but_the_colour(event: Event, width: int | None) -> None:
    assert ESCAPE.sub("", pretty(event, COLOURED, width)) == pretty(event, PLAIN, width)


def test_a_narrow_terminal_costs_the_flags_first_then_the_middle_of_the_path() -> None:
    event = an_open(path="/usr/lib/python3/dist-packages/secret.txt", result=-errno.EACCES)
    assert shown(event, 100)[40:] == "/usr/lib/python3/dist-packages/secret.txt O_RDONLY… = EACCES"
    assert shown(event, 94)[40:] == "/usr/lib/python3/dist-packages/secret.txt = EACCES"
    assert shown(event, 80)[40:] == "/usr/lib/p…-packages/secret.txt = EACCES"


def test_a_long_name_of_a_kind_costs_no_outcome() -> None:
    event = an_mprotect(region=3, path="/usr/lib/libcrypto.so.3", result=-errno.EACCES)
    assert said(event).endswith(" 4096 bytes at 0x7f0000000000 = EACCES")
    assert shown(event, 80)[41:] == "/usr/lib/l…ypto.so.3 rw- → r-x = EACCES"


def test_a_long_command_is_cut_at_its_end() -> None:
    event = an_exec(argv=("ls", *["word"] * 50))
    assert shown(event, 80)[40:] == "/usr/bin/ls word word word word word wo…"


@given(st.text(), st.integers(1, 120))
def test_a_line_is_never_wider_than_the_terminal(name: str, width: int) -> None:
    process = a_process(comm=name[:15])
    for event in (an_open(path=name, process=process), an_exec(argv=("ls", name), process=process)):
        assert columns(shown(event, width)) <= width


HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"]),
        st.sampled_from("\x1b\n\r\t\x07\x9b\x7f\u202e\u2066\u2028\x85"),
    )
)


@given(HOSTILE, HOSTILE)
def test_no_name_can_drive_the_terminal(name: str, comm: str) -> None:
    process = msgspec.structs.replace(a_process(), task=a_task(comm=comm))
    fork = a_fork(child=a_task(comm=name), process=process)
    for event in (
        an_exec(path=name, argv=(name, name), environment={"LD_PRELOAD": name}, process=process),
        an_open(path=name, process=process),
        a_rename(path=name, new_path=name, process=process),
        a_link(path=name, target=name, process=process),
        a_symlink(path=name, target=name, process=process),
        an_unlink(path=name, process=process),
        a_chmod(path=name, process=process),
        a_chown(path=name, process=process),
        a_mount(source=name, path=name, type=name, process=process),
        an_umount(path=name, process=process),
        a_pivot_root(path=name, put_old=name, process=process),
        a_chroot(path=name, process=process),
        a_connect(**UNIX | {"path": name, "process": process}),
        a_connect(**UNIX | {"name": name, "process": process}),
        a_connect(remote=Endpoint(name, 1), process=process),
        an_mmap(path=name, process=process),
        an_mprotect(path=name, process=process),
        a_memfd(name=name, process=process),
        a_dup(path=name, process=process),
        a_dns(message=a_message(question=DnsQuestion(name, 1)), process=process),
        a_dns(
            message=a_message(response=True, answers=(DnsAnswer(name, 1, 60, name),)),
            process=process,
        ),
        a_ptrace(target_process=Brief(1235, name, 0, "", "{}"), process=process),
        a_setns(namespace_type=name, process=process),
        a_keyctl(type=name, description=name, process=process),
        a_module(name=name, path=name, parameters=name, process=process),
        a_bpf(name=name, attach_point=name, pathname=name, process=process),
        a_kill(target_process=Brief(1235, name, 0, "", "{}"), process=process),
        fork,
        an_agent_event(version=name),
        an_agent_event("agent.stop", reason=name),
        an_agent_event("agent.level", why=name),
        a_finding(title=name, evidence={name: [name]}),
    ):
        line = shown(event)
        assert line.isprintable()
        line.encode()
        assert not {unicodedata.bidirectional(c) for c in line} & {"RLO", "LRO", "RLE", "RLI", "B"}


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b]0;x\x07", "\\x1b]0;x\\x07"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x9b31m\x85", "\\x9b31m\\x85"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("\u2028\udcff\U000e0041", "\\u2028\\udcff\\U000e0041"),
        ("größe 漢字 🙂", "größe 漢字 🙂"),
    ],
)
def test_what_is_not_printable_is_escaped_and_nothing_else(hostile: str, shown: str) -> None:
    assert harmless(hostile) == shown


def test_wide_characters_count_twice_and_combining_ones_not_at_all() -> None:
    assert columns("漢字") == 4
    assert columns("e\u0301") == 1
    assert cut("漢字漢字", 5) == "漢字…"
