"""One opened store and what can be done with it: bring manifests into force, delete, read, run passes."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from controller.holder import who_am_i
from controller.knowledge import Knowledge
from controller.members import Role
from controller.pauses import explained
from controller.present import machines, state_word
from controller.revisions import explained as pinned
from controller.revisions import kept_back, turns
from controller.store.base import Access, Store
from controller.store.ledger import Ledger, overtaken, taken
from controller.store.mirror import Mirror
from controller.store.opening import Old, Where, open_store
from controller.store.records import ABSENT, FLEET_PASS, Event, Job, Pause, StoredResource
from controller.store.source_records import HELD_BY_BUDGET, Hold, Pin, SourceState, place_of
from resources.envelope import Document
from resources.fleet import Fleet, kinds

if TYPE_CHECKING:
    from controller.foresight import Foresight
    from controller.machines import Connect
    from controller.metrics import Metrics
    from controller.reconcile import Outcome
    from controller.runner import Runner
    from controller.sync import Impact
    from resources.load import Loaded

# The source of what was applied by hand.
BY_HAND = "apply"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a context of the configuration says of the controller.

    Attributes:
        store: the SQLite file, or where the ring of Cassandra is.
        identity_files: private keys for machines whose manifest names none.
        resync: seconds after which a machine is looked at again, though nothing happened.
        workers: passes that are made at the same time.
        vpn_probe_interval: seconds after which a machine is asked again whom it reaches in its VPNs; 0 for never.
    """

    store: Where
    identity_files: tuple[str, ...] = ()
    resync: float = 30.0
    workers: int = 16
    vpn_probe_interval: float = 60.0


@dataclass(frozen=True, slots=True)
class Put:
    """How one manifest was taken: ``created``, ``configured``, ``unchanged`` or ``moved``."""

    ref: str
    verb: str


