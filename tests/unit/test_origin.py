# SPDX-License-Identifier: Apache-2.0
"""Where a file of a container comes from, on a real overlay."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.enrich.file import FileKey, FileQuestion
from nodeagent.event import Container
from nodeagent.follow.inside import Inside, opened
from nodeagent.follow.origin import MountEntry, origin_of, parse_mount
from nodeagent.kernel.libbpf import Libbpf
from tests.events import a_container
from tests.requirement import need

BUSYBOX = Path("/bin/busybox")
COMPOSE = """
set -eu
mount -t overlay overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$1/merged"
mount -t tmpfs tmpfs "$1/merged/memory"
mount --bind "$1/volume" "$1/merged/volume"
cp /bin/busybox "$1/merged/added"
cp /bin/busybox "$1/merged/memory/added"
touch "$1/merged/touched"
chmod 700 "$1/merged/folder/changed"
mv "$1/merged/renamed" "$1/merged/folder/"
echo ready
exec chroot "$1/merged" /busybox sleep 1000
"""


@pytest.fixture(scope="module")
def rooted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A process whose root is an overlay, as in a container."""
    need("kernel", os.geteuid() == 0, "only root may mount")
    need("containers", BUSYBOX.exists(), "busybox-static is not installed")
    base = tmp_path_factory.mktemp("a folder")
    for name in ("lower/folder", "lower/memory", "lower/volume", "upper", "work", "merged"):
        (base / name).mkdir(parents=True)
    (base / "volume").mkdir()
    for name in ("lower/busybox", "lower/touched", "lower/renamed", "volume/tool"):
        shutil.copy(BUSYBOX, base / name)
    for name in ("changed", "original"):
        shutil.copy(BUSYBOX, base / "lower/folder" / name)
    command = ["unshare", "--mount", "sh", "-c", COMPOSE, "sh", str(base)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        while Path(f"/proc/{process.pid}/root").readlink() == Path("/"):
            pass
        yield process.pid
        process.kill()


def origin(pid: int, path: str, container: Container | None) -> str:
    inside = Inside(Libbpf().syscall)
    question = FileQuestion(FileKey(0, 0, 0, 0, 0), path, (pid,), True, 0, container)
    with opened(inside.look_up(pid, path)) as found:
        return origin_of(inside, question, pid, found)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/busybox", "image"),
        ("/folder/original", "image"),
        ("/added", "upper"),
        ("/touched", "upper"),
        ("/folder/changed", "upper"),
        ("/folder/renamed", "upper"),
        ("/memory/added", "tmpfs"),
        ("/volume/tool", "volume"),
    ],
)
def test_origin_in_a_container(rooted: int, path: str, expected: str) -> None:
    assert origin(rooted, path, a_container()) == expected


def test_outside_of_containers_files_are_of_the_host(rooted: int) -> None:
    assert origin(rooted, "/added", None) == "host"
    assert origin(rooted, "/memory/added", None) == "tmpfs"
    assert origin(os.getpid(), "/etc/passwd", None) == "host"


@pytest.mark.parametrize(
    ("created", "expected"),
    [("2001-01-01T00:00:00Z", "upper"), ("2999-01-01T00:00:00Z", "image"), ("", "unknown")],
)
def test_where_the_image_is_a_copy_the_time_decides(created: str, expected: str) -> None:
    assert origin(os.getpid(), "/etc/passwd", a_container(created=created)) == expected


def test_mount_with_odd_characters_is_read() -> None:
    line = (
        rb"65 43 0:39 / /a\040b rw,relatime shared:1 - overlay over\134lay"
        rb" rw,lowerdir=/l,upperdir=/u\054v\040w,workdir=/w"
    )
    assert parse_mount(line) == MountEntry("65", "/", "/a b", "overlay", "/u,v w")


@pytest.mark.parametrize(
    "line", [b"", b"65 43 0:39 / /", b"- -", b"65 43 0:39 / / rw overlay", b"\xff\xfe - \xff"]
)
def test_line_of_another_form_is_no_mount(line: bytes) -> None:
    assert parse_mount(line) is None
