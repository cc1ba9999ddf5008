# SPDX-License-Identifier: Apache-2.0
"""Packages of any release of Debian, for any architecture, fetched and unpacked.

apt-get fetches and verifies them, with sources, lists and a cache of its own, so nothing is
installed and what this machine's apt knows stays as it is.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Holds the keys of all releases that are supported somewhere."""

# What this machine's apt would do after an update is none of our business.
# The sandbox user of apt may not enter the folders of whoever runs this.
CONFIGURATION: Final = """\
#clear APT::Update;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Dir::Cache "{folder}/cache";
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "-";
Dir::State "{folder}/state";
Dir::State::status "/dev/null";
"""


class FetchError(Exception):
    """Why something could not be fetched, in one sentence."""


class Suite:
    """A release, seen by an apt of its own."""

    def __init__(self, name: str, architecture: str, folder: Path) -> None:
        """Read the lists of today; raises FetchError."""
        if not KEYRING.exists():
            raise FetchError(f"{KEYRING} is missing: install debian-archive-keyring")
        for part in ("cache/archives/partial", "state/lists/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._configuration = folder / "apt.conf"
        self._configuration.write_text(
            CONFIGURATION.format(architecture=architecture, folder=folder), encoding="utf-8"
        )
        (folder / "sources.list").write_text(
            f"deb [signed-by={KEYRING}] {mirror()} {name} main\n", encoding="utf-8"
        )
        self._apt("apt-get", "-qq", "update")

    def depends(self, package: str) -> list[str]:
        """A package and all that it needs, directly or not; raises FetchError."""
        listed = self._apt(
            "apt-cache", "depends", "--recurse", "--important", "--no-pre-depends", package
        )
        return [line for line in listed.splitlines() if re.fullmatch(r"[a-z0-9]\S+", line)]

    def fetch(self, package: str) -> Path:
        """The archive of a package; raises FetchError."""
        self._apt("apt-get", "-qq", "download", package)
        (archive,) = self._folder.glob(f"{package}_*.deb")
        return archive

    def _apt(self, program: str, *arguments: str) -> str:
        return run(program, "--config-file", str(self._configuration), *arguments, cwd=self._folder)


def version(archive: Path) -> str:
    """Of a package."""
    return run("dpkg-deb", "--field", str(archive), "Version").strip()


def unpack(archive: Path, to: Path) -> None:
    """The files of a package, below a folder."""
    run("dpkg-deb", "--extract", str(archive), str(to))


def make_root(suite: str, architecture: str, packages: Collection[str], folder: Path) -> None:
    """A root file system with these packages and all that they need; raises FetchError.

    They are unpacked and known to dpkg as installed, but none of their scripts has run, so that
    the architecture may be any.
    """
    options = [f"--architectures={architecture}", f"--include={','.join(packages)}"]
    # The archives are wanted, too.
    options += ["--quiet", "--variant=extract", "--skip=cleanup/apt"]
    run("mmdebstrap", *options, suite, str(folder), mirror())
    fetched = folder / "var/cache/apt"
    known = folder / "var/lib/dpkg"
    (known / "info").mkdir(parents=True, exist_ok=True)
    status = []
    for archive in sorted(fetched.glob("archives/*.deb")):
        facts = run("dpkg-deb", "--field", str(archive))
        name = archive.name.partition("_")[0]
        listed = run("sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -t', "sh", str(archive))
        paths = [line.removeprefix(".").rstrip("/") or "/." for line in listed.splitlines()]
        (known / f"info/{name}.list").write_text("".join(f"{path}\n" for path in paths))
        status.append(f"{facts}Status: install ok installed\n\n")
    (known / "status").write_text("".join(status))
    for spare in (fetched, folder / "var/lib/apt/lists"):
        shutil.rmtree(spare)


@functools.cache
def mirror() -> str:
    """Where this machine gets Debian from; raises FetchError."""
    targets = run("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)")
    for target in targets.splitlines():
        label, _, address = target.rpartition(" ")
        if label == "Debian":
            return address
    raise FetchError("apt knows no mirror of Debian: try again after `apt-get update`")


def run(*command: str, cwd: Path | None = None) -> str:
    """What a program says; raises FetchError with its last words."""
    try:
        done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise FetchError(f"there is no {command[0]} here") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        words = [word for word in command if not word.startswith(("-", "/"))]
        raise FetchError(f"{' '.join(words)} says: {said[-1]}")
    return done.stdout


def told(name: str, what: str, make: Callable[[], None]) -> int:
    """Make it, and say so on stderr, or why it cannot be made; returns the exit code."""
    try:
        print(f"{name}: {what} from {mirror()}", file=sys.stderr)
        make()
    except FetchError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0
