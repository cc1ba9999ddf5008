# SPDX-License-Identifier: Apache-2.0
"""Copies of descriptors that say nothing are no events."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.stream import Event, Stream, act, build_acts


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The acts on descriptors."""
    return build_acts(tmp_path_factory.mktemp("acts"))["network"]


def copies(stream: Stream, program: Path, *arguments: str) -> list[Event]:
    """The events of an act, without those of the shell or Python that started it."""
    acted = act(program, *arguments)
    assert acted.code == 0
    events = stream.of(acted.pid, "dup")
    return [event for event in events if event["process"]["path"] == str(program)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("copy", "dup", "/dev/null"),
        ("copy", "dup2", "pipe", "50"),
        ("copy", "fcntl", "/dev/null", "50"),
        ("copy", "dup3", "nothing", "50"),
        ("steal", "/dev/null"),
    ],
    ids=" ".join,
)
def test_copy_of_what_is_no_socket_is_no_event(
    stream: Stream, program: Path, arguments: tuple[str, ...]
) -> None:
    assert not copies(stream, program, *arguments)


def test_socket_that_is_put_onto_itself_is_no_event(stream: Stream, program: Path) -> None:
    assert not copies(stream, program, "copy_onto_itself", "inet")


def test_socket_that_is_copied_is_one_event(stream: Stream, program: Path) -> None:
    (event,) = copies(stream, program, "copy", "dup", "inet")
    assert event["family"] == "AF_INET"
