"""The part of the store that decisions are made from, kept in memory; only changed partitions are read again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar, cast

from controller.store.base import Row, Store, Table
from controller.store.records import FLEET_PASS, Pause, Status, StoredResource, parse
from controller.store.source_records import Pin

K = TypeVar("K")
V = TypeVar("V")

MANIFEST = "manifest"
# Topics in META.
PAUSES = "pauses"
CALLS = "calls"
PINS = "pins"


def differing(old: Mapping[K, V], new: Mapping[K, V]) -> Iterator[K]:
    """The keys whose values are not the same object."""
    if old is not new:
        yield from (key for key in old.keys() | new.keys() if old.get(key) is not new.get(key))


class Mirror:
    """Mappings that are never changed, only replaced; a value stays the same object while its row is the same.

    ``said`` is by place what ``statuses`` is by ``Kind/name``: by machine what it says of each resource; and by
    resource what the fleet pass says, under the empty key. ``calls`` are those to read a source, by its name: another
    text for each; ``pins`` are by the source, too. ``inventories`` counts the changes of machines' inventories, which
    are not kept here; ``written``, by machine, those of its inventory or observations.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cursor = 0
        self._versions: dict[tuple[Table, str], Mapping[str, tuple[int, object]]] = {}
        self.resources: Mapping[str, StoredResource] = {}
        self.said: Mapping[str, Mapping[str, Status]] = {}
        self.statuses: Mapping[str, Mapping[str, Status]] = {}
        self.facts: Mapping[tuple[str, str], str] = {}
        self.allocations: Mapping[tuple[str, str], str] = {}
        self.pauses: Mapping[str, Pause] = {}
        self.calls: Mapping[str, str] = {}
        self.pins: Mapping[str, Pin] = {}
        self.inventories = 0
        self._written: Counter[str] = Counter()

    def written(self, machine: str) -> int:
        """See the class."""
        return self._written[machine]

    def refresh(self) -> bool:
        """Reads what changed since the last time; returns whether any resource, status, fact or allocation did."""
        cursor, partitions = self._store.changed_since(self._cursor)
        refs: dict[Table, list[str]] = {}
        for table, partition in partitions:
            refs.setdefault(table, []).append(partition)
        self.resources = self._resources(refs.get(Table.RESOURCE, []))
        self._take_statuses(refs.get(Table.STATUS, []))
        self.facts = self._texts(self.facts, Table.FACT, refs.get(Table.FACT, []))
        self.allocations = self._texts(self.allocations, Table.ALLOCATION, refs.get(Table.ALLOCATION, []))
        if PAUSES in refs.get(Table.META, ()):
            self.pauses = self._read(Table.META, [PAUSES], 0, _pause)[PAUSES]
        if CALLS in refs.get(Table.META, ()):
            self.calls = self._read(Table.META, [CALLS], 0, str)[CALLS]
        if PINS in refs.get(Table.META, ()):
            self.pins = self._read(Table.META, [PINS], 0, _pin)[PINS]
        # Last: what a store that failed in between did not tell is asked for again.
        self._cursor = cursor
        self.inventories += len(refs.get(Table.INVENTORY, ()))
        self._written.update(refs.get(Table.INVENTORY, ()))
        self._written.update(refs.get(Table.OBSERVATION, ()))
        return not refs.keys().isdisjoint({Table.RESOURCE, Table.STATUS, Table.FACT, Table.ALLOCATION})

    def _read(
        self, table: Table, refs: list[str], known: int, read: Callable[[str], V]
    ) -> Mapping[str, Mapping[str, V]]:
        """The partitions' values; the whole table at once when most of it changed."""
        everything = self._store.read_all(table) if len(refs) > max(100, known // 4) else None
        found: dict[str, Mapping[str, V]] = {}
        for ref in refs:
            rows = self._store.read(table, ref) if everything is None else everything.get(ref, {})
            found[ref] = self._values(table, ref, rows, read)
        return found

    def _values(self, table: Table, ref: str, rows: Mapping[str, Row], read: Callable[[str], V]) -> Mapping[str, V]:
        before = self._versions.pop((table, ref), {})
        now: dict[str, tuple[int, V]] = {}
        for key, row in rows.items():
            kept = before.get(key)
            # One table holds one type.
            same = kept is not None and kept[0] == row.version
            now[key] = cast(tuple[int, V], kept) if same else (row.version, read(row.value))
        if now:
            self._versions[table, ref] = now
        return {key: value for key, (_, value) in now.items()}

    def _resources(self, refs: list[str]) -> Mapping[str, StoredResource]:
        if not refs:
            return self.resources
        resources = dict(self.resources)
        for ref, values in self._read(Table.RESOURCE, refs, len(resources), _resource).items():
            if MANIFEST in values:
                resources[ref] = values[MANIFEST]
            else:
                resources.pop(ref, None)
        return resources

    def _take_statuses(self, places: list[str]) -> None:
        said, changed = dict(self.said), dict[str, dict[str, Status]]()
        for place, now in self._read(Table.STATUS, places, len(said), _status).items():
            before = said.pop(place, {})
            if now:
                said[place] = now
            for key in differing(before, now):
                ref, machine = (place, FLEET_PASS) if key == FLEET_PASS else (key, place)
                if ref not in changed:
                    changed[ref] = dict(self.statuses.get(ref, {}))
                changed[ref].pop(machine, None)
                if key in now:
                    changed[ref][machine] = now[key]
        if changed:
            self.said = said
            self.statuses = {ref: by_machine for ref, by_machine in {**self.statuses, **changed}.items() if by_machine}

    def _texts(
        self, before: Mapping[tuple[str, str], str], table: Table, refs: list[str]
    ) -> Mapping[tuple[str, str], str]:
        if not refs:
            return before
        changed = set(refs)
        texts = {name: value for name, value in before.items() if name[0] not in changed}
        for ref, values in self._read(table, refs, len(before), str).items():
            texts |= {(ref, key): value for key, value in values.items()}
        return texts


def _resource(text: str) -> StoredResource:
    return parse(StoredResource, text)


def _pause(text: str) -> Pause:
    return parse(Pause, text)


def _pin(text: str) -> Pin:
    return parse(Pin, text)


def _status(text: str) -> Status:
    return parse(Status, text)
