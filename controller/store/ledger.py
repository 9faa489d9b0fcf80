"""Reading and writing records; ``history``, ``source_ledger``, ``mirror`` and this know which partition one is in."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from controller.clock import rfc3339, uptime
from controller.store.allocations import decide_anew, keep, rename_in_pools
from controller.store.base import Conflict, Row, Store, StoreUnavailable, Table
from controller.store.guarded import Guarded
from controller.store.history import History
from controller.store.mirror import MANIFEST, PAUSES
from controller.store.records import (
    ABSENT,
    FLEET_PASS,
    SHORT,
    WORLD,
    InventoryRow,
    Pause,
    Seen,
    Status,
    StoredResource,
    dump,
    parse,
    pause_key,
)
from controller.store.source_ledger import SourceLedger

IDENTITY = "identity"
PUTS = "puts"
# Seconds that a pause is kept after its end: on a controller whose clock is late it has not ended yet.
PAUSE_KEPT = 3600.0
# The allocation that names a machine.
HOST = "host"
# Seconds: short enough to wait for after a kill. A put that goes on says so three times in it.
PUT_TTL = 15.0


def taken(before: str, ref: str) -> Conflict:
    """A move to a name that somebody else has."""
    return Conflict(
        f"{before} cannot become {ref}: there is another resource of this name",
        hint=f"delete one of the two, or take salv.us/moved-from out of the manifest of {ref}",
    )


def overtaken(ours: StoredResource, now: StoredResource | None) -> Conflict:
    """Two wrote one resource at the same time; ``now`` is what is in force."""
    others = f"changed at the same time by {_writer(now)}" if now else "deleted at the same time"
    lost = "is not in force" if ours.deleting_since is None else "is not begun"
    what = f"what {_writer(ours)} wrote" if ours.deleting_since is None else f"its deletion by {ours.by}"
    return Conflict(
        f"{ours.ref} was {others}; {what} {lost}",
        hint=f"salvusctl describe {ours.ref} shows what is in force; apply again what is still meant",
    )


def _says_the_same(row: StoredResource, new: StoredResource) -> bool:
    return row.deleting_since is None and dict(row.document) == dict(new.document)


def _writer(row: StoredResource) -> str:
    return f"{row.by or 'somebody'} (from {row.source}, revision {row.revision[:SHORT]}, {rfc3339(row.written_at)})"


class Ledger(History):
    """The store, typed; ``sources`` is what is kept of the sources of manifests. Safe for threads and processes. Raises
    StoreError.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.sources = SourceLedger(store)

    def under(self, check: Callable[[], None]) -> Ledger:
        """The same, but ``check`` is asked before each write, and raises what is to be raised instead."""
        return Ledger(Guarded(self.store, check))

    # Resources

    def resource(self, ref: str) -> StoredResource | None:
        """One resource as it is in force."""
        row = self.store.get(Table.RESOURCE, ref, MANIFEST)
        return parse(StoredResource, row.value) if row else None

    def identity(self) -> str:
        """A UUID of this store, made once: two fleets with machines of one name give them different UUIDs."""
        self.store.compare_and_set(Table.META, IDENTITY, {IDENTITY: None}, {IDENTITY: str(uuid.uuid4())})
        row = self.store.get(Table.META, IDENTITY, IDENTITY)
        if row is None:
            raise StoreUnavailable("the store's identity is not there just after it was written")
        return row.value

    @contextmanager
    def putting(self) -> Iterator[Callable[[], None]]:
        """Several resources are brought into force: until the end, nobody is to act on what is there so far.

        What is given is to be called before each of them: one that was killed in between counts as ended after a while.
        """
        mine = str(uuid.uuid4())
        said = float("-inf")

        def going_on() -> None:
            nonlocal said
            if (now := uptime()) - said >= PUT_TTL / 3:
                self.store.write(Table.META, PUTS, {mine: ""}, ttl=PUT_TTL)
                said = now

        going_on()
        try:
            yield going_on
        finally:
            self.store.write(Table.META, PUTS, {}, (mine,))

    def being_put(self) -> bool:
        """Whether somebody is in the middle of ``putting``."""
        return bool(self.store.read(Table.META, PUTS))

    def put_resource(self, new: StoredResource, seen: tuple[str, int] | None = None) -> str:
        """Brings a manifest into force; returns ``created``, ``configured`` or ``unchanged``. Raises Conflict.

        Of an existing one UUID and generation are kept, and one that is being deleted is kept after all. ``seen`` is
        the state that it is written over, and no other.
        """
        row = self.store.get(Table.RESOURCE, new.ref, MANIFEST)
        old = parse(StoredResource, row.value) if row else None
        if row and old and _says_the_same(old, new):
            if old.source != new.source:
                moved = replace(old, source=new.source, revision=new.revision, by=new.by)
                self._set(new.ref, row.version, moved)
            return "unchanged"
        if seen is not None and seen != (old.state if old else ABSENT):
            raise overtaken(new, old)
        try:
            return self._put_over(row.version if row else None, old, new)
        except Conflict:
            # Somebody wrote just the same at the same time.
            if (now := self.resource(new.ref)) is not None and _says_the_same(now, new):
                return "unchanged"
            raise

    def _put_over(self, version: int | None, old: StoredResource | None, new: StoredResource) -> str:
        if old is None:
            self._set(new.ref, None, new)
            return "created"
        kept = replace(new, uid=old.uid, created_at=old.created_at, generation=old.generation + 1)
        self._set(new.ref, version, kept)
        return "configured"

    def _set(self, ref: str, version: int | None, value: StoredResource) -> None:
        if not self.store.compare_and_set(Table.RESOURCE, ref, {MANIFEST: version}, {MANIFEST: dump(value)}):
            raise overtaken(value, self.resource(ref))

    def mark_deleted(self, ref: str, by: str, source: str = "") -> bool:
        """Begins a deletion, by ``user@host``; False when there is no such resource, or it did not come from the
        ``source`` if one is named. Raises Conflict.

        It is a new generation: what was said of the resource while it was to be there does not count any more.
        """
        row = self.store.get(Table.RESOURCE, ref, MANIFEST)
        if row is None:
            return False
        old = parse(StoredResource, row.value)
        if source and old.source != source:
            return False
        if old.deleting_since is None:
            gone = replace(old, generation=old.generation + 1, deleting_since=time.time(), by=by)
            self._set(ref, row.version, gone)
        return True

    def rename(self, before: str, new: StoredResource, *, machine: bool) -> bool:
        """Moves a resource with its UUID, facts and allocations (rule 18). False when ``before`` is not there.

        Of a ``machine`` also what is known to be on it, what it said, and who is placed there. What machines said of
        the resource they say anew, as of a new generation. Raises Conflict when another resource
        has the new name. The new name is written before the old one goes: a kill in between leaves both, and a second
        try ends it.
        """
        old = self.resource(before)
        if old is None:
            return False
        row = self.store.get(Table.RESOURCE, new.ref, MANIFEST)
        if row is not None and parse(StoredResource, row.value).uid != old.uid:
            raise taken(before, new.ref)
        for table in (Table.STATUS, Table.FACT, Table.ALLOCATION):
            self._copy(table, before, new.ref)
        if machine:
            self._move_machine(before.partition("/")[2], new.ref.partition("/")[2])
        self._move_pause(pause_key(before, machine=machine), pause_key(new.ref, machine=machine))
        version = row.version if row else None
        kept = replace(new, uid=old.uid, created_at=old.created_at, generation=old.generation + 1)
        self._set(new.ref, version, kept)
        if machine:
            self.drop_machine(before.partition("/")[2])
        self._remove(before, self.store.get(Table.RESOURCE, before, MANIFEST))
        return True

    def _move_machine(self, before: str, after: str) -> None:
        for table in (Table.INVENTORY, Table.OBSERVATION, Table.STATUS):
            self._copy(table, before, after)
        for ref, rows in self.store.read_all(Table.ALLOCATION).items():
            moved = {what: after for what, row in rows.items() if what == HOST and row.value == before}
            self.store.write(Table.ALLOCATION, ref, moved)
        rename_in_pools(self.store, before, after)

    def _move_pause(self, before: str, after: str) -> None:
        if (pause := self.pauses().get(before)) is not None:
            self.put_pause(replace(pause, what=after))
            self.end_pause(before)

    def _copy(self, table: Table, before: str, after: str) -> None:
        self.store.write(table, after, {key: row.value for key, row in self.store.read(table, before).items()})

    def remove_resource(self, ref: str) -> bool:
        """Ends a deletion: takes everything away that is kept of a resource, but its events, and what machines said of
        it: each takes that away at its next pass.

        False when somebody brought it into force again: then it stays, as new.
        """
        row = self.store.get(Table.RESOURCE, ref, MANIFEST)
        if row is not None and parse(StoredResource, row.value).deleting_since is None:
            return False
        return self._remove(ref, row)

    def _remove(self, ref: str, row: Row | None) -> bool:
        for table in (Table.STATUS, Table.FACT, Table.ALLOCATION):
            self.store.write(table, ref, {}, tuple(self.store.read(table, ref)))
        expected = {MANIFEST: row.version} if row else {}
        return row is None or self.store.compare_and_set(Table.RESOURCE, ref, expected, {}, expected)

    # What is not to be worked on for a while

    def pauses(self) -> Mapping[str, Pause]:
        """The pauses by what they are of; those that have just ended are among them."""
        return {key: parse(Pause, row.value) for key, row in self.store.read(Table.META, PAUSES).items()}

    def world(self) -> Pause | None:
        """The switch that stops everything, as it is at this very moment."""
        row = self.store.get(Table.META, PAUSES, WORLD)
        return parse(Pause, row.value) if row else None

    def put_pause(self, pause: Pause) -> None:
        """Begins a pause, or gives it another end."""
        ttl = None if pause.until is None else max(0.0, pause.until - time.time()) + PAUSE_KEPT
        self.store.write(Table.META, PAUSES, {pause.what: dump(pause)}, ttl=ttl)

    def end_pause(self, what: str) -> bool:
        """Ends a pause; False when there is none."""
        return self.store.write(Table.META, PAUSES, {}, (what,))

    # What the fleet pass and the machine passes write

    def allocate(self, ref: str, what: str, value: str) -> str | None:
        """Keeps a decision; the first one wins. Returns the one that is in force.

        None: the value is out of a pool, and somebody else has it; another one is to be tried.
        """
        return keep(self.store, ref, what, value)

    def decide_anew(self, ref: str, before: Mapping[str, str | None], after: Mapping[str, str | None]) -> bool:
        """Replaces decisions, all at once, if they are as ``before``. Returns whether they were."""
        return decide_anew(self.store, ref, before, after)

    def put_placement(self, ref: str, status: Status) -> None:
        """Writes what the fleet pass says of a resource."""
        self.store.write(Table.STATUS, ref, {FLEET_PASS: dump(status)})

    def unsay(self, ref: str, machines: Iterable[str]) -> None:
        """Takes away what machines said of what had this name before."""
        for machine in machines:
            self.put_statuses(machine, {ref: None})

    def put_statuses(self, machine: str, statuses: Mapping[str, Status | None]) -> None:
        """Writes (with None: removes) what a machine says of resources, at once: by ``Kind/name``."""
        puts = {ref: dump(status) for ref, status in statuses.items() if status is not None}
        self.store.write(Table.STATUS, machine, puts, statuses.keys() - puts.keys())

    def put_facts(self, ref: str, facts: Mapping[str, str]) -> bool:
        """Adds or replaces facts; returns whether any was not known."""
        return self.store.write(Table.FACT, ref, facts)

    def drop_facts(self, ref: str, facts: Collection[str]) -> None:
        """Forgets facts that are over."""
        self.store.write(Table.FACT, ref, {}, facts)

    def inventory(self, machine: str) -> Mapping[str, InventoryRow]:
        """What salvus has on a machine, by item key."""
        return {key: parse(InventoryRow, row.value) for key, row in self.store.read(Table.INVENTORY, machine).items()}

    def inventories(self) -> Mapping[str, Mapping[str, InventoryRow]]:
        """What salvus has on all machines."""
        everything = self.store.read_all(Table.INVENTORY)
        return {m: {key: parse(InventoryRow, row.value) for key, row in rows.items()} for m, rows in everything.items()}

    def put_inventory(self, machine: str, rows: Mapping[str, InventoryRow], gone: Collection[str] = ()) -> None:
        """Notes what salvus has, and forgets what it has no more."""
        self.store.write(Table.INVENTORY, machine, {key: dump(row) for key, row in rows.items()}, gone)

    def put_seen(self, machine: str, seen: Mapping[str, Seen]) -> None:
        """Replaces the last observation of a machine."""
        gone = self.store.read(Table.OBSERVATION, machine).keys() - seen.keys()
        self.store.write(Table.OBSERVATION, machine, {key: dump(one) for key, one in seen.items()}, gone)

    def seen(self, machine: str) -> Mapping[str, Seen]:
        """How the machine's items were last seen."""
        return {key: parse(Seen, row.value) for key, row in self.store.read(Table.OBSERVATION, machine).items()}

    def seen_item(self, machine: str, key: str) -> Seen | None:
        """How one item of a machine was last seen."""
        row = self.store.get(Table.OBSERVATION, machine, key)
        return parse(Seen, row.value) if row else None

    def drop_machine(self, machine: str) -> None:
        """The machine left the fleet: nothing of it is kept, and nothing on it is touched."""
        for table in (Table.INVENTORY, Table.OBSERVATION, Table.STATUS, Table.JOB, Table.RUN):
            self.store.write(table, machine, {}, tuple(self.store.read(table, machine)))

    # History
