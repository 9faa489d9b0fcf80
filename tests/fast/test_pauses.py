"""Pauses, without a controller: what they hold in a plan, until when, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.knowledge import Knowledge
from controller.pauses import Pauses, concerned, explained, key_of, pause_of, word_of
from controller.plan import Circumstances, Owned, plan
from controller.rests import Rest
from controller.store.records import ALL, WORLD, Pause, Status
from drivers.base import Absent, Grade, Present, Rejected, Unknown, Verb
from tests.fast.things import Thing, lowered, seen, wanted

NOW = 1000.0


def paused(*what: str, until: float | None = NOW + 60) -> Pauses:
    return {one: Pause(one, "ann@desk", "disk swap", NOW - 10, until) for one in what}


def about(pauses: Pauses) -> Circumstances:
    return Circumstances(now=NOW, pauses=pauses)


WANTED = lowered(wanted(Thing("new")), wanted(Thing("old")), wanted(Thing("other"), owner="Service/t"))
SEEN = seen(new=Absent(), old=Present({"value": "b"}), other=Absent(), gone=Present({"value": "a"}))
GONE = (Owned(Thing("gone"), "Service/s", created=True),)
OURS = {"Thing:new", "Thing:old", "Thing:gone"}


@pytest.mark.parametrize("what", [WORLD, ALL, "machine/m"])
def test_nothing_is_changed_on_a_paused_machine(what: str) -> None:
    found = plan(WANTED, SEEN, GONE, about(paused(what)))
    assert found.changes == ()
    assert {held.change.item.key for held in found.held} == {*OURS, "Thing:other"}
    assert {held.reason for held in found.held} == {"WorldStopped" if what == WORLD else "Paused"}


def test_of_a_paused_resource_nothing_is_made_changed_or_deleted_and_the_others_go_on() -> None:
    found = plan(WANTED, SEEN, GONE, about(paused("Service/s")))
    assert [change.item.key for change in found.changes] == ["Thing:other"]
    assert {held.change.item.key for held in found.held} == OURS


@pytest.mark.parametrize("what", ["machine/elsewhere", "Service/u", "Thing:old"])
def test_a_pause_of_something_else_holds_nothing(what: str) -> None:
    assert plan(WANTED, SEEN, GONE, about(paused(what))) == plan(WANTED, SEEN, GONE, about({}))


def test_a_pause_ends_by_itself_whatever_row_is_still_there() -> None:
    assert plan(WANTED, SEEN, GONE, about(paused(ALL, until=NOW))) == plan(WANTED, SEEN, GONE, about({}))
    assert plan(WANTED, SEEN, GONE, about(paused(ALL, until=NOW + 0.001))).changes == ()


def test_what_several_want_is_held_by_a_pause_of_any_of_them() -> None:
    shared = lowered(wanted(Thing("x"), producers=("Service/s", "Service/t")))
    assert plan(shared, seen(x=Absent()), (), about(paused("Service/t"))).changes == ()
    mine = Owned(Thing("gone"), "Service/s", created=True, producers=("Service/t",))
    assert plan(lowered(), SEEN, (mine,), about(paused("Service/t"))).changes == ()


def test_a_paused_machine_is_held_also_where_it_lives() -> None:
    guest = lowered(wanted(Thing("x"), owner="VirtualMachine/web01"))
    assert plan(guest, seen(x=Absent()), (), about(paused("machine/web01"))).held[0].reason == "Paused"


def test_what_needs_something_paused_waits_and_says_for_what() -> None:
    chain = lowered(wanted(Thing("x")), wanted(Thing("y"), "Thing:x", owner="Service/t"))
    found = plan(chain, seen(x=Absent(), y=Absent()), (), about(paused("Service/s")))
    assert found.changes == ()
    assert [held.reason for held in found.held] == ["Paused", "WaitsForItem"]
    assert "disk swap" in found.held[1].message


def test_a_job_under_way_is_told_as_such_and_what_failed_before_as_paused() -> None:
    jobs = {"Thing:new": ("JobRunning", "is being made")}
    (change,) = plan(lowered(wanted(Thing("old"))), SEEN, (), about({})).changes
    rests = {"Thing:old": Rest(change, "Failed", "no", NOW + 5)}
    found = plan(WANTED, SEEN, (), replace(about(paused(ALL)), jobs=jobs, rests=rests))
    assert {held.change.item.key: held.reason for held in found.held} == {
        "Thing:new": "JobRunning",
        "Thing:old": "Paused",
        "Thing:other": "Paused",
    }


def test_what_is_refused_or_not_known_is_told_also_while_paused() -> None:
    class Foreign(Thing):
        def refusal(self, observed: object) -> Rejected:
            return Rejected("it is somebody else's", machine="m")

    want = lowered(wanted(Foreign("mine")), wanted(Thing("x"), owner="Service/t"))
    found = plan(want, {**seen(x=Unknown("no answer")), "Foreign:mine": SEEN["Thing:old"]}, (), about(paused(ALL)))
    assert found.held[0].reason == "Stalled"
    assert found.unknown == {"Thing:x": "no answer"}


@given(
    st.dictionaries(
        st.sampled_from([WORLD, ALL, "machine/m", "Service/s", "Service/t"]), st.none() | st.floats(0, 2000), max_size=5
    )
)
def test_any_pauses_only_hold_back(ends: dict[str, float | None]) -> None:
    pauses = {what: Pause(what, "ann@desk", "why", 0.0, until) for what, until in ends.items()}
    free, held = (plan(WANTED, SEEN, GONE, about(given)) for given in ({}, pauses))
    assert set(held.changes) <= set(free.changes)
    assert {*held.changes, *(one.change for one in held.held)} == set(free.changes)
    assert held.forgotten == free.forgotten


def test_of_several_pauses_the_one_that_lasts_longest_is_told() -> None:
    pauses = {**paused("Service/s", until=NOW + 5), **paused("machine/m", until=NOW + 50)}
    found = pause_of(pauses, NOW, ["Service/s"], "m")
    assert found is not None
    assert found.what == "machine/m"
    found = pause_of({**pauses, **paused(WORLD, until=None)}, NOW, [], "m")
    assert found is not None
    assert found.what == WORLD


def test_a_machine_is_one_thing_whichever_way_it_is_named() -> None:
    assert key_of("Host/alpha") == "machine/alpha"
    assert key_of("VirtualMachine/web01") == "machine/web01"
    assert key_of("Service/alpha") == "Service/alpha"
    assert [word_of(what) for what in (ALL, "machine/alpha", "Service/s")] == ["--all", "alpha", "Service/s"]


def test_who_is_held_is_told_by_whom_until_when_why_and_how_to_go_on() -> None:
    (pause,) = paused("machine/alpha").values()
    assert explained(pause) == (
        "Paused",
        "paused until 1970-01-01T00:17:40Z by ann@desk: disk swap; to go on before: salvusctl resume alpha",
    )
    (world,) = paused(WORLD, until=None).values()
    assert explained(world)[1].endswith("by ann@desk: disk swap; to go on: salvusctl stop-the-world --end")


def test_the_machines_on_which_a_pause_holds_something_are_those_that_spoke_of_it() -> None:
    store = Knowledge(statuses={"Service/s": {"": Status(), "gone": Status()}})
    assert concerned({"Service/s"}, store) == frozenset(), "a machine that left the fleet is not looked at"


def test_grades_and_verbs_of_what_is_held_are_what_would_be_done() -> None:
    found = plan(WANTED, SEEN, GONE, about(paused(ALL)))
    assert {held.change.verb for held in found.held} == {Verb.CREATE, Verb.UPDATE, Verb.DELETE}
    assert {held.change.grade for held in found.held} == {Grade.LIVE}
