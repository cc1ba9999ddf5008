# SPDX-License-Identifier: Apache-2.0
"""What `make dist` builds, and what a guest makes of the package, beside the other tests."""

from __future__ import annotations

import platform
import shutil
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Final, Self

from tests.packaging.guest import Step, play
from tests.packaging.scenario import NEWER, NEWER_DEB, PROFILE, STEPS, WORDS
from tests.requirement import need
from tests.vm import system
from tests.vm.kernels import X86, fetched
from tests.vm.machine import COURTEOUS, MACHINES
from tests.vm.pool import Pool

__all__ = ["Artefacts"]

CHECKOUT: Final = Path(__file__).parents[2]
KERNEL: Final = f"{system.SUITE}-{X86}"


class Artefacts:
    """Each is made once, in the background from `start()` on, and waited for."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        """`folder` is for the newer packages and for what the guest writes."""
        self._folder = folder
        self._pool = pool
        self._builder = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._builder.shutdown(cancel_futures=True)

    def start(self, *, guest: bool) -> None:
        """Build, and play the scenario in a `guest` where that is possible."""
        self._built  # noqa: B018 the first use starts it
        if guest and not any(obstacles().values()):
            self._played  # noqa: B018

    def dist(self) -> Path:
        """The folder with all artefacts."""
        return self._built.result()

    def newer(self, packager: str) -> Path:
        """A second package, a deb or an rpm, with the same files and a higher version."""
        path = self._folder / f"newer.{packager}"
        if not path.exists():
            self.dist()
            make("package", f"VERSION={NEWER}", f"PACKAGE={path}")
        return path

    def seen(self) -> dict[str, Step]:
        """What became of each step of the scenario: one boot for all tests."""
        for reason, is_met in obstacles().items():
            need("vm", not is_met, reason)
        return self._played.result()

    @cached_property
    def _built(self) -> Future[Path]:
        return self._builder.submit(build)

    @cached_property
    def _played(self) -> Future[dict[str, Step]]:
        return self._pool.submit(self._play)

    def _play(self) -> dict[str, Step]:
        deb = self.dist() / "nodeagent.deb"
        files = {
            Path("/dist/nodeagent.deb"): deb,
            NEWER_DEB: self.newer("deb"),
            PROFILE: CHECKOUT / "packaging/apparmor/nodeagent",
        }
        own = self._folder / "guest"
        own.mkdir()
        return play(fetched()[KERNEL], files, WORDS, STEPS, own)


def build() -> Path:
    """Takes a minute unless all is up to date."""
    make("dist")
    return CHECKOUT / "dist"


def make(*words: str) -> None:
    """Fails with what it says."""
    command = [*COURTEOUS, "make", "--silent", *words]
    made = subprocess.run(command, cwd=CHECKOUT, check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr


def obstacles() -> dict[str, bool]:
    """What may keep the guest from being had here, and whether it does."""
    return {
        "the package here is for another architecture": platform.machine() != "x86_64",
        "QEMU is not installed": shutil.which(MACHINES[X86].emulator) is None,
        "`make kernels` has not fetched the kernels": KERNEL not in fetched(),
        "`make system` has not made a Debian": not system.ARCHIVE.exists(),
    }
