"""Reading and writing records: the one place that knows which table and partition a record is in."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from controller.store.base import Conflict, Store, Table
from controller.store.mirror import MANIFEST
from controller.store.records import (
    Event,
    InventoryRow,
    Job,
    Run,
    Seen,
    SourceState,
    Status,
    StoredResource,
    dump,
    parse,
)

EVENT_TTL = 7 * 86400.0
RUN_TTL = 86400.0
JOB_TTL = 86400.0
# A repeated event is written again only after this time, so that what fails every second costs a write a minute.
EVENT_QUIET = 60.0
SOURCES = "sources"


class Ledger:
    """The store, typed. Safe for threads and processes. Raises StoreError."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # Resources

    def resource(self, ref: str) -> StoredResource | None:
        """One resource as it is in force."""
        row = self.store.get(Table.RESOURCE, ref, MANIFEST)
        return parse(StoredResource, row.value) if row else None

    def put_resource(self, ref: str, document: Mapping[str, Any], source: str, revision: str) -> str:
        """Brings a manifest into force; returns ``created``, ``configured`` or ``unchanged``. Raises Conflict.

        One that is being deleted is kept after all, with its UUID.
        """
        row = self.store.get(Table.RESOURCE, ref, MANIFEST)
        if row is None:
            made = StoredResource(ref, str(uuid.uuid4()), 1, document, source, revision, time.time())
            self._set(ref, None, made)
            return "created"
        old = parse(StoredResource, row.value)
        same = dict(old.document) == dict(document)
        if same and old.source == source and old.deleting_since is None:
            return "unchanged"
        generation = old.generation if same else old.generation + 1
        new = replace(
            old, document=document, source=source, revision=revision, generation=generation, deleting_since=None
        )
        self._set(ref, row.version, new)
        return "unchanged" if same and old.deleting_since is None else "configured"

    def _set(self, ref: str, version: int | None, value: StoredResource) -> None:
        if not self.store.compare_and_set(Table.RESOURCE, ref, MANIFEST, version, dump(value)):
            now = self.resource(ref)
            by = f"; now it is generation {now.generation} from {now.source}" if now else ""
            raise Conflict(f"somebody else changed {ref} at the same time{by}", hint="look at it and apply again")

    def mark_deleted(self, ref: str) -> bool:
        """Begins a deletion; False when there is no such resource. Raises Conflict."""
        row = self.store.get(Table.RESOURCE, ref, MANIFEST)
        if row is None:
            return False
        old = parse(StoredResource, row.value)
        if old.deleting_since is None:
            self._set(ref, row.version, replace(old, deleting_since=time.time()))
        return True

    def rename(self, before: str, after: str, document: Mapping[str, Any], source: str, revision: str) -> bool:
        """Moves a resource with its UUID, status, facts and allocations (rule 18). False when ``before`` is not there.

        The new name is written before the old one goes: a kill in between leaves both, and a second try ends it.
        """
        old = self.resource(before)
        if old is None:
            return False
        moved = replace(old, ref=after, document=document, source=source, revision=revision)
        for table in (Table.STATUS, Table.FACT, Table.ALLOCATION):
            rows = self.store.read(table, before)
            self.store.write(table, after, {key: row.value for key, row in rows.items()})
        row = self.store.get(Table.RESOURCE, after, MANIFEST)
        self._set(after, row.version if row else None, replace(moved, generation=old.generation + 1))
        self.remove_resource(before)
        return True

    def remove_resource(self, ref: str) -> None:
        """Takes everything away that is kept of a resource, events excepted."""
        for table in (Table.STATUS, Table.FACT, Table.ALLOCATION, Table.RESOURCE):
            self.store.write(table, ref, {}, tuple(self.store.read(table, ref)))

    # What the fleet pass and the machine passes write

    def allocate(self, ref: str, what: str, value: str) -> str:
        """Keeps a decision; the first one wins. Returns the one that is in force."""
        if self.store.compare_and_set(Table.ALLOCATION, ref, what, None, value):
            return value
        row = self.store.get(Table.ALLOCATION, ref, what)
        return row.value if row else value

    def statuses(self, ref: str) -> Mapping[str, Status]:
        """By machine; under the empty name what the fleet pass says."""
        return {machine: parse(Status, row.value) for machine, row in self.store.read(Table.STATUS, ref).items()}

    def put_status(self, ref: str, machine: str, status: Status | None) -> None:
        """Writes (with None: removes) what one machine says of a resource."""
        puts = {} if status is None else {machine: dump(status)}
        self.store.write(Table.STATUS, ref, puts, () if puts else (machine,))

    def put_facts(self, ref: str, facts: Mapping[str, str]) -> None:
        """Adds or replaces facts."""
        self.store.write(Table.FACT, ref, facts)

    def facts(self, ref: str) -> Mapping[str, str]:
        """What machines told of a resource."""
        return {what: row.value for what, row in self.store.read(Table.FACT, ref).items()}

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

    def drop_machine(self, machine: str) -> None:
        """The machine left the fleet: nothing of it is kept, and nothing on it is touched."""
        for table in (Table.INVENTORY, Table.OBSERVATION, Table.JOB):
            self.store.write(table, machine, {}, tuple(self.store.read(table, machine)))

    # History

    def tell(self, event: Event) -> None:
        """Keeps an event for a week; a repeat only counts up."""
        row = self.store.get(Table.EVENT, event.ref, event.key)
        if row is not None:
            old = parse(Event, row.value)
            if event.last - old.last < EVENT_QUIET:
                return
            event = replace(event, first=old.first, count=old.count + 1)
        self.store.write(Table.EVENT, event.ref, {event.key: dump(event)}, ttl=EVENT_TTL)

    def events(self, ref: str | None = None) -> list[Event]:
        """Events of one resource or of all, oldest first."""
        partitions = [self.store.read(Table.EVENT, ref)] if ref else self.store.read_all(Table.EVENT).values()
        found = [parse(Event, row.value) for rows in partitions for row in rows.values()]
        return sorted(found, key=lambda event: event.last)

    def put_run(self, run: Run) -> None:
        """Keeps a pass for a day."""
        self.store.write(Table.RUN, run.machine, {f"{run.at:.6f}": dump(run)}, ttl=RUN_TTL)

    def runs(self, machine: str) -> list[Run]:
        """The machine's passes that did or found something, oldest first."""
        return [parse(Run, row.value) for row in self.store.read(Table.RUN, machine).values()]

    def put_job(self, job: Job) -> None:
        """Keeps a job for a day."""
        self.store.write(Table.JOB, job.machine, {job.key: dump(job)}, ttl=JOB_TTL)

    def jobs(self) -> Iterable[Job]:
        """All jobs of the last day."""
        return [parse(Job, row.value) for rows in self.store.read_all(Table.JOB).values() for row in rows.values()]

    def put_source(self, state: SourceState) -> None:
        """Notes how the last reading of a source went."""
        self.store.write(Table.META, SOURCES, {state.source: dump(state)})

    def sources(self) -> Mapping[str, SourceState]:
        """How the last readings went, by source."""
        return {name: parse(SourceState, row.value) for name, row in self.store.read(Table.META, SOURCES).items()}
