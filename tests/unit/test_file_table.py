# SPDX-License-Identifier: Apache-2.0
"""What events say about the files whose code runs, and what is said later."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from nodeagent.encode import brief, encode
from nodeagent.enrich import file
from nodeagent.enrich.file import FileKey, FileSeen, FileTable
from nodeagent.event import Brief, Event, Exec, FileFacts, Process
from tests.events import (
    BOOT,
    TIME,
    a_container,
    a_link,
    a_memfd,
    a_module,
    a_process,
    a_rename,
    an_exec,
    an_mmap,
    an_open,
    inside,
)

SHA256 = "ab" * 32
WRITER = a_process("/usr/bin/cp", pid=50)
RUNNER = a_process("/bin/bash", pid=51)


def brief_of(process: Process) -> Brief:
    return brief(process.task.pid, process.task.start_time, process.uuid, process.path, BOOT)


@pytest.fixture
def table() -> FileTable:
    return FileTable(brief_of)


def runs(table: FileTable, **changes: Any) -> FileFacts:
    """What the exec of a program says about its file."""
    event = an_exec(**{"file": None, "process": RUNNER} | changes)
    table.enrich([event])
    assert event.file is not None
    return event.file


def seen(key: FileKey, sha256: str = SHA256, missing: str = "", origin: str = "host") -> FileSeen:
    return FileSeen(key, TIME, sha256, missing, origin)


def test_hash_is_pending_then_told_then_known(table: FileTable) -> None:
    assert runs(table).sha256_missing == "pending"
    (question,) = table.take_questions()
    said = table.tell(seen(question.key))
    assert said is not None
    assert (said.kind, said.details["sha256"]) == ("agent.file", SHA256)
    assert said.details["inode"] == an_exec().inode
    assert runs(table).sha256 == SHA256
    assert table.take_questions() == []


def test_question_names_the_process_its_ancestors_and_what_runs(table: FileTable) -> None:
    runs(table)
    event = an_mmap(file=None, process=RUNNER, inode=77, address=0x7000)
    table.enrich([event])
    program, mapping = table.take_questions()
    assert (program.pids, program.is_program, program.address) == ((51, 1), True, 0)
    assert (mapping.pids, mapping.is_program, mapping.address) == ((51, 1), False, 0x7000)


@pytest.mark.parametrize(
    "change", [{"inode": 132}, {"device": 7}, {"file_changed": BOOT + 1}, {"file_bytes": 1}]
)
def test_other_content_is_asked_about_anew(table: FileTable, change: dict[str, int]) -> None:
    runs(table)
    assert runs(table, **change).sha256_missing == "pending"
    assert len(table.take_questions()) == 2


def test_modules_are_hashed_and_what_has_no_file_is_not(table: FileTable) -> None:
    module = a_module(file=None)
    nothing: list[Event] = [an_mmap(file=None, inode=0), an_exec(file=None, inode=0, result=-2)]
    table.enrich([module, *nothing])
    assert module.file is not None
    assert [json.loads(encode([event]))["file"] for event in nothing] == [None, None]
    assert len(table.take_questions()) == 1


@pytest.mark.parametrize(
    "change",
    [
        an_open(flags=os.O_WRONLY, process=WRITER, time=TIME - 5),
        an_open(flags=os.O_RDWR, process=WRITER, time=TIME - 5),
        an_open(created=True, process=WRITER, time=TIME - 5),
        a_rename(new_path="/usr/bin/ls", process=WRITER, time=TIME - 5),
        a_link(path="/usr/bin/ls", process=WRITER, time=TIME - 5),
    ],
)
def test_who_wrote_or_named_it_is_told(table: FileTable, change: Event) -> None:
    table.enrich([change])
    facts = runs(table)
    assert facts.modified_by == brief_of(WRITER)
    assert facts.modified_at == TIME - 5
    shown = json.loads(facts.json)
    assert shown["modified_by"]["path"] == "/usr/bin/cp"
    assert shown["modified_at"].startswith("2025-11-24T23:11:09")


@pytest.mark.parametrize(
    "harmless",
    [
        an_open(flags=os.O_RDONLY, process=WRITER),
        an_open(flags=os.O_WRONLY, result=-13, process=WRITER),
        an_open(flags=os.O_WRONLY, inode=9, process=WRITER),
        a_rename(new_path="/usr/bin/ls", result=-13, process=WRITER),
        a_rename(new_path="/usr/bin/other", process=WRITER),
    ],
)
def test_who_only_read_or_failed_or_wrote_another_is_not(table: FileTable, harmless: Event) -> None:
    table.enrich([harmless])
    assert runs(table).modified_by is None


@pytest.mark.parametrize(
    ("path", "filename", "is_known"),
    [
        ("/srv/x.sh", "/srv/x.sh", True),
        ("/root/x.sh", "./x.sh", True),
        ("/srv/x.sh", "../srv/./x.sh", True),
        ("/srv/x.sh", "x.sh", False),
    ],
)
@pytest.mark.parametrize("is_renamed", [False, True])
def test_who_wrote_a_script_is_known_by_its_path(
    table: FileTable, path: str, filename: str, is_known: bool, is_renamed: bool
) -> None:
    made = an_open(path=path, flags=os.O_WRONLY | os.O_CREAT, created=True, process=WRITER)
    renamed = a_rename(path="/srv/new", new_path=path, process=WRITER)
    script = an_exec(script=filename, process=RUNNER)
    program = an_exec(filename=filename, process=RUNNER)
    table.enrich([renamed if is_renamed else made, script, program])
    assert program.script_file is None
    assert (script.script_file is not None) == is_known
    if script.script_file is not None:
        assert script.script_file.modified_by == brief_of(WRITER)
    # It is for detectors only.
    assert b"script_file" not in encode([script])


def test_last_of_several_changes_counts(table: FileTable) -> None:
    late = a_rename(new_path="/usr/bin/ls", process=RUNNER, time=TIME + 1)
    table.enrich([an_open(flags=os.O_WRONLY, process=WRITER), late])
    assert runs(table).modified_by == brief_of(RUNNER)


def test_memfd_is_known_at_once_with_who_made_it(table: FileTable) -> None:
    table.enrich([a_memfd(process=WRITER)])
    facts = runs(table, path="/memfd:code", memfd=True)
    assert (facts.origin, facts.modified_by) == ("memfd", brief_of(WRITER))


def test_what_was_written_in_a_container_is_not_of_its_image(table: FileTable) -> None:
    process = inside(a_process(pid=52), a_container())
    table.enrich([an_open(flags=os.O_WRONLY, process=process)])
    runs(table, process=process)
    (question,) = table.take_questions()
    assert question.container == a_container()
    table.tell(seen(question.key, "", "gone", "unknown"))
    assert runs(table, process=process).origin == "upper"


def test_what_the_host_wrote_is_not_said_to_be_of_the_container(table: FileTable) -> None:
    process = inside(a_process(pid=52), a_container())
    table.enrich([an_open(flags=os.O_WRONLY, process=WRITER)])
    runs(table, process=process)
    (question,) = table.take_questions()
    table.tell(seen(question.key, "", "gone", "unknown"))
    assert runs(table, process=process).origin == "unknown"


def test_what_is_gone_is_asked_about_again_some_times(table: FileTable) -> None:
    asked = 0
    for _ in range(2 * file.TRIES):
        runs(table)
        for question in table.take_questions():
            asked += 1
            table.tell(seen(question.key, "", "gone", "unknown"))
    assert asked == file.TRIES


def test_what_stays_unknown_is_said_once(table: FileTable) -> None:
    runs(table)
    (question,) = table.take_questions()
    assert table.tell(seen(question.key, "", "gone", "unknown")) is not None
    assert table.tell(seen(question.key, "", "gone", "unknown")) is None
    assert table.tell(seen(question.key)) is not None


def test_without_hashes_nobody_is_asked() -> None:
    table = FileTable(brief_of, hashes=False)
    facts = runs(table)
    assert (facts.sha256_missing, facts.origin) == ("off", "host")
    assert table.take_questions() == []


def test_too_many_files_at_once_are_counted_and_asked_about_later(table: FileTable) -> None:
    for inode in range(1, file.QUESTIONS_LIMIT + 11):
        runs(table, inode=inode)
    assert len(table.take_questions()) == file.QUESTIONS_LIMIT
    assert table.unasked == 10
    runs(table, inode=file.QUESTIONS_LIMIT + 1)
    assert len(table.take_questions()) == 1


def test_tables_are_bounded(table: FileTable) -> None:
    for inode in range(1, 3 * file.CHANGES_LIMIT):
        table.enrich([an_open(flags=os.O_WRONLY, inode=inode, process=WRITER)])
    assert runs(table, inode=1).modified_by is None
    assert runs(table, inode=3 * file.CHANGES_LIMIT - 1).modified_by == brief_of(WRITER)


def test_answer_that_nobody_waits_for_says_nothing(table: FileTable) -> None:
    assert table.tell(seen(FileKey(1, 2, 3, 4, 5))) is None


def test_facts_that_were_given_stay_as_they_were(table: FileTable) -> None:
    event: Exec = an_exec(file=None, process=RUNNER)
    table.enrich([event])
    before = encode([event])
    (question,) = table.take_questions()
    table.tell(seen(question.key))
    assert encode([event]) == before
