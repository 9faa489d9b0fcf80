"""Conditions: what one pass says, and the summary over all machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from controller.execute import Executed
from controller.lower import Lowered, Wait
from controller.plan import Circumstances, Held, Plan
from controller.reconcile import Outcome, reconcile
from controller.status import Verdict, conditions, reachable, unreached, verdicts
from controller.store.records import FLEET_PASS, Condition, Status, StoredResource
from controller.summary import MACHINES, merged
from drivers.base import (
    Applied,
    Change,
    Drift,
    Failed,
    Fields,
    Grade,
    Item,
    Observation,
    Present,
    Rejected,
    RolledBack,
    Unknown,
    Verb,
)
from drivers.simulated import SimulatedDriver, SimulatedFleet
from tests.fast.things import Thing, lowered, wanted

ROW = StoredResource("Service/s", "u", 2, {}, "apply", "r", created_at=1.0, written_at=5.0)


def said(status: str, reason: str = "R", type_: str = "Synced", generation: int = 2, since: float = 7.0) -> Status:
    return Status((Condition(type_, status, reason, f"it is {reason}", since, generation),))


def fleet_pass(machines: str, generation: int = 2) -> Status:
    return replace(said("True", "Placed", "Placed", generation), detail={MACHINES: machines})


def test_ready_is_the_worst_that_any_machine_says() -> None:
    by_machine = {
        FLEET_PASS: fleet_pass("a b c"),
        "a": said("True"),
        "b": said("Unknown", "Unreachable"),
        "c": said("False", "Failed", since=9.0),
    }
    ready, placed, synced = merged(ROW, by_machine)
    assert (ready.type, ready.status, ready.reason, ready.since) == ("Ready", "False", "Failed", 9.0)
    assert (placed.type, synced.type, synced.reason) == ("Placed", "Synced", "Failed")
    ready, *_ = merged(ROW, {**by_machine, "c": said("True")})
    assert (ready.status, ready.reason) == ("Unknown", "Unreachable")
    ready, *_ = merged(ROW, {FLEET_PASS: fleet_pass("a"), "a": said("True")})
    assert (ready.status, ready.reason) == ("True", "InSync")


def test_what_was_said_of_an_older_generation_does_not_count() -> None:
    ready, *rest = merged(ROW, {FLEET_PASS: fleet_pass("a"), "a": said("False", "Failed", generation=1)})
    assert (ready.status, ready.reason) == ("Unknown", "NotSeenYet")
    assert "on a" in ready.message
    assert [one.type for one in rest] == ["Placed"]
    ready, *rest = merged(ROW, {FLEET_PASS: fleet_pass("a", generation=1), "a": said("True", generation=1)})
    assert (ready.status, ready.since, rest) == ("Unknown", 5.0, [])


def test_a_machine_that_has_not_told_makes_it_unknown() -> None:
    ready, *_ = merged(ROW, {FLEET_PASS: fleet_pass("a b"), "a": said("True")})
    assert (ready.status, ready.message) == ("Unknown", "not looked at yet on b")
    ready, *_ = merged(ROW, {"a": said("True")})
    assert ready.status == "Unknown", "the fleet pass has not said where it is to be"


def test_with_nothing_to_do_anywhere_it_is_ready() -> None:
    ready, *_ = merged(ROW, {FLEET_PASS: fleet_pass("")})
    assert (ready.status, ready.reason) == ("True", "NothingToDo")


def test_one_that_is_being_deleted_says_where_it_still_is() -> None:
    going = replace(ROW, deleting_since=8.0)
    ready, *_ = merged(going, {FLEET_PASS: fleet_pass("a"), "a": said("True")})
    assert (ready.status, ready.reason, ready.since) == ("False", "Deleting", 8.0)
    assert ready.message.endswith("on: a")
    ready, *_ = merged(going, {})
    assert ready.message.endswith("nowhere any more")


def test_since_is_kept_while_the_status_is_the_same() -> None:
    old = Status((Condition("Synced", "False", "Failed", "no", 3.0, 1),))
    (same,) = conditions([Verdict("Synced", "False", "Held", "above")], old, 2, 10.0)
    assert (same.since, same.reason, same.generation) == (3.0, "Held", 2)
    (other,) = conditions([Verdict("Synced", "True", "InSync", "well")], old, 2, 10.0)
    assert other.since == 10.0
    (new,) = conditions([Verdict("Reachable", "True", "Answered", "well")], None, 2, 10.0)
    assert new.since == 10.0


CHANGE = Change(Thing("x"), Verb.UPDATE, (), Grade.LIVE)
NOTHING = Plan("m", owners={"Thing:x": "Service/s", "Thing:y": "Service/t"})


def outcome(left: Plan = NOTHING, *applied: Applied, unreachable: str = "", wants: Lowered | None = None) -> Outcome:
    wants = wants or lowered(wanted(Thing("x")), wanted(Thing("y"), owner="Service/t"))
    return Outcome("m", 1.0, 0.1, wants, NOTHING, Executed(applied), left, (), {}, unreachable)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (outcome(), ("True", "InSync", "1 item as wanted")),
        (
            outcome(NOTHING, Applied(CHANGE, Failed("no room", hint="make room"))),
            ("False", "Failed", "Thing:x: no room; make room"),
        ),
        (outcome(NOTHING, Applied(CHANGE, Rejected("never"))), ("False", "Stalled", "Thing:x: never")),
        (outcome(NOTHING, Applied(CHANGE, RolledBack("no"))), ("False", "RolledBack", "Thing:x: no")),
        (
            outcome(replace(NOTHING, unknown={"Thing:x": "time-out"})),
            ("Unknown", "ItemUnknown", "Thing:x: time-out"),
        ),
        (
            outcome(replace(NOTHING, held=(Held(CHANGE, "Service/s", "HeldByCeiling", "above"),))),
            ("False", "HeldByCeiling", "above"),
        ),
        (
            outcome(replace(NOTHING, changes=(CHANGE,))),
            ("False", "Progressing", "update of Thing:x is to be done"),
        ),
        (outcome(unreachable="refused"), ("Unknown", "Unreachable", "m cannot be asked: refused")),
        (
            outcome(wants=Lowered("m", waiting={"Service/s": Wait("FactUnknown", "waits")})),
            ("False", "FactUnknown", "waits"),
        ),
        (
            outcome(wants=Lowered("m", waiting={"Service/s": Wait("Conflict", "disagree", final=True)})),
            ("False", "Stalled", "disagree"),
        ),
    ],
)
def test_what_a_pass_says_of_a_resource(found: Outcome, verdict: tuple[str, str, str]) -> None:
    (told,) = verdicts(found)["Service/s"]
    assert (told.status, told.reason, told.message) == verdict


def test_a_neighbour_is_not_blamed() -> None:
    (told,) = verdicts(outcome(NOTHING, Applied(CHANGE, Failed("no room"))))["Service/t"]
    assert told.status == "True"


def test_a_resource_whose_things_are_taken_away_is_told_of_too() -> None:
    leaving = Change(Thing("z"), Verb.DELETE, (), Grade.LIVE)
    planned = replace(NOTHING, owners={"Thing:z": "Service/gone"}, changes=(leaving,))
    found = replace(outcome(), planned=planned, left=replace(planned, changes=(leaving,)))
    (told,) = verdicts(found)["Service/gone"]
    assert told.reason == "Progressing"


def test_whether_a_machine_answered() -> None:
    assert reachable(outcome()).status == "True"
    assert reachable(outcome(unreachable="refused")) == Verdict(
        "Reachable", "Unknown", "Unreachable", "m cannot be asked: refused"
    )


def test_all_on_a_machine_that_nobody_knows_how_to_reach_wait_with_it() -> None:
    wants = Lowered("m", refs=frozenset({"Service/s"}), waiting={"Service/t": Wait("X", "x")})
    found = unreached(wants, Wait("NoWay", "over what?"))
    assert found.keys() == {"Service/s", "Service/t"}
    assert {one.reason for (one,) in found.values()} == {"NoWay"}


class Mute(SimulatedDriver):
    """As real drivers do it, the reason begins with the machine's name."""

    def observe(self, items: Sequence[Item]) -> Mapping[str, Observation]:
        return {item.key: Observation(Unknown("m: ssh to m: refused"), 5.0, "test") for item in items}


def test_a_silent_machine_is_named_once() -> None:
    found = reconcile(
        Lowered("m"), (), Mute(SimulatedFleet().machine("m")), Circumstances(5.0), 1, remember=lambda _: None
    )
    assert reachable(found).message == "m cannot be asked: ssh to m: refused"


class Kept(Thing):
    """A Thing that the machine put back when it was removed."""

    def stays(self, observed: Fields) -> Rejected | None:
        return RolledBack("nobody came in without it")


def test_the_plan_that_was_put_back_has_just_the_changes_that_were() -> None:
    other = Change(Thing("y"), Verb.UPDATE, (Drift("value", "b", "a"),), Grade.LIVE)
    gone = Change(Kept("x"), Verb.DELETE, (), Grade.LIVE)
    held = tuple(Held(change, "Service/s", "RolledBack", "put back") for change in (other, gone))
    there = {change.item.key: Observation(Present({"value": "a"}), 1.0, "test") for change in (other, gone)}
    wants = lowered(wanted(Thing("y")), wanted(Kept("x")))
    found = replace(outcome(replace(NOTHING, held=held), wants=wants), seen=there)
    assert verdicts(found)["Service/s"][0].plan == ("delete Kept:x",)
