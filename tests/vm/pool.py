# SPDX-License-Identifier: Apache-2.0
"""One virtual machine for each kernel, two at a time, beside the other tests."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from subprocess import SubprocessError
from typing import Final, Self, TypeVar

from nodeagent.kernel.object import find_object
from tests.cases import EVERYTHING, FAMILIES, all_cases
from tests.kernel.stream import build, build_acts
from tests.vm import arm64, initramfs
from tests.vm.guest import CALLS
from tests.vm.kernels import PLACES, X86, Place, fetched
from tests.vm.machine import MACHINES, Report, boot, read_report

__all__ = ["LOAD_MODULE", "Pool", "obstacle"]

AT_ONCE: Final = 2
LOAD_MODULE: Final = "load-module"
"""What is done in each guest, besides the cases."""
Played = TypeVar("Played")
BENCH: Final = Path(__file__).parents[1] / "bench"
CROSS_COMPILER: Final = "aarch64-linux-gnu-gcc"


class Pool:
    """Boots each machine that tests ask for, once; its reports are waited for."""

    def __init__(self, folder: Path) -> None:
        """`folder` is for what the machines are made of and what they write."""
        self._folder = folder
        self._threads = ThreadPoolExecutor(AT_ONCE)
        self._archives: dict[str, Future[Path]] = {}
        self._folders: dict[Place, Future[Path]] = {}
        self._reports: dict[Place, Report] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def submit(self, play: Callable[[], Played]) -> Future[Played]:
        """Have another machine as soon as there is room."""
        return self._threads.submit(play)

    def start(self, places: Iterable[Place]) -> None:
        """Boot these as soon as there is room; what cannot be had here is left out."""
        for place in dict.fromkeys(places):
            if place not in self._folders and obstacle(place) is None:
                self._make_archive(place.architecture)
                self._folders[place] = self._threads.submit(self._boot, place)

    def report(self, place: Place) -> Report:
        """What a machine reports; raises GuestError, OSError, SubprocessError."""
        self.start([place])
        if place not in self._reports:
            folder = self._folders[place].result()
            self._reports[place] = read_report(fetched()[str(place)], folder)
        return self._reports[place]

    def _make_archive(self, architecture: str) -> None:
        """Not beside tests: it takes memory and time of their own process."""
        if architecture in self._archives:
            return
        made: Future[Path] = Future()
        try:
            made.set_result(make_archive(architecture, self._folder))
        except (OSError, SubprocessError) as error:
            made.set_exception(error)
        self._archives[architecture] = made

    def _boot(self, place: Place) -> Path:
        own = self._folder / str(place)
        own.mkdir()
        archive = self._archives[place.architecture].result()
        return boot(place, fetched()[str(place)], archive, own)


def obstacle(place: Place) -> str | None:
    """Why a machine cannot be had here."""
    emulator = MACHINES[place.architecture].emulator
    if shutil.which(emulator) is None:
        return f"{emulator} is not installed"
    if str(place) not in fetched():
        return "`make kernels` has not fetched the kernels"
    if place.architecture == X86:
        if platform.machine() != "x86_64":
            return "the agent here is for another architecture"
        return None if find_object().exists() else "bpf/nodeagent.bpf.o is not built"
    if not arm64.is_built():
        return "`make build-arm64` has not built bpf/ as it is now"
    return None if shutil.which(CROSS_COMPILER) else f"{CROSS_COMPILER} is not installed"


def make_archive(architecture: str, folder: Path) -> Path:
    """The root file system for all kernels of an architecture."""
    programs = folder / f"acts-{architecture}"
    programs.mkdir()
    if architecture == X86:
        root = initramfs.own_root()
        compiler = "gcc"
    else:
        root = initramfs.other_root(arm64.FILES, arm64.SITE, arm64.PYTHON, arm64.OBJECT)
        compiler = CROSS_COMPILER
    acts = [
        *build_acts(programs, compiler).values(),
        build(BENCH / f"{CALLS}.c", programs / CALLS, compiler),
    ]
    archive = folder / f"{architecture}.cpio.gz"
    commands = {case.name: case.act for case in all_cases()}
    commands[LOAD_MODULE] = ("system", "load_module", str(initramfs.MODULES))
    canary = ("--set", "canary.interval_seconds=5")
    options = {family: (*EVERYTHING, *canary, *chosen) for family, chosen in FAMILIES.items()}
    modules = [
        Path(kernel.module)
        for place in PLACES
        if place.architecture == architecture and (kernel := fetched().get(str(place)))
        if kernel.module
    ]
    initramfs.make(archive, root, acts, commands, options, modules=modules)
    return archive
