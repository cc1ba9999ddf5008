# SPDX-License-Identifier: Apache-2.0
"""What the demonstration does: a table of acts, each with the finding that it must give.

Nothing of it has to succeed, since attempts count. Each runs on a stage (`stage.py`) in an
empty folder.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from nodeagent.demo.program import ENDS, WAITS, program, write_program
from nodeagent.demo.stage import Skip, bind, fork, libc
from nodeagent.errors import StartError
from nodeagent.harmless import cut, harmless

__all__ = ["BEHAVIOURS", "Behaviour", "chosen"]

LOOPBACK: Final = "127.0.0.1"
SHELL: Final = "/bin/sh"
DNS_PORT: Final = 53
SCANNED_PORTS: Final = range(1, 26)
PTRACE_POKEDATA: Final = 5
PTRACE_ATTACH: Final = 16
PTRACE_DETACH: Final = 17
NOT_RUN: Final = 126
"""What a shell says, too, of a program that cannot be run."""
NAME_COLUMNS: Final = 40


class Behaviour(NamedTuple):
    """Something that looks wrong, and the finding that it gives."""

    name: str
    title: str
    """For people, with what is really done."""
    type: str
    """Of the finding."""
    kind: str
    """Of the event that gives it."""
    act: Callable[[], None]


def chosen(names: Sequence[str]) -> list[Behaviour]:
    """Those that are called so, or all; raises StartError for a name that nothing has."""
    known = {each.name: each for each in BEHAVIOURS}
    for name in names:
        if name not in known:
            near = get_close_matches(name[:NAME_COLUMNS], known, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise StartError(
                f'"{cut(harmless(name), NAME_COLUMNS)}" is no behaviour: {meant}'
                "`nodeagent demo --list` shows all"
            )
    return [known[name] for name in dict.fromkeys(names)] if names else list(BEHAVIOURS)


def _start(run: Callable[[], None], streams: int | None = None) -> int:
    """The pid of a child that runs another program."""

    def body() -> None:
        for stream in range(3) if streams is not None else ():
            os.dup2(streams or 0, stream)
        try:
            run()
        except OSError:
            os._exit(NOT_RUN)

    return fork(body)


def _see_run(pid: int, what: str) -> None:
    """Wait for its end; raises Skip when it was not run at all."""
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == NOT_RUN:
        raise Skip(f"{what} may not be run here")


def _reverse_shell() -> None:
    if not Path(SHELL).exists():
        raise Skip(f"there is no {SHELL}")
    with socket.create_server((LOOPBACK, 0)) as listener:
        with socket.create_connection(listener.getsockname()) as connection:
            shell = _start(partial(os.execv, SHELL, ["sh"]), connection.fileno())
        with listener.accept()[0] as there:
            there.send(b"exit\n")
            _see_run(shell, SHELL)


def _scan_ports() -> None:
    for port in SCANNED_PORTS:
        with socket.socket() as tried:
            tried.connect_ex((LOOPBACK, port))


def _open_packet_socket() -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def _read_shadow() -> None:
    folder = Path("etc")
    folder.mkdir()
    (folder / "shadow").write_text("root:*:1:0:99999:7:::\n")
    bind(folder, "/etc")
    Path("/etc/shadow").read_text()


def _add_ssh_key() -> None:
    folder = Path("root")
    folder.mkdir()
    bind(folder, "/root")
    keys = Path("/root/.ssh/authorized_keys")
    keys.parent.mkdir()
    keys.write_text("# no key at all\n")


def _run_from_memory() -> None:
    fd = os.memfd_create("demo", os.MFD_CLOEXEC)
    os.write(fd, program(ENDS))
    _see_run(_start(partial(os.execve, fd, ["demo"], {})), "what is only in memory")


def _wait_for_death(name: str) -> int:
    """The pid of a program of that name that runs."""
    path = Path(name)
    write_program(path, WAITS)
    reading, writing = os.pipe()
    pid = _start(partial(os.execve, path, [name], {}))
    os.close(writing)
    # The other side closes when the child runs the program.
    os.read(reading, 1)
    os.close(reading)
    return pid


def _inject() -> None:
    victim = _wait_for_death("victim")
    if libc.ptrace(PTRACE_ATTACH, victim, None, None) == 0:
        os.waitpid(victim, 0)
    libc.ptrace(PTRACE_POKEDATA, victim, None, None)
    libc.ptrace(PTRACE_DETACH, victim, None, None)
    os.kill(victim, signal.SIGKILL)
    _see_run(victim, "a program in memory")


def _kill_guard() -> None:
    guard = _wait_for_death("auditd")
    os.kill(guard, signal.SIGKILL)
    _see_run(guard, "a program in memory")


def _reach_for_runtime() -> None:
    with socket.socket(socket.AF_UNIX) as tried:
        tried.connect_ex("docker.sock")


def _set_release_agent() -> None:
    Path("release_agent").write_text("/bin/true\n")


def _ask_for_c2() -> None:
    """The test domain is on the list that comes with the agent; the question goes nowhere."""
    labels = ("guarddutyc2activityb", "com")
    name = b"".join(bytes([len(each)]) + each.encode() for each in labels)
    question = b"\0\1\1\0\0\1\0\0\0\0\0\0" + name + b"\0" + b"\0\1\0\1"
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        resolver.bind((LOOPBACK, DNS_PORT))
        client.sendto(question, (LOOPBACK, DNS_PORT))


def _mine() -> None:
    path = Path("xmrig")
    write_program(path, ENDS)
    words = ["xmrig", "--url", f"stratum+tcp://{LOOPBACK}:3333"]
    _see_run(_start(partial(os.execve, path, words, {})), "a program in memory")


BEHAVIOURS: Final = (
    Behaviour(
        "reverse-shell",
        "A shell that talks to the network: sh on a loopback connection",
        "Execution:Runtime/ReverseShell",
        "exec",
        _reverse_shell,
    ),
    Behaviour(
        "port-scan",
        "A search for open ports: 25 of its own loopback",
        "Discovery:Runtime/PortScan",
        "connect",
        _scan_ports,
    ),
    Behaviour(
        "packet-socket",
        "A sniffer: a packet socket, where no packets are",
        "Discovery:Runtime/PacketSocketCreated",
        "socket",
        _open_packet_socket,
    ),
    Behaviour(
        "shadow-read",
        "A look at password hashes: an /etc/shadow of its own",
        "CredentialAccess:Runtime/SensitiveFileRead",
        "open",
        _read_shadow,
    ),
    Behaviour(
        "ssh-key",
        "A way to come back: authorized_keys in a /root of its own",
        "Persistence:Runtime/SensitiveFileModified",
        "open",
        _add_ssh_key,
    ),
    Behaviour(
        "fileless",
        "A program that was never a file: 100 bytes in a memfd",
        "DefenseEvasion:Runtime/FilelessExecution",
        "exec",
        _run_from_memory,
    ),
    Behaviour(
        "injection",
        "Code for another process: ptrace of its own child",
        "DefenseEvasion:Runtime/ProcessInjection.Ptrace",
        "ptrace",
        _inject,
    ),
    Behaviour(
        "guard-killed",
        "The end of a guard: a program that is only called auditd",
        "DefenseEvasion:Runtime/SecurityToolStopped",
        "kill",
        _kill_guard,
    ),
    Behaviour(
        "docker-socket",
        "A reach for the container runtime: a docker.sock that is not there",
        "PrivilegeEscalation:Runtime/DockerSocketAccessed",
        "connect",
        _reach_for_runtime,
    ),
    Behaviour(
        "release-agent",
        "A way out of a container: a file called release_agent",
        "PrivilegeEscalation:Runtime/CGroupsReleaseAgentModified",
        "open",
        _set_release_agent,
    ),
    Behaviour(
        "c2-domain",
        "A call home: a question for a test domain, to its own loopback",
        "Backdoor:Runtime/C&CActivity.B!DNS",
        "dns",
        _ask_for_c2,
    ),
    Behaviour(
        "miner",
        "A miner: a program that ends at once, called xmrig",
        "Impact:Runtime/CryptoMinerExecuted",
        "exec",
        _mine,
    ),
)
