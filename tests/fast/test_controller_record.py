"""What passes leave in the store: only what changed, nothing secret, and nothing of what left the fleet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from controller.execute import Executed
from controller.knowledge import Knowledge
from controller.leases import Lease
from controller.lower import Lowered, Wait
from controller.plan import Held, Owned, Plan
from controller.reconcile import Outcome
from controller.record import Recorder
from controller.store.base import Conflict
from controller.store.ledger import Ledger
from controller.store.memory import MemoryStore
from controller.store.mirror import Mirror
from controller.store.records import Job, StoredResource
from drivers.base import Absent, Applied, Change, Failed, Fenced, Grade, Observation, Present, State, Unknown, Verb
from drivers.items.file import File
from tests.fast.things import Thing, lowered, statuses, wanted

FILE = File("/etc/x", "x")
ROW = StoredResource("Service/s", "u", 1, {}, "apply", "r", 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Secretive(Thing):
    """A thing with a field that nobody may see."""

    secret_fields: ClassVar[frozenset[str]] = frozenset({"value"})


class Desk:
    """A recorder, its store, and a clock."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.ledger = Ledger(self.store)
        self.now = 1000.0
        self.mirror = Mirror(self.store)
        self.knowledge = Knowledge()
        self.ledger.put_resource(ROW)
        self.start()

    def start(self) -> None:
        self.over: set[int] = set()
        self.recorder = Recorder(self.ledger, lambda: self.now, self.mirror.written)
        self.recorder.inventory("m", self.lease(1))

    def lease(self, epoch: int) -> Lease:
        return Lease("shard", epoch, self._holds)

    def _holds(self, name: str, epoch: int) -> bool:
        return epoch not in self.over

    def at(self) -> Knowledge:
        self.mirror.refresh()
        # These rows are no manifests that a kind could read.
        read = self.mirror
        self.knowledge = replace(self.knowledge, rows=read.resources, statuses=read.statuses, said=read.said)
        return self.knowledge

    def record(self, outcome: Outcome) -> None:
        self.now += 1
        at = self.at()
        self.recorder.inventory("m", self.lease(1))
        self.recorder.outcome(outcome, at)

    def overtaken(self) -> Desk:
        """A controller that lost the machine to this one; what it writes comes late."""
        other = Desk.__new__(Desk)
        other.__dict__ = {**self.__dict__, "now": 1.0, "mirror": Mirror(self.store), "knowledge": Knowledge()}
        other.recorder = Recorder(self.ledger, lambda: other.now)
        other.recorder.inventory("m", self.lease(0))
        return other

    def reasons(self) -> list[str]:
        return [event.reason for event in self.ledger.events("Service/s")]

    def writes(self) -> int:
        return self.store.changed_since(0)[0]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def outcome(
    *applied: Applied, unreachable: str = "", wants: Lowered | None = None, left: Plan | None = None, **seen: State
) -> Outcome:
    wants = wants or lowered(wanted(Thing("x")))
    touched = {one.change.item.key: "Service/s" for one in applied}
    plan = Plan("m", owners={w.key: w.owner for w in wants.wanted} | touched)
    told = {f"Thing:{name}": Observation(state, 5.0, "test") for name, state in seen.items()}
    return Outcome("m", 5.0, 0.1, wants, plan, Executed(applied), left or plan, (), told, unreachable)


def owned() -> Owned:
    return Owned(FILE, "Service/s", created=True)


def test_the_same_again_writes_nothing(desk: Desk) -> None:
    desk.record(outcome(x=Present({"value": "a"})))
    assert statuses(desk.ledger, "Service/s")["m"].conditions[0].reason == "InSync"
    assert desk.ledger.seen("m")["Thing:x"].fields == {"value": "a"}
    before = desk.writes()
    desk.record(outcome(x=Present({"value": "a"})))
    assert desk.writes() == before
    desk.start()
    desk.record(outcome(x=Present({"value": "a"})))
    assert statuses(desk.ledger, "Service/s")["m"].conditions[0].since == 1001.0, "a new controller keeps the history"


