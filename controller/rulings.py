"""The fleet pass: what is open is decided, where everything is gets written down, deletions are ended.

Its only effects are writes to the store; no machine is touched.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Mapping

from controller.allocate import allocate
from controller.knowledge import Knowledge
from controller.log import log
from controller.lower import Wait
from controller.pauses import Pauses, pause_of
from controller.rollout import members
from controller.status import Verdict, conditions
from controller.store.ledger import Ledger
from controller.store.records import FLEET_PASS, GONE, Event, InventoryRow, Status
from controller.summary import MACHINES
from controller.view import View
from resources.fleet import machine_kind, machine_named
from resources.openings import LETS_IN
from resources.rollouts import IN_FORCE, TURN
from resources.world import STARTED

_FIREWALL = "Firewall"
_OF_MACHINES = frozenset({STARTED, IN_FORCE, TURN, LETS_IN})


def fleet_pass(ledger: Ledger, knowledge: Knowledge, view: View, pauses: Pauses) -> bool:
    """One fleet pass. Returns whether anything was written, so that another one may find more to decide.

    What is paused is still placed; but its deletion does not end.
    """
    decisions, waiting = allocate(knowledge.fleet, knowledge.known)
    for decision in decisions:
        ledger.allocate(decision.ref, decision.what, decision.value)
    stated = [_state(ledger, knowledge, ref, view, waiting) for ref in knowledge.rows]
    silenced = _silence_the_gone(ledger, knowledge) | _withdraw(ledger, knowledge, view)
    ended = _end_deletions(ledger, knowledge, pauses)
    return bool(decisions) or any(stated) or silenced or ended


def _state(ledger: Ledger, knowledge: Knowledge, ref: str, view: View, waiting: Mapping[str, Wait]) -> bool:
    """Writes where a resource is to be, and what keeps it from being placed; only when that changed."""
    row = knowledge.rows[ref]
    spot = view.spot(ref)
    machines = " ".join(dict.fromkeys((*spot.machines, *_itself(knowledge, ref))))
    wait = waiting.get(ref) or spot.wait
    verdict = Verdict("Placed", "True", "Placed", f"on {machines or 'no machine'}")
    if wait is not None and not (wait.reason == "KeptElsewhere" and spot.machines):
        verdict = Verdict("Placed", "False", wait.reason, wait.message)
    if gone := [machine for machine in spot.machines if knowledge.fleet.machine(machine) is None]:
        text = f"{', '.join(gone)}, where it is, is not in the manifests any more; write it there again"
        verdict = Verdict("Placed", "False", "MachineGone", text)
    before = knowledge.statuses.get(ref, {}).get(FLEET_PASS)
    told = tuple(conditions((verdict,), before, row.generation, time.time()))
    status = Status(told, {MACHINES: machines})
    if status == before or row.deleting_since is not None:
        return False
    ledger.put_placement(ref, status)
    return True


def _itself(knowledge: Knowledge, ref: str) -> tuple[str, ...]:
    """A machine that is meant to answer is Ready only when it does."""
    resource = knowledge.fleet.get(*ref.split("/", 1))
    if resource is None or not machine_named(ref):
        return ()
    return (resource.name,) if machine_kind(resource).answers(resource) else ()


def _silence_the_gone(ledger: Ledger, knowledge: Knowledge) -> bool:
    """Takes away what machines said that are no longer in the fleet: they cannot take it back."""
    gone = knowledge.gone()
    for machine, refs in gone.items():
        ledger.put_statuses(machine, dict.fromkeys(refs))
    return bool(gone)


def _withdraw(ledger: Ledger, knowledge: Knowledge, view: View) -> bool:
    """Of what is no longer on a machine it is not known what was so there: it may come back, and is new then.

    That is whether a service was started; which revisions were in force, and the turn for others; whom rules let in.
    """
    over: defaultdict[str, dict[str, str]] = defaultdict(dict)
    on: dict[str, frozenset[str]] = {}
    for (ref, what), value in knowledge.known.facts.items():
        name, _, whose = what.partition("/")
        if not value or name not in _OF_MACHINES:
            continue
        if name == STARTED:
            here = whose in view.spot(ref).machines
        else:
            group = whose or _FIREWALL
            if group not in on:
                on[group] = frozenset(m for one in members(group, knowledge) for m in view.spot(one.ref).machines)
            here = machine_named(ref) in on[group]
        if not here:
            over[ref][what] = ""
    for ref, facts in over.items():
        ledger.put_facts(ref, facts)
    return bool(over)


def _end_deletions(ledger: Ledger, knowledge: Knowledge, pauses: Pauses) -> bool:
    """Removes the resources of which no machine of the fleet has anything any more.

    What was on a machine that left the fleet is forgotten and not touched: nobody may write there.
    """
    doomed = {ref for ref in knowledge.rows.keys() - knowledge.living if not pause_of(pauses, time.time(), [ref])}
    if not doomed:
        return False
    here = {machine.name for machine in knowledge.fleet.machines()}
    inventories = ledger.inventories()
    kept = {
        row.owner
        for machine, rows in inventories.items()
        if machine in here
        for row in rows.values()
        # What a living resource wants as well stays there, and waits for nobody's end.
        if not any(ref in knowledge.living for ref in row.users)
    }
    ended = doomed - kept
    for ref in sorted(ended):
        for machine in inventories.keys() - here:
            _tell_released(ledger, ref, machine, inventories[machine])
        if name := machine_named(ref):
            # First, so that a kill in between leaves nothing that a later machine of this name would be blamed for.
            ledger.drop_machine(name)
        if ledger.remove_resource(ref):
            now = time.time()
            ledger.tell([Event(ref, "", "Normal", GONE, "the resource was deleted, and is gone", now, now)])
    return bool(ended)


def _tell_released(ledger: Ledger, ref: str, machine: str, rows: Mapping[str, InventoryRow]) -> None:
    """Says what of a resource that ends now stays on a machine that left the fleet."""
    left = sorted(key for key, row in rows.items() if row.owner == ref and row.created)
    if not left:
        return
    now = time.time()
    more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
    text = f"{machine} is no longer in the fleet, so this was not deleted there: {', '.join(left[:SHOWN])}{more}"
    ledger.tell([Event(ref, machine, "Normal", "Released", text, now, now)])
    log(logging.INFO, "released", resource=ref, machine=machine, items=left)


# Item keys in one sentence.
SHOWN = 10
