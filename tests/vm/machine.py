# SPDX-License-Identifier: Apache-2.0
"""A virtual machine that boots a kernel, runs guest.py in it and hands back what it reports."""

from __future__ import annotations

import os
import re
import subprocess
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.bench.sizes import Size
from tests.vm.kernels import ARM, X86, Kernel, Place
from tests.vm.poke import ASKED, STUB, PokeError, poke

# The console comes first; the report goes through a second port, away from what a kernel says.
HARDWARE: Final = (
    *("-accel", "tcg,thread=multi", "-m", "2048", "-smp", "2"),
    *("-nodefaults", "-display", "none", "-no-reboot"),
    *("-serial", "file:console", "-chardev", "file,id=report,path=report"),
    *("-gdb", f"unix:{STUB},server=on,wait=off"),
)
REPORT: Final = "report"
COURTEOUS: Final = ("nice", "-n", "10")
"""It takes what the tests beside it leave of the processors."""


class Machine(msgspec.Struct, frozen=True):
    """How QEMU emulates an architecture."""

    emulator: str
    options: tuple[str, ...]
    console: str
    port: str
    """For the report."""


MACHINES: Final = {
    X86: Machine(
        "qemu-system-x86_64",
        ("-cpu", "max", "-device", "isa-serial,chardev=report"),
        "ttyS0",
        "/dev/ttyS1",
    ),
    # The architected way to sign pointers is slow to emulate.
    ARM: Machine(
        "qemu-system-aarch64",
        (
            *("-machine", "virt", "-cpu", "max,pauth-impdef=on"),
            *("-device", "pci-serial,chardev=report"),
        ),
        "ttyAMA0",
        "/dev/ttyS0",
    ),
}

BOOT_SECONDS: Final = float(os.environ.get("BOOT_SECONDS", "1800"))
"""A machine that takes longer hangs; usually it is two minutes, for a whole package some more."""
LOCKUP_SECONDS: Final = 60
"""An emulated processor that did not get on for that long never does, and slows down the others."""
LOCKUP: Final = re.compile(rb"soft lockup - CPU#(\d+) stuck for (\d+)s!")
"""What the kernel says of one, again and again; Linux 5.10 counts from 0 each time."""
CRASHES: Final = (b"traps: PANIC: double fault", b"int3: 0000 [#1]")
"""What it says when an emulated exception goes wrong; no program in the guest does that.

The second one: a processor ran into code that another one was changing.
"""
BOOTS: Final = 3
"""So often a machine is started when emulation itself goes wrong."""
CONSOLE_CHARACTERS: Final = 4000
"""So much of the console is shown when something goes wrong."""


class Done(msgspec.Struct):
    """A program that ran in the guest."""

    output: str
    errors: str
    code: int | None
    """None when it had to be killed."""


class Hooked(msgspec.Struct):
    """A pointer of the kernel that was changed."""

    index: int
    address: int
    """Where it leads."""
    module: str
    """Whose address that is; empty: nobody's."""


class Watched(msgspec.Struct):
    """What one family of hooks saw."""

    ready: bool
    """The agent said that it had started."""
    code: int | None
    """Of the agent."""
    errors: str
    """What the agent said on stderr."""
    acts: dict[str, Done]
    """By name of the case."""
    events: list[dict[str, Any]]
    hooked: dict[str, Hooked]
    """Pointers of the kernel that were changed, by their table; none where it names no tables."""
    call_ns: tuple[float, float, float]
    """What a system call takes that no agent looks at: before this one, beside it, after it."""


class HandOver(msgspec.Struct):
    """What two agents saw, of which one took over from the other."""

    ready: bool
    """All went as far as it should."""
    code: int | None
    """Of the one that was there before."""
    errors: str
    """What both said on stderr."""
    pid: int
    """Who did something while both were there."""
    old: list[dict[str, Any]]
    new: list[dict[str, Any]]


class Report(msgspec.Struct):
    """All that guest.py found."""

    release: str
    """As `uname -r` says it."""
    doctor: Done
    families: dict[str, Watched]
    hand_over: HandOver | None = None
    """With trampolines, where the kernel takes them."""
    sizes: dict[str, Size] = {}
    """Of the eBPF programs, by name, when they were asked for."""
    version: str = ""
    """Of the kernel's package; the guest does not know it."""


class GuestError(Exception):
    """The machine did not report; the message has the end of its console."""


