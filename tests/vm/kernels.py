# SPDX-License-Identifier: Apache-2.0
"""The kernels of the matrix: Debian's cloud kernels, fetched by `make kernels`."""

from __future__ import annotations

import lzma
import re
import shutil
import sys
from pathlib import Path
from typing import Final

import msgspec

from tests.cases import TRACEPOINT, TRAMPOLINE
from tests.vm.debian import FetchError, Suite, told, unpack, version

FOLDER: Final = Path(__file__).parents[2] / ".make/kernels"
LIST: Final = FOLDER / "kernels.json"
"""Written last, so it is there when all kernels are."""

MODULE: Final = "dummy"
"""A small one that needs no hardware."""

X86: Final = "amd64"
ARM: Final = "arm64"


class Place(msgspec.Struct, frozen=True):
    """Where a kernel comes from: always the one that Debian ships there today."""

    suite: str
    architecture: str
    families: tuple[str, ...] = (TRACEPOINT, TRAMPOLINE)
    """Of the hooks that it takes."""

    def __str__(self) -> str:
        """Its name in tests."""
        return f"{self.suite}-{self.architecture}"


PLACES: Final = (
    Place("bullseye", X86),
    Place("bookworm", X86),
    Place("trixie", X86),
    Place("trixie-backports", X86),
    # No trampolines for eBPF on arm64 before commit efc9909fdce0 (v6.0).
    Place("bullseye", ARM, (TRACEPOINT,)),
    Place("trixie", ARM),
)
"""Linux 5.10, 6.1, 6.12 and the newest that is packaged for a release."""


class Kernel(msgspec.Struct, frozen=True):
    """One that was fetched."""

    place: str
    package: str
    version: str
    image: str
    """Its path."""
    module: str = ""
    """The path of a module of it; empty where modules are in a package of their own."""


def fetched() -> dict[str, Kernel]:
    """All kernels, by the name of their place; none when they were not fetched."""
    if not LIST.exists():
        return {}
    kernels = msgspec.json.decode(LIST.read_bytes(), type=list[Kernel])
    return {kernel.place: kernel for kernel in kernels}


def fetch(place: Place) -> Kernel:
    """The kernel that the suite recommends today; raises FetchError."""
    folder = FOLDER / str(place)
    suite = Suite(place.suite, place.architecture, folder)
    # Since v7 the image is in a package of its own, named linux-binary.
    wanted = re.compile(rf"linux-(image|binary)-\d.*-cloud-{place.architecture}")
    for package in suite.depends(f"linux-image-cloud-{place.architecture}"):
        if not wanted.fullmatch(package):
            continue
        archive = suite.fetch(package)
        kernel = Kernel(str(place), package, version(archive), str(folder / "vmlinuz"))
        files = folder / "files"
        unpack(archive, files)
        archive.unlink()
        images = list(files.rglob("vmlinuz*"))
        if images:
            images[0].rename(kernel.image)
            kernel = msgspec.structs.replace(kernel, module=keep_module(files, folder))
        shutil.rmtree(files)
        if images:
            return kernel
    raise FetchError(f"no package of {place} has a kernel in it")


def keep_module(files: Path, folder: Path) -> str:
    """Take the module out of a package, named like the release of the kernel; its path."""
    for source in files.rglob(f"{MODULE}.ko*"):
        # …/lib/modules/RELEASE/kernel/drivers/net/dummy.ko
        release = source.parents[3].name
        target = folder / f"{release}.ko"
        content = source.read_bytes()
        target.write_bytes(lzma.decompress(content) if source.suffix == ".xz" else content)
        return str(target)
    return ""


def make() -> None:
    """Fetch all, and list them; raises FetchError."""
    kernels = [fetch(place) for place in PLACES]
    LIST.write_bytes(msgspec.json.format(msgspec.json.encode(kernels)))


if __name__ == "__main__":
    sys.exit(told("kernels", f"fetching {len(PLACES)} kernels", make))
