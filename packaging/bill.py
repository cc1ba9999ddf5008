# SPDX-License-Identifier: Apache-2.0
"""`python packaging/bill.py FOLDER`: the bill of materials (CycloneDX) of a frozen folder.

Python itself, every Python package that the agent depends on, and every shared library with
the package of the distribution that it comes from. An image has some more libraries.
"""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import distribution
from pathlib import Path
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot5
from needed import NAME, needed
from packageurl import PackageURL

LIBRARY: Final = re.compile(r"\.so(\.\d+)*$")


def bill(folder: Path, more: Iterable[Path] = ()) -> str:
    """`more` are libraries that lie elsewhere."""
    own = distribution(NAME)
    inside = sorted([*(folder / "_internal").iterdir(), *more], key=lambda path: path.name)
    bom = Bom(components=[*map(python_package, needed()), python(), *libraries(inside)])
    root = Component(name=NAME, version=own.version, type=ComponentType.APPLICATION, bom_ref=NAME)
    bom.metadata.component = root
    bom.register_dependency(root, bom.components)
    # The same files give the same bill.
    bom.metadata.timestamp = datetime.fromtimestamp(0, UTC)
    facts = sorted(f"{each.name} {each.version}" for each in bom.components)
    bom.serial_number = uuid5(NAMESPACE_URL, "\n".join(facts))
    return str(JsonV1Dot5(bom).output_as_string(indent=2))


def python() -> Component:
    version = platform.python_version()
    return Component(name="python", version=version, type=ComponentType.PLATFORM, bom_ref="python")


def python_package(name: str) -> Component:
    version = distribution(name).version
    url = PackageURL("pypi", None, name, version)
    return Component(
        name=name, version=version, type=ComponentType.LIBRARY, purl=url, bom_ref=str(url)
    )


def libraries(paths: Iterable[Path]) -> Iterator[Component]:
    """The shared libraries that come from the machine that built it."""
    for path in paths:
        if LIBRARY.search(path.name):
            package, version = origin(path.name)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            yield Component(
                name=path.name,
                version=version,
                type=ComponentType.LIBRARY,
                bom_ref=path.name,
                purl=PackageURL("deb", "debian", package, version) if package else None,
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
            )


def origin(library: str) -> tuple[str, str]:
    """Name and version of the installed package that a library belongs to; empty when none."""
    found = run("dpkg-query", "--search", f"*/{library}").splitlines()
    if not found:
        return "", ""
    package = found[0].partition(":")[0]
    return package, run("dpkg-query", "--show", "--showformat", "${Version}", package)


def run(*command: str) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


if __name__ == "__main__":
    print(bill(Path(sys.argv[1])))