class Session:
    """See the module. Safe for threads."""

    def __init__(self, store: Store, settings: Settings, connect: Connect | None = None) -> None:
        self.ledger = Ledger(store)
        self.settings = settings
        self._connect = connect
        self._mirror = Mirror(store)
        self._knowledge = Knowledge()
        self._reading = threading.Lock()
        self._foresight: Foresight | None = None
        self._foreseeing = threading.Lock()

    def knowledge(self) -> Knowledge:
        """The store as it is now."""
        knowledge = self._now()
        return replace(knowledge, held=kept_back(knowledge.rows, self.ledger.sources.states()))

    def _now(self) -> Knowledge:
        """The same, without what budgets hold. Only what changed since the last time is read."""
        with self._reading:
            self._mirror.refresh()
            self._knowledge = self._knowledge.after(self._mirror)
            return self._knowledge

    def put(
        self, loaded: Loaded, source: str = BY_HAND, seen: Mapping[str, StoredResource] | None = None
    ) -> tuple[Put, ...]:
        """Brings manifests without errors into force; controllers act on all of them, or on none.

        Raises Conflict when somebody else writes one meanwhile, or since the rows were ``seen`` (None: as of now), or a
        move goes to a name that another resource has.
        """
        rows = self._now().rows
        befores = {ref: before for ref in loaded.documents if (before := _before(loaded, ref)) in rows}
        for ref, before in befores.items():
            if ref in rows and rows[ref].uid != rows[before].uid:
                raise taken(before, ref)
        # A new name may be there already, too: a move that was killed between its two writes is ended.
        same = {
            ref
            for ref, document in loaded.documents.items()
            if ref in rows and ref not in befores and _in_force(rows[ref], document, source)
        }
        # Of what moves, both names are there for a moment.
        with self._together(len(loaded.documents) - len(same) > 1 or bool(befores)) as going_on:
            new = self._new(loaded, source, rows, same)
            states = _states(new, rows)
            meant = states if seen is None else _states(new, seen)
            if late := [ref for ref in new if states[ref] != meant[ref]]:
                raise overtaken(new[late[0]], rows.get(late[0]))
            return tuple(
                Put(ref, "unchanged" if ref in same else self._put(new[ref], states[ref], befores.get(ref, "")))
                for ref in _one_by_one(loaded.documents, going_on)
            )

    def _together(self, several: bool) -> AbstractContextManager[Callable[[], None]]:
        return self.ledger.putting() if several else nullcontext(lambda: None)

    def _new(
        self, loaded: Loaded, source: str, rows: Mapping[str, StoredResource], same: Collection[str]
    ) -> dict[str, StoredResource]:
        uids = {row.uid for row in rows.values()}
        identity, now, by = self.ledger.identity(), time.time(), who_am_i()
        new: dict[str, StoredResource] = {}
        for ref, document in loaded.documents.items():
            if ref not in same:
                uid = rows[ref].uid if ref in rows else fresh_uid(identity, ref, uids)
                uids.add(uid)
                new[ref] = StoredResource(ref, uid, 1, document, source, loaded.revision, now, now, by=by)
        return new

    def _put(self, new: StoredResource, state: tuple[str, int], before: str) -> str:
        if state == ABSENT:
            # Else it would count for what has the name now.
            self.ledger.unsay(new.ref, self._knowledge.statuses.get(new.ref, {}).keys() - {FLEET_PASS})
        machine = kinds()[new.ref.partition("/")[0]].is_machine
        moved = before and self.ledger.rename(before, new, machine=machine)
        return "moved" if moved else self.ledger.put_resource(new, state)

    def delete(self, refs: Collection[str], source: str = "") -> tuple[str, ...]:
        """Begins deletions; returns those of resources that are there, and came from the ``source`` if one is named."""
        with self._together(len(refs) > 1) as going_on:
            one_by_one = _one_by_one(refs, going_on)
            return tuple(ref for ref in one_by_one if self.ledger.mark_deleted(ref, who_am_i(), source))

    def pause(self, pause: Pause, ref: str) -> None:
        """Begins a pause, or gives it another end; ``ref`` is the resource it is of, empty for everything."""
        self.ledger.put_pause(pause)
        self._tell(ref, *explained(pause))

    def pin(self, pin: Pin) -> None:
        """Pins a source to a revision."""
        self.ledger.sources.pin(pin)
        self._tell("", "Pinned", pinned(pin))

    def unpin(self, pin: Pin, by: str) -> None:
        """Ends it: what is newest counts again."""
        self.ledger.sources.unpin(pin.source)
        self._tell("", "Unpinned", f"{place_of(pin.source)} by {by}; it was pinned by {pin.by}: {pin.reason}")

    def resume(self, pause: Pause, ref: str, by: str) -> None:
        """Ends a pause before its time."""
        self.ledger.end_pause(pause.what)
        self._tell(ref, "Resumed", f"by {by}; it was paused by {pause.by}: {pause.reason}")

    def _tell(self, ref: str, reason: str, message: str) -> None:
        now = time.time()
        self.ledger.tell([Event(ref, "", "Normal", reason, message, now, now)])

    def refs_from(self, source: str) -> frozenset[str]:
        """Resources that came from the source and are not being deleted."""
        rows = self._now().rows
        return frozenset(r for r, row in rows.items() if row.source == source and row.deleting_since is None)

    def others(self, source: str) -> Fleet:
        """The resources that came from elsewhere than the source."""
        knowledge = self._now()
        return Fleet.of_resources(r for r in knowledge.fleet if knowledge.rows[r.ref].source != source)

    def impact(self, loaded: Loaded) -> Impact:
        """What ``put`` would disturb that is not disturbed anyway, as far as is known of the machines."""
        with self._foreseeing:
            if self._foresight is None:
                # Here, because most commands foresee nothing.
                from controller.foresight import Foresight

                self._foresight = Foresight(self.ledger)
            return self._foresight.impact(self._now(), loaded)

    def sources(self) -> tuple[SourceState, ...]:
        """How the sources stand that somebody follows, or that something came from; others are of no interest now."""
        from controller.members import SOURCE, epochs

        if not (states := self.ledger.sources.states()):
            return ()
        came = {row.source for row in self._now().rows.values()}
        followed = {lease.removeprefix(SOURCE) for lease in epochs(self.ledger.store)}
        return tuple(state for name, state in sorted(states.items()) if name in came | followed)

    def last(self, source: str) -> SourceState | None:
        """How the last reading of a source went."""
        return self.ledger.sources.states().get(source)

    def report(self, state: SourceState, about: str) -> None:
        """Notes how the last reading of a source went; writes nothing while it goes as before."""
        now, before = time.time(), self.last(state.source)
        same = before is not None and (state.errors, state.holds) == (before.errors, before.holds)
        state = replace(state, at=before.at if before and same else now)
        if state == before:
            return
        self.ledger.sources.note_turns(state.source, turns(state, about, now, self.ledger.sources.turns(state.source)))
        known = {hold.id for hold in before.holds} if before else set()
        new = [hold for hold in state.holds if hold.id not in known]
        told = [(ref, HELD_BY_BUDGET, hold.message) for hold in new for ref in hold.refs]
        if state.trouble and (before is None or state.trouble != before.trouble):
            told.append(("", *state.trouble))
        self.ledger.tell(Event(ref, "", "Warning", reason, message, now, now) for ref, reason, message in told)
        # Last: who is killed before it says all of it again.
        self.ledger.sources.put(state)

    def approvals(self, source: str) -> tuple[Hold, ...]:
        """What somebody lets through of what is held of the source."""
        return tuple(hold for hold in self.ledger.sources.approvals() if hold.source == source)

    def end_approvals(self, ended: Collection[Hold]) -> None:
        """They are used up, or of no use any more."""
        self.ledger.sources.end_approvals([hold.id for hold in ended])

    @property
    def connect(self) -> Connect:
        """How machines are reached: really, unless the session was opened with another way."""
        if self._connect is None:
            # Here, because a process that only reads the store is not to wait for paramiko and libvirt.
            from controller.connect import real

            self._connect = real(self.settings.identity_files)
        return self._connect

    def under(self, check: Callable[[], None]) -> Session:
        """The same, but ``check`` is asked before each write to the store, and raises what is to be raised instead."""
        return Session(self.ledger.under(check).store, self.settings, self._connect)

    def runner(
        self, metrics: Metrics, role: Role = Role.DAEMON, ended: Callable[[Outcome], None] = lambda _: None
    ) -> Runner:
        """A runner that takes part in the leases: of what another controller holds, it only follows the store."""
        # Here for the same reason as in ``connect``: it comes with all machinery, metrics included.
        from controller.engine import Engine
        from controller.holder import Holder
        from controller.leases import Leases
        from controller.runner import Rhythm, Runner

        leases = Leases(self.ledger.store, Holder.this_process(), role)
        engine = Engine(self.ledger, leases, self.connect, _public_keys(self.settings.identity_files))
        return Runner(engine, Rhythm(self.settings.resync, self.settings.workers), metrics, ended)

    def jobs(self, machine: str) -> list[Job]:
        """The long changes under way on a machine; one whose controller is gone is not under way any more."""
        from controller.members import epochs, shard_of

        epoch = epochs(self.ledger.store).get(shard_of(machine))
        return [job for job in self.ledger.jobs(machine) if job.ended is None and job.epoch == epoch]

    def states(self, knowledge: Knowledge, ref: str) -> dict[str, str]:
        """How what runs of a resource was last seen, by machine; empty for what does not run, or is being deleted."""
        kind, _, name = ref.partition("/")
        resource = knowledge.fleet.get(kind, name)
        if resource is None:
            return {}
        world = knowledge.world()
        keys = {machine: kinds()[kind].runs_as(resource, machine, world) for machine in machines(knowledge, ref)}
        return {machine: state_word(self.ledger.seen_item(machine, key)) for machine, key in keys.items() if key}

    def controller(self) -> str:
        """Who holds leases now and is alive, as ``pid 7 on host``; empty for nobody."""
        from controller.members import holders

        return holders(self.ledger.store)