def test_what_a_pass_says_of_many_resources_is_one_write_in_each_table(desk: Desk) -> None:
    """However many: each is a transaction of a distributed store."""
    refs = [f"Service/s{number}" for number in range(5)]
    for ref in refs:
        desk.ledger.put_resource(replace(ROW, ref=ref, uid=ref))
    wants = lowered(*(wanted(Thing(ref[-2:]), owner=ref) for ref in refs))
    before = desk.writes()
    looked = {one.key: Observation(Present({"value": "a"}), 5.0, "test") for one in wants.wanted}
    desk.record(replace(outcome(wants=wants), seen=looked))
    assert desk.writes() - before == 3, "statuses, events, observations"
    assert [statuses(desk.ledger, ref)["m"].conditions[0].reason for ref in refs] == ["InSync"] * 5
    assert [event.reason for ref in refs for event in desk.ledger.events(ref)] == ["InSync"] * 5
    before = desk.writes()
    desk.record(replace(outcome(wants=Lowered("m")), seen=looked))
    assert not any(statuses(desk.ledger, ref) for ref in refs), "what is no longer there says nothing"
    assert desk.writes() - before == 1


def test_events_tell_of_turns_and_not_of_every_try(desk: Desk) -> None:
    for why in ("refused", "refused", "no route"):
        desk.record(outcome(unreachable=why))
    desk.record(outcome())
    desk.record(outcome())
    assert desk.reasons() == ["Unreachable", "InSync"]
    assert [event.type for event in desk.ledger.events()] == ["Warning", "Normal"]
    (condition,) = statuses(desk.ledger, "Service/s")["m"].conditions
    assert condition.since == 1004.0


def test_since_is_right_also_before_the_store_was_read_again(desk: Desk) -> None:
    at = desk.at()
    desk.record(outcome())
    at = desk.at()
    for found in (outcome(unreachable="refused"), outcome()):
        desk.now += 10
        desk.recorder.outcome(found, at)
    (condition,) = statuses(desk.ledger, "Service/s")["m"].conditions
    assert (condition.status, condition.since) == ("True", 1021.0)
    assert desk.reasons() == ["InSync", "Unreachable"], "the second InSync is a repeat within a minute"


def test_a_resource_that_is_on_the_machine_no_more_loses_its_row_there(desk: Desk) -> None:
    desk.record(outcome())
    desk.record(outcome(wants=Lowered("m")))
    assert statuses(desk.ledger, "Service/s") == {}
    desk.record(outcome())
    desk.start()
    desk.record(outcome(wants=Lowered("m")))
    assert statuses(desk.ledger, "Service/s") == {}, "also of what a controller before us wrote"


def test_a_resource_made_anew_under_an_old_name_is_told_of(desk: Desk) -> None:
    desk.record(outcome())
    desk.ledger.remove_resource("Service/s")
    desk.ledger.put_resource(ROW)
    desk.record(outcome())
    assert statuses(desk.ledger, "Service/s").keys() == {"m"}


def test_nobody_is_told_of_who_is_not_there(desk: Desk) -> None:
    desk.record(outcome(wants=lowered(wanted(Thing("x"), owner="Service/gone"))))
    assert statuses(desk.ledger, "Service/gone") == {}


def test_what_is_secret_is_not_kept(desk: Desk) -> None:
    thing = Secretive("x", "hunter2")
    key = thing.key
    found = replace(
        outcome(wants=lowered(wanted(thing))),
        seen={key: Observation(Present({"value": "hunter2", "mode": "0600"}), 5.0, "test")},
    )
    desk.record(found)
    assert desk.ledger.seen("m")[key].fields == {"mode": "0600"}
    everything = [desk.store.read_all(table) for table, _ in desk.store.changed_since(0)[1]]
    assert "hunter2" not in repr(everything)


def test_unknown_and_absent_are_kept_as_such(desk: Desk) -> None:
    desk.record(outcome(x=Unknown("time-out"), y=Absent()))
    kept = desk.ledger.seen("m")
    assert (kept["Thing:x"].state, kept["Thing:x"].reason) == ("unknown", "time-out")
    assert kept["Thing:y"].state == "absent"


def test_what_was_deleted_or_was_never_ours_leaves_the_inventory(desk: Desk) -> None:
    desk.recorder.remember("m", [owned(), Owned(File("/etc/y", "y"), "Service/s", created=False)])
    assert desk.ledger.inventory("m").keys() == {"File:/etc/x", "File:/etc/y"}
    assert '"content":""' in desk.ledger.inventory("m")["File:/etc/x"].item, "contents are not kept"
    failed = Applied(Change(FILE, Verb.DELETE, (), Grade.LIVE), Failed("busy"))
    desk.record(outcome(failed))
    assert "File:/etc/x" in desk.ledger.inventory("m")
    desk.record(outcome(replace(failed, error=None), left=Plan("m", forgotten=("File:/etc/y",))))
    assert desk.ledger.inventory("m") == {}
    assert desk.recorder.inventory("m", desk.lease(1)) == ()
    assert "Deleted" in desk.reasons()


