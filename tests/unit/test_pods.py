# SPDX-License-Identifier: Apache-2.0
"""Events are counted by pod while somebody looks."""

from __future__ import annotations

from typing import Any

from nodeagent import pods
from nodeagent.event import Event
from nodeagent.pods import PodCounts
from tests.events import a_container, a_process, an_open, inside


class Watch:
    """A clock that stands still, and what it counts for."""

    def __init__(self) -> None:
        self.now = 100.0
        self.counts = PodCounts(lambda: self.now)

    @property
    def found(self) -> list[Any]:
        found = self.counts.report()["pods"]
        assert isinstance(found, list)
        return found


def of_container(**changes: Any) -> Event:
    return an_open(process=inside(a_process(), a_container(**changes)))


def test_nothing_is_counted_until_somebody_looks() -> None:
    watch = Watch()
    watch.counts.count([an_open()])
    assert watch.found == []
    watch.counts.count([an_open(), of_container(), of_container()])
    host, pod = watch.found
    assert host == {"namespace": "", "pod": "", "container": "", "events": 1}
    assert (pod["namespace"], pod["events"]) == ("shop", 2)
    assert pod["pod"]
    assert pod["container"]


def test_container_without_a_name_is_shown_by_its_id() -> None:
    watch = Watch()
    assert watch.found == []
    watch.counts.count([of_container(id="a" * 64, name="", pod=None)])
    (found,) = watch.found
    assert found["container"] == "a" * 12
    assert found["pod"] == ""


def test_counting_ends_some_time_after_the_last_look() -> None:
    watch = Watch()
    assert watch.found == []
    watch.counts.count([an_open()])
    watch.now += pods.LOOK_SECONDS + 1
    watch.counts.count([an_open()])
    assert watch.found == []


def test_containers_are_bounded() -> None:
    watch = Watch()
    assert watch.found == []
    for number in range(pods.CONTAINERS_LIMIT + 10):
        watch.counts.count([of_container(name=f"c{number}")])
    found = watch.found
    assert len(found) == pods.CONTAINERS_LIMIT + 1
    assert sum(each["events"] for each in found) == pods.CONTAINERS_LIMIT + 10
