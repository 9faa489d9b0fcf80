"""Rests: what failed waits, longer each time; what is started again and again waits too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.rests import FIRST, LONGEST, STARTS, WITHIN, Rests
from drivers.base import Change, Drift, Failed, Grade, Item, Rejected, RolledBack, Unreachable, Verb
from tests.fast.domains import DOMAIN
from tests.fast.things import Thing

THING = Change(Thing("x"), Verb.UPDATE, (Drift("value", "a", "b"),), Grade.LIVE)
OFF = Drift("running", True, False)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rests(clock: Clock) -> Rests:
    return Rests(clock)


def start(item: Item = DOMAIN, verb: Verb = Verb.UPDATE) -> Change:
    return Change(item, verb, (OFF,), Grade.LIVE)


def test_each_failure_rests_twice_as_long_up_to_five_minutes(rests: Rests, clock: Clock) -> None:
    waits = []
    for _ in range(9):
        rests.failed("m", THING, Failed("no room", hint="make some"))
        wait = rests.until("m")
        assert wait is not None
        waits.append(wait)
        clock.now += wait
        assert rests.of("m") == {}
        assert rests.until("m") is None
    assert waits[:4] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert waits[-1] == LONGEST


def test_it_says_why_and_until_when_and_holds_just_this_change(rests: Rests) -> None:
    rests.failed("m", THING, Failed("no room", hint="make some"))
    assert rests.of("other") == {}
    rest = rests.of("m")["Thing:x"]
    assert (rest.change, rest.reason) == (THING, "Failed")
    assert rest.message == "Thing:x: no room; make some; it is tried again at 00:16:45Z"


def test_success_ends_the_failures(rests: Rests, clock: Clock) -> None:
    for _ in range(3):
        rests.failed("m", THING, Failed("no room"))
    rests.made("m", THING)
    assert rests.of("m") == {}
    rests.failed("m", THING, Failed("no room"))
    assert rests.until("m") == FIRST


def test_other_drift_counts_on_and_another_item_begins_anew(rests: Rests) -> None:
    rests.failed("m", THING, Failed("no room"))
    rests.failed("m", replace(THING, drift=(Drift("value", "a", "c"),)), Failed("no room"))
    assert rests.until("m") == 2 * FIRST
    rests.failed("m", replace(THING, item=Thing("x", "other")), Failed("no room"))
    assert rests.until("m") == FIRST


def test_what_could_not_be_told_makes_no_rest(rests: Rests) -> None:
    rests.failed("m", THING, Unreachable("no answer"))
    assert rests.of("m") == {}


def test_what_was_refused_for_good_rests_until_somebody_asks(rests: Rests, clock: Clock) -> None:
    rests.failed("m", THING, Rejected("never", hint="write it otherwise"))
    clock.now += 10**9
    rest = rests.of("m")["Thing:x"]
    assert (rest.change, rest.reason) == (THING, "Stalled")
    assert rest.message == "Thing:x: never; write it otherwise"
    assert rests.until("m") is None, "no pass is made for it"
    rests.end_all()
    assert rests.of("m") == {}


def test_what_the_machine_put_back_is_remembered_by_its_note_alone(rests: Rests) -> None:
    rests.failed("m", THING, RolledBack("nobody came in"))
    assert rests.of("m") == {}


def test_what_is_to_be_done_no_more_and_who_left_are_dropped(rests: Rests) -> None:
    for machine in ("m", "n"):
        rests.failed(machine, THING, Failed("no room"))
        for _ in range(STARTS):
            rests.made(machine, start())
    rests.keep("m", {"Thing:other"})
    assert rests.of("m").keys() == {DOMAIN.key}, "how often it was started is still known"
    rests.keep("n", {"Thing:x"})
    assert rests.of("n").keys() == {DOMAIN.key, "Thing:x"}
    rests.forget("n")
    assert rests.of("n") == {}
    rests.end_all()
    assert rests.of("m") == {}


def test_a_domain_that_does_not_stay_up_is_started_five_times_within_ten_minutes(rests: Rests, clock: Clock) -> None:
    for _ in range(STARTS):
        assert rests.of("m") == {}
        rests.made("m", start())
        clock.now += 1.0
    rest = rests.of("m")[DOMAIN.key]
    assert (rest.change, rest.reason, rest.again) == (start(), "CrashLooping", 1000.0 + WITHIN)
    assert rest.message.endswith("does not stay up; it is tried again at 00:26:40Z")
    clock.now = rest.again
    assert rests.of("m") == {}
    rests.made("m", start())
    assert rests.of("m")[DOMAIN.key].again == 1001.0 + WITHIN
    rests.keep("m", ())
    assert rests.of("m")
    clock.now += WITHIN
    rests.keep("m", ())
    assert rests._starts == {}, "nothing is kept of what was long ago"


def test_only_starts_of_the_same_domain_count(rests: Rests) -> None:
    for number in range(2 * STARTS):
        rests.made("m", start(replace(DOMAIN, vcpus=1 + number)))
        rests.made("m", start(verb=Verb.CREATE))
        rests.made("m", replace(start(), drift=(Drift("autostart", True, False),)))
        rests.made("m", start(Thing("x")))
    assert rests.of("m") == {}