def test_the_inventory_is_read_once_under_an_epoch_and_again_under_the_next(desk: Desk) -> None:
    other = Recorder(desk.ledger)
    other.inventory("m", desk.lease(2))
    other.remember("m", [owned()])
    assert desk.recorder.inventory("m", desk.lease(1)) == ()
    assert [one.key for one in desk.recorder.inventory("m", desk.lease(3))] == [FILE.key]


def test_a_machine_that_left_the_fleet_during_its_pass_is_not_written_to(desk: Desk) -> None:
    before = desk.writes()
    desk.recorder.forget("m")
    with pytest.raises(Conflict, match="left the fleet"):
        desk.recorder.remember("m", [owned()])
    desk.recorder.outcome(outcome(x=Absent()), desk.at())
    assert desk.writes() == before


def test_who_lost_the_lease_writes_nothing(desk: Desk) -> None:
    made = Applied(Change(FILE, Verb.CREATE, (), Grade.LIVE))
    desk.recorder.remember("m", [owned()])
    desk.over.add(1)
    before = desk.writes()
    with pytest.raises(Fenced):
        desk.recorder.remember("m", [Owned(File("/etc/y", "y"), "Service/s", created=True)])
    with pytest.raises(Fenced):
        desk.record(outcome(made, x=Absent()))
    with pytest.raises(Fenced):
        desk.recorder.run(outcome(made), 30.0)
    with pytest.raises(Fenced):
        desk.recorder.waiting(
            "m", desk.lease(1), lowered(wanted(Thing("x"))), Wait("NoAddress", "it has none"), desk.at()
        )
    for ended in (None, 6.0):
        with pytest.raises(Fenced):
            desk.recorder.job(Job("m", FILE.key, 1, 5.0, ended), desk.lease(1), made.change)
    assert desk.writes() == before


def test_what_a_controller_that_lost_the_machine_wrote_late_is_said_anew(desk: Desk) -> None:
    desk.record(outcome(x=Present({"value": "a"})))
    ours = statuses(desk.ledger, "Service/s")["m"]
    loser = Recorder(desk.ledger, lambda: 1.0)
    loser.inventory("m", desk.lease(0))
    loser.outcome(outcome(unreachable="no route"), desk.at())
    assert statuses(desk.ledger, "Service/s")["m"] != ours
    desk.record(outcome(x=Present({"value": "a"})))
    (condition,) = statuses(desk.ledger, "Service/s")["m"].conditions
    assert condition.reason == "InSync"
    before = desk.writes()
    desk.record(outcome(x=Present({"value": "a"})))
    assert desk.writes() == before


def test_a_late_row_is_mended_also_when_it_is_the_one_of_before_ours(desk: Desk) -> None:
    loser = desk.overtaken()
    loser.recorder.outcome(outcome(unreachable="no route"), desk.at())
    late = statuses(desk.ledger, "Service/s")["m"]
    desk.record(outcome(x=Present({"value": "a"})))
    desk.record(outcome(x=Present({"value": "a"})))
    desk.ledger.put_statuses("m", {"Service/s": late})
    desk.record(outcome(x=Present({"value": "a"})))
    assert [one.reason for one in statuses(desk.ledger, "Service/s")["m"].conditions] == ["InSync"]


def test_a_late_row_of_what_is_on_the_machine_no_more_is_taken_away(desk: Desk) -> None:
    loser = desk.overtaken()
    desk.record(outcome())
    desk.record(outcome(wants=Lowered("m")))
    assert statuses(desk.ledger, "Service/s") == {}
    loser.recorder.outcome(outcome(unreachable="no route"), desk.at())
    assert statuses(desk.ledger, "Service/s").keys() == {"m"}
    desk.record(outcome(wants=Lowered("m")))
    assert statuses(desk.ledger, "Service/s") == {}