def _one_by_one(refs: Iterable[str], going_on: Callable[[], None]) -> Iterator[str]:
    for ref in refs:
        going_on()
        yield ref


def _public_keys(identity_files: Collection[str]) -> str:
    """The public keys that lie beside private ones, a line each."""
    files = (Path(f"{file}.pub").expanduser() for file in identity_files)
    return "\n".join(" ".join(file.read_text().split()[:2]) for file in files if file.is_file())


def _states(refs: Iterable[str], rows: Mapping[str, StoredResource]) -> dict[str, tuple[str, int]]:
    return {ref: rows[ref].state if ref in rows else ABSENT for ref in refs}


def _before(loaded: Loaded, ref: str) -> str:
    """The ``Kind/name`` that a resource had before; empty when its manifest names none."""
    kind, _, name = ref.partition("/")
    resource = loaded.fleet.get(kind, name)
    return f"{kind}/{resource.moved_from}" if resource is not None and resource.moved_from else ""


def _in_force(row: StoredResource, document: Document, source: str) -> bool:
    """Whether a manifest is just what is there. One applied by hand leaves it with the source that it came from."""
    return row.deleting_since is None and row.document == document and source in (row.source, BY_HAND)


def fresh_uid(identity: str, ref: str, taken: Collection[str]) -> str:
    """The UUID that a new resource gets: the same before and after it is stored, so that diff shows what apply does.

    Another one when a resource of this name was there before and has been renamed since (RFC 9562, version 5).
    """
    space = uuid.UUID(identity)
    number = 0
    while (uid := str(uuid.uuid5(space, f"{ref}#{number}" if number else ref))) in taken:
        number += 1
    return uid


@contextmanager
def open_session(
    settings: Settings, connect: Connect | None = None, access: Access = Access.MAKE, old: Old | None = None
) -> Iterator[Session]:
    """Opens the store and closes it at the end; ``old`` as in ``open_store``. Raises StoreError."""
    store = open_store(settings.store, access, old)
    try:
        session = Session(store, settings, connect)
        if access is not Access.READ:
            # Who only reads needs it, too, and cannot make it.
            session.ledger.identity()
        yield session
    finally:
        store.close()
