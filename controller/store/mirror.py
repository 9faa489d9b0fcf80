"""The part of the store that decisions are made from, kept in memory; only changed partitions are read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

from controller.store.base import Row, Store, Table
from controller.store.records import Status, StoredResource, parse

V = TypeVar("V")

MANIFEST = "manifest"


class Mirror:
    """Mappings that are never changed, only replaced; a value stays the same object while its row is the same."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cursor = 0
        self._versions: dict[tuple[Table, str, str], tuple[int, object]] = {}
        self.resources: Mapping[str, StoredResource] = {}
        self.statuses: Mapping[str, Mapping[str, Status]] = {}
        self.facts: Mapping[tuple[str, str], str] = {}
        self.allocations: Mapping[tuple[str, str], str] = {}

    def refresh(self) -> bool:
        """Reads what changed since the last time; returns whether anything of the above did."""
        cursor, partitions = self._store.changed_since(self._cursor)
        refs: dict[Table, list[str]] = {}
        for table, partition in partitions:
            refs.setdefault(table, []).append(partition)
        self.resources = self._resources(refs.get(Table.RESOURCE, []))
        self.statuses = self._statuses(refs.get(Table.STATUS, []))
        self.facts = self._texts(self.facts, Table.FACT, refs.get(Table.FACT, []))
        self.allocations = self._texts(self.allocations, Table.ALLOCATION, refs.get(Table.ALLOCATION, []))
        # Last: what a store that failed in between did not tell is asked for again.
        self._cursor = cursor
        return not refs.keys().isdisjoint({Table.RESOURCE, Table.STATUS, Table.FACT, Table.ALLOCATION})

    def _read(self, table: Table, refs: list[str], known: int) -> Mapping[str, Mapping[str, Row]]:
        """The partitions; the whole table at once when most of it changed."""
        if len(refs) > max(100, known // 4):
            everything = self._store.read_all(table)
            return {ref: everything.get(ref, {}) for ref in refs}
        return {ref: self._store.read(table, ref) for ref in refs}

    def _kept(self, table: Table, ref: str, key: str, row: Row, read: Callable[[str], V]) -> V:
        before = self._versions.get((table, ref, key))
        if before is not None and before[0] == row.version:
            return cast(V, before[1])  # one table holds one type
        value = read(row.value)
        self._versions[table, ref, key] = (row.version, value)
        return value

    def _resources(self, refs: list[str]) -> Mapping[str, StoredResource]:
        if not refs:
            return self.resources
        resources = dict(self.resources)
        for ref, rows in self._read(Table.RESOURCE, refs, len(resources)).items():
            if MANIFEST in rows:
                resources[ref] = self._kept(Table.RESOURCE, ref, MANIFEST, rows[MANIFEST], _resource)
            else:
                resources.pop(ref, None)
        return resources

    def _statuses(self, refs: list[str]) -> Mapping[str, Mapping[str, Status]]:
        if not refs:
            return self.statuses
        statuses = dict(self.statuses)
        for ref, rows in self._read(Table.STATUS, refs, len(statuses)).items():
            if rows:
                statuses[ref] = {m: self._kept(Table.STATUS, ref, m, row, _status) for m, row in rows.items()}
            else:
                statuses.pop(ref, None)
        return statuses

    def _texts(
        self, before: Mapping[tuple[str, str], str], table: Table, refs: list[str]
    ) -> Mapping[tuple[str, str], str]:
        if not refs:
            return before
        changed = set(refs)
        texts = {name: value for name, value in before.items() if name[0] not in changed}
        for ref, rows in self._read(table, refs, len(before)).items():
            texts |= {(ref, key): self._kept(table, ref, key, row, str) for key, row in rows.items()}
        return texts


def _resource(text: str) -> StoredResource:
    return parse(StoredResource, text)


def _status(text: str) -> Status:
    return parse(Status, text)