def test_a_late_observation_is_mended_though_nothing_changed_on_the_machine(desk: Desk) -> None:
    loser = desk.overtaken()
    desk.record(outcome(x=Present({"value": "b"})))
    loser.recorder.outcome(outcome(x=Present({"value": "a"}), y=Absent()), desk.at())
    assert desk.ledger.seen("m").keys() == {"Thing:x", "Thing:y"}
    desk.record(outcome(x=Present({"value": "b"})))
    assert {key: seen.fields for key, seen in desk.ledger.seen("m").items()} == {"Thing:x": {"value": "b"}}
    for _ in range(2):
        before = desk.writes()
        desk.record(outcome(x=Present({"value": "b"})))
        assert desk.writes() == before


def test_a_late_inventory_is_mended_and_what_it_adds_is_known(desk: Desk) -> None:
    loser = desk.overtaken()
    loser.recorder.remember("m", [owned()])
    desk.start()
    desk.recorder.remember("m", [Owned(File("/etc/z", "z"), "Service/s", created=True)])
    deleted = Applied(Change(FILE, Verb.DELETE, (), Grade.LIVE))
    loser.recorder.remember("m", [Owned(File("/etc/y", "y"), "Service/s", created=True)])
    loser.recorder.outcome(outcome(deleted), desk.at())
    assert desk.ledger.inventory("m").keys() == {"File:/etc/y", "File:/etc/z"}
    desk.at()
    found = desk.recorder.inventory("m", desk.lease(1))
    assert {one.key for one in found} == {FILE.key, "File:/etc/y", "File:/etc/z"}
    assert desk.ledger.inventory("m").keys() == {FILE.key, "File:/etc/y", "File:/etc/z"}
    before = desk.writes()
    desk.at()
    assert len(desk.recorder.inventory("m", desk.lease(1))) == 3
    assert desk.writes() == before


def test_the_inventory_of_a_machine_that_left_the_fleet_is_not_written_again(desk: Desk) -> None:
    desk.recorder.remember("m", [owned()])
    desk.ledger.drop_machine("m")
    desk.at()
    desk.recorder.inventory("m", desk.lease(1))
    assert desk.ledger.inventory("m") == {}


def test_what_we_wrote_ourselves_is_not_taken_for_anothers_before_it_was_read_again(desk: Desk) -> None:
    desk.record(outcome(x=Present({"value": "a"})))
    old = desk.at()
    desk.record(outcome(unreachable="no route"))
    before, events = desk.writes(), desk.reasons()
    desk.recorder.outcome(outcome(unreachable="no route"), old)
    assert (desk.writes(), desk.reasons()) == (before, events)


def test_a_machine_that_nobody_can_reach_yet(desk: Desk) -> None:
    desk.recorder.waiting("m", desk.lease(1), lowered(wanted(Thing("x"))), Wait("NoAddress", "it has none"), desk.at())
    (condition,) = statuses(desk.ledger, "Service/s")["m"].conditions
    assert (condition.status, condition.reason) == ("False", "NoAddress")


def test_passes_in_sync_are_no_history(desk: Desk) -> None:
    desk.recorder.run(outcome(), 30.0)
    assert desk.ledger.runs("m") == []
    made = Applied(Change(FILE, Verb.CREATE, (), Grade.LIVE))
    desk.recorder.run(outcome(made), 30.0)
    (run,) = desk.ledger.runs("m")
    assert (run.result, run.made, run.next_at) == ("changed", ("create File:/etc/x",), 1030.0)
    desk.recorder.run(outcome(), 30.0)
    assert desk.ledger.runs("m") == [run]


def test_the_first_pass_that_finds_all_well_again_is_history(desk: Desk) -> None:
    """The last noted pass tells how it is now, also to who comes after the controller that noted it."""
    desk.recorder.run(replace(outcome(unreachable="no route"), at=5.0), 30.0)
    desk.start()
    desk.recorder.run(replace(outcome(), at=6.0), 30.0)
    desk.recorder.run(replace(outcome(), at=7.0), 30.0)
    assert [(run.at, run.result) for run in desk.ledger.runs("m")] == [(5.0, "unreachable"), (6.0, "synced")]


@pytest.mark.parametrize(
    ("reason", "result"),
    [("HeldByCeiling", "held"), ("Stalled", "held"), ("JobRunning", "waiting"), ("WaitsForItem", "waiting")],
)
def test_held_is_what_waits_for_somebody(reason: str, result: str) -> None:
    held = Held(Change(FILE, Verb.UPDATE, (), Grade.RESTART), "Service/s", reason, "because")
    assert outcome(left=Plan("m", held=(held,))).result == result
