# SPDX-License-Identifier: Apache-2.0
"""A virtual machine that runs one shell command after the other."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.vm import system
from tests.vm.initramfs import DEVICES, Archive
from tests.vm.kernels import X86, Kernel
from tests.vm.machine import MACHINES, REPORT, GuestError, failure, run

HOME: Final = Path("/scenario")
"""What belongs to the tests in the guest."""
STEP_SECONDS: Final = 400
"""A step that takes longer hangs."""

SYSTEMD: Final = """\
#!/bin/sh
# Make / a mount like any other: the first one of all cannot be left by pivot_root(2).
set -e
mkdir /root-mount
mount --rbind / /root-mount
cd /root-mount
mount --move . /
exec chroot . /lib/systemd/systemd
"""
UNIT: Final = f"""\
[Service]
ExecStart={HOME}/run
"""
# Nothing but the report goes to the second port.
RUN: Final = """\
#!/bin/bash
cd /
for step in {home}/steps/*; do
    seen={home}/seen/${{step##*/}}
    mkdir -p $seen
    date +%s.%N >$seen/began
    timeout --kill-after=5 {seconds} bash -c ". {home}/words; . $step" \\
        </dev/null >$seen/output 2>$seen/errors
    echo $? >$seen/code
    date +%s.%N >$seen/ended
    echo "step ${{step##*/}} ended with $(<$seen/code)" >/dev/console
done
stty -F {port} raw
tar -C {home}/seen -c . | gzip --force >{port}
{end}
"""


class System(msgspec.Struct, frozen=True):
    """What the machine boots."""

    architecture: str
    archive: Path
    """Its root file system."""
    init: str
    """The first process, a script; `RUN` has to be started by it."""
    end: str
    """The command that switches the machine off."""


DEBIAN: Final = System(X86, system.ARCHIVE, SYSTEMD, "systemctl reboot -ff")


class Step(msgspec.Struct):
    """What became of a command."""

    output: str
    errors: str
    code: int
    began: float
    """In seconds since 1970, by the clock of the guest."""
    ended: float

    def lines(self) -> list[Any]:
        """The output, when that is lines of JSON."""
        return [json.loads(line) for line in self.output.splitlines()]

    def facts(self) -> dict[str, str]:
        """The output, when that is lines of `name=value`."""
        return dict(line.split("=", 1) for line in self.output.splitlines())


def play(
    kernel: Kernel,
    files: Mapping[Path, Path],
    words: str,
    steps: Mapping[str, str],
    folder: Path,
    *,
    booted: System = DEBIAN,
) -> dict[str, Step]:
    """Boot the system, run the steps in their order and return what became of each.

    `files` are brought along: where they lie in the guest, and here. `words` are functions
    of the shell that steps use. Raises GuestError.
    """
    own = folder / "own.cpio.gz"
    archive = Archive(own)
    for device, numbers in DEVICES.items():
        archive.device(device, numbers)
    archive.text(Path("/init"), booted.init, 0o755)
    archive.text(Path("/etc/systemd/system/scenario.service"), UNIT)
    port = MACHINES[booted.architecture].port
    script = RUN.format(home=HOME, seconds=STEP_SECONDS, port=port, end=booted.end)
    archive.text(HOME / "run", script, 0o755)
    archive.text(HOME / "words", words)
    names = {f"{number:03}": name for number, name in enumerate(steps)}
    for number, name in names.items():
        archive.text(HOME / "steps" / number, steps[name])
    for target, source in files.items():
        archive.file(target, source)
    archive.close()
    whole = folder / "system.cpio"
    with whole.open("wb") as out:
        for part in (booted.archive, own):
            with part.open("rb") as file:
                shutil.copyfileobj(file, out)
    show = ("systemd.wants=scenario.service", "systemd.show_status=false")
    wrote = run(booted.architecture, kernel, whole, folder, show)
    try:
        with tarfile.open(fileobj=io.BytesIO((wrote / REPORT).read_bytes())) as tar:
            return {name: _step(tar, f"./{number}") for number, name in names.items()}
    except (tarfile.TarError, KeyError) as error:
        raise GuestError(failure(kernel, "did not report", wrote)) from error


def _step(tar: tarfile.TarFile, folder: str) -> Step:
    def read(name: str) -> str:
        file = tar.extractfile(f"{folder}/{name}")
        assert file is not None
        return file.read().decode("utf-8", "replace")

    numbers = [float(read(name)) for name in ("began", "ended")]
    return Step(read("output"), read("errors"), int(read("code")), *numbers)
