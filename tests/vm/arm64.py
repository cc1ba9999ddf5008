# SPDX-License-Identifier: Apache-2.0
"""What it takes to build and run the agent for arm64 elsewhere, fetched by `make build-arm64`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final

from tests.vm.debian import FetchError, Suite, told, unpack
from tests.vm.initramfs import dependencies

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / ".make/arm64"
FILES: Final = FOLDER / "files"
"""A root file system with Python and the libraries of the agent."""
SITE: Final = FOLDER / "site"
"""The Python packages that the agent depends on, as requirements.lock pins them."""
OBJECT: Final = FOLDER / "nodeagent.bpf.o"
PYTHON: Final = Path("/usr/bin/python3.11")

# google-re2 has none for an older C library.
PLATFORMS: Final = ("manylinux2014_aarch64", "manylinux_2_26_aarch64")
"""Of the wheels."""

HEADERS_SUITE: Final = "trixie"
HEADERS: Final = "linux-bpf-dev"
SUITE: Final = "bookworm"
PACKAGES: Final = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"),
    *("libbpf1", "libelf1", "zlib1g", "libc6", "libgcc-s1"),
    *("libexpat1", "libssl3", "libffi8", "libbz2-1.0", "liblzma5"),
)


def is_built() -> bool:
    """Whether the object was built from bpf/ as it is; `make build` leaves it as it was."""
    sources = (ROOT / "bpf").glob("*.[ch]")
    return OBJECT.exists() and OBJECT.stat().st_mtime >= max(s.stat().st_mtime for s in sources)


def fetch_headers() -> None:
    """The types of the kernel, made by Debian from the kernel that it builds."""
    archive = Suite(HEADERS_SUITE, "arm64", FOLDER / HEADERS_SUITE).fetch(HEADERS)
    files = FOLDER / "headers"
    unpack(archive, files)
    (header,) = files.rglob("vmlinux.h")
    header.rename(FOLDER / "vmlinux.h")
    shutil.rmtree(files)
    archive.unlink()


def fetch_files() -> None:
    """Python and the libraries."""
    shutil.rmtree(FILES, ignore_errors=True)
    suite = Suite(SUITE, "arm64", FOLDER / SUITE)
    for package in PACKAGES:
        archive = suite.fetch(package)
        unpack(archive, FILES)
        archive.unlink()


def fetch_site(wanted: Collection[str], to: Path) -> None:
    """Python packages of these names, as requirements.lock pins them; raises FetchError."""
    shutil.rmtree(to, ignore_errors=True)
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.findall(r"^(\S+)(==.*?)(?=^\S|\Z)", lock, re.MULTILINE | re.DOTALL)
    requirements = FOLDER / "requirements.txt"
    requirements.write_text(
        "".join(name + rest for name, rest in pinned if name in wanted), encoding="utf-8"
    )
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--target", str(to), "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command += ["--implementation", "cp", "--python-version", "3.11"]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    command += ["--requirement", str(requirements)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise FetchError(f"pip says: {done.stderr.strip().splitlines()[-1]}")


def make() -> None:
    """All of it; raises FetchError."""
    fetch_headers()
    fetch_files()
    fetch_site(dependencies(), SITE)
    (FOLDER / "fetched").touch()


if __name__ == "__main__":
    sys.exit(told("arm64", "fetching headers and Python", make))
