"""The fleet pass: what is open is decided, where everything is gets written down, deletions are ended.

Its only effects are writes to the store; no machine is touched.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from controller.allocate import allocate
from controller.knowledge import Knowledge
from controller.lower import Wait
from controller.status import FLEET_PASS, MACHINES, Verdict, conditions
from controller.store.ledger import Ledger
from controller.store.records import Status
from controller.view import View
from resources.fleet import kinds, machine_kind


def fleet_pass(ledger: Ledger, knowledge: Knowledge, view: View) -> bool:
    """One fleet pass. Returns whether anything was written, so that another one may find more to decide."""
    decisions, waiting = allocate(knowledge.fleet, knowledge.known)
    for decision in decisions:
        ledger.allocate(decision.ref, decision.what, decision.value)
    stated = [_state(ledger, knowledge, ref, view, waiting) for ref in knowledge.rows]
    ended = _end_deletions(ledger, knowledge)
    return bool(decisions) or any(stated) or ended


def _state(ledger: Ledger, knowledge: Knowledge, ref: str, view: View, waiting: Mapping[str, Wait]) -> bool:
    """Writes where a resource is to be, and what keeps it from being placed; only when that changed."""
    row = knowledge.rows[ref]
    spot = view.spot(ref)
    machines = " ".join(dict.fromkeys((*spot.machines, *_itself(knowledge, ref))))
    wait = waiting.get(ref) or spot.wait
    verdict = Verdict("Placed", "True", "Placed", f"on {machines or 'no machine'}")
    if wait is not None and not (wait.reason == "KeptElsewhere" and spot.machines):
        verdict = Verdict("Placed", "False", wait.reason, wait.message)
    before = knowledge.statuses.get(ref, {}).get(FLEET_PASS)
    told = tuple(conditions((verdict,), before, row.generation, time.time()))
    status = Status(told, {MACHINES: machines})
    if status == before or row.deleting_since is not None:
        return False
    ledger.put_status(ref, FLEET_PASS, status)
    return True


def _itself(knowledge: Knowledge, ref: str) -> tuple[str, ...]:
    """A machine that is meant to answer is Ready only when it does."""
    resource = knowledge.fleet.get(*ref.split("/", 1))
    if resource is None or not kinds()[resource.kind].is_machine:
        return ()
    return (resource.name,) if machine_kind(resource).answers(resource) else ()


def _end_deletions(ledger: Ledger, knowledge: Knowledge) -> bool:
    """Removes the resources of which no machine of the fleet has anything any more.

    What was on a machine that left the fleet is forgotten and not touched: nobody may write there.
    """
    doomed = knowledge.rows.keys() - knowledge.living
    if not doomed:
        return False
    here = {machine.name for machine in knowledge.fleet.machines()}
    owners = {row.owner for m, rows in ledger.inventories().items() if m in here for row in rows.values()}
    ended = doomed - owners
    for ref in ended:
        kind, _, name = ref.partition("/")
        ledger.remove_resource(ref)
        if kinds()[kind].is_machine:
            ledger.drop_machine(name)
    return bool(ended)
