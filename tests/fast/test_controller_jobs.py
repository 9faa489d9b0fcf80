"""Jobs: never twice, a rest after a failure, and what a pass gives to them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from controller.jobs import FIRST_RETRY, LONGEST_RETRY, Jobs, Progress
from controller.plan import Circumstances, Owned
from controller.reconcile import Outcome, reconcile
from drivers.base import (
    Absent,
    Applied,
    Change,
    DriverError,
    Failed,
    Grade,
    Item,
    Observation,
    Present,
    State,
    Unreachable,
    Verb,
)
from tests.fast.things import Thing, lowered, wanted

PATIENCE = 20.0


class Slow(Thing):
    """A thing that is made by a job."""

    __slots__ = ()

    def lasts(self, verb: Verb, grade: Grade) -> bool:
        return True


def making(value: str = "a") -> Change:
    return Change(Slow("x", value), Verb.CREATE, (), Grade.LIVE)


@dataclass
class Gate:
    """A driver whose changes wait until they are let go; ``states`` is what it says when it is looked at."""

    error: Exception | None = None
    states: dict[str, State] = field(default_factory=dict)
    open: threading.Event = field(default_factory=threading.Event)
    made: list[str] = field(default_factory=list)
    failing: Mapping[str, DriverError] = field(default_factory=dict)

    def observe(self, items: Sequence[Item]) -> Mapping[str, Observation]:
        return {i.key: Observation(self.states.get(i.key, Present(i.fields())), 1e12, "test") for i in items}

    def apply(self, changes: Sequence[Change], epoch: int) -> tuple[Applied, ...]:
        assert self.open.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        self.made += [change.item.key for change in changes]
        return tuple(Applied(change, self.failing.get(change.item.key)) for change in changes)

    def close(self) -> None:
        self.error = Unreachable("closed")
        self.open.set()


class Desk:
    """Jobs with a clock, and what they reported."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reports: list[Progress] = []
        self.ended = threading.Event()
        self.jobs = Jobs(self.report, clock=lambda: self.now)
        self.driver = Gate()

    def report(self, progress: Progress, change: Change, error: DriverError | None) -> None:
        self.reports.append(progress)
        if progress.ended is not None:
            self.ended.set()

    def run(self, change: Change) -> bool:
        """Starts it and waits for its end; False when it was not started."""
        before = len(self.reports)
        self.ended.clear()
        self.driver.open.set()
        self.jobs.start("m", change, self.driver, 7)
        if len(self.reports) == before and not self.jobs.busy():
            return False
        assert self.ended.wait(PATIENCE)
        return True


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.jobs.close(made.driver.close)


def test_what_is_under_way_is_not_started_again_and_says_so(desk: Desk) -> None:
    desk.jobs.start("m", making(), desk.driver, 7)
    desk.jobs.start("m", making(), desk.driver, 7)
    assert desk.jobs.busy()
    assert desk.jobs.under_way("m") == {"Slow:x": ("JobRunning", "a job makes Slow:x since 00:16:40Z")}
    assert desk.jobs.under_way("other") == {}
    desk.driver.open.set()
    assert desk.ended.wait(PATIENCE)
    assert desk.driver.made == ["Slow:x"]
    assert [(one.epoch, one.ended) for one in desk.reports] == [(7, None), (7, 1000.0)]
    assert not desk.jobs.busy()
    assert desk.jobs.under_way("m") == {}


def test_after_a_failure_it_rests_longer_each_time_and_says_why_and_until_when(desk: Desk) -> None:
    desk.driver.error = Failed("no room")
    rests = []
    for _ in range(9):
        assert desk.run(making())
        assert not desk.run(making()), "it rests"
        began = desk.now
        while desk.jobs.under_way("m"):
            desk.now += FIRST_RETRY
        rests.append(desk.now - began)
    assert rests[:3] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY]
    assert rests[-1] == LONGEST_RETRY
    assert desk.run(making())
    reason, sentence = desk.jobs.under_way("m")["Slow:x"]
    assert reason == "JobFailed"
    assert sentence.startswith("no room; it is tried again at ")


def test_success_ends_the_rests(desk: Desk) -> None:
    desk.driver.error = Failed("no room")
    for _ in range(3):
        desk.run(making())
        desk.now += LONGEST_RETRY
    desk.driver.error = None
    assert desk.run(making())
    desk.driver.error = Failed("again")
    assert desk.run(making())
    desk.now += FIRST_RETRY
    assert desk.jobs.under_way("m") == {}


def test_a_failed_one_does_not_block_its_own_fix(desk: Desk) -> None:
    desk.driver.error = Failed("no such image")
    desk.run(making("wrong"))
    assert desk.jobs.under_way("m", [wanted(Slow("x", "wrong"))])
    assert desk.jobs.under_way("m", [wanted(Slow("x", "right"))]) == {}
    assert desk.run(making("right"))


def test_a_defect_is_a_failure(desk: Desk) -> None:
    desk.driver.error = ZeroDivisionError("oops")
    desk.run(making())
    assert "a defect of salvus" in desk.reports[-1].error


def test_close_interrupts_what_runs_and_waits_for_it() -> None:
    desk = Desk()
    desk.jobs.start("m", making(), desk.driver, 7)
    desk.jobs.close(desk.driver.close)
    assert desk.reports[-1].error == "closed"
    assert not desk.jobs.busy()


def passing(driver: Gate, *items: Item, after: Mapping[str, str] | None = None, **owned: Owned) -> Outcome:
    after = after or {}
    wants = lowered(*(wanted(item, *after.get(item.key, "").split()) for item in items))
    driver.open.set()
    about = Circumstances(0.0)
    return reconcile(wants, tuple(owned.values()), driver, about, 1, remember=lambda rows: None)


def test_a_pass_makes_no_job_itself_nor_what_needs_it() -> None:
    driver = Gate(states={"Slow:x": Absent(), "Thing:y": Absent(), "Thing:z": Absent()})
    found = passing(driver, Slow("x"), Thing("y"), Thing("z"), after={"Thing:y": "Slow:x"})
    assert driver.made == ["Thing:z"]
    assert [change.item.key for change in found.jobs] == ["Slow:x"]


def test_a_job_waits_for_the_jobs_before_it_and_for_what_failed() -> None:
    states: dict[str, State] = {"Slow:x": Absent(), "Slow:y": Absent(), "Thing:p": Absent(), "Slow:q": Absent()}
    driver = Gate(states=states, failing={"Thing:p": Failed("no room")})
    after = {"Slow:y": "Slow:x", "Slow:q": "Thing:p"}
    found = passing(driver, Slow("x"), Slow("y"), Thing("p"), Slow("q"), after=after)
    assert [change.item.key for change in found.jobs] == ["Slow:x"]
    driver = Gate(states={"Thing:p": Absent(), "Slow:q": Absent()})
    found = passing(driver, Thing("p"), Slow("q"), after=after)
    assert [change.item.key for change in found.jobs] == ["Slow:q"], "what goes before it was made in this pass"
