"""Bringing manifests into force: sources, moves, conflicts, and identities that diff and apply agree on."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.difference import overlay
from controller.holder import Holder
from controller.leases import Leases
from controller.metrics import Metrics
from controller.present import conditions
from controller.session import Session, Settings, fresh_uid
from controller.store.base import Conflict, Row, StoreUnavailable, Table
from controller.store.ledger import Ledger
from controller.store.memory import MemoryStore
from controller.store.records import FLEET_PASS, InventoryRow, Seen, Status
from controller.store.source_records import Disturbed, Hold, SourceState
from drivers.items import codec
from drivers.items.file import File
from drivers.simulated import SimulatedFleet
from resources.load import Loaded, load
from resources.world import CONTROLLER_KEYS
from tests.fast.manifests import KEY
from tests.fast.things import statuses

HOST = f"""
apiVersion: salv.us/v1
kind: Host
metadata: {{name: alpha}}
spec:
  address: 192.0.2.1
  ssh: {{hostKeys: ["{KEY}"]}}
"""
RENAMED = HOST.replace("name: alpha", "name: beta, annotations: {salv.us/moved-from: alpha}")
DIRECTORY = "directory:/srv/manifests"


class Desk:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.session = Session(MemoryStore(), Settings(store=folder / "unused"))
        self.ledger = self.session.ledger

    def load(self, *texts: str) -> Loaded:
        (self.folder / "all.yaml").write_text("---".join(texts))
        return load([self.folder / "all.yaml"])

    def put(self, *texts: str, source: str = "apply") -> list[str]:
        return [f"{put.ref} {put.verb}" for put in self.session.put(self.load(*texts), source)]


def beaten(desk: Desk, monkeypatch: pytest.MonkeyPatch, write: Callable[[str, Mapping[str, str]], object]) -> None:
    """Whenever a resource is about to be written, ``write`` is called before, with its partition and what is put."""
    genuine = desk.ledger.store.compare_and_set

    def swap(
        table: Table,
        partition: str,
        expected: Mapping[str, int | None],
        puts: Mapping[str, str],
        deletes: Collection[str] = (),
    ) -> bool:
        if table is Table.RESOURCE:
            write(partition, puts)
        return genuine(table, partition, expected, puts, deletes)

    monkeypatch.setattr(desk.ledger.store, "compare_and_set", swap)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_the_same_again_is_unchanged_and_writes_nothing(desk: Desk) -> None:
    assert desk.put(HOST) == ["Host/alpha created"]
    before = desk.ledger.store.changed_since(0)[0]
    assert desk.put(HOST) == ["Host/alpha unchanged"]
    assert desk.ledger.store.changed_since(0)[0] == before
    assert desk.put(HOST.replace("192.0.2.1", "192.0.2.2")) == ["Host/alpha configured"]
    row = desk.session.knowledge().rows["Host/alpha"]
    assert row.generation == 2


def test_by_hand_an_unchanged_one_stays_with_its_directory_and_a_changed_one_does_not(desk: Desk) -> None:
    desk.put(HOST, source=DIRECTORY)
    desk.put(HOST)
    assert desk.session.refs_from(DIRECTORY) == {"Host/alpha"}
    desk.put(HOST.replace("192.0.2.1", "192.0.2.2"))
    assert desk.session.refs_from(DIRECTORY) == frozenset()
    assert [resource.ref for resource in desk.session.others(DIRECTORY)] == ["Host/alpha"]
    assert desk.put(HOST, source=DIRECTORY) == ["Host/alpha configured"], "the sync takes it back"
    assert desk.session.refs_from(DIRECTORY) == {"Host/alpha"}


def test_a_directory_takes_over_what_was_applied_by_hand(desk: Desk) -> None:
    desk.put(HOST)
    assert desk.put(HOST, source=DIRECTORY) == ["Host/alpha unchanged"]
    assert desk.session.refs_from(DIRECTORY) == {"Host/alpha"}
    assert desk.session.knowledge().rows["Host/alpha"].generation == 1


def test_who_wrote_it_is_kept_and_a_conflict_names_both(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.session.who_am_i", lambda: "alice@desk")
    seen = desk.session.knowledge().rows
    desk.put(HOST)
    assert desk.session.knowledge().rows["Host/alpha"].by == "alice@desk"
    monkeypatch.setattr("controller.session.who_am_i", lambda: "bob@lap")
    other = desk.load(HOST.replace("192.0.2.1", "192.0.2.2"))
    before = desk.ledger.store.changed_since(0)[0]
    with pytest.raises(Conflict) as caught:
        desk.session.put(other, seen=seen)
    first, second = str(caught.value).split("; what ")
    assert first.startswith("Host/alpha was changed at the same time by alice@desk (from apply, revision ")
    assert second.startswith(f"bob@lap (from apply, revision {other.revision[:12]}, ")
    assert desk.session.knowledge().rows["Host/alpha"].by == "alice@desk"
    assert desk.session.put(desk.load(HOST), seen=seen)[0].verb == "unchanged", "it is just what is meant"
    desk.session.delete(["Host/alpha"])
    assert desk.session.knowledge().rows["Host/alpha"].by == "bob@lap", "whose deletion it is"
    with pytest.raises(Conflict, match="was changed at the same time by bob@lap"):
        desk.session.put(other, seen={"Host/alpha": replace(desk.session.knowledge().rows["Host/alpha"], generation=1)})
    assert desk.ledger.store.changed_since(0)[0] > before


def test_two_that_write_the_same_at_the_same_moment_both_do(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    beaten(desk, monkeypatch, lambda partition, puts: desk.ledger.store.write(Table.RESOURCE, partition, puts))
    assert desk.put(HOST) == ["Host/alpha unchanged"]
    assert desk.ledger.resource("Host/alpha") is not None


def test_what_was_deleted_meanwhile_is_not_made_anew_by_who_meant_to_change_it(desk: Desk) -> None:
    desk.put(HOST)
    seen = desk.session.knowledge().rows
    desk.session.delete(["Host/alpha"])
    desk.ledger.remove_resource("Host/alpha")
    with pytest.raises(Conflict, match="Host/alpha was deleted at the same time; what "):
        desk.session.put(desk.load(HOST.replace("192.0.2.1", "192.0.2.2")), seen=seen)


def test_a_row_of_before_there_were_writers_is_read(desk: Desk) -> None:
    desk.put(HOST)
    row = desk.ledger.store.get(Table.RESOURCE, "Host/alpha", "manifest")
    assert row is not None
    old = {key: value for key, value in json.loads(row.value).items() if key != "by"}
    desk.ledger.store.write(Table.RESOURCE, "Host/alpha", {"manifest": json.dumps(old)})
    assert desk.session.knowledge().rows["Host/alpha"].by == ""
    with pytest.raises(Conflict, match="by somebody \\(from apply"):
        desk.session.put(desk.load(HOST.replace("192.0.2.1", "192.0.2.2")), seen={})


def test_only_what_changed_is_read_again_and_what_others_wrote_is_seen_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.put(*(HOST.replace("alpha", f"host{n}").replace("2.1", f"2.{n}") for n in range(1, 5)))
    before = desk.session.knowledge()
    store = desk.ledger.store
    genuine = store.read
    read: list[str] = []

    def reading(table: Table, partition: str) -> Mapping[str, Row]:
        read.extend([partition] if table is Table.RESOURCE else [])
        return genuine(table, partition)

    monkeypatch.setattr(store, "read", reading)
    desk.session.knowledge()
    assert read == []
    other = Session(store, desk.session.settings)
    other.put(desk.load(HOST.replace("alpha", "host3").replace("2.1", "2.30")))
    read.clear()
    after = desk.session.knowledge()
    assert read == ["Host/host3"]
    assert after.rows["Host/host3"].generation == 2
    assert after.rows["Host/host1"] is before.rows["Host/host1"]
    assert before.rows["Host/host3"].generation == 1, "what was given stays as it was"


def test_several_threads_may_ask_for_the_store_while_it_changes(desk: Desk) -> None:
    numbers = range(1, 30)
    session = desk.session

    def ask(_: int) -> set[str]:
        return {row.ref for row in session.knowledge().rows.values()}

    with ThreadPoolExecutor(4) as pool:
        asked = pool.map(ask, numbers)
        for number in numbers:
            desk.put(HOST.replace("alpha", f"host{number}").replace("2.1", f"2.{number}"))
        seen = list(asked)
    everything = ask(0)
    assert everything == {f"Host/host{number}" for number in numbers}
    assert all(one <= everything for one in seen)


def test_what_is_being_deleted_is_kept_after_all_when_it_is_applied(desk: Desk) -> None:
    desk.put(HOST, source=DIRECTORY)
    assert desk.session.delete(["Host/alpha", "Host/nobody"]) == ("Host/alpha",)
    assert desk.session.refs_from(DIRECTORY) == frozenset()
    uid = desk.session.knowledge().rows["Host/alpha"].uid
    assert desk.put(HOST, source=DIRECTORY) == ["Host/alpha configured"]
    row = desk.session.knowledge().rows["Host/alpha"]
    assert (row.deleting_since, row.uid) == (None, uid)


def test_a_move_takes_everything_along_and_leaves_nothing(desk: Desk) -> None:
    desk.put(HOST)
    desk.ledger.put_facts("Host/alpha", {"boot_id": "1"})
    desk.ledger.allocate("Host/alpha", "vpn", "10.1.1.1")
    desk.ledger.put_inventory("alpha", {"File:/x": InventoryRow("File", codec.dump(File("/x", "")), "s", created=True)})
    desk.ledger.put_seen("alpha", {"File:/x": Seen("present")})
    placed, said = Status(detail={"machines": "alpha"}), Status(detail={"said": "by the machine"})
    desk.ledger.put_placement("Host/alpha", placed)
    desk.ledger.put_statuses("alpha", {"Host/alpha": said, "Service/s": said})
    before = desk.session.knowledge().rows["Host/alpha"]
    assert desk.put(RENAMED) == ["Host/beta moved"]
    knowledge = desk.session.knowledge()
    assert knowledge.rows.keys() == {"Host/beta"}
    assert (knowledge.rows["Host/beta"].uid, knowledge.rows["Host/beta"].created_at) == (before.uid, before.created_at)
    assert knowledge.known.facts == {("Host/beta", "boot_id"): "1"}
    assert knowledge.known.allocations == {("Host/beta", "vpn"): "10.1.1.1"}
    assert desk.ledger.inventory("beta").keys() == {"File:/x"}
    assert not desk.ledger.inventory("alpha"), "a new machine of the old name has nothing of it"
    assert not desk.ledger.seen("alpha")
    assert statuses(desk.ledger, "Host/beta") == {FLEET_PASS: placed}
    assert statuses(desk.ledger, "Service/s") == {"beta": said}
    assert not desk.ledger.store.read(Table.STATUS, "alpha")
    assert desk.put(RENAMED) == ["Host/beta unchanged"]


@pytest.mark.parametrize("last", ["drop_machine", "_remove"])
def test_a_move_that_was_killed_half_way_is_ended_by_the_next(
    desk: Desk, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.put(HOST)
    uid = desk.session.knowledge().rows["Host/alpha"].uid
    desk.ledger.put_inventory("alpha", {"File:/x": InventoryRow("File", codec.dump(File("/x", "")), "s", created=True)})

    def killed(*_: object) -> None:
        raise StoreUnavailable("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, last, killed)
        with pytest.raises(StoreUnavailable):
            desk.put(RENAMED)
    assert desk.session.knowledge().rows.keys() == {"Host/alpha", "Host/beta"}
    assert desk.put(RENAMED) == ["Host/beta moved"]
    rows = desk.session.knowledge().rows
    assert rows.keys() == {"Host/beta"}
    assert rows["Host/beta"].uid == uid
    assert desk.ledger.inventory("beta").keys() == {"File:/x"}


def test_what_was_said_of_a_name_does_not_count_for_what_has_it_now(desk: Desk) -> None:
    placed, said = Status(detail={"machines": "alpha"}), Status(detail={"said": "by the machine"})
    desk.put(HOST)
    desk.ledger.put_placement("Host/alpha", placed)
    desk.ledger.put_statuses("alpha", {"Host/alpha": said, "Service/s": said})
    desk.put(HOST.replace("192.0.2.1", "192.0.2.2"))
    assert statuses(desk.ledger, "Host/alpha") == {FLEET_PASS: placed, "alpha": said}, "it is the same one"
    desk.session.delete(["Host/alpha"])
    assert desk.ledger.remove_resource("Host/alpha")
    assert desk.put(HOST) == ["Host/alpha created"]
    assert statuses(desk.ledger, "Host/alpha") == {}
    assert statuses(desk.ledger, "Service/s") == {"alpha": said}


def test_a_name_that_was_moved_from_and_is_used_again_is_somebody_else(desk: Desk) -> None:
    desk.put(HOST)
    desk.put(RENAMED)
    desk.put(HOST.replace("192.0.2.1", "192.0.2.9"), RENAMED.replace(", annotations: {salv.us/moved-from: alpha}", ""))
    rows = desk.session.knowledge().rows
    assert rows["Host/alpha"].uid != rows["Host/beta"].uid


def test_who_writes_at_the_same_time_is_not_overwritten(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.put(HOST)

    def other(partition: str, puts: Mapping[str, str]) -> None:
        there = {key: value.replace("192.0.2.2", "192.0.2.3") for key, value in puts.items()}
        desk.ledger.store.write(Table.RESOURCE, partition, there)

    beaten(desk, monkeypatch, other)
    with pytest.raises(
        Conflict, match=r"was changed at the same time by \S+@\S+ \(from apply, revision \w+, .*\); what "
    ):
        desk.put(HOST.replace("192.0.2.1", "192.0.2.2"))


@pytest.mark.parametrize("name", ["daemon", "laptop"])
def test_only_who_holds_the_fleet_tells_its_public_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "key.pub").write_text(f"{KEY} me@here\n")
    settings = Settings(tmp_path / "unused", (str(tmp_path / "key"), str(tmp_path / "other")))
    store = MemoryStore()
    if name == "laptop":
        elsewhere = Holder("elsewhere", "boot", "namespace", 7, "")
        Leases(store, elsewhere).tick()
    session = Session(store, settings, SimulatedFleet().connect)
    session.runner(Metrics("test")).step()
    assert session.knowledge().known.facts == ({CONTROLLER_KEYS: KEY} if name == "daemon" else {})


GONE = Hold(DIRECTORY, "r2", "deletions", (Disturbed("Host/alpha"),), 1)


def test_how_a_source_went_is_written_when_it_differs_with_an_event_on_what_is_held(desk: Desk) -> None:
    desk.session.report(SourceState(DIRECTORY, "r1", 0.0), "")
    desk.session.report(SourceState(DIRECTORY, "r2", 0.0, ("a.yaml:1:1: what is that",), (GONE,)), "")
    (before,) = desk.ledger.sources.states().values()
    cursor = desk.ledger.store.changed_since(0)[0]
    desk.session.report(SourceState(DIRECTORY, "r2", 0.0, ("a.yaml:1:1: what is that",), (GONE,)), "")
    assert desk.ledger.store.changed_since(0)[0] == cursor, "nothing is written"
    desk.session.report(SourceState(DIRECTORY, "r2", 0.0, (), (GONE,)), "")
    (after,) = desk.ledger.sources.states().values()
    assert after.at > before.at
    assert desk.session.last(DIRECTORY) == after
    assert after.undeleted == {"Host/alpha"}
    assert desk.session.last("directory:/elsewhere") is None
    (event,) = desk.ledger.events("Host/alpha")
    assert (event.type, event.reason, event.count) == ("Warning", "HeldByBudget", 1)
    assert "gone from /srv/manifests" in event.message
    assert event.message.endswith(f"salvusctl approve {GONE.id}")


def test_what_was_not_told_of_a_source_is_told_at_the_next_reading(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    state = SourceState(DIRECTORY, "r2", 0.0, (), (GONE,))
    with monkeypatch.context() as patch:
        patch.setattr(desk.ledger, "tell", Mock(side_effect=StoreUnavailable("gone for a moment")))
        with pytest.raises(StoreUnavailable):
            desk.session.report(state, "")
    for _ in range(2):
        desk.session.report(state, "")
    assert [event.reason for event in desk.ledger.events("Host/alpha")] == ["HeldByBudget"]
    assert [turn.revision for turn in desk.ledger.sources.turns(DIRECTORY)] == ["r2"]


IDENTITY = "6f1e3c1e-52f5-4f0b-9f6e-5f8f6f1b7a01"


@given(st.lists(st.text(max_size=3), max_size=6, unique=True), st.integers(0, 3))
def test_a_uid_is_the_same_each_time_and_nobody_elses(refs: list[str], already: int) -> None:
    taken: set[str] = set()
    for _ in range(already):
        taken.add(fresh_uid(IDENTITY, "Host/alpha", taken))
    assert len(taken) == already
    for ref in refs:
        uid = fresh_uid(IDENTITY, ref, taken)
        assert uid not in taken
        assert uid == fresh_uid(IDENTITY, ref, taken)
        taken.add(uid)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((), (HOST,)),
        ((HOST,), (RENAMED,)),
        ((HOST,), (HOST.replace("192.0.2.1", "192.0.2.2"),)),
        ((HOST,), (HOST.replace("alpha", "gamma").replace(".1", ".3"),)),
    ],
)
def test_an_overlay_is_what_put_then_does(desk: Desk, before: tuple[str, ...], after: tuple[str, ...]) -> None:
    if before:
        desk.put(*before)
        desk.ledger.put_facts("Host/alpha", {"boot_id": "1"})
        desk.ledger.put_inventory("alpha", {})
    loaded = desk.load(*after)
    shown = overlay(desk.session.knowledge(), loaded, desk.ledger.identity())
    desk.session.put(loaded)
    real = desk.session.knowledge()
    assert shown.fleet == real.fleet
    assert shown.known.uids == real.known.uids
    assert shown.known.facts == real.known.facts
    assert set(shown.living) == set(real.living)


def test_an_overlay_leaves_out_what_is_being_deleted(desk: Desk) -> None:
    desk.put(HOST)
    desk.session.delete(["Host/alpha"])
    shown = overlay(desk.session.knowledge(), desk.load("\n"), desk.ledger.identity())
    assert shown.living == set()
    assert not tuple(shown.fleet)


def test_what_newer_things_are_not_in_force_is_said_of_all_that_came_from_the_source(desk: Desk) -> None:
    git = "git:https://git.example.org/fleet.git#main:"
    desk.put(HOST, source=git)
    desk.session.report(SourceState(git, "a" * 40, 0.0, newest="b" * 40), "Alice <a@example.org>: a change")
    sentence = (
        "revision bbbbbbbbbbbb of https://git.example.org/fleet.git (main) is not in force, "
        "as it is pinned to aaaaaaaaaaaa: salvusctl unpin"
    )
    current = conditions(desk.session.knowledge(), "Host/alpha")[-1]
    assert (current.type, current.status, current.reason, current.message) == ("Current", "False", "Pinned", sentence)
    desk.session.report(SourceState(git, "b" * 40, 0.0, newest="b" * 40), "")
    assert desk.session.knowledge().held == {}
    states = [(turn.revision[0], turn.state, turn.about) for turn in desk.ledger.sources.turns(git)]
    alice = "Alice <a@example.org>: a change"
    assert states == [("a", "in force", alice), ("b", "held", ""), ("b", "in force", "")]
