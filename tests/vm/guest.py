# SPDX-License-Identifier: Apache-2.0
"""The first process of a virtual machine: runs the agent and all acts, and reports.

It is /init of the initramfs that initramfs.py makes. It knows nothing of what is expected:
the host judges. Nothing but the agent's own packages can be imported here.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import traceback
import tty
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

PLAN: Final = Path("/plan.json")
"""What initramfs.make() was told."""
ACTS: Final = Path("/acts")
HOME: Final = Path("/nodeagent")
"""The agent, as in a checkout, and what it depends on."""

SIZES: Final = HOME / "sizes.py"
"""Measures the eBPF programs."""

MOUNTS: Final = (
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/dev/shm"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("securityfs", "/sys/kernel/security"),
)
"""No tracefs: the agent gets it by itself."""

MS_BIND: Final = 4096
MS_MOVE: Final = 8192
MS_REC: Final = 16384
RB_AUTOBOOT: Final = 0x01234567
SIOCSIFFLAGS: Final = 0x8914
IFF_UP: Final = 1

CALLS: Final = "calls"
"""The program among the acts that makes one call again and again."""
CALLS_SECONDS: Final = "0.5"
"""Long enough for some moments in which nothing else has the processor."""
CALLS_RUNS: Final = 6
"""The quickest counts: a busy host slows others down."""
FILTERED: Final = (str(ACTS / "seccomp"), "pivot_root_before")
"""What runs a program that seccomp lets do everything else."""
TRAMPOLINE: Final = "trampoline"
HOLD: Final = "hold"
HOLDS: Final = "holds 1\n"
"""The last line of an act of that name, which goes on."""

CALL_TABLE: Final = "sys_call_table"
LIST_TABLE: Final = "raw_seq_ops"
"""What nobody reads here: /proc/net/raw."""
UNUSED_CALL: Final = {"x86_64": 180, "aarch64": 42}
"""nfsservctl(2), which no kernel has any more."""
DELETE_MODULE: Final = {"x86_64": 176, "aarch64": 106}
FINIT_MODULE: Final = {"x86_64": 313, "aarch64": 273}
POKE_SECONDS: Final = 3.0
"""The host looks at the console each second."""
SHOW: Final = 3
"""The last pointer of struct seq_operations."""
BEYOND: Final = 32 << 20
"""So far from the kernel, or from a module, there is nothing."""
HOOK_SECONDS: Final = 150.0
"""More than twice what the agent rests between two looks."""

BOTH: Final = 50
"""So many operations of each kind are seen by two agents."""
READY_SECONDS: Final = 300.0
END_SECONDS: Final = 300.0
"""An emulated machine beside others takes more than a minute to detach all programs."""
ACT_SECONDS: Final = 30.0

STEPS: Final = (3600.0, -7200.0)
"""How the clock is stepped when all acts are done."""
STEP_SECONDS: Final = 1.0
"""In between, so that there are events by each clock."""

LIBC: Final = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str | None, flags: int = 0) -> None:
    """mount(2); raises OSError."""
    arguments = [None if text is None else text.encode() for text in (source, target, kind)]
    if LIBC.mount(*arguments, ctypes.c_ulong(flags), None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def leave_rootfs() -> None:
    """Make / a mount like any other: the first one of all cannot be left by pivot_root(2)."""
    Path("/root-mount").mkdir()
    mount("/", "/root-mount", None, MS_BIND | MS_REC)
    os.chdir("/root-mount")
    mount(".", "/", None, MS_MOVE)
    os.chroot(".")
    os.chdir("/")


def prepare() -> None:
    """Everything that an ordinary system has by the time that an agent starts."""
    leave_rootfs()
    for kind, target in MOUNTS:
        Path(target).mkdir(parents=True, exist_ok=True)
        mount(kind, target, kind)
    Path("/tmp").chmod(0o1777)
    # As udev does it. TOMOYO refuses execveat(2) of a descriptor where it is missing.
    Path("/dev/fd").symlink_to("/proc/self/fd")
    socket.sethostname("guest")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


class Agent:
    """`nodeagent run` with its events in a file, with a filter of seccomp as its unit has it."""

    def __init__(self, name: str, options: Sequence[str]) -> None:
        self.events = Path(f"/run/{name}.ndjson")
        self.errors = Path(f"/run/{name}.stderr")
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [
                    *FILTERED,
                    *nodeagent(
                        "run",
                        "--debug",
                        "--sink",
                        "file",
                        *settings(
                            ("path", str(self.events)),
                            ("rotate_bytes", 0),
                            ("queue_events", 1000000),
                        ),
                        *options,
                    ),
                ],
                stderr=errors,
            )

    def is_ready(self) -> bool:
        """Waits until it says so; False when it ends or takes too long."""
        return self.tells("start")

    def tells(self, what: str) -> bool:
        """Waits until it does; False when it ends or takes too long."""
        return self.waits(
            lambda: self.events.exists() and f'"agent.{what}"'.encode() in self.events.read_bytes()
        )

    def links(self) -> int:
        """How many of its programs are attached."""
        infos = Path(f"/proc/{self.process.pid}/fdinfo")
        return sum("link_id" in text for text in texts(infos))

    def is_attached_like(self, other: Agent) -> bool:
        """Waits until it holds as many links as one with the same programs."""
        return self.waits(lambda: self.links() >= other.links())

    def waits(self, happened: Callable[[], bool], seconds: float = READY_SECONDS) -> bool:
        """False when it ends or takes too long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if happened():
                return True
            time.sleep(0.1)
        return False

    def seen(self) -> list[dict[str, Any]]:
        """All events; not the last one when it was cut off."""
        if not self.events.exists():
            return []
        lines = self.events.read_bytes().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def end(self) -> int | None:
        """Its exit code; None when it did not end."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return None


def texts(folder: Path) -> Iterator[str]:
    """Of all files that are still there."""
    for path in folder.iterdir():
        with suppress(OSError):
            yield path.read_text()


def nodeagent(*arguments: str) -> list[str]:
    """A command line of the agent."""
    return [sys.executable, "-m", "nodeagent", *arguments]


def settings(*values: tuple[str, object]) -> list[str]:
    """Options for the file sink."""
    return [word for key, value in values for word in ("--set", f"sinks.file.{key}={value}")]


def act(folder: Path, command: Sequence[str]) -> dict[str, Any]:
    """Run one act in a folder of its own; once more when the emulated machine has stalled."""
    done = act_once(folder, command)
    if done["code"] is None:
        done = act_once(folder.with_name(f"{folder.name}-again"), command)
    return done


def act_once(folder: Path, command: Sequence[str]) -> dict[str, Any]:
    """What it said, and how it ended."""
    folder.mkdir(parents=True)
    program, *arguments = command
    try:
        done = subprocess.run(
            [ACTS / program, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ACT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        said = [(text or b"").decode(errors="replace") for text in (error.stdout, error.stderr)]
        return {"output": said[0], "code": None, "errors": f"{error}\n{said[1]}"}
    return {"output": done.stdout, "code": done.returncode, "errors": done.stderr}


def act_all(commands: Mapping[str, tuple[Path, Sequence[str]]]) -> dict[str, dict[str, Any]]:
    """What came of each; cases that have their act in common share it."""
    done: dict[tuple[str, ...], dict[str, Any]] = {}
    for folder, command in commands.values():
        if tuple(command) not in done:
            done[tuple(command)] = act(folder, command)
    return {name: done[tuple(command)] for name, (_, command) in commands.items()}


def call_ns() -> float:
    """What a system call takes at least that no agent looks at."""
    command = [str(ACTS / CALLS), CALLS_SECONDS]
    runs = [
        subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.split()
        for _ in range(CALLS_RUNS)
    ]
    return min(float(seconds) * 1e9 / float(calls) for calls, seconds, *_ in runs)


class Held:
    """An act that goes on from before the agent to after it."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        folder.mkdir(parents=True)
        program, *arguments = command
        self.process = subprocess.Popen(
            [ACTS / program, *arguments],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.output = "".join(iter(self.process.stdout.readline, HOLDS))

    def end(self) -> dict[str, Any]:
        """What it said, and how it ended."""
        self.process.communicate()
        return {"output": self.output, "code": self.process.returncode, "errors": ""}


def count_hooks(agent: Agent) -> int:
    """How many it has told of."""
    return sum(event["kind"] == "kernel_hook" for event in agent.seen())


def symbols(*names: str) -> dict[str, int]:
    """Where the kernel has these, as far as it says."""
    lines = Path("/proc/kallsyms").read_text().splitlines()
    split = (line.split() for line in lines)
    return {words[2]: int(words[0], 16) for words in split if words[2] in names}


def hook_kernel(hooked: dict[str, dict[str, Any]]) -> None:
    """Have the host change two pointers of the kernel; they stay changed."""
    found = symbols(CALL_TABLE, LIST_TABLE, "_stext", "_end")
    if not {CALL_TABLE, LIST_TABLE} <= found.keys():
        return
    load_module()
    modules = Path("/proc/modules")
    lines = map(str.split, modules.read_text().splitlines() if modules.exists() else ())
    nowhere = found["_stext"] - BEYOND
    name, module = next(((line[0], int(line[5], 16)) for line in lines), ("", nowhere))
    hooked[CALL_TABLE] = {
        "index": UNUSED_CALL[platform.machine()],
        "address": module + 16,
        "module": name,
    }
    hooked[LIST_TABLE] = {"index": SHOW, "address": nowhere, "module": ""}
    for table, hook in hooked.items():
        print(f"poke {found[table] + 8 * hook['index']:016x} {hook['address']:016x}", flush=True)
    time.sleep(POKE_SECONDS)
    # It is there already, but the agent looks whenever somebody tries.
    load_module()


def unload_module(name: str) -> None:
    """If it is there."""
    LIBC.syscall(DELETE_MODULE[platform.machine()], name.encode(), os.O_NONBLOCK)


def load_module() -> None:
    """That of this kernel, where there is one."""
    file = Path(f"/modules/{platform.release()}.ko")
    if file.exists():
        with file.open("rb") as module:
            LIBC.syscall(FINIT_MODULE[platform.machine()], module.fileno(), b"", 0)


def watch(
    family: str, plan: Mapping[str, Any], hooked: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """All acts under the eyes of an agent that uses this family of hooks."""
    commands = {name: (Path(f"/tmp/{family}/{name}"), act) for name, act in plan["acts"].items()}
    held = {name: Held(*each) for name, each in commands.items() if each[1][1] == HOLD}
    before = call_ns()
    if hooked:
        # As if the module hid itself to which one leads.
        unload_module(hooked[CALL_TABLE]["module"])
        hooked[CALL_TABLE]["module"] = ""
    agent = Agent(family, plan["options"][family])
    ready = agent.is_ready()
    done = {}
    if ready:
        agent.waits(lambda: count_hooks(agent) >= len(hooked), HOOK_SECONDS)
        done = act_all({name: each for name, each in commands.items() if name not in held})
        if not hooked:
            hook_kernel(hooked)
            agent.waits(lambda: count_hooks(agent) >= len(hooked), HOOK_SECONDS)
        step_clock()
    beside = call_ns()
    code = agent.end()
    after = call_ns()
    done |= {name: each.end() for name, each in held.items()}
    return {
        "ready": ready,
        "code": code,
        "acts": done,
        "errors": agent.errors.read_text(errors="replace"),
        "events": agent.seen(),
        "hooked": {table: dict(hook) for table, hook in hooked.items()},
        "call_ns": (before, beside, after),
    }


def hand_over(family: str, options: Sequence[str]) -> dict[str, Any]:
    """What two agents see, of which one takes over from the other."""
    few = (*options, "--only", "open,bind,setuid", "--set", "state.file=/run/state.json")
    old = Agent(f"{family}-old", few)
    ready = old.is_ready()
    new = Agent(f"{family}-new", (*few, "--take-over"))
    # It is asked, and does not answer before both have watched.
    ready = ready and old.tells("hand_over")
    old.process.send_signal(signal.SIGSTOP)
    ready = ready and new.is_attached_like(old)
    time.sleep(STEP_SECONDS)
    for number in range(BOTH):
        with suppress(OSError):
            os.open(f"/nowhere/{number}", os.O_RDONLY)
        os.setresuid(0, 0, 1 - number % 2)
        with socket.socket() as any_socket:
            any_socket.bind(("127.0.0.1", 0))
    old.process.send_signal(signal.SIGCONT)
    ready = ready and new.is_ready()
    code = old.process.wait(END_SECONDS) if ready else old.end()
    new.end()
    return {
        "ready": ready,
        "code": code,
        "errors": "".join(each.errors.read_text(errors="replace") for each in (old, new)),
        "pid": os.getpid(),
        "old": old.seen(),
        "new": new.seen(),
    }


def step_clock() -> None:
    """Set the clock forward and back; programs run before and after each step."""
    for seconds in STEPS:
        time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)
        act_once(Path(f"/tmp/step{time.monotonic_ns()}"), ("act", "exit", "0"))
        time.sleep(STEP_SECONDS)


def doctor() -> dict[str, Any]:
    """What the agent says about this machine."""
    done = subprocess.run(nodeagent("doctor"), capture_output=True, text=True, check=False)
    return {"output": done.stdout, "code": done.returncode, "errors": done.stderr}


def sizes() -> Any:
    """What the verifier makes of each program."""
    done = subprocess.run([sys.executable, SIZES], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def report(found: Mapping[str, Any]) -> None:
    """Send it to the host."""
    port = os.open(os.environ["PORT"], os.O_WRONLY | os.O_NOCTTY)
    tty.setraw(port)
    data = memoryview(zlib.compress(json.dumps(found).encode()))
    while data:
        data = data[os.write(port, data) :]
    termios.tcdrain(port)


def main() -> None:
    """Never returns."""
    os.environ["PYTHONPATH"] = str(HOME)
    try:
        prepare()
        plan = json.loads(PLAN.read_bytes())
        hooked: dict[str, dict[str, Any]] = {}
        families = os.environ["FAMILIES"].split(",")
        report(
            {
                "release": platform.release(),
                "doctor": doctor(),
                "families": {family: watch(family, plan, hooked) for family in families if family},
                # With tracepoints the tests of the running kernel do it.
                "hand_over": hand_over(TRAMPOLINE, plan["options"][TRAMPOLINE])
                if TRAMPOLINE in families
                else None,
                "sizes": {} if any(families) else sizes(),
            }
        )
    except BaseException:  # noqa: BLE001 whatever it is, the console is the only place to say it
        traceback.print_exc()
    os.sync()
    LIBC.reboot(RB_AUTOBOOT)


if __name__ == "__main__":
    main()