class StallError(GuestError):
    """Its emulated processors wait for each other, or crash."""


def boot(
    place: Place, kernel: Kernel, archive: Path, folder: Path, *, only_sizes: bool = False
) -> Path:
    """Run guest.py on a kernel, with `folder` for what it writes; raises GuestError.

    All families of hooks are watched, or the programs are measured and nothing else. Returns
    the folder for `read_report()`.
    """
    # A name without a dot that the kernel does not know becomes a variable of init.
    families = "" if only_sizes else ",".join(place.families)
    port = MACHINES[place.architecture].port
    return run(
        place.architecture, kernel, archive, folder, (f"PORT={port}", f"FAMILIES={families}")
    )


def read_report(kernel: Kernel, folder: Path) -> Report:
    """What guest.py found; raises GuestError."""
    try:
        data = zlib.decompress((folder / REPORT).read_bytes())
        report = msgspec.json.decode(data, type=Report)
    except (zlib.error, msgspec.DecodeError) as error:
        raise GuestError(failure(kernel, "did not report", folder)) from error
    report.version = kernel.version
    return report


def run(
    architecture: str, kernel: Kernel, archive: Path, folder: Path, words: Sequence[str]
) -> Path:
    """Start a machine and wait until it is off; raises GuestError.

    `words` are for the kernel's command line. Returns the folder, below `folder`, with what
    it wrote to its second port, `REPORT`, and to its console.
    """
    for number in range(1, BOOTS):
        try:
            return _run_once(architecture, kernel, archive, _subfolder(folder, number), words)
        except StallError:
            continue
    return _run_once(architecture, kernel, archive, _subfolder(folder, BOOTS), words)


def failure(kernel: Kernel, what: str, folder: Path) -> str:
    """A sentence, and the end of the console."""
    said = (folder / "console").read_text("utf-8", "replace")[-CONSOLE_CHARACTERS:]
    return f"the machine with {kernel.package} {what}; its console ends with:\n{said}"


def _subfolder(folder: Path, number: int) -> Path:
    own = folder / str(number)
    own.mkdir()
    return own


def _run_once(
    architecture: str, kernel: Kernel, archive: Path, folder: Path, words: Sequence[str]
) -> Path:
    machine = MACHINES[architecture]
    line = " ".join((f"console={machine.console}", "quiet", "panic=-1", *words))
    command: list[str | Path] = [
        *COURTEOUS,
        machine.emulator,
        *HARDWARE,
        *machine.options,
        *("-kernel", kernel.image, "-initrd", archive, "-append", line),
    ]
    with (
        (folder / "emulator").open("w+") as said,
        subprocess.Popen(command, cwd=folder, stdout=said, stderr=said) as emulator,
    ):
        try:
            _wait(emulator, kernel, folder)
        finally:
            emulator.kill()
        if emulator.returncode:
            said.seek(0)
            raise GuestError(f"{machine.emulator} failed: {said.read()}")
    console = (folder / "console").read_bytes()
    if any(crash in console for crash in CRASHES):
        raise StallError(failure(kernel, "crashed", folder))
    return folder


def _poke(kernel: Kernel, folder: Path, address: int, value: int) -> None:
    try:
        poke(folder, address, value)
    except (OSError, PokeError) as error:
        raise GuestError(failure(kernel, f"cannot be changed ({error})", folder)) from error


def _wait(emulator: subprocess.Popen[bytes], kernel: Kernel, folder: Path) -> None:
    """Until the machine is off; raises StallError, GuestError."""
    deadline = time.monotonic() + BOOT_SECONDS
    poked = 0
    while time.monotonic() < deadline:
        try:
            emulator.wait(1.0)
        except subprocess.TimeoutExpired:
            console = folder / "console"
            said = console.read_bytes() if console.exists() else b""
            asked = ASKED.findall(said)
            for address, value in asked[poked:]:
                _poke(kernel, folder, int(address, 16), int(value, 16))
            poked = len(asked)
            stuck: Counter[bytes] = Counter()
            for processor, seconds in LOCKUP.findall(said):
                stuck[processor] += int(seconds)
            if any(seconds >= LOCKUP_SECONDS for seconds in stuck.values()):
                raise StallError(failure(kernel, "stalled", folder)) from None
        else:
            return
    raise GuestError(failure(kernel, f"took more than {BOOT_SECONDS:.0f} s", folder))
