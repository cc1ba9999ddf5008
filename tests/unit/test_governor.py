# SPDX-License-Identifier: Apache-2.0
"""The governor against a simulated agent, whose cost depends on what it lets through."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from nodeagent.governor import Budget, Governor, Level, Reading, Step

TENTH = Budget(0.1, 0)
STEP_SECONDS = 0.25
EVENT_SECONDS = 10e-6
DELIVERY = 0.7
"""Part of that which is spent when the sink takes it."""
IDLE = 0.005
"""Cores that the agent takes when nothing happens."""

Load = Callable[[float], list[float]]
"""Events a second of each bucket at a moment."""


@dataclass
class Agent:
    """Spends CPU on each event that the governor lets through."""

    governor: Governor
    load: Load
    now: float = 0.0
    cpu: float = 0.0
    rss: int = 50 << 20
    limit: int = 0
    shown: float = 0.0
    shed: float = 0.0
    delivered_per_second: float = 1e9
    """What the sink takes."""
    backlog: float = 0.0
    step: Step = field(default_factory=lambda: Step(Level.FULL, 0.0, ""))
    steps: list[tuple[float, Step]] = field(default_factory=list)
    use: list[float] = field(default_factory=list)
    """Share of a core in each step."""

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_SECONDS)):
            self._live()
            step = self.governor.judge(
                Reading(self.now, self.cpu, self.rss, self.limit, int(self.shown), int(self.shed))
            )
            if step is not None:
                self.step = step
                self.steps.append((self.now, step))

    def _live(self) -> None:
        self.now += STEP_SECONDS
        through = 0.0
        for rate in self.load(self.now):
            offered = rate * STEP_SECONDS
            allowed = offered
            if self.step.level == Level.ESSENTIAL:
                allowed = 0.0
            elif self.step.events_per_second:
                allowed = min(offered, self.step.events_per_second * STEP_SECONDS)
            through += allowed
            self.shed += offered - allowed
        self.shown += through
        self.backlog += through
        delivered = min(self.backlog, self.delivered_per_second * STEP_SECONDS)
        self.backlog -= delivered
        events = through * (1 - DELIVERY) + delivered * DELIVERY
        spent = IDLE * STEP_SECONDS + events * EVENT_SECONDS
        self.cpu += spent
        self.use.append(spent / STEP_SECONDS)

    def most(self, start: float, stop: float, window: float = 10.0) -> float:
        """The highest use of a window that begins and ends between these moments."""
        length = round(window / STEP_SECONDS)
        use = self.use[round(start / STEP_SECONDS) : round(stop / STEP_SECONDS)]
        return max(sum(use[at : at + length]) / length for at in range(len(use) - length + 1))


def between(start: float, stop: float, *rates: float) -> Load:
    return lambda now: list(rates) if start < now <= stop else [0.0 for _ in rates]


@pytest.mark.parametrize(
    "rates",
    [(100_000.0,), (20_000.0,), (5_000.0,) * 20, (100_000.0, 10.0, 10.0), (2_000.0,) * 500],
    ids=str,
)
def test_within_three_seconds_use_is_within_the_budget_and_soon_after_all_is_shown(
    rates: tuple[float, ...],
) -> None:
    agent = Agent(Governor(TENTH, aggregates=True), between(10, 70, *rates))
    agent.run(120)
    assert agent.most(13, 70) <= 0.12
    assert agent.steps[0][0] <= 11.5
    assert agent.step.level == Level.FULL
    assert agent.steps[-1][0] <= 100


def test_load_within_the_budget_changes_nothing() -> None:
    agent = Agent(Governor(TENTH, aggregates=True), between(10, 70, 4_000.0, 4_000.0))
    agent.run(120)
    assert agent.steps == []


def test_limit_is_used_and_not_far_below_the_budget() -> None:
    agent = Agent(Governor(TENTH, aggregates=True), between(0, 300, 50_000.0))
    agent.run(300)
    later = agent.use[200:]
    assert sum(later) / len(later) > 0.05


def test_quiet_cgroup_loses_nothing_beside_a_noisy_one() -> None:
    agent = Agent(Governor(TENTH, aggregates=True), between(0, 60, 200_000.0, 20.0))
    agent.run(60)
    lowest = min(step.events_per_second for _, step in agent.steps)
    assert lowest > 20


def test_first_opens_are_counted_where_they_were_not() -> None:
    agent = Agent(Governor(TENTH, aggregates=False), between(0, 30, 50_000.0))
    agent.run(60)
    levels = [step.level for _, step in agent.steps]
    assert levels[:2] == [Level.AGGREGATE, Level.SAMPLE]
    assert levels[-2:] == [Level.AGGREGATE, Level.FULL]


def test_load_that_comes_and_goes_does_not_swing_the_level_with_each_turn() -> None:
    def load(now: float) -> list[float]:
        return [60_000.0 if int(now) % 8 < 4 else 0.0]

    agent = Agent(Governor(TENTH, aggregates=True), load)
    agent.run(300)
    ups = sum(step.level == Level.FULL for _, step in agent.steps)
    assert ups < 20
    assert agent.most(20, 300) <= 0.12


def test_any_load_is_within_the_budget_in_the_long_run() -> None:
    noise = random.Random(3)
    rates = [[noise.choice((0, 100, 30_000.0)) for _ in range(30)] for _ in range(60)]
    agent = Agent(Governor(TENTH, aggregates=True), lambda now: rates[int(now / 5) % 60])
    agent.run(600)
    assert sum(agent.use[40:]) / len(agent.use[40:]) <= 0.12


def test_memory_beyond_the_budget_sheds_more_and_more_and_says_why() -> None:
    agent = Agent(Governor(TENTH, aggregates=True), between(0, 100, 500.0), limit=128 << 20)
    agent.run(5)
    assert agent.steps == []
    agent.rss = 200 << 20
    agent.run(20)
    assert [step.level for _, step in agent.steps][-1] == Level.ESSENTIAL
    assert agent.steps[0][1].why == "200 MiB of memory, budget 128"
    agent.rss = 60 << 20
    agent.run(40)
    assert agent.step.level == Level.FULL


def test_backlog_of_the_onset_is_no_reason_to_shed_all() -> None:
    agent = Agent(
        Governor(TENTH, aggregates=True),
        between(10, 60, 300_000.0, 20.0),
        delivered_per_second=20_000.0,
    )
    agent.run(90)
    assert min(step.events_per_second for _, step in agent.steps[:-1]) > 20
    assert agent.step.level == Level.FULL
    assert agent.most(30, 60) <= 0.12


def test_moment_of_work_is_no_reason() -> None:
    agent = Agent(Governor(TENTH, aggregates=True), lambda now: [36_000.0] if now == 10 else [0.0])
    agent.run(30)
    assert agent.steps == []


def test_clock_that_stands_still_is_no_reason() -> None:
    governor = Governor(TENTH, aggregates=True)
    reading = Reading(1.0, 5.0, 0, 0, 0, 0)
    assert governor.judge(reading) is None
    assert governor.judge(reading) is None
