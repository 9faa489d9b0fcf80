"""What one revision may disturb: a hundred simulated virtual machines, the real planner, approvals, two controllers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller.budget import Budget, Budgets
from controller.metrics import Metrics
from controller.plan import plan
from controller.present import pending
from controller.session import Session, Settings
from controller.sources.base import Reading
from controller.store.base import Table
from controller.store.memory import MemoryStore
from controller.store.source_records import Hold
from controller.sync import Sync, foresee
from drivers.simulated import SimulatedFleet
from resources.load import LoadCache, Loaded, load
from tests.fast.cli import IMAGE
from tests.fast.manifests import KEY

PATIENCE = 120.0
SOURCE = "directory:/srv/fleet"
HOSTS = 4
VMS = 100
HOST = f"""
apiVersion: salv.us/v1
kind: Host
metadata: {{name: host%d}}
spec: {{address: 192.0.2.%d, ssh: {{hostKeys: ["{KEY}"]}}, hypervisor: {{}}}}
"""
VM = """
apiVersion: salv.us/v1
kind: VirtualMachine
metadata: {name: web%02d}
spec:
  image: debian12
  memory: %s
  rootDisk: {size: 2Gi}
  placement: {host: host%d}
  cloudInit: {hostname: %s}
"""


class Room:
    """A store, a hundred machines that run, and what writes their manifests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryStore()
        self.machines = SimulatedFleet()
        self.session = self.controller()
        self.cache = LoadCache()

    def controller(self, **about: object) -> Session:
        """A session as another controller has it."""
        return Session(self.store, Settings(self.folder / "unused"), self.machines.connect)

    def reading(self, bigger: int = 0, *, hostname: str = "web", without: int = 0, more: int = 0) -> Loaded:
        """The manifests; the first ``bigger`` machines are to have more memory, the last are left out."""
        hosts = [HOST % (n, n + 1) for n in range(HOSTS)]
        memory = {n: "1Gi" if n < bigger else "512Mi" for n in range(VMS + more - without)}
        vms = [VM % (n, size, n % HOSTS, hostname) for n, size in memory.items()]
        (self.folder / "fleet.yaml").write_text("---".join([*hosts, IMAGE, *vms]))
        loaded = load([self.folder / "fleet.yaml"], self.cache)
        assert loaded.ok
        return loaded

    @contextmanager
    def worked_on(self) -> Iterator[None]:
        """A controller works, and has brought everything about at the end."""
        runner = self.session.runner(Metrics("test"))
        runner.start()
        try:
            yield
            deadline = time.monotonic() + PATIENCE
            while left := self.left():
                assert time.monotonic() < deadline, left
                runner.poke()
                time.sleep(0.05)
        finally:
            runner.stop()

    def left(self) -> dict[str, str]:
        knowledge = self.session.knowledge()
        return {ref: one.reason for ref, one in pending(knowledge, tuple(knowledge.rows)).items()}

    def memory(self) -> int:
        """How many machines are to have the larger memory, by the store."""
        rows = self.session.knowledge().rows.values()
        return sum(1 for row in rows if row.document["spec"].get("memory") == "1Gi")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Room:
    room = Room(tmp_path_factory.mktemp("fleet"))
    with room.worked_on():
        assert not Sync(room.session, SOURCE).once(Reading(room.reading()))
    return room


@pytest.fixture
def room(made: Room) -> Iterator[Room]:
    """As at the beginning, whatever the test puts into the store: no machine is touched."""
    before = {table: made.store.read_all(table) for table in Table}
    yield made
    for table in Table:
        for partition in before[table].keys() | made.store.read_all(table).keys():
            rows = {key: row.value for key, row in before[table].get(partition, {}).items()}
            gone = made.store.read(table, partition).keys() - rows.keys()
            made.store.write(table, partition, rows, gone)


def only(sync: Sync) -> Hold:
    (hold,) = sync.holds
    return hold


def test_what_is_foreseen_is_foreseen_from_what_others_wrote_meanwhile(room: Room) -> None:
    assert len(room.session.impact(room.reading(bigger=2)).of) == 2
    room.controller().put(room.reading(bigger=3), SOURCE)
    room.session.knowledge()
    assert room.session.impact(room.reading(bigger=3)).of == ()
    assert [one.ref for one in room.session.impact(room.reading(bigger=5)).of] == [
        "VirtualMachine/web04",
        "VirtualMachine/web03",
    ]


