"""What would be done, machine by machine: manifests laid over the store, machines observed, nothing changed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from controller.allocate import allocate
from controller.knowledge import Knowledge
from controller.lower import Lowered, Wait
from controller.machines import Machines
from controller.plan import Circumstances, Plan
from controller.reconcile import look, told
from controller.record import read_inventory
from controller.session import Session, fresh_uid
from controller.store.records import StoredResource
from controller.view import View
from resources.fleet import Fleet
from resources.load import Loaded
from resources.world import Known

SIDE_BY_SIDE = 32


@dataclass(frozen=True, slots=True)
class MachineDiff:
    """One machine: the plan that ``apply`` would carry out, and what stands in its way.

    Attributes:
        waiting: ``Kind/name`` → why its items on this machine are not known yet.
        unreachable: why the machine could not be asked; empty when it could.
        facts: (``Kind/name``, what) → value, as the machine told it now.
    """

    machine: str
    plan: Plan
    waiting: Mapping[str, Wait] = field(default_factory=dict)
    unreachable: str = ""
    facts: Mapping[tuple[str, str], str] = field(default_factory=dict)


def difference(
    session: Session, loaded: Loaded | None = None, deleted: Collection[str] = ()
) -> tuple[MachineDiff, ...]:
    """All machines of the fleet, by name; with ``loaded``, as if these manifests were in force. Raises StoreError.

    ``deleted`` are resources whose deletion had begun then.
    """
    knowledge = session.knowledge()
    if loaded is not None:
        knowledge = overlay(knowledge, loaded, session.ledger.identity(), deleted)
    view = View()
    view.update(knowledge.fleet, knowledge.known, {f"resource/{ref}" for ref in knowledge.rows})
    names = sorted(machine.name for machine in knowledge.fleet.machines())
    machines = Machines(session.connect, lambda _: None)
    found: dict[str, MachineDiff] = {}
    again: Collection[str] = names
    try:
        with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="diff") as pool:
            while again:
                lowered = {name: view.lowered(name) for name in names}
                looks = pool.map(partial(_one, session, machines, lowered, view, knowledge.living), again)
                found |= {one.machine: one for one in looks}
                # What was told just now (what a host can run) may be what others wait for.
                knowledge = _informed(knowledge, found.values())
                again = view.update(knowledge.fleet, knowledge.known, knowledge.touched)
    finally:
        machines.close()
    return tuple(found[name] for name in names)


def _informed(knowledge: Knowledge, found: Iterable[MachineDiff]) -> Knowledge:
    """The state with the facts that machines have told; ``touched`` names those that are new."""
    told = {name: value for one in found for name, value in one.facts.items()}
    new = {name: value for name, value in told.items() if knowledge.known.facts.get(name) != value}
    known = replace(knowledge.known, facts={**knowledge.known.facts, **new})
    return replace(knowledge, known=known, touched=frozenset(f"fact/{ref}/{what}" for ref, what in new))


def _one(
    session: Session,
    machines: Machines,
    lowered: Mapping[str, Lowered],
    view: View,
    living: Collection[str],
    name: str,
) -> MachineDiff:
    here = lowered[name]
    driver = machines.driver(name, lowered.__getitem__)
    if driver is None:
        why = here.target if isinstance(here.target, Wait) else Wait("NoWay", "the way to it is not known yet")
        return MachineDiff(name, Plan(name), dict.fromkeys((*here.refs, *here.waiting), why))
    inventory = tuple(read_inventory(session.ledger, name).values())
    keepers = view.keepers(name, {owned.owner for owned in inventory}, living)
    about = Circumstances(now=time.time(), living=keepers, pauses=session.ledger.pauses())
    found = look(here, inventory, driver, about)
    return MachineDiff(name, found.plan, here.waiting, found.unreachable, told(here, found.seen))


def overlay(knowledge: Knowledge, loaded: Loaded, identity: str, deleted: Collection[str] = ()) -> Knowledge:
    """The state that putting these manifests, deletions and one fleet pass would lead to. Pure."""
    moved = {f"{r.kind}/{r.moved_from}": r.ref for r in loaded.fleet if r.moved_from}
    moved = {before: ref for before, ref in moved.items() if before in knowledge.rows}
    replaced = {*moved, *loaded.documents, *deleted}
    kept = [r for r in knowledge.fleet if r.ref not in replaced]
    fleet = Fleet.of_resources([*kept, *loaded.fleet])
    uids = {moved.get(ref, ref): uid for ref, uid in knowledge.known.uids.items()}
    taken = set(uids.values())
    for ref in loaded.documents:
        if ref not in uids:
            uids[ref] = fresh_uid(identity, ref, taken)
            taken.add(uids[ref])
    known = Known(
        {(moved.get(ref, ref), what): value for (ref, what), value in knowledge.known.allocations.items()},
        {(moved.get(ref, ref), what): value for (ref, what), value in knowledge.known.facts.items()},
        {(moved.get(ref, ref), type_): value for (ref, type_), value in knowledge.known.conditions.items()},
        uids,
        foreseen=True,
    )
    while decisions := allocate(fleet, known)[0]:
        decided = {(one.ref, one.what): one.value for one in decisions}
        known = replace(known, allocations={**known.allocations, **decided})
    rows = {ref: row for ref, row in knowledge.rows.items() if ref not in replaced}
    gone = {ref: replace(knowledge.rows[ref], deleting_since=0.0) for ref in deleted}
    new = {
        ref: StoredResource(ref, uids[ref], 1, document, "", loaded.revision, 0.0, 0.0)
        for ref, document in loaded.documents.items()
    }
    return Knowledge(fleet, known, rows | gone | new, knowledge.statuses)
