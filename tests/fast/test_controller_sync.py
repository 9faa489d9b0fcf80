"""Following a source: the guards of pruning, and readings that are believed."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from controller import intake
from controller.budget import Budget, Budgets
from controller.holder import Holder
from controller.intake import Intake
from controller.leases import Leases
from controller.session import Session, Settings
from controller.sources import directory
from controller.sources.base import Reading, Unreadable
from controller.sources.directory import Directory
from controller.store.base import Conflict, StoreUnavailable, StoreUnusable
from controller.store.memory import MemoryStore
from controller.store.records import WORLD, Pause
from controller.store.source_records import Hold, Pin, SourceState
from controller.sync import Impact, Sync
from drivers.base import SalvusError
from resources.errors import ManifestError
from resources.fleet import Fleet
from resources.load import Loaded, load
from tests.fast.manifests import KEY

PATIENCE = 20.0
NOBODY = Fleet()


def reading(*names: str, wrong: bool = False) -> Reading:
    errors = (ManifestError("what is that", file="x.yaml"),) if wrong else ()
    documents: dict[str, dict[str, object]] = {f"Host/{name}": {"name": name} for name in names}
    return Reading(Loaded(NOBODY, documents, {}, errors, f"revision of {names}", empty=not names and not wrong))


@dataclass
class Shelf:
    """Where a sync puts things."""

    has: set[str] = field(default_factory=set)
    deleted: list[str] = field(default_factory=list)
    reports: list[tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)
    disturbed: dict[str, Impact] = field(default_factory=dict)
    approved: list[Hold] = field(default_factory=list)
    state: SourceState | None = None

    def put(self, loaded: Loaded, source: str) -> None:
        self.has |= loaded.documents.keys()

    def delete(self, refs: Collection[str], source: str) -> None:
        self.deleted += sorted(refs)
        self.has -= set(refs)

    def refs_from(self, source: str) -> frozenset[str]:
        return frozenset(self.has)

    def impact(self, loaded: Loaded) -> Impact:
        return Impact() if loaded.documents.keys() <= self.has else self.disturbed.get(loaded.revision, Impact())

    def last(self, source: str) -> SourceState | None:
        return self.state

    def report(self, state: SourceState, about: str) -> None:
        self.state = state
        self.reports.append((state.errors, tuple(sorted(state.undeleted))))

    def approvals(self, source: str) -> tuple[Hold, ...]:
        return tuple(self.approved)

    def end_approvals(self, ended: Collection[Hold]) -> None:
        self.approved = [one for one in self.approved if one not in ended]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_two_successive_good_readings_delete(shelf: Shelf) -> None:
    sync = Sync(shelf, "s")
    assert not sync.once(reading("a", "b"))
    assert sync.once(reading("a")), "another reading is wanted"
    assert shelf.deleted == []
    assert not sync.once(reading("a"))
    assert shelf.deleted == ["Host/b"]


def test_one_that_comes_back_is_not_deleted(shelf: Shelf) -> None:
    sync = Sync(shelf, "s")
    for names in (("a", "b"), ("a",), ("a", "b"), ("a",), ("a", "b")):
        sync.once(reading(*names))
    assert shelf.deleted == []


def test_a_bad_reading_changes_nothing_and_confirms_nothing(shelf: Shelf) -> None:
    sync = Sync(shelf, "s")
    sync.once(reading("a", "b"))
    sync.once(reading("a"))
    assert not sync.once(reading("a", "new", wrong=True))
    assert shelf.has == {"Host/a", "Host/b"}
    (error,) = shelf.reports[-1][0]
    assert "what is that" in error
    assert sync.once(reading("a")), "the good readings before and after it are not successive"
    assert shelf.deleted == []
    sync.once(reading("a"))
    assert shelf.deleted == ["Host/b"]


def test_of_very_many_errors_the_first_are_noted_and_the_others_counted(shelf: Shelf) -> None:
    wrong = tuple(ManifestError("what is that", file=f"{number}.yaml") for number in range(1000))
    bad = reading("a", wrong=True)
    Sync(shelf, "s").once(replace(bad, loaded=replace(bad.loaded, errors=wrong)))
    assert shelf.state is not None
    assert shelf.state.errors[-1] == "19.yaml: what is that"
    assert shelf.state.trouble is not None
    assert shelf.state.trouble[1].endswith("errors: 0.yaml: what is that (and 999 more)")


def test_an_empty_source_deletes_nothing(shelf: Shelf) -> None:
    sync = Sync(shelf, "s", Budgets(Budget(100, 25)))
    sync.once(reading("a"))
    for _ in range(4):
        sync.once(reading())
    assert shelf.deleted == []
    assert shelf.reports[-1] == ((), ("Host/a",))


def test_when_all_that_a_source_had_is_gone_at_once_nothing_is_deleted_whatever_is_new(shelf: Shelf) -> None:
    sync = Sync(shelf, "s")
    sync.once(reading("a", "b"))
    for after_a_restart in (sync, sync, sync, Sync(shelf, "s"), Sync(shelf, "s")):
        assert not after_a_restart.once(reading("new"))
        sync.once(reading("new", wrong=True))
        assert shelf.reports[-1][1] == ("Host/a", "Host/b")
    assert shelf.deleted == []
    shelf.has |= {"Host/by hand"}
    sync.once(reading("new"))
    shelf.has -= {"Host/by hand"}
    sync.once(reading("new"))
    sync.once(reading("new"))
    assert shelf.deleted == [], "one that was deleted by hand says nothing of the others"
    sync = Sync(shelf, "s")
    sync.once(reading("a", "new"))
    sync.once(reading("a", "new"))
    assert shelf.deleted == ["Host/b"], "one of them is back"
    assert shelf.reports[-1] == ((), ())


@pytest.mark.parametrize(("total", "gone", "deletes"), [(8, 2, True), (8, 3, False), (40, 10, True), (40, 11, False)])
def test_more_than_the_budget_is_held_and_said(shelf: Shelf, total: int, gone: int, deletes: bool) -> None:
    sync = Sync(shelf, "s", Budgets(Budget(2, 25)))
    names = [f"h{number}" for number in range(total)]
    sync.once(reading(*names))
    for _ in range(3):
        sync.once(reading(*names[gone:]))
    assert len(shelf.deleted) == (gone if deletes else 0)
    held = {f"Host/{name}" for name in names[:gone]}
    assert set(shelf.reports[-1][1]) == (set() if deletes else held)
    sync.once(reading(*names[gone - 1 :]))
    sync.once(reading(*names[gone - 1 :]))
    assert shelf.has >= {f"Host/{name}" for name in names[gone - 1 :]}


@pytest.mark.parametrize("errors_between", [False, True])
def test_after_a_restart_a_larger_budget_lets_through_what_was_held(shelf: Shelf, errors_between: bool) -> None:
    names = [f"h{number}" for number in range(8)]
    sync = Sync(shelf, "s", Budgets(Budget(2, 25)))
    sync.once(reading(*names))
    for _ in range(2):
        sync.once(reading(*names[3:]))
    Sync(shelf, "s", Budgets(Budget(2, 25))).once(reading(*names[3:], wrong=errors_between))
    assert shelf.deleted == []
    sync = Sync(shelf, "s", Budgets(Budget(3, 25)))
    sync.once(reading(*names[3:]))
    sync.once(reading(*names[3:]))
    assert shelf.deleted == ["Host/h0", "Host/h1", "Host/h2"]


def test_after_a_restart_all_that_there_was_is_held_whatever_is_new_and_allowed(shelf: Shelf) -> None:
    sync = Sync(shelf, "s", Budgets(Budget(1, 0)))
    sync.once(reading("a", "b", "c"))
    for _ in range(2):
        sync.once(reading("c"))
    assert shelf.reports[-1][1] == ("Host/a", "Host/b")
    for _ in range(3):
        Sync(shelf, "s", Budgets(Budget(100, 0))).once(reading("new"))
    assert shelf.deleted == []


HOST = f"""
apiVersion: salv.us/v1
kind: Host
metadata: {{name: alpha}}
spec:
  address: 192.0.2.1
  ssh: {{hostKeys: ["{KEY}"]}}