def test_a_revision_that_restarts_half_the_fleet_is_held_whole_and_says_why(room: Room) -> None:
    sync = Sync(room.session, SOURCE)
    loaded = room.reading(bigger=50, more=1)
    for _ in range(3):
        assert not sync.once(Reading(loaded))
    assert room.memory() == 0
    assert "VirtualMachine/web100" not in room.session.knowledge().rows, "nor is what would disturb nobody"
    hold = only(sync)
    assert (len(hold.of), hold.total) == (50, VMS + 1)
    assert hold.message == (
        f"revision {loaded.revision[:12]} of /srv/fleet is not in force, as it would disturb 50 of the 101 that run at "
        f"once; if it is meant: salvusctl approve {hold.id}"
    )
    (change,) = next(one for one in hold.of if one.ref == "VirtualMachine/web05").changes
    assert (change.item, change.verb, change.grade) == ("Domain:web05", "update", "restart")
    assert {("memory_max", 2**30, 2**29)} <= set(change.drift)
    (event,) = [e for e in room.session.ledger.events("VirtualMachine/web05") if e.reason == "HeldByBudget"]
    assert event.count == 1, "once, however often it is read"
    assert room.session.knowledge().held.keys() == {f"VirtualMachine/web{n:02d}" for n in range(50)}


def test_an_approval_lets_just_that_through_and_once(room: Room) -> None:
    sync = Sync(room.session, SOURCE)
    sync.once(Reading(room.reading(bigger=50)))
    approved = only(sync)
    assert not sync.let_through()
    room.session.ledger.sources.approve(approved)
    assert sync.let_through()
    sync.once(Reading(room.reading(bigger=60)))
    assert room.memory() == 0, "a newer revision is judged anew"
    assert only(sync).id != approved.id
    sync.once(Reading(room.reading(bigger=50)))
    assert room.memory() == 0, "the approval went with its revision"
    room.session.ledger.sources.approve(approved)
    assert not sync.once(Reading(room.reading(bigger=50)))
    assert room.memory() == 50
    assert sync.holds == ()
    assert room.session.ledger.sources.approvals() == ()
    assert room.session.knowledge().held == {}


def test_a_newer_revision_that_needs_less_goes_through_by_itself(room: Room) -> None:
    sync = Sync(room.session, SOURCE)
    sync.once(Reading(room.reading(bigger=50)))
    sync.once(Reading(room.reading(bigger=10)))
    assert room.memory() == 10, "a tenth of what runs"
    assert sync.holds == ()


def test_whichever_controller_follows_next_obeys_the_approval_and_only_one_of_them(room: Room) -> None:
    one, two = Sync(room.session, SOURCE), Sync(room.controller(), SOURCE)
    loaded = room.reading(bigger=50)
    one.once(Reading(loaded))
    two.once(Reading(loaded))
    assert only(one) == only(two), "the same for all"
    room.controller().ledger.sources.approve(only(one))
    two.once(Reading(loaded))
    assert room.memory() == 50
    one.once(Reading(loaded))
    assert one.holds == ()
    one.once(Reading(room.reading()))
    assert room.memory() == 0, "no machine was touched yet: nobody is disturbed by leaving all as it is"
    for sync in (one, two):
        sync.once(Reading(loaded))
        assert only(sync), "it was let through once"
    assert room.memory() == 0


def test_an_approval_does_not_let_through_what_was_not_shown(room: Room) -> None:
    """Meanwhile a machine runs that did not when it was approved."""
    room.session.ledger.put_seen(
        "host1",
        {
            key: one if key != "Domain:web01" else type(one)("present", {**one.fields, "running": False})
            for key, one in room.session.ledger.seen("host1").items()
        },
    )
    sync = Sync(room.session, SOURCE)
    loaded = room.reading(bigger=50)
    sync.once(Reading(loaded))
    shown = only(sync)
    assert len(shown.of) == 49, "what is off is not disturbed"
    room.session.ledger.sources.approve(shown)
    seen = room.session.ledger.seen("host1")
    on = type(seen["Domain:web01"])("present", {**seen["Domain:web01"].fields, "running": True})
    room.session.ledger.put_seen("host1", {**seen, "Domain:web01": on})
    sync.once(Reading(loaded))
    assert room.memory() == 0
    assert len(only(sync).of) == 50


