# SPDX-License-Identifier: Apache-2.0
"""Load generators: small C programs, built where they are used."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent
FLAGS: Final = ("-O2", "-Wall", "-Wextra", "-Werror")
FREESTANDING: Final = ("-nostdlib", "-static", "-fno-stack-protector", "-fno-builtin")
FILES: Final = 64
"""Distinct files that the generator of opens goes through."""
LATE_SECONDS: Final = 30.0
"""A generator that runs longer than this beyond its time has failed."""


@dataclass(frozen=True)
class Done:
    """What a generator says at its end."""

    operations: int
    seconds: float
    cpu_seconds: float
    """Of the generator and its children."""

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds


class Running:
    """A generator at work."""

    def __init__(self, command: list[str], seconds: float) -> None:
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._patience = seconds + LATE_SECONDS

    def wait(self) -> Done:
        """Wait for its end; raises RuntimeError when it failed."""
        output, complaints = self._process.communicate(timeout=self._patience)
        if self._process.returncode:
            raise RuntimeError(f"the load generator failed: {complaints.strip()}")
        operations, seconds, cpu = output.split()
        return Done(int(operations), float(seconds), float(cpu))

    def stop(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


class Load:
    """The generators, built into one folder."""

    def __init__(self, folder: Path) -> None:
        """Build them; raises CalledProcessError with what gcc said."""
        self._programs = {
            name: _build(name, folder, flags)
            for name, flags in (
                ("opens", ()),
                ("execs", ()),
                ("nothing", FREESTANDING),
                ("calls", ()),
                ("sleepers", ()),
            )
        }
        self._files = folder / "files"
        self._files.mkdir()
        for number in range(FILES):
            (self._files / str(number)).touch()

    @contextmanager
    def opens(self, seconds: float, rate: float = 0, steps: int = 0) -> Iterator[Running]:
        """open+close for so long, `rate` times a second; 0: flat out.

        After each it computes for so many `steps`, of some two nanoseconds each.
        """
        numbers = (str(FILES), str(rate), str(seconds), "0", str(steps))
        with self._running("opens", seconds, str(self._files), *numbers) as running:
            yield running

    @contextmanager
    def calls(self, seconds: float) -> Iterator[Running]:
        """getppid(2) flat out for so long."""
        with self._running("calls", seconds, str(seconds)) as running:
            yield running

    @contextmanager
    def execs(self, seconds: float, rate: float = 0) -> Iterator[Running]:
        """fork+exec+exit for so long, `rate` times a second; 0: flat out."""
        numbers = (str(rate), str(seconds), "0")
        with self._running("execs", seconds, str(self._programs["nothing"]), *numbers) as running:
            yield running

    @contextmanager
    def sleepers(self, count: int, rate: float, cgroups: Path | None = None) -> Iterator[None]:
        """So many processes that do nothing, made `rate` a second before the block begins.

        Each in a cgroup of its own below `cgroups`: 0…00, 0…01 and so on, in hexadecimal.
        """
        command = [str(self._programs["sleepers"]), str(count), str(rate)]
        command += [str(cgroups)] if cgroups is not None else []
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            if not running.stdout.readline():
                raise RuntimeError("the processes cannot be made")
            yield

    @contextmanager
    def _running(self, name: str, seconds: float, *arguments: str) -> Iterator[Running]:
        running = Running([str(self._programs[name]), *arguments], seconds)
        try:
            yield running
        finally:
            running.stop()


def _build(name: str, folder: Path, flags: tuple[str, ...]) -> Path:
    program = folder / name
    command = ["gcc", *FLAGS, *flags, "-o", str(program), str(SOURCES / f"{name}.c")]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return program
