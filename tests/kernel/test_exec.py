# SPDX-License-Identifier: Apache-2.0
"""exec: what runs, with which arguments and for whom."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import UUID, uuid5

import pytest

from tests.kernel.stream import Acted, Event, Stream

Do = Callable[..., Acted]


def executed(stream: Stream, acted: Acted, **wanted: object) -> Event:
    """The exec of the process after the one of the act program itself."""
    events = [e for e in stream.of(acted.pid, "exec") if Path(e["filename"]).name != "act"]
    assert len(events) == 1
    for name, value in wanted.items():
        assert events[0].get(name) == value, name
    return events[0]


def namespace(kind: str) -> int:
    return Path(f"/proc/self/ns/{kind}").stat().st_ino


def test_exec_tells_everything_about_the_new_program(stream: Stream, do: Do) -> None:
    acted = do("exec", "/bin/true", "true", "one", "", "three", cwd="/usr/share")
    event = executed(
        stream,
        acted,
        result=0,
        path=os.path.realpath("/bin/true"),
        filename="/bin/true",
        argv=["true", "one", "", "three"],
        argc=4,
        cwd="/usr/share",
        memfd=False,
    )
    facts = Path("/bin/true").stat()
    assert event["inode"] == facts.st_ino
    assert event["device"] == f"{os.major(facts.st_dev)}:{os.minor(facts.st_dev)}"
    assert event["mode"] == f"{stat.S_IMODE(facts.st_mode):04o}"
    assert (event["file_uid"], event["file_gid"]) == (facts.st_uid, facts.st_gid)
    assert event["links"] == facts.st_nlink
    for key in ("script", "interpreter", "environment", "truncated", "unread"):
        assert key not in event


def test_exec_names_the_process_its_parent_and_its_namespaces(stream: Stream, do: Do) -> None:
    acted = do("exec", "/bin/true", "true")
    process = executed(stream, acted)["process"]
    assert process["pid"] == process["namespace_pid"] == acted.pid
    assert process["comm"] == "true"
    assert process["path"] == os.path.realpath("/bin/true")
    assert process["parent_pid"] == os.getpid()
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
    assert process["namespaces"] == {kind: namespace(kind) for kind in kinds}
    status = Path("/proc/self/status").read_text(encoding="ascii")
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    assert process["capabilities"] == effective


def test_uuid_can_be_computed_from_proc(stream: Stream, do: Do) -> None:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    ticks = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    event = stream.one(kind="exec", process__pid=do("exec", "/bin/true", "true").pid)
    ours = str(uuid5(UUID(boot_id), f"{os.getpid()}:{ticks}"))
    assert ours in [ancestor["uuid"] for ancestor in event["process"]["lineage"]]


def test_lineage_goes_from_the_parent_to_the_first_process(stream: Stream, do: Do) -> None:
    acted = do("exec", "/bin/true", "true")
    lineage = executed(stream, acted)["process"]["lineage"]
    pid = os.getpid()
    for ancestor in lineage:
        assert ancestor["pid"] == pid
        # Some machines hide the executable of the first process even from root.
        with suppress(PermissionError):
            executable = str(Path(f"/proc/{pid}/exe").readlink())
            assert ancestor["path"] == executable.removesuffix(" (deleted)")
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        pid = int(fields[1])
    assert pid == 0 or len(lineage) == 16


def test_script_and_interpreter_are_fields_of_their_own(
    stream: Stream, do: Do, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh -e\nexit 4\n", encoding="ascii")
    script.chmod(0o755)
    acted = do("exec", str(script), "script", "argument")
    event = executed(
        stream,
        acted,
        script=str(script),
        filename=str(script),
        interpreter="/bin/sh",
        path=os.path.realpath("/bin/sh"),
        argv=["/bin/sh", "-e", str(script), "argument"],
    )
    assert acted.code == 4
    assert event["process"]["path"] == os.path.realpath("/bin/sh")


def test_only_the_loader_variables_are_taken_from_the_environment(stream: Stream, do: Do) -> None:
    environment = {
        "SECRET": "do not tell",
        "LD_PRELOAD": "",
        "XLD_PRELOAD": "no",
        "LD_LIBRARY_PATH": "/opt/lib:/x",
        "LD_PRELOADED": "no",
        "LAST": "no",
    }
    acted = do("exec", "/bin/true", "true", env=environment)
    event = executed(stream, acted)
    assert event["environment"] == {"LD_PRELOAD": "", "LD_LIBRARY_PATH": "/opt/lib:/x"}
    assert "do not tell" not in str(event)


def test_loader_variable_hidden_in_a_long_value_is_none(stream: Stream, do: Do) -> None:
    # The kernel side reads strings in pieces of 1,023 bytes: the name lies where one begins.
    start = "LONG="
    hidden = start + "x" * (1023 - len(start)) + "LD_PRELOAD=/evil.so"
    name, _, value = hidden.partition("=")
    acted = do("exec", "/bin/true", "true", env={name: value, "LD_LIBRARY_PATH": "/lib"})
    assert executed(stream, acted)["environment"] == {"LD_LIBRARY_PATH": "/lib"}


def test_argv_beyond_the_limit_is_cut_and_says_so(stream: Stream, do: Do) -> None:
    acted = do("exec", "/bin/true", "true", *("x" * 1000 for _ in range(100)))
    event = executed(stream, acted, argc=101)
    assert event["truncated"] == ["argv"]
    assert sum(len(argument) + 1 for argument in event["argv"]) in range(4090, 4098)


@pytest.mark.parametrize("length", [1022, 1023, 1024])
def test_string_says_truncated_only_when_it_does_not_fit(
    stream: Stream, do: Do, length: int
) -> None:
    # The kernel side takes up to 1,023 bytes of one, and up to 4,095 of a name.
    value = "x" * (length - len("LD_LIBRARY_PATH="))
    acted = do("exec", "/bin/true", "true", env={"LD_LIBRARY_PATH": value})
    event = executed(stream, acted)
    assert event.get("truncated") == (["environment"] if length > 1023 else None)
    assert event["environment"] == {"LD_LIBRARY_PATH": value[:1007]}

    acted = do("exec", "/nowhere", "x" * length, "last")
    (event,) = [e for e in stream.of(acted.pid, "exec") if e["result"] < 0]
    assert event.get("truncated") == (["argv"] if length > 1023 else None)
    assert event["argv"] == ["x" * min(length, 1023), "last"]

    name = "./" * 1536 + "x" * length
    acted = do("exec", name, "true")
    (event,) = [e for e in stream.of(acted.pid, "exec") if e["result"] < 0]
    assert event.get("truncated") == (["filename"] if length > 1023 else None)
    assert event["filename"] == name[:4095]


def test_execveat_of_a_descriptor_is_an_exec(stream: Stream, do: Do) -> None:
    acted = do("execveat", "/bin/true", "true")
    event = executed(stream, acted, path=os.path.realpath("/bin/true"), argv=["true"])
    assert event["filename"].startswith("/dev/fd/")


def test_program_in_a_memfd_is_recognised(stream: Stream, do: Do) -> None:
    acted = do("exec_memfd", "/bin/true", "true")
    event = executed(stream, acted, memfd=True, links=0, path="/memfd:nameless")
    assert event["process"]["path"] == "/memfd:nameless"


def test_deleted_program_has_no_links(stream: Stream, do: Do, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(Path("/bin/true").read_bytes())
    copy.chmod(0o755)
    script = f"exec 9<{copy}; rm {copy}; exec /proc/self/fd/9"
    acted = do("exec", "/bin/sh", "sh", "-c", script)
    last = stream.of(acted.pid, "exec")[-1]
    assert last["links"] == 0
    assert last["memfd"] is False
    assert last["path"] == str(copy)


def test_exec_in_a_thread_becomes_the_whole_process(stream: Stream, do: Do) -> None:
    acted = do("exec_thread", "/bin/true", "true")
    event = executed(stream, acted, tid=acted.pid, path=os.path.realpath("/bin/true"))
    assert acted.said["thread"] != acted.pid
    assert event["old"] == {"uid": 0, "gid": 0, "euid": 0, "egid": 0}


def test_set_uid_program_shows_old_and_new_credentials(
    stream: Stream, do: Do, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == 0 and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o111)
    program = tmp_path / "elevated"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o4755)
    acted = do("exec_setuid", "1234", "2345", str(program), "elevated")
    event = executed(stream, acted, mode="4755")
    assert event["old"] == {"uid": 1234, "gid": 2345, "euid": 1234, "egid": 2345}
    process = event["process"]
    assert (process["uid"], process["euid"]) == (1234, 0)
    assert (process["gid"], process["egid"]) == (2345, 2345)


def test_stdio_shows_sockets_with_their_peer(stream: Stream, do: Do) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        acted = do("exec_socket", "127.0.0.1", str(port), "/bin/true", "true")
    event = executed(stream, acted)
    assert event["stdio"][0] == {
        "type": "socket",
        "remote": {"address": "127.0.0.1", "port": port},
        "inode": 0,
    }
    assert event["stdio"][1]["type"] == "pipe"
    assert event["stdio"][2] == {"type": "closed", "remote": None, "inode": 0}


def test_both_ends_of_a_pipe_have_its_inode(stream: Stream) -> None:
    reading, writing = os.pipe()
    try:
        inode = os.fstat(reading).st_ino
        subprocess.run(
            ["/bin/true", "two ends"],
            stdin=reading,
            stdout=writing,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    finally:
        os.close(reading)
        os.close(writing)
    event = stream.one(kind="exec", argv=["/bin/true", "two ends"])
    shown = [(each["type"], each["inode"]) for each in event["stdio"]]
    assert shown == [("pipe", inode), ("pipe", inode), ("character device", 0)]


def test_failed_exec_tells_what_was_asked_for(stream: Stream, do: Do, tmp_path: Path) -> None:
    program = str(tmp_path / "missing")
    acted = do("exec", program, "missing", "argument")
    event = executed(stream, acted, filename=program, argv=["missing", "argument"], error="ENOENT")
    assert event["result"] == acted.said["result"] == -errno.ENOENT
    assert "path" not in event
    assert Path(event["process"]["path"]).name == "act"


def test_program_that_may_not_run_is_a_failed_exec(stream: Stream, do: Do, tmp_path: Path) -> None:
    program = tmp_path / "plain"
    program.write_text("no program", encoding="ascii")
    executed(stream, do("exec", str(program), "plain"), result=-errno.EACCES)
