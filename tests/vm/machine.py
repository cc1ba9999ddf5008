# SPDX-License-Identifier: Apache-2.0
"""A virtual machine that boots a kernel, runs guest.py in it and hands back what it reports."""

from __future__ import annotations

import platform
import subprocess
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.vm.kernels import Kernel

EMULATOR: Final = f"qemu-system-{platform.machine()}"
# The console comes first; the report goes through a second port, away from what a kernel says.
HARDWARE: Final = (
    *("-accel", "tcg,thread=multi", "-cpu", "max", "-m", "2048", "-smp", "2"),
    *("-nodefaults", "-display", "none", "-no-reboot"),
)
CONSOLE: Final = "ttyS0"
PORT: Final = "/dev/ttyS1"

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
    """Run guest.py on a kernel; raises GuestError."""
    console, report = folder / "console", folder / "report"
    # A name without a dot that the kernel does not know becomes a variable of init.
    words = (
        f"console={CONSOLE}",
        "quiet",
        "panic=-1",
        f"PORT={PORT}",
        f"FAMILIES={','.join(families)}",
    )
    command: list[str | Path] = [
        EMULATOR,
        *HARDWARE,
        *("-serial", f"file:{console}", "-serial", f"file:{report}"),
        *("-kernel", kernel.image, "-initrd", archive, "-append", " ".join(words)),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=BOOT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise GuestError(
            _failure(kernel, f"took more than {BOOT_SECONDS:.0f} s", console)
        ) from error
    except subprocess.CalledProcessError as error:
        raise GuestError(f"{EMULATOR} failed: {error.stderr}") from error
    try:
        found = msgspec.json.decode(zlib.decompress(report.read_bytes()), type=Report)
    except (zlib.error, msgspec.DecodeError) as error:
        raise GuestError(_failure(kernel, "did not report", console)) from error
    found.version = kernel.version
    return found


def _failure(kernel: Kernel, what: str, console: Path) -> str:
    said = console.read_text("utf-8", "replace")[-CONSOLE_CHARACTERS:]
    return f"the machine with {kernel.package} {what}; its console ends with:\n{said}"
