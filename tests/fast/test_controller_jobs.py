"""Jobs: never twice, never later than they are wanted, not cut where that does harm, and what a pass gives to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from queue import Queue

import pytest

from controller.jobs import WORK, Jobs, time_to_end
from controller.plan import Circumstances, Owned
from controller.reconcile import Outcome, reconcile
from controller.store.records import Job
from drivers.base import (
    Absent,
    Applied,
    Change,
    DriverError,
    Failed,
    Fenced,
    Grade,
    Item,
    Observation,
    Present,
    State,
    Unreachable,
    Verb,
)
from drivers.items.image_file import ImageFile
from tests.fast.domains import DOMAIN
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

    def __init__(self, side_by_side: int = 8) -> None:
        self.now = 1000.0
        self.reports: list[Job] = []
        self.woken: Queue[str] = Queue()
        self.kept: list[str] = []
        self.jobs = Jobs(self.report, self.woken.put, side_by_side, clock=lambda: self.now, keep=self.keep)
        self.driver = Gate()

    def report(self, progress: Job, change: Change, error: DriverError | None) -> None:
        self.reports.append(progress)

    def keep(self, machine: str) -> Callable[[], None]:
        self.kept.append(machine)
        return lambda: self.kept.remove(machine)

    def start(self, change: Change, machine: str = "m") -> bool:
        return self.jobs.start(machine, change, self.driver, 7)

    def end(self) -> None:
        self.driver.open.set()
        self.jobs.finish(lambda _: self.driver.close(), lambda _: None)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.driver.close()
    made.jobs.close()


def test_what_is_under_way_is_not_started_again_and_says_so(desk: Desk) -> None:
    assert desk.start(making())
    assert desk.start(making())
    assert desk.jobs.busy()
    assert desk.kept == ["m"], "its lease is kept, once"
    assert desk.jobs.under_way("m") == {"Slow:x": ("JobRunning", "a job makes Slow:x since 00:16:40Z")}
    assert desk.jobs.under_way("other") == {}
    desk.end()
    assert desk.driver.made == ["Slow:x"]
    assert [(one.epoch, one.ended) for one in desk.reports] == [(7, None), (7, 1000.0)]
    assert not desk.jobs.busy()
    assert desk.jobs.under_way("m") == {}


def test_a_job_that_was_fenced_is_over_and_noted_nowhere(desk: Desk) -> None:
    desk.driver.error = Fenced("newer")
    desk.start(making())
    desk.end()
    assert [one.ended for one in desk.reports] == [None], "it was told of when it began"
    assert not desk.jobs.busy()
    assert desk.kept == []
    assert desk.woken.get(timeout=PATIENCE) == "m"


def test_an_end_that_may_not_be_noted_any_more_is_dropped(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    """The lease ran out while it was made: others note what is on the machine now."""

    def report(job: Job, *_: object) -> None:
        if job.ended is not None:
            raise Fenced("our lease ran out")

    monkeypatch.setattr(desk.jobs, "_report", report)
    desk.start(making())
    desk.end()
    assert not desk.jobs.busy()
    assert desk.woken.get(timeout=PATIENCE) == "m"


def test_what_finds_no_room_is_not_kept_for_later_and_its_machine_is_woken() -> None:
    desk = Desk(side_by_side=1)
    assert desk.start(making(), "m")
    assert not desk.start(making(), "n")
    assert not desk.start(making(), "o")
    assert desk.jobs.under_way("n") == {}
    desk.end()
    desk.jobs.close()
    assert [desk.woken.get(timeout=PATIENCE) for _ in range(3)] == ["m", "n", "o"]
    assert desk.driver.made == ["Slow:x"], "whether it is still wanted is for a new pass to say"


def test_when_a_machine_is_woken_its_job_is_over_and_reported(desk: Desk) -> None:
    desk.start(making())
    desk.driver.open.set()
    assert desk.woken.get(timeout=PATIENCE) == "m"
    assert desk.reports[-1].ended == 1000.0
    assert not desk.jobs.busy()


def test_a_defect_is_a_failure(desk: Desk) -> None:
    desk.driver.error = ZeroDivisionError("oops")
    desk.start(making())
    desk.end()
    assert "a defect of salvus" in desk.reports[-1].error


def test_a_push_may_be_cut_and_a_restart_may_take_its_grace() -> None:
    push = Change(ImageFile("/srv/x", "/x", "ab" * 32), Verb.CREATE, (), Grade.LIVE)
    restart = Change(replace(DOMAIN, grace=70), Verb.UPDATE, (), Grade.RESTART)
    assert time_to_end(push) == 0
    assert time_to_end(restart) == 70 + WORK
    assert time_to_end(making()) == WORK


@dataclass
class Stopping:
    """What is cut and said while salvus stops; a driver a machine."""

    desk: Desk = field(default_factory=lambda: Desk(side_by_side=2))
    drivers: dict[str, Gate] = field(default_factory=lambda: {"m": Gate(), "n": Gate()})
    cut: list[str] = field(default_factory=list)
    said: Queue[str] = field(default_factory=Queue)

    def start(self, machine: str, item: Item) -> None:
        change = Change(item, Verb.UPDATE, (), Grade.RESTART)
        assert self.desk.jobs.start(machine, change, self.drivers[machine], 7)

    def interrupt(self, machine: str) -> None:
        self.cut.append(machine)
        self.drivers[machine].close()

    def finish(self) -> threading.Thread:
        thread = threading.Thread(target=self.desk.jobs.finish, args=(self.interrupt, self.said.put), daemon=True)
        thread.start()
        return thread


PUSH = ImageFile("/srv/x", "/x", "ab" * 32)


def test_stopping_cuts_pushes_and_waits_for_what_would_stay_off() -> None:
    stopping = Stopping()
    stopping.start("m", PUSH)
    stopping.start("n", replace(DOMAIN, grace=60))
    thread = stopping.finish()
    assert stopping.said.get(timeout=PATIENCE) == f"waits up to {60 + WORK:.0f} s for {DOMAIN.key} on n"
    assert stopping.cut == ["m"]
    assert thread.is_alive()
    stopping.drivers["n"].open.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert stopping.drivers["n"].made == [DOMAIN.key]
    assert {one.key: one.error for one in stopping.desk.reports if one.ended} == {PUSH.key: "closed", DOMAIN.key: ""}
    assert stopping.said.empty()


def test_a_push_beside_a_restart_on_one_machine_is_cut_when_that_has_ended() -> None:
    stopping = Stopping()
    stopping.start("m", PUSH)
    stopping.start("m", DOMAIN)
    thread = stopping.finish()
    stopping.said.get(timeout=PATIENCE)
    assert stopping.cut == []
    stopping.drivers["m"].open.set()
    thread.join(PATIENCE)
    assert DOMAIN.key in stopping.drivers["m"].made


def test_nobody_is_waited_for_longer_than_he_may_need() -> None:
    stopping = Stopping()
    stopping.start("n", DOMAIN)
    thread = stopping.finish()
    stopping.said.get(timeout=PATIENCE)
    stopping.desk.now += DOMAIN.grace + WORK
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert stopping.cut == ["n"]


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
