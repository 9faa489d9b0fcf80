"""From the store's rows to what the pure part reads: the fleet, what is known of it, and the names of what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from controller.status import Verdict, summary
from controller.store.records import Mirror, Status, StoredResource
from resources.base import AnyResource
from resources.fleet import Fleet
from resources.load import resource_of
from resources.world import Known

K = TypeVar("K")
V = TypeVar("V")

Statuses = Mapping[str, Mapping[str, Status]]


def differing(old: Mapping[K, V], new: Mapping[K, V]) -> Iterator[K]:
    """The keys whose values are not the same object."""
    if old is not new:
        yield from (key for key in old.keys() | new.keys() if old.get(key) is not new.get(key))


@dataclass(frozen=True)
class Knowledge:
    """One state of the store, as values. ``touched`` names what differs from the state before, as ``World`` does."""

    fleet: Fleet = field(default_factory=Fleet)
    known: Known = field(default_factory=Known)
    rows: Mapping[str, StoredResource] = field(default_factory=dict)
    statuses: Statuses = field(default_factory=dict)
    touched: frozenset[str] = frozenset()

    def after(self, mirror: Mirror) -> Knowledge:
        """The state that the mirror holds now."""
        rows, statuses = mirror.resources, mirror.statuses
        changed = set(differing(self.rows, rows))
        touched = {name for ref in changed for name in (f"resource/{ref}", f"kind/{ref.partition('/')[0]}")}
        fleet = _fleet(self.fleet, rows, changed) if changed else self.fleet
        conditions = dict(self.known.conditions)
        for ref in set(differing(self.statuses, statuses)) | changed:
            touched |= _recondition(conditions, ref, rows.get(ref), statuses.get(ref, {}))
        touched |= {f"fact/{ref}/{what}" for ref, what in differing(self.known.facts, mirror.facts)}
        touched |= {f"allocation/{ref}/{what}" for ref, what in differing(self.known.allocations, mirror.allocations)}
        uids = {ref: row.uid for ref, row in rows.items()} if changed else self.known.uids
        known = Known(mirror.allocations, mirror.facts, conditions, uids)
        return Knowledge(fleet, known, rows, statuses, frozenset(touched))


def _fleet(before: Fleet, rows: Mapping[str, StoredResource], changed: set[str]) -> Fleet:
    """The fleet of the rows that are not being deleted; only changed ones are read anew."""
    resources: dict[str, AnyResource] = {r.ref: r for r in before if r.ref not in changed}
    for ref in changed:
        row = rows.get(ref)
        if row is not None and row.deleting_since is None:
            resources[ref] = resource_of(row.document)
    return Fleet.of_resources(resources.values())


def _recondition(
    conditions: dict[tuple[str, str], str], ref: str, row: StoredResource | None, by_machine: Mapping[str, Status]
) -> set[str]:
    """Works a resource's conditions out anew; returns the names of those that changed."""
    new = {verdict.type: verdict.status for verdict in ready(row, by_machine)} if row else {}
    touched: set[str] = set()
    for type_ in [t for r, t in conditions if r == ref and t not in new]:
        del conditions[ref, type_]
        touched.add(f"condition/{ref}/{type_}")
    for type_, status in new.items():
        if conditions.get((ref, type_)) != status:
            conditions[ref, type_] = status
            touched.add(f"condition/{ref}/{type_}")
    return touched
