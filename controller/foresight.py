"""What bringing manifests into force would disturb, foreseen from the store: no machine is asked, nothing is changed.

The same planner as everywhere, over the last observations. What is disturbed anyway, without the manifests, does not
count. The cost follows what differs: lowered machines are kept from one time to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from controller.difference import overlay
from controller.knowledge import Knowledge
from controller.lower import Lowered
from controller.plan import Circumstances, Owned, Plan, plan
from controller.record import read_inventory
from controller.store.ledger import Ledger
from controller.store.mirror import differing
from controller.store.records import Seen
from controller.store.source_records import Disturbed, HeldChange
from controller.sync import Impact
from controller.values import masked
from controller.view import View
from drivers.base import Absent, Change, Grade, Observation, Present, State, Value, Verb
from resources.fleet import Fleet, kinds
from resources.load import Loaded
from resources.world import World


class Foresight:
    """The fleet as it was when it was last asked about. Not safe for threads: its user locks."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._knowledge = Knowledge()
        self._view = View()

    def impact(self, now: Knowledge, loaded: Loaded) -> Impact:
        """What would be disturbed by a restart or more. Of a machine that was never seen, nothing is."""
        # A change that is under way is of the manifests of before, wherever it is.
        known = replace(now.known, foreseen=True)
        self._view.update(now.fleet, known, _touched(self._knowledge, now))
        self._knowledge = now
        new = _new(loaded, now)
        if not new.documents:
            return Impact()
        # Who reads what is known of what was lowered once.
        before = {machine.name: self._view.lowered(machine.name) for machine in now.fleet.machines()}
        then = overlay(now, new, self._ledger.identity())
        touched = _touched(now, then)
        affected = self._view.update(then.fleet, then.known, touched)
        try:
            # What a renamed machine has is known under its former name.
            former = {r.name: r.moved_from for r in then.fleet.machines() if r.moved_from and r.moved_from in before}
            here = sorted(affected.difference(former.values()))
            found = tuple(one for name in here for one in self._on(name, former.get(name, name), before, now, then))
            return Impact(found, _running(then, self._view) if found else 0)
        finally:
            self._view.update(now.fleet, known, touched)

    def _on(
        self, machine: str, name: str, before: Mapping[str, Lowered], now: Knowledge, then: Knowledge
    ) -> Iterator[Disturbed]:
        """What is disturbed on one machine, resource by resource; ``name`` is what it is called now."""
        inventory = read_inventory(self._ledger, name)
        if not inventory:
            return
        was, will = before.get(name, Lowered(name)), self._view.lowered(machine)
        if was.wanted == will.wanted and was.refs == will.refs:
            return
        seen = _seen(was, will, inventory, self._ledger.seen(name))
        owned = tuple(inventory.values())
        living = self._view.keepers(machine, {ref for one in owned for ref in one.users}, then.living)
        changes = _disturbing(plan(will, seen, owned, Circumstances(now=0.0, living=living)), seen)
        if not changes:
            return
        # Nobody left yet: of what is pending now, only changes can disturb.
        pending = _disturbing(plan(was, seen, owned, Circumstances(now=0.0, living=now.living)), seen)
        by_owner: dict[str, list[HeldChange]] = {}
        for key, (owner, change) in changes.items():
            if key not in pending:
                by_owner.setdefault(owner, []).append(_plain(change))
        for owner, held in sorted(by_owner.items()):
            yield Disturbed(owner, machine, tuple(held))


def _new(loaded: Loaded, now: Knowledge) -> Loaded:
    """Of the manifests, those that are not in force."""
    documents = {
        ref: document
        for ref, document in loaded.documents.items()
        if ref not in now.living or now.rows[ref].document != document
    }
    return replace(loaded, fleet=Fleet.of_resources(r for r in loaded.fleet if r.ref in documents), documents=documents)


def _touched(now: Knowledge, then: Knowledge) -> frozenset[str]:
    """Names of what differs, as ``World.reads`` has them."""
    refs = set(differing(now.rows, then.rows))
    names = {name for ref in refs for name in (f"resource/{ref}", f"kind/{ref.partition('/')[0]}")}
    for what, old, new in (
        ("fact", now.known.facts, then.known.facts),
        ("allocation", now.known.allocations, then.known.allocations),
        ("condition", now.known.conditions, then.known.conditions),
    ):
        names |= {f"{what}/{ref}/{name}" for ref, name in differing(old, new)}
    return frozenset(names)


def _seen(
    was: Lowered, will: Lowered, inventory: Mapping[str, Owned], seen: Mapping[str, Seen]
) -> Mapping[str, Observation]:
    """How everything was last seen. What salvus has there, and could not look at then, is taken to be as it is to be:
    a silent machine is disturbed as soon as it answers. Of what nobody knows, nothing is there.
    """
    wanted = {one.key: Present(one.fields) for one in was.wanted}
    keys = dict.fromkeys((*wanted, *(one.key for one in will.wanted), *inventory))
    states: dict[str, State] = {key: wanted.get(key, Absent()) if key in inventory else Absent() for key in keys}
    for key, one in seen.items():
        if one.state == "present":
            # Secrets are not kept, and do not differ as far as anybody knows.
            own = wanted[key].fields if key in wanted else {}
            states[key] = Present({**own, **{name: _value(value) for name, value in one.fields.items()}})
        elif one.state == "absent":
            states[key] = Absent()
    return {key: Observation(state, 0.0, "store") for key, state in states.items()}


def _value(value: Any) -> Value:
    """As items have it: JSON knows no tuples."""
    return tuple(map(_value, value)) if isinstance(value, list) else value


def _disturbing(found: Plan, seen: Mapping[str, Observation]) -> dict[str, tuple[str, Change]]:
    """Item key → owner and change, of what would be restarted or more, or taken away while it runs."""
    return {
        change.item.key: (found.owners.get(change.item.key, ""), change)
        for change in found.changes
        if change.grade >= Grade.RESTART or (change.verb is Verb.DELETE and _runs(seen[change.item.key].state))
    }


def _runs(state: State) -> bool:
    return isinstance(state, Present) and bool(state.fields.get("running"))


def _plain(change: Change) -> HeldChange:
    drift = tuple((one.field, one.desired, one.observed) for one in masked(change))
    return HeldChange(change.item.key, change.verb.value, change.grade.word, drift)


def _running(then: Knowledge, view: View) -> int:
    """How many resources run something, each counted on each of its machines."""
    world = World(then.fleet, then.known)
    pairs: Iterable[tuple[Any, str]] = ((r, machine) for r in then.fleet for machine in view.spot(r.ref).machines)
    return sum(1 for resource, machine in pairs if kinds()[resource.kind].runs_as(resource, machine, world))
