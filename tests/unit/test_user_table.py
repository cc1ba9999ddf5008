# SPDX-License-Identifier: Apache-2.0
"""Processes get the name of their user as soon as it is told."""

from __future__ import annotations

import json

import pytest

from nodeagent.encode import encode, lineage_json, process_json
from nodeagent.enrich import user
from nodeagent.enrich.user import UserKey, UserSeen, UserTable
from nodeagent.event import Process
from tests.events import BOOT, a_process, an_open, some_facts


def rewrite(process: Process) -> None:
    process.json = process_json(process, lineage_json(process.lineage, BOOT), BOOT)


def shown(process: Process) -> tuple[object, object]:
    said = json.loads(encode([an_open(process=process)]))["process"]
    return said.get("user"), said.get("user_passwd")


class World(UserTable):
    """A table, and the processes that it was asked about."""

    def __init__(self) -> None:
        self.all: list[Process] = []
        super().__init__(lambda: self.all, rewrite)


@pytest.fixture
def table() -> World:
    return World()


def described(table: World, uid: int = 1000) -> Process:
    process = a_process(uid=uid)
    table.describe(process)
    rewrite(process)
    table.all.append(process)
    return process


def asked(table: UserTable) -> UserKey:
    (question,) = table.take_questions()
    return question.key


def test_name_comes_to_those_that_wait_and_to_those_after(table: World) -> None:
    process = described(table)
    assert shown(process) == (None, None)
    key = asked(table)
    assert (key.uid, key.mount_namespace) == (1000, some_facts().namespaces.mnt)
    table.tell(UserSeen(key, "www"))
    assert shown(process) == shown(described(table)) == ("www", "own root")
    assert table.take_questions() == []


def test_passwd_of_the_host_is_named(table: World) -> None:
    process = described(table)
    table.tell(UserSeen(asked(table), "daemon", is_of_host=True))
    assert shown(process) == ("daemon", "host")


def test_better_answer_replaces_the_first(table: World) -> None:
    before = described(table)
    key = asked(table)
    table.tell(UserSeen(key, "of-host", is_of_host=True))
    between = described(table)
    assert shown(between) == ("of-host", "host")
    table.tell(UserSeen(key, "own"))
    assert shown(before) == shown(between) == shown(described(table)) == ("own", "own root")


def test_user_without_a_name_is_asked_about_once(table: World) -> None:
    described(table)
    table.tell(UserSeen(asked(table), ""))
    assert shown(described(table)) == (None, None)
    assert table.take_questions() == []


def test_other_process_is_asked_where_the_first_has_gone_but_not_forever(
    table: World,
) -> None:
    questions = 0
    for _ in range(2 * user.TRIES):
        described(table)
        for question in table.take_questions():
            questions += 1
            table.tell(UserSeen(question.key, None))
    assert questions == user.TRIES


def test_told_before_anybody_asked(table: World) -> None:
    namespaces = some_facts().namespaces
    table.tell(UserSeen(UserKey(namespaces.mnt, namespaces.user, 0), "root", is_of_host=True))
    assert shown(described(table, uid=0)) == ("root", "host")
    assert table.take_questions() == []


def test_kernel_threads_and_processes_of_which_nothing_is_known_have_none(
    table: World,
) -> None:
    thread, unknown = a_process(), a_process()
    thread.facts = some_facts(kernel_thread=True)
    unknown.facts = None
    table.describe(thread)
    table.describe(unknown)
    assert table.take_questions() == []


def test_table_is_bounded(table: World) -> None:
    for uid in range(user.USERS_LIMIT + 100):
        described(table, uid)
    assert len(table.take_questions()) == user.QUESTIONS_LIMIT
    assert len(table._users) == user.USERS_LIMIT
