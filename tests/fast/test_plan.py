"""The planner: what is wanted and what was seen, to changes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.plan import Circumstances, Owned, Plan, plan
from controller.rests import Rest
from drivers.base import Absent, Change, Drift, Fields, Grade, Present, Rejected, RolledBack, State, Unknown, Verb
from tests.fast.things import Thing, lowered, seen, wanted

NOW = Circumstances(now=1000.0)


def keys(changes: tuple[Change, ...]) -> list[str]:
    return [change.item.key for change in changes]


def test_absent_is_created_with_every_field() -> None:
    found = plan(lowered(wanted(Thing("x"))), seen(x=Absent()), (), NOW)
    assert found.changes == (Change(Thing("x"), Verb.CREATE, (Drift("value", "a", None),), Grade.LIVE),)


def test_equal_needs_nothing() -> None:
    assert plan(lowered(wanted(Thing("x"))), seen(x=Present({"value": "a", "more": 1})), (), NOW) == Plan(
        "m", owners={"Thing:x": "Service/s"}
    )


class Both(Thing):
    """A Thing in whose place there was ``Thing:old`` before."""

    takes_over = frozenset({"Thing:old"})


@pytest.mark.parametrize("state", [Present({"value": "a"}), Present({"value": "b"}), Absent(), Unknown("time-out")])
def test_what_another_item_takes_over_is_not_deleted_and_forgotten_when_that_is_noted(state: State) -> None:
    both = Both("x")
    old, taker = Owned(Thing("old"), "Service/s", True), Owned(both, "Service/s", True)
    observed = seen(old=Present({"value": "a"})) | {both.key: replace(seen(x=Absent())["Thing:x"], state=state)}
    for noted in (False, True):
        found = plan(lowered(wanted(both)), observed, (old, taker) if noted else (old,), NOW)
        assert "Thing:old" not in keys(found.changes)
        assert (found.held, found.forgotten) == ((), ("Thing:old",) if noted else ())


def test_drift_has_the_items_grade() -> None:
    found = plan(lowered(wanted(Thing("x", costs=Grade.RELOAD))), seen(x=Present({"value": "b"})), (), NOW)
    assert found.changes[0].drift == (Drift("value", "a", "b"),)
    assert found.changes[0].grade is Grade.RELOAD


def test_nothing_is_planned_on_unknown_nor_behind_it() -> None:
    want = lowered(wanted(Thing("x")), wanted(Thing("y"), "Thing:x"), wanted(Thing("z")))
    found = plan(want, seen(x=Unknown("time-out"), y=Absent(), z=Absent()), (), NOW)
    assert keys(found.changes) == ["Thing:z"]
    assert found.unknown == {"Thing:x": "time-out"}
    assert found.held[0].reason == "WaitsForItem"


def test_an_old_observation_is_unknown() -> None:
    found = plan(lowered(wanted(Thing("x"))), seen(600.0, x=Absent()), (), NOW)
    assert found.changes == ()
    assert "400 s ago" in found.unknown["Thing:x"]


def test_above_the_ceiling_waits_and_says_how_to_allow_it() -> None:
    want = lowered(wanted(Thing("x", costs=Grade.REBOOT)), wanted(Thing("y"), "Thing:x"))
    found = plan(want, seen(x=Present({"value": "b"}), y=Absent()), (), NOW)
    assert found.held[0].reason == "HeldByCeiling"
    assert "spec.disruption.ceiling: reboot" in found.held[0].message
    assert keys(found.changes) == ["Thing:y"], "an item that is there, if old, does not hold up what needs it"


def test_data_loss_is_never_planned() -> None:
    want = lowered(wanted(Thing("x", costs=Grade.DATA_LOSS)), ceiling=Grade.REPLACE)
    assert plan(want, seen(x=Present({"value": "b"})), (), NOW).changes == ()


def test_the_strictest_producer_sets_the_ceiling() -> None:
    shared = wanted(Thing("x", costs=Grade.RESTART), producers=("Service/s", "Service/t"))
    want = lowered(shared)
    assert plan(want, seen(x=Present({"value": "b"})), (), NOW).changes
    strict = replace(want, ceilings={"Service/s": Grade.RESTART, "Service/t": Grade.LIVE})
    assert plan(strict, seen(x=Present({"value": "b"})), (), NOW).changes == ()


def test_rejected_waits_until_other_fields_are_wanted() -> None:
    (refused,) = plan(lowered(wanted(Thing("x"))), seen(x=Absent()), (), Circumstances(now=1000.0)).changes
    about = Circumstances(now=1000.0, rests={"Thing:x": Rest(refused, "Stalled", "no such thing", math.inf)})
    assert plan(lowered(wanted(Thing("x"))), seen(x=Absent()), (), about).held[0].message == "no such thing"
    assert plan(lowered(wanted(Thing("x", "b"))), seen(x=Absent()), (), about).changes


def test_deletes_what_is_ours_last_used_first() -> None:
    rows = (Owned(Thing("disk"), "Service/s", True), Owned(Thing("vm"), "Service/s", True, after=("Thing:disk",)))
    there = Present({"value": "a"})
    found = plan(lowered(refs=frozenset({"Service/s"})), seen(disk=there, vm=there), rows, NOW)
    assert keys(found.changes) == ["Thing:vm", "Thing:disk"]
    assert {change.verb for change in found.changes} == {Verb.DELETE}
    assert found.changes[1].after == ("Thing:vm",)


def test_what_was_there_before_salvus_is_released_not_deleted() -> None:
    found = plan(lowered(), seen(x=Present({})), (Owned(Thing("x"), "Service/gone", False),), NOW)
    assert found.changes == ()
    assert found.forgotten == ("Thing:x",)


def test_a_resource_that_waits_keeps_its_items() -> None:
    about = Circumstances(now=1000.0, living={"Service/s"})
    rows = (Owned(Thing("x"), "Service/s", True),)
    assert plan(lowered(), seen(x=Present({})), rows, about) == Plan("m")
    assert keys(plan(lowered(), seen(x=Present({})), rows, NOW).changes) == ["Thing:x"], "its owner is gone"


class Marked(Thing):
    """A Thing that is ours only where its value begins with our mark."""

    @classmethod
    def type(cls) -> str:
        return "Thing"

    def refusal(self, observed: Fields) -> Rejected | None:
        return None if str(observed["value"]).startswith("ours") else Rejected("it is theirs", hint="rename it")


def test_nothing_of_a_resource_is_made_when_something_of_it_is_somebody_elses() -> None:
    want = lowered(wanted(Thing("disk")), wanted(Marked("vm")), wanted(Thing("file"), owner="Service/other"))
    theirs = plan(want, seen(disk=Absent(), vm=Present({"value": "b"}), file=Absent()), (), NOW)
    assert keys(theirs.changes) == ["Thing:file"]
    assert [(held.change.item.name, held.reason, held.message) for held in theirs.held] == [
        ("disk", "Stalled", "Thing:vm: it is theirs; rename it"),
        ("vm", "Stalled", "Thing:vm: it is theirs; rename it"),
    ]
    ours = plan(want, seen(disk=Absent(), vm=Present({"value": "ours"}), file=Absent()), (), NOW)
    assert keys(ours.changes) == ["Thing:disk", "Thing:vm", "Thing:file"]


def test_what_became_somebody_elses_is_not_deleted() -> None:
    rows = (Owned(Marked("vm"), "Service/s", True), Owned(Thing("disk"), "Service/s", True))
    found = plan(lowered(), seen(vm=Present({"value": "b"}), disk=Present({})), rows, NOW)
    assert keys(found.changes) == ["Thing:disk"]
    assert [(held.change.verb, held.reason) for held in found.held] == [(Verb.DELETE, "Stalled")]


class Tried(Marked):
    """A Thing that the machine put back before, whatever is there."""

    def refusal(self, observed: Fields) -> Rejected | None:
        return RolledBack("nobody came in", hint="correct it")


def test_what_the_machine_put_back_is_not_made_again_but_may_be_deleted() -> None:
    found = plan(lowered(wanted(Tried("x"))), seen(x=Present({"value": "b"})), (), NOW)
    assert [(held.reason, held.message) for held in found.held] == [
        ("RolledBack", "Thing:x: nobody came in; correct it")
    ]
    rows = (Owned(Tried("x"), "Firewall/f", True),)
    assert keys(plan(lowered(), seen(x=Present({"value": "b"})), rows, NOW).changes) == ["Thing:x"]


class Shield(Thing):
    """A Thing that protects its machine."""

    protects: ClassVar[bool] = True

    @classmethod
    def type(cls) -> str:
        return "Thing"


def test_what_protects_stays_while_what_takes_its_place_waits_for_whatever_reason() -> None:
    rows = (Owned(Shield("old"), "Service/s", True),)
    want = lowered(wanted(Thing("package")), wanted(Shield("new"), "Thing:package"))
    there = Present({"value": "b"})
    found = plan(want, seen(package=Unknown("?"), new=there, old=there), rows, NOW)
    assert found.changes == ()
    assert [(held.change.item.key, held.reason) for held in found.held] == [
        ("Thing:new", "WaitsForItem"),
        ("Thing:old", "WaitsForItem"),
    ]
    above = plan(lowered(wanted(Shield("new", costs=Grade.REBOOT))), seen(new=there, old=there), rows, NOW)
    assert [held.reason for held in above.held] == ["HeldByCeiling", "WaitsForItem"]


class Stuck(Tried):
    """A Thing that the machine put back when it was deleted."""

    def stays(self, observed: Fields) -> Rejected | None:
        return RolledBack("nobody came in without it", hint="remove the note")


def test_what_the_machine_put_back_when_it_was_deleted_is_not_deleted_again() -> None:
    rows = (Owned(Stuck("x"), "Firewall/f", True), Owned(Thing("y"), "Firewall/f", True))
    there = Present({"value": "b"})
    found = plan(lowered(), seen(x=there, y=there), rows, NOW)
    assert keys(found.changes) == ["Thing:y"]
    assert [(held.change.verb, held.reason, held.message) for held in found.held] == [
        (Verb.DELETE, "RolledBack", "Thing:x: nobody came in without it; remove the note")
    ]


STATES: st.SearchStrategy[State] = st.one_of(
    st.just(Absent()),
    st.builds(Unknown, st.just("?")),
    st.builds(Present, st.builds(dict, value=st.sampled_from("abc"))),
)
NAMES = st.sampled_from("pqrstu")


@given(
    st.dictionaries(NAMES, st.tuples(st.sampled_from("abc"), st.sampled_from(Grade), st.sets(NAMES))),
    st.dictionaries(NAMES, STATES),
    st.dictionaries(NAMES, st.tuples(st.booleans(), st.sampled_from(("Service/s", "Service/gone", "Service/waits")))),
    st.sampled_from(Grade),
)
def test_what_holds_for_every_plan(
    things: dict[str, tuple[str, Grade, set[str]]],
    states: dict[str, State],
    rows: dict[str, tuple[bool, str]],
    ceiling: Grade,
) -> None:
    items = [
        wanted(Thing(name, value, costs), *(f"Thing:{other}" for other in sorted(after) if other < name))
        for name, (value, costs, after) in sorted(things.items())
    ]
    owned = [Owned(Thing(name), owner, created) for name, (created, owner) in rows.items()]
    want = lowered(*items, ceiling=ceiling, refs=frozenset({"Service/s"}))
    found = plan(want, seen(1000.0, **states), owned, Circumstances(now=1000.0, living={"Service/waits"}))
    planned = keys(found.changes)
    for change in found.changes:
        name = change.item.name
        state = states.get(name)
        assert isinstance(state, Present | Absent), "rule 1"
        if change.verb is Verb.DELETE:
            assert name not in things
            assert isinstance(state, Present)
            assert rows[name][0], "rule 6: only what salvus made"
            assert rows[name][1] != "Service/waits"
        else:
            assert change.drift, "rule 2: no change without a difference"
            assert change.grade <= ceiling
            for key in change.after:
                if key.removeprefix("Thing:") not in things:
                    continue  # not wanted any more: whether it is deleted, and when, is nothing to wait for
                assert key not in planned or planned.index(key) < planned.index(change.item.key)
                assert key not in found.unknown or key.removeprefix("Thing:") not in things
    assert len(planned) == len(set(planned))