def test_what_is_changed_while_it_runs_or_is_new_disturbs_nobody(room: Room) -> None:
    sync = Sync(room.session, SOURCE, Budgets(disruption=Budget(0, 0)))
    sync.once(Reading(room.reading(more=7)))
    assert sync.holds == ()
    assert "VirtualMachine/web106" in room.session.knowledge().rows
    sync.once(Reading(room.reading(bigger=1, more=7)))
    assert [one.ref for one in only(sync).of] == ["VirtualMachine/web00"], "none at all without being asked"


def test_a_silent_machine_is_disturbed_as_soon_as_it_answers_and_counts(room: Room) -> None:
    unknown = type(next(iter(room.session.ledger.seen("host0").values())))("unknown", reason="it does not answer")
    for n in range(HOSTS):
        seen = room.session.ledger.seen(f"host{n}")
        room.session.ledger.put_seen(f"host{n}", dict.fromkeys(seen, unknown))
    sync = Sync(room.session, SOURCE)
    sync.once(Reading(room.reading(bigger=50)))
    assert len(only(sync).of) == 50


def test_a_machine_that_was_never_seen_has_nothing_to_disturb(room: Room) -> None:
    for n in range(HOSTS):
        room.session.ledger.drop_machine(f"host{n}")
    sync = Sync(room.session, SOURCE)
    sync.once(Reading(room.reading(bigger=50)))
    assert room.memory() == 50


def test_what_is_pending_already_does_not_count(room: Room) -> None:
    wide = Sync(room.session, SOURCE, Budgets(disruption=Budget(VMS, 100)))
    wide.once(Reading(room.reading(bigger=50)))
    sync = Sync(room.session, SOURCE)
    sync.once(Reading(room.reading(bigger=55)))
    assert sync.holds == (), "fifty restarts are to come anyway; five are new"
    assert room.memory() == 55


def test_foreseeing_changes_nothing_and_says_the_same(room: Room) -> None:
    loaded = room.reading(bigger=50)
    cursor = room.store.changed_since(0)[0]
    found = foresee(room.session, SOURCE, loaded, Budgets())
    assert room.store.changed_since(0)[0] == cursor
    sync = Sync(room.session, SOURCE)
    sync.once(Reading(loaded))
    assert found.holds == sync.holds
    gone = foresee(room.session, SOURCE, room.reading(without=30), Budgets())
    assert [(hold.what, len(hold.of), hold.total) for hold in gone.holds] == [("deletions", 30, VMS + HOSTS + 1)]
    assert gone.deleted == frozenset()


def test_deletions_over_budget_are_approved_in_the_same_way(room: Room) -> None:
    sync = Sync(room.session, SOURCE)
    loaded = room.reading(without=30)
    sync.once(Reading(loaded))
    sync.once(Reading(loaded))
    hold = only(sync)
    assert hold.what == "deletions"
    before = len(room.session.refs_from(SOURCE))
    room.session.ledger.sources.approve(hold)
    after_a_restart = Sync(room.controller(), SOURCE)
    after_a_restart.once(Reading(room.reading(without=29)))
    after_a_restart.once(Reading(loaded))
    assert len(room.session.refs_from(SOURCE)) == before, "it was approved for another revision"
    after_a_restart.once(Reading(loaded))
    room.session.ledger.sources.approve(only(after_a_restart))
    Sync(room.controller(), SOURCE).once(Reading(loaded))
    assert before - len(room.session.refs_from(SOURCE)) == 30
    assert room.session.ledger.sources.approvals() == ()


def test_only_machines_whose_wishes_differ_are_planned_for(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(lowered: object, *rest: object) -> object:
        asked.append(lowered.machine)  # type: ignore[attr-defined]
        return plan(lowered, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("controller.foresight.plan", counted)
    sync = Sync(room.session, SOURCE)
    sync.once(Reading(room.reading()))
    assert asked == []
    sync.once(Reading(room.reading(bigger=1)))
    assert set(asked) == {"host0"}
