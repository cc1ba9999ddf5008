# SPDX-License-Identifier: Apache-2.0
"""The kernels of the matrix: Debian's cloud kernels, fetched by `make kernels`.

apt-get fetches and verifies them, with sources, lists and a cache of its own in .make/kernels/,
so nothing is installed and what this machine's apt knows stays as it is.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

FOLDER: Final = Path(__file__).parents[2] / ".make/kernels"
LIST: Final = FOLDER / "kernels.json"
"""Written last, so it is there when all kernels are."""

SUITES: Final = ("bullseye", "bookworm", "trixie", "trixie-backports")
"""Linux 5.10, 6.1, 6.12 and the newest that is packaged for a release."""
ARCHITECTURE: Final = "amd64"
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Holds the keys of all these suites."""

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


class Kernel(msgspec.Struct, frozen=True):
    """One that was fetched."""

    suite: str
    package: str
    version: str
    image: str
    """Its path."""


class FetchError(Exception):
    """Why there are no kernels, in one sentence."""


def fetched() -> list[Kernel]:
    """All kernels, oldest first; none when they were not fetched."""
    if not LIST.exists():
        return []
    return msgspec.json.decode(LIST.read_bytes(), type=list[Kernel])


def fetch() -> list[Kernel]:
    """Fetch all kernels; raises FetchError."""
    if not KEYRING.exists():
        raise FetchError(f"{KEYRING} is missing: install debian-archive-keyring")
    mirror = _mirror()
    print(f"kernels: fetching those of {', '.join(SUITES)} from {mirror}", file=sys.stderr)
    return [Suite(suite, mirror).fetch() for suite in SUITES]


class Suite:
    """A release of Debian, seen by an apt of its own."""

    def __init__(self, name: str, mirror: str) -> None:
        self._name = name
        self._folder = FOLDER / name
        for part in ("cache/archives/partial", "state/lists/partial"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        self._configuration = self._folder / "apt.conf"
        self._configuration.write_text(
            CONFIGURATION.format(architecture=ARCHITECTURE, folder=self._folder)
        )
        (self._folder / "sources.list").write_text(
            f"deb [signed-by={KEYRING}] {mirror} {name} main\n"
        )

    def fetch(self) -> Kernel:
        """The kernel that the suite recommends today."""
        self._apt("apt-get", "-qq", "update")
        for package in self._packages():
            self._apt("apt-get", "-qq", "download", package)
            (archive,) = self._folder.glob(f"{package}_*.deb")
            version = _run("dpkg-deb", "--field", str(archive), "Version").strip()
            image = self._folder / "vmlinuz"
            found = _unpack_image(archive, image)
            archive.unlink()
            if found:
                return Kernel(self._name, package, version, str(image))
        raise FetchError(f"no package of {self._name} has a kernel in it")

    def _packages(self) -> Iterator[str]:
        """What the meta package stands for. Since v7 the image is in a package of its own."""
        meta = f"linux-image-cloud-{ARCHITECTURE}"
        wanted = re.compile(rf"linux-(image|binary)-\d.*-cloud-{ARCHITECTURE}")
        listed = self._apt(
            "apt-cache", "depends", "--recurse", "--important", "--no-pre-depends", meta
        )
        for line in listed.splitlines():
            if wanted.fullmatch(line):
                yield line

    def _apt(self, program: str, *arguments: str) -> str:
        return _run(
            program, "--config-file", str(self._configuration), *arguments, cwd=self._folder
        )


def _mirror() -> str:
    """Where this machine gets Debian from."""
    targets = _run("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)")
    for target in targets.splitlines():
        label, _, address = target.rpartition(" ")
        if label == "Debian":
            return address
    raise FetchError("apt knows no mirror of Debian: try again after `apt-get update`")


def _unpack_image(archive: Path, to: Path) -> bool:
    """Whether there is a kernel in a package; it is written to `to`."""
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as members,
    ):
        for member in members:
            content = members.extractfile(member) if member.isfile() else None
            if content and Path(member.name).name.startswith("vmlinu"):
                to.write_bytes(content.read())
                unpacking.kill()
                return True
    return False


def _run(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise FetchError(f"there is no {command[0]} here") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise FetchError(f"{' '.join(_words(command))} says: {said[-1]}")
    return done.stdout


def _words(command: Sequence[str]) -> list[str]:
    """A command without what is the same for all."""
    return [word for word in command if not word.startswith(("-", "/"))]


def main() -> int:
    """Returns the exit code."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        kernels = fetch()
    except FetchError as error:
        print(f"kernels: {error}", file=sys.stderr)
        return 1
    LIST.write_bytes(msgspec.json.format(msgspec.json.encode(kernels)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
