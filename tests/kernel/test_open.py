# SPDX-License-Identifier: Apache-2.0
"""open and its siblings."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.stream import Acted, Event, Stream

Do = Callable[..., Acted]
READ = str(os.O_RDONLY)
TELLING = """\
from nodeagent.source import live

class Alarm(live._Alarm):
    def __init__(self, rings):
        super().__init__(rings[1:])

    def _on_edge(self):
        live.log.info("woken")
        super()._on_edge()

live._Alarm = Alarm
"""
"""Tells when the bulk ring wakes the reader, and only that does; Python imports it at the start."""


def opened(stream: Stream, acted: Acted, path: Path | str) -> Event:
    """The event about `path`, checked against what the process itself saw."""
    events = [e for e in stream.of(acted.pid, "open") if e.get("path") == str(path)]
    assert len(events) == 1
    assert events[0]["result"] == acted.said["result"]
    assert events[0]["tid"] == acted.pid
    return events[0]


def check_file(event: Event, path: Path) -> None:
    """Inode, device and mode are those of the file."""
    facts = path.stat()
    assert event["inode"] == facts.st_ino
    assert event["device"] == f"{os.major(facts.st_dev)}:{os.minor(facts.st_dev)}"
    assert event["mode"] == f"{stat.S_IMODE(facts.st_mode):04o}"


def test_open_tells_path_flags_and_inode(stream: Stream, do: Do, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch(0o640)
    event = opened(stream, do("open", str(file), str(os.O_RDWR | os.O_APPEND)), file)
    assert event["flags"] == ["O_RDWR", "O_APPEND"]
    assert event["created"] is False
    check_file(event, file)


def test_openat_is_resolved_from_its_directory(stream: Stream, do: Do, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file = tmp_path / "b"
    file.touch()
    event = opened(stream, do("openat", str(tmp_path / "a"), "../b", READ), file)
    assert event["flags"] == ["O_RDONLY"]


def test_openat_is_resolved_from_the_working_directory(
    stream: Stream, do: Do, tmp_path: Path
) -> None:
    file = tmp_path / "here"
    file.touch()
    opened(stream, do("openat", "-", "here", READ, cwd=tmp_path), file)


def test_created_file_says_so_and_keeps_the_creation_flags(
    stream: Stream, do: Do, tmp_path: Path
) -> None:
    file = tmp_path / "new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    event = opened(stream, do("openat", "-", str(file), str(flags)), file)
    assert event["created"] is True
    assert set(event["flags"]) == {"O_WRONLY", "O_CREAT", "O_EXCL", "O_CLOEXEC"}
    check_file(event, file)


def test_openat2_takes_its_flags_from_the_struct(stream: Stream, do: Do, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    event = opened(stream, do("openat2", str(file), str(os.O_WRONLY | os.O_TRUNC)), file)
    assert event["flags"] == ["O_WRONLY", "O_TRUNC"]


def test_creat_is_an_open(stream: Stream, do: Do, tmp_path: Path) -> None:
    file = tmp_path / "created"
    event = opened(stream, do("creat", str(file)), file)
    assert event["flags"] == ["O_WRONLY", "O_CREAT", "O_TRUNC"]
    assert event["created"] is True


def test_open_by_handle_is_an_open_with_its_path(stream: Stream, do: Do, tmp_path: Path) -> None:
    file = tmp_path / "handled"
    file.touch()
    opened(stream, do("open_by_handle_at", str(file), str(tmp_path)), file)


def test_symlinked_folder_does_not_hide_the_file(stream: Stream, do: Do, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/ssl")
    acted = do("openat", "-", str(tmp_path / "link/../passwd"), READ)
    opened(stream, acted, "/etc/passwd")


def test_path_crosses_mount_points(stream: Stream, do: Do) -> None:
    acted = do("openat", "-", "/proc/self/../version", READ)
    opened(stream, acted, "/proc/version")


@pytest.mark.parametrize("name", ["line\nbreak", "escape\x1b[31m", "ümläut", '"quoted\\"'])
def test_hostile_name_arrives_as_it_is(stream: Stream, do: Do, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.touch()
    opened(stream, do("openat", "-", str(file), READ), file)


def test_name_that_is_no_utf8_is_shown_in_hexadecimal(
    stream: Stream, do: Do, tmp_path: Path
) -> None:
    file = os.fsencode(tmp_path) + b"/bad\xff\xfename"
    Path(os.fsdecode(file)).touch()
    opened(stream, do("openat", "-", file, READ), f"{tmp_path}/bad\\xff\\xfename")


def test_deepest_path_of_the_kernel_is_whole_or_says_truncated(
    stream: Stream, do: Do, tmp_path: Path
) -> None:
    deep = tmp_path
    while len(str(deep)) < 3800:
        deep = deep / ("d" * 200)
    deep.mkdir(parents=True)
    (deep / "leaf").touch()
    opened(stream, do("openat", "-", str(deep / "leaf"), READ), deep / "leaf")


def test_path_with_too_many_folders_says_truncated(stream: Stream, do: Do, tmp_path: Path) -> None:
    deep = tmp_path / "/".join("d" * 150)
    deep.mkdir(parents=True)
    (deep / "leaf").touch()
    acted = do("openat", "-", str(deep / "leaf"), READ)
    (event,) = [e for e in stream.of(acted.pid, "open") if e.get("path", "").endswith("/leaf")]
    assert event["truncated"] == ["path"]
    assert str(deep / "leaf").endswith(event["path"])
    assert not event["path"].startswith("/")


@pytest.mark.parametrize(
    "case",
    [
        ("missing", os.O_RDONLY, errno.ENOENT),
        ("folder", os.O_WRONLY, errno.EISDIR),
        ("file", os.O_WRONLY | os.O_CREAT | os.O_EXCL, errno.EEXIST),
        ("file/below", os.O_RDONLY, errno.ENOTDIR),
    ],
)
def test_failed_open_tells_what_was_asked_for(
    stream: Stream, do: Do, tmp_path: Path, case: tuple[str, int, int]
) -> None:
    name, flags, error = case
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    acted = do("openat", "-", name, str(flags), cwd=tmp_path)
    (event,) = [e for e in stream.of(acted.pid, "open") if e.get("argument") == name]
    assert event["result"] == acted.said["result"] == -error
    assert event["error"] == errno.errorcode[error]
    assert "path" not in event


def test_pointer_that_leads_nowhere_is_said_and_not_guessed(stream: Stream, do: Do) -> None:
    acted = do("open_unmapped")
    (event,) = [e for e in stream.of(acted.pid, "open") if e["result"] == -errno.EFAULT]
    assert event["unread"] == {"argument": "EFAULT"}
    assert "argument" not in event


def test_open_after_a_rest_wakes_the_reader(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(TELLING)
    with Stream(environment={"PYTHONPATH": str(tmp_path)}) as stream:
        # It does not rest whenever somebody else opens files.
        assert any(is_woken(stream, tmp_path / f"file-{number}") for number in range(20))


def is_woken(stream: Stream, file: Path) -> bool:
    """One open wakes the reader."""
    time.sleep(0.5)
    before = stream.errors.count(" woken")
    file.touch()
    stream.one(kind="open", path=str(file))
    # That comes by another pipe than events.
    time.sleep(0.1)
    return stream.errors.count(" woken") > before
