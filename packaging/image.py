# SPDX-License-Identifier: Apache-2.0
"""`python packaging/image.py FOLDER ARCHIVE`: the container image of a frozen folder.

One layer that holds the program, the libraries of the system that it is linked with,
authorities for TLS, and nothing else: no shell, no package manager. The archive is an OCI
layout that Docker loads, too. The same files give the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import metadata
from pathlib import Path
from typing import Any, Final

from bill import bill, run

from nodeagent import __version__

PROGRAM: Final = "usr/lib/nodeagent"
AUTHORITIES: Final = "etc/ssl/certs/ca-certificates.crt"
FOLDERS: Final = {
    "dev": 0o755,
    "etc/nodeagent": 0o700,
    "proc": 0o755,
    "run": 0o755,
    "sys": 0o755,
    "tmp": 0o1777,
    "var/lib/nodeagent": 0o700,
}
"""Where a runtime mounts something, which a root that is read-only could not make."""
LICENCES: Final = "usr/share/doc/nodeagent"
FILES: Final = {
    AUTHORITIES: Path("/", AUTHORITIES),
    f"{LICENCES}/copyright": Path("LICENSE"),
    f"{LICENCES}/copyright.bpf": Path("bpf/LICENSE"),
}
# Without it glibc asks DNS before it reads /etc/hosts.
NAMES: Final = b"hosts: files dns\n"

REFERENCE: Final = f"nodeagent:{__version__}"
ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
MOMENT: Final = int(os.environ.get("SOURCE_DATE_EPOCH", "1"))
CREATED: Final = datetime.fromtimestamp(MOMENT, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

LINKED: Final = re.compile(r"(?:=> )?(/\S+) \(0x")
"""A library in what ldd(1) says; the linker itself stands without an arrow."""
ELF: Final = b"\x7fELF"
OCI: Final = "application/vnd.oci.image"


def main(folder: Path, archive: Path) -> None:
    layer = packed(contents(folder))
    compressed = gzip.compress(layer, mtime=0)
    config = encoded(configuration(layer))
    manifest = encoded(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": described(f"{OCI}.config.v1+json", config),
            "layers": [described(f"{OCI}.layer.v1.tar+gzip", compressed)],
            "annotations": labels(),
        }
    )
    docker = [{"Config": blob(config), "RepoTags": [REFERENCE], "Layers": [blob(compressed)]}]
    write(
        archive,
        described(f"{OCI}.manifest.v1+json", manifest),
        {
            "manifest.json": encoded(docker),
            **{blob(data): data for data in (config, manifest, compressed)},
        },
    )


def write(archive: Path, image: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """An OCI layout with one image and these files."""
    # How containerd names it, and everybody else.
    names = {
        "io.containerd.image.name": f"docker.io/library/{REFERENCE}",
        "org.opencontainers.image.ref.name": __version__,
    }
    head = {
        "oci-layout": encoded({"imageLayoutVersion": "1.0.0"}),
        "index.json": encoded(index([{**image, "annotations": names}])),
    }
    archive.write_bytes(packed((entry(name), data) for name, data in {**head, **files}.items()))


def index(manifests: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.index.v1+json",
        "manifests": manifests,
    }


def contents(folder: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Everything that is in the image, in the order of its names."""
    files = {f"{PROGRAM}/{path.relative_to(folder)}": path for path in folder.rglob("*")}
    system = libraries(folder)
    files |= {str(path).lstrip("/"): path for path in system}
    found = {name: read(name, path) for name, path in (files | FILES).items() if path.is_file()}
    made = {"etc/nsswitch.conf": NAMES, f"{LICENCES}/sbom.cdx.json": bill(folder, system).encode()}
    found |= {name: (entry(name), data) for name, data in made.items()}
    found["usr/bin/nodeagent"] = link("usr/bin/nodeagent", "../lib/nodeagent/nodeagent"), b""
    above = {str(parent) for name in found for parent in Path(name).parents} - {"."}
    above |= {str(parent) for name in FOLDERS for parent in Path(name).parents} - {"."}
    for name in above | FOLDERS.keys():
        directory = entry(name, FOLDERS.get(name, 0o755))
        directory.type = tarfile.DIRTYPE
        found[name] = directory, b""
    return (found[name] for name in sorted(found))


def libraries(folder: Path) -> set[Path]:
    """The shared libraries outside the folder that anything in it is linked with."""
    inside = (folder / "_internal").resolve()
    found = set()
    for path in folder.resolve().rglob("*"):
        if path.is_file() and path.read_bytes()[: len(ELF)] == ELF:
            # The program tells the linker of its own libraries only when it runs itself.
            places = inside if path.is_relative_to(inside) else ""
            said = run("env", f"LD_LIBRARY_PATH={places}", "ldd", str(path))
            if "not found" in said:
                raise SystemExit(f"image: {path} misses a library:\n{said}")
            found |= set(map(Path, LINKED.findall(said)))
    return {path for path in found if not path.is_relative_to(inside)}


def configuration(layer: bytes) -> dict[str, Any]:
    return {
        "created": CREATED,
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": {
            "User": "0:0",
            "Env": ["PATH=/usr/bin", f"SSL_CERT_FILE=/{AUTHORITIES}"],
            "Entrypoint": ["/usr/bin/nodeagent"],
            "Cmd": ["run"],
            "WorkingDir": "/",
            "StopSignal": "SIGTERM",
            "Labels": labels(),
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        "history": [{"created": CREATED, "created_by": "make image"}],
    }


def labels() -> dict[str, str]:
    own = metadata("nodeagent")
    told = {
        "created": CREATED,
        "title": own["Name"],
        "description": own["Summary"],
        "version": __version__,
        "licenses": own["License-Expression"],
    }
    return {f"org.opencontainers.image.{name}": text for name, text in told.items()}


def read(name: str, path: Path) -> tuple[tarfile.TarInfo, bytes]:
    executable = path.stat().st_mode & 0o111
    return entry(name, 0o755 if executable else 0o644), path.read_bytes()


def entry(name: str, mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.mode, made.mtime = mode, MOMENT
    return made


def link(name: str, target: str) -> tarfile.TarInfo:
    made = entry(name, 0o777)
    made.type, made.linkname = tarfile.SYMTYPE, target
    return made


def packed(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for made, data in entries:
            made.size = len(data)
            tar.addfile(made, io.BytesIO(data))
    return archive.getvalue()


def described(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data)}


def blob(data: bytes) -> str:
    return place(digest(data))


def place(value: str) -> str:
    """Where the blob with this digest lies."""
    return f"blobs/{value.replace(':', '/')}"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encoded(value: Mapping[str, Any] | list[Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
