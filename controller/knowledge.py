"""From the store's rows to what the pure part reads: the fleet, what is known of it, and the names of what changed."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from controller.log import log
from controller.store.mirror import Mirror, differing
from controller.store.records import FLEET_PASS, Status, StoredResource
from controller.summary import merged
from resources.base import AnyResource
from resources.envelope import resource_of
from resources.errors import ManifestError
from resources.fleet import Fleet
from resources.world import Known, World

Statuses = Mapping[str, Mapping[str, Status]]


@dataclass(frozen=True)
class Knowledge:
    """One state of the store, as values. ``touched`` names what differs from the state before, as ``World`` does.

    ``statuses`` and ``said`` are as in ``Mirror``. Resources that are being deleted are in ``rows`` and no longer in
    ``fleet``. ``held`` says of what something newer is not in force, as ``Kind/name`` → (reason, sentence, since when),
    for who only reads.
    """

    fleet: Fleet = field(default_factory=Fleet)
    known: Known = field(default_factory=Known)
    rows: Mapping[str, StoredResource] = field(default_factory=dict)
    statuses: Statuses = field(default_factory=dict)
    said: Statuses = field(default_factory=dict)
    touched: frozenset[str] = frozenset()
    held: Mapping[str, tuple[str, str, float]] = field(default_factory=dict)

    @cached_property
    def living(self) -> Collection[str]:
        """``Kind/name`` of all that is to be kept."""
        return {ref for ref, row in self.rows.items() if row.deleting_since is None}

    def world(self) -> World:
        """What kinds read of it; each has reads of its own."""
        return World(self.fleet, self.known)

    def gone(self) -> Mapping[str, Collection[str]]:
        """``Kind/name`` of what machines said something of that are not in the fleet, by machine."""
        return _gone(self.fleet, self.said)

    @cached_property
    def moved(self) -> Mapping[str, str]:
        """New names by old ones, of renamed resources whose old name nobody has again."""
        named = ((f"{one.kind}/{one.moved_from}", one.ref) for one in self.fleet if one.moved_from)
        return {before: ref for before, ref in named if before not in self.rows}

    def after(self, mirror: Mirror) -> Knowledge:
        """The state that the mirror holds now."""
        rows, statuses = mirror.resources, mirror.statuses
        changed = set(differing(self.rows, rows))
        touched = {name for ref in changed for name in (f"resource/{ref}", f"kind/{ref.partition('/')[0]}")}
        fleet = _fleet(self.fleet, rows, changed) if changed else self.fleet
        stale = set(differing(self.statuses, statuses)) | changed
        conditions = dict(self.known.conditions)
        for ref in stale:
            touched |= _recondition(conditions, ref, rows.get(ref), statuses.get(ref, {}))
        touched |= {f"fact/{ref}/{what}" for ref, what in differing(self.known.facts, mirror.facts)}
        touched |= {f"allocation/{ref}/{what}" for ref, what in differing(self.known.allocations, mirror.allocations)}
        new = {place: mirror.said[place] for place in differing(self.said, mirror.said) if place in mirror.said}
        touched |= {f"gone/{machine}" for machine in _gone(fleet, new)}
        uids = {ref: row.uid for ref, row in rows.items()} if changed else self.known.uids
        known = Known(mirror.allocations, mirror.facts, conditions, uids)
        return Knowledge(fleet, known, rows, statuses, mirror.said, frozenset(touched))


def _gone(fleet: Fleet, said: Statuses) -> dict[str, Collection[str]]:
    told = {place: refs for place, by_key in said.items() if (refs := by_key.keys() - {FLEET_PASS})}
    return {machine: refs for machine, refs in told.items() if fleet.machine(machine) is None}


def _fleet(before: Fleet, rows: Mapping[str, StoredResource], changed: set[str]) -> Fleet:
    """The fleet of the rows that are not being deleted; only changed ones are read anew.

    One that this version cannot read is left out, and still counts as living: what it has is not taken away.
    """
    resources: dict[str, AnyResource] = {r.ref: r for r in before if r.ref not in changed}
    for ref in changed:
        row = rows.get(ref)
        if row is None or row.deleting_since is not None:
            continue
        try:
            resources[ref] = resource_of(row.document)
        except ManifestError as error:
            log(logging.ERROR, "a stored resource cannot be read by this version", resource=ref, error=str(error))
    return Fleet.of_resources(resources.values())


def _recondition(
    conditions: dict[tuple[str, str], str], ref: str, row: StoredResource | None, by_machine: Mapping[str, Status]
) -> set[str]:
    """Works a resource's conditions out anew; returns the names of those that changed."""
    new = {condition.type: condition.status for condition in merged(row, by_machine)} if row else {}
    touched: set[str] = set()
    for type_ in _CONDITIONS | new.keys():
        value = new.get(type_)
        if conditions.get((ref, type_)) == value:
            continue
        touched.add(f"condition/{ref}/{type_}")
        if value is None:
            del conditions[ref, type_]
        else:
            conditions[ref, type_] = value
    return touched


# All that passes give; so that one that is no longer given is found without looking through everything.
_CONDITIONS = frozenset({"Ready", "Synced", "Reachable", "Placed"})
