# SPDX-License-Identifier: Apache-2.0
"""A virtual machine that boots a kernel, runs guest.py in it and hands back what it reports."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.vm.kernels import ARM, X86, Kernel

# The console comes first; the report goes through a second port, away from what a kernel says.
HARDWARE: Final = (
    *("-accel", "tcg,thread=multi", "-m", "2048", "-smp", "2"),
    *("-nodefaults", "-display", "none", "-no-reboot"),
    *("-serial", "file:console", "-chardev", "file,id=report,path=report"),
)


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

BOOT_SECONDS: Final = 900.0
"""A machine that takes longer hangs; usually it is one or two minutes."""
CONSOLE_CHARACTERS: Final = 4000
"""So much of the console is shown when something goes wrong."""


class Done(msgspec.Struct):
    """A program that ran in the guest."""

    output: str
    errors: str
    code: int | None
    """None when it had to be killed."""


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


class Report(msgspec.Struct):
    """All that guest.py found."""

    release: str
    """As `uname -r` says it."""
    doctor: Done
    families: dict[str, Watched]
    version: str = ""
    """Of the kernel's package; the guest does not know it."""


class GuestError(Exception):
    """The machine did not report; the message has the end of its console."""


def boot(kernel: Kernel, archive: Path, folder: Path, families: Iterable[str]) -> Report:
    """Run guest.py on a kernel, with `folder` for what it writes; raises GuestError."""
    machine = MACHINES[kernel.place.architecture]
    # A name without a dot that the kernel does not know becomes a variable of init.
    words = (
        f"console={machine.console}",
        "quiet",
        "panic=-1",
        f"PORT={machine.port}",
        f"FAMILIES={','.join(families)}",
    )
    command: list[str | Path] = [
        machine.emulator,
        *HARDWARE,
        *machine.options,
        *("-kernel", kernel.image, "-initrd", archive, "-append", " ".join(words)),
    ]
    try:
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=BOOT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise GuestError(
            _failure(kernel, f"took more than {BOOT_SECONDS:.0f} s", folder)
        ) from error
    except subprocess.CalledProcessError as error:
        raise GuestError(f"{machine.emulator} failed: {error.stderr}") from error
    try:
        data = zlib.decompress((folder / "report").read_bytes())
        report = msgspec.json.decode(data, type=Report)
    except (zlib.error, msgspec.DecodeError) as error:
        raise GuestError(_failure(kernel, "did not report", folder)) from error
    report.version = kernel.version
    return report


def _failure(kernel: Kernel, what: str, folder: Path) -> str:
    said = (folder / "console").read_text("utf-8", "replace")[-CONSOLE_CHARACTERS:]
    return f"the machine with {kernel.package} {what}; its console ends with:\n{said}"