"""
BETA = HOST.replace("alpha", "beta").replace("192.0.2.1", "192.0.2.2")


class Paced(Directory):
    """A directory in which something happens between the readings, instead of time passing."""

    def __init__(self, path: Path, *happens: str) -> None:
        super().__init__(path, settle=0.0)
        left = iter(happens)

        def wait(timeout: float | None = None) -> bool:
            if (text := next(left, None)) is not None:
                (path / "host.yaml").write_text(text)
            return False

        self._stopped.wait = wait  # type: ignore[method-assign]


def test_a_half_written_file_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "host.yaml").write_text(HOST[:60])
    loaded = Paced(tmp_path, HOST[:90], HOST[:120], HOST).read(NOBODY).loaded
    assert loaded.ok
    assert loaded.documents.keys() == {"Host/alpha"}


def test_what_never_rests_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(SalvusError, match="keeps changing"):
        Paced(tmp_path, *(HOST + "#" * number for number in range(99))).read(NOBODY)


def test_editors_files_are_no_manifests(tmp_path: Path) -> None:
    (tmp_path / "host.yaml").write_text(HOST)
    for name in (".host.yaml.swp", "host.yaml~", "#host.yaml#", ".#host.yaml", "4913", "host.yaml.tmp"):
        (tmp_path / name).write_text("{{{")
    loaded = Paced(tmp_path).read(NOBODY).loaded
    assert loaded.ok
    assert loaded.documents.keys() == {"Host/alpha"}


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(MemoryStore(), Settings(store=tmp_path / "unused"))


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "host.yaml").write_text(HOST)
    return tmp_path / "manifests"


def intake_of(
    session: Session,
    path: Path,
    taken: Callable[[int, int], None] = lambda *_: None,
    me: Holder | None = None,
    budgets: Budgets | None = None,
) -> Intake:
    leases = Leases(session.ledger.store, me or Holder.this_process(), dead=lambda _: False)
    made = Intake(session, leases, Directory(path, settle=0.001), budgets or Budgets(), taken, broken=lambda _: None)
    leases.follow([made._lease])
    leases.tick()
    return made


@pytest.fixture
def follower(session: Session, manifests: Path) -> Iterator[Intake]:
    made = intake_of(session, manifests)
    yield made
    made.close()


def test_a_path_that_vanishes_deletes_nothing(follower: Intake, session: Session, manifests: Path) -> None:
    follower.once()
    manifests.rename(manifests.parent / "elsewhere")
    for _ in range(4):
        assert not follower.once()
    assert session.refs_from(follower._source.name) == {"Host/alpha"}
    (state,) = session.ledger.sources.states().values()
    assert state.errors
    (manifests.parent / "elsewhere").rename(manifests)
    (manifests / "host.yaml").rename(manifests / "host.txt")
    for _ in range(4):
        follower.once()
    assert session.refs_from(follower._source.name) == {"Host/alpha"}, "nothing is left, so nothing is believed"


def test_a_source_that_cannot_be_read_confirms_nothing_and_is_told_once(
    follower: Intake,
    session: Session,
    manifests: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (manifests / "beta.yaml").write_text(BETA)
    follower.once()
    (manifests / "beta.yaml").unlink()
    assert follower.once(), "a second look is wanted"
    away = Unreadable("it is away", hint="bring it back")
    with monkeypatch.context() as patch:
        patch.setattr(follower._source, "read", raising(away, away))
        assert [follower.once() for _ in range(2)] == [False, False]
    assert said(caplog) == [("WARNING", "the manifests cannot be read; the last good state is kept")]
    sentence = f"{manifests} cannot be read: it is away; bring it back"
    (state,) = session.ledger.sources.states().values()
    assert state.trouble == ("SourceUnreadable", sentence)
    assert [(e.ref, e.reason, e.message, e.count) for e in session.ledger.events()] == [("", *state.trouble, 1)]
    assert session.knowledge().held["Host/beta"][:2] == state.trouble
    assert follower.once(), "the good readings before and after it are not successive"
    assert session.refs_from(follower._source.name) == {"Host/alpha", "Host/beta"}
    assert session.knowledge().held == {}
    assert not follower.once()
    assert session.refs_from(follower._source.name) == {"Host/alpha"}


def test_it_survives_whatever_a_reading_raises(
    follower: Intake, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for raised in (ZeroDivisionError(), StoreUnavailable("down"), OSError("gone")):
        with monkeypatch.context() as patch:
            patch.setattr(follower._session, "put", lambda *_, raised=raised: (_ for _ in ()).throw(raised))
            assert not follower.once()
    follower.once()
    assert session.refs_from(follower._source.name) == {"Host/alpha"}


def test_what_is_written_is_taken_over_at_once_and_what_is_deleted_soon(
    session: Session, manifests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "CONFIRM", 0.01)
    monkeypatch.setattr(intake, "TURN", 0.01)
    taken = threading.Semaphore(0)
    follower = intake_of(session, manifests, lambda *_: taken.release())
    follower.start()

    def until(wanted: set[str]) -> bool:
        return any(
            taken.acquire(timeout=PATIENCE) and session.refs_from(follower._source.name) == wanted for _ in range(20)
        )

    try:
        assert until({"Host/alpha"})
        (manifests / "beta.yaml").write_text(BETA)
        assert until({"Host/alpha", "Host/beta"})
        (manifests / "beta.yaml").unlink()
        assert until({"Host/alpha"})
        manifests.rename(manifests.with_name("off"))
        shutil.copytree(manifests.with_name("off"), manifests)
        (manifests / "beta.yaml").write_text(BETA)
        assert until({"Host/alpha", "Host/beta"}), "the directory is another one now, and watched"
    finally:
        follower.close()


def test_what_is_approved_is_done_at_once_though_no_file_changes(
    manifests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "CONFIRM", 0.01)
    monkeypatch.setattr(intake, "TURN", 0.01)
    monkeypatch.setattr(directory, "RESYNC", 10 * PATIENCE)
    session = Session(MemoryStore(), Settings(manifests))
    (manifests / "beta.yaml").write_text(BETA)
    told: list[int] = []
    taken = threading.Event()

    def heard(_: int, held: int) -> None:
        told.append(held)
        taken.set()

    follower = intake_of(session, manifests, heard, budgets=Budgets(deletes=Budget(0, 0)))
    follower.start()

    def until(done: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + PATIENCE
        while not (found := done()) and time.monotonic() < deadline:
            taken.wait(0.05)
            taken.clear()
        return found

    try:
        assert until(lambda: len(session.refs_from(follower._source.name)) == 2)
        (manifests / "beta.yaml").unlink()
        assert until(lambda: bool(told) and told[-1] == 1), "the metric has it"
        (state,) = session.ledger.sources.states().values()
        session.ledger.sources.approve(state.holds[0])
        assert until(lambda: session.refs_from(follower._source.name) == {"Host/alpha"})
        assert until(lambda: told[-1] == 0)
    finally:
        follower.close()


def test_what_is_no_directory_is_an_error(session: Session, tmp_path: Path) -> None:
    follower = intake_of(session, tmp_path / "nothing")
    with pytest.raises(SalvusError, match="not a directory"):
        follower.start()
    follower.close()


def raising(*errors: Exception) -> Callable[..., object]:
    """What raises these, one a call, and then is well."""
    left = iter(errors)

    def raises(*_: object, **__: object) -> None:
        if (error := next(left, None)) is not None:
            raise error

    return raises


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    found = [(record.levelname, record.message) for record in caplog.records]
    caplog.clear()
    return found


BAD = ("WARNING", "the manifests have errors; the last good state is kept")
NOT_TAKEN = ("WARNING", "the manifests were not taken over")
GOOD = ("INFO", "the manifests are good again, and taken over")


def test_that_they_are_bad_and_good_again_is_said_once(
    follower: Intake, manifests: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="salvus")
    follower.once()
    assert said(caplog) == []
    (manifests / "bad.yaml").write_text("{{{")
    for _ in range(3):
        follower.once()
    assert said(caplog) == [BAD]
    (manifests / "bad.yaml").write_text("kind: Hots")
    follower.once()
    assert said(caplog) == [BAD], "now something else is wrong"
    (manifests / "bad.yaml").unlink()
    for _ in range(3):
        follower.once()
    assert said(caplog) == [GOOD]


def test_a_conflict_is_quiet_and_tried_again_soon_but_one_that_lasts_is_said(
    follower: Intake, session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="salvus")
    met = Conflict("somebody else changed Host/alpha at the same time")
    with monkeypatch.context() as patch:
        patch.setattr(follower._session, "put", raising(met, Conflict("and again, another one")))
        assert follower.once()
        assert follower.once()
        follower.once()
    assert said(caplog) == []
    with monkeypatch.context() as patch:
        patch.setattr(follower._session, "put", raising(met, met, met))
        assert [follower.once() for _ in range(3)] == [True, False, False]
    assert said(caplog) == [NOT_TAKEN]
    follower.once()
    assert said(caplog) == [GOOD]


def test_of_several_controllers_one_takes_over_and_the_next_when_it_ends(
    session: Session, manifests: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="salvus")
    monkeypatch.setattr(intake, "TURN", 0.01)
    taken = threading.Event()
    other = Holder("elsewhere", "boot", "pid:[1]", 7, "1")
    first = intake_of(session, manifests, me=other)
    second = intake_of(session, manifests, lambda *_: taken.set())
    assert first.holds()
    second.start()
    try:
        second.poke()
        assert not taken.wait(0.2)
        assert ("INFO", "manifests are taken over") in said(caplog), "it says by whom"
        first.close()
        first._leases.release_all()
        second._leases.tick()
        assert taken.wait(PATIENCE), "it need not be told of a change"
        assert session.refs_from(second._source.name) == {"Host/alpha"}
    finally:
        second.close()


def test_what_somebody_applies_while_it_is_to_be_deleted_stays(
    follower: Intake, session: Session, manifests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (manifests / "beta.yaml").write_text(BETA)
    follower.once()
    (manifests / "beta.yaml").unlink()
    delete = follower._session.delete

    def applied_before(refs: Collection[str], source: str) -> tuple[str, ...]:
        file = manifests.with_name("by-hand.yaml")
        file.write_text(BETA.replace("192.0.2.2", "192.0.2.3"))
        session.put(load([file]))
        return delete(refs, source)

    assert follower.once()
    monkeypatch.setattr(follower._session, "delete", applied_before)
    follower.once()
    row = session.knowledge().rows["Host/beta"]
    assert (row.source, row.deleting_since) == ("apply", None)


def test_while_the_world_is_stopped_nothing_is_even_read(
    follower: Intake, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.ledger.put_pause(Pause(WORLD, "ann@desk", "fire", 0.0))
    with monkeypatch.context() as patch:
        patch.setattr(follower._source, "read", lambda *_: pytest.fail("a server was asked"))
        assert follower.once(), "it looks again soon"
    session.ledger.end_pause(WORLD)
    read = follower._source.read

    def meanwhile(others: Fleet, revision: str) -> Reading:
        session.ledger.put_pause(Pause(WORLD, "ann@desk", "fire", 0.0))
        return read(others, revision)

    monkeypatch.setattr(follower._source, "read", meanwhile)
    assert follower.once()
    assert session.knowledge().rows == {}


def test_who_reads_the_source_no_more_says_nothing_of_it(session: Session, manifests: Path) -> None:
    (manifests / "host.yaml").write_text(HOST.replace("192.0.2.1", "nowhere at all"))
    told: list[int] = []
    follower = intake_of(session, manifests, lambda errors, _: told.append(errors))
    assert follower.holds()
    follower.once()
    assert told == [1]
    follower._leases.release_all()
    for _ in range(2):
        assert not follower.holds()
    assert told == [1, 0]
    follower.close()


def test_who_follows_another_directory_is_not_held_up(session: Session, manifests: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    other = Holder("elsewhere", "boot", "pid:[1]", 7, "1")
    one, two = intake_of(session, manifests), intake_of(session, tmp_path / "more", me=other)
    assert one.holds()
    assert two.holds()


def test_who_lost_the_source_while_it_was_read_writes_nothing(
    follower: Intake, session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="salvus")
    read = follower._source.read

    def lost(others: Fleet, revision: str) -> Reading:
        follower._leases.release_all()
        return read(others, revision)

    monkeypatch.setattr(follower._source, "read", lost)
    assert not follower.once()
    assert session.knowledge().rows == {}
    assert session.ledger.sources.states() == {}
    assert said(caplog) == [NOT_TAKEN]
    assert not follower.holds()


def test_what_was_missing_before_another_one_had_the_source_is_not_deleted_at_the_first_look(
    follower: Intake, session: Session, manifests: Path
) -> None:
    (manifests / "more.yaml").write_text(HOST.replace("alpha", "beta").replace("192.0.2.1", "192.0.2.2"))
    follower.once()
    (manifests / "more.yaml").unlink()
    assert follower.once(), "a second look is wanted"
    follower._leases.release_all()
    follower._leases.tick()
    assert follower.once(), "somebody else may have seen it in between"
    assert session.refs_from(follower._source.name) == {"Host/alpha", "Host/beta"}
    follower.once()
    assert session.refs_from(follower._source.name) == {"Host/alpha"}


def test_without_its_lease_nothing_is_read_and_a_damaged_store_is_reported(
    follower: Intake, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = StoreUnusable("damaged")
    told: list[StoreUnusable] = []
    follower._broken = told.append
    monkeypatch.setattr(follower._session, "put", raising(damaged))
    assert not follower.once()
    assert told == [damaged]
    follower._leases.release_all()
    assert not follower.holds()
    assert not follower.once()
    assert told == [damaged], "it did not look"


def test_what_is_pinned_while_the_newest_is_read_is_not_overrun(
    follower: Intake, session: Session, manifests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = follower._source.read, []

    def pinned(others: Fleet, revision: str) -> Reading:
        asked.append(revision)
        session.ledger.sources.pin(Pin(follower._source.name, "a" * 40, "me@here", "it is bad", 0.0))
        return read(others, revision)

    monkeypatch.setattr(follower._source, "read", pinned)
    assert follower.once(), "it is read again soon"
    assert session.knowledge().rows == {}
    follower.once()
    assert asked == ["", "a" * 40]
