# SPDX-License-Identifier: Apache-2.0
"""`python packaging/images.py ARCHIVE IMAGE...`: images of several architectures as one.

For registries and containerd, which choose by the architecture of the node; `docker load`, which
cannot, takes the single ones. The same images give the same bytes.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from image import OCI, blob, described, encoded, index, place, write

Files = dict[str, bytes]


def main(archive: Path, *images: Path) -> None:
    found = list(map(read, images))
    every = encoded(index(list(map(manifest, found))))
    blobs = {blob(every): every}
    for files in found:
        blobs |= {name: data for name, data in files.items() if name.startswith(place(""))}
    write(archive, described(f"{OCI}.index.v1+json", every), blobs)


def read(image: Path) -> Files:
    """All files of an archive."""
    with tarfile.open(image) as tar:
        members = {member.name: tar.extractfile(member) for member in tar}
        return {name: file.read() for name, file in members.items() if file}


def manifest(files: Files) -> Mapping[str, Any]:
    """That of the one image, with what it is for."""
    (only,) = json.loads(files["index.json"])["manifests"]
    facts = json.loads(files[place(only["digest"])])
    config = json.loads(files[place(facts["config"]["digest"])])
    platform = {"architecture": config["architecture"], "os": config["os"]}
    return {**{key: only[key] for key in ("mediaType", "digest", "size")}, "platform": platform}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
