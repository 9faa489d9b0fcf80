"""What a pass says of each resource: its condition on one machine, and the summary over all machines. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controller.execute import explain
from controller.reconcile import Outcome
from drivers.base import Rejected


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition without its history: type, ``True|False|Unknown``, CamelCase reason, a sentence."""

    type: str
    status: str
    reason: str
    message: str


def verdicts(outcome: Outcome) -> Mapping[str, tuple[Verdict, ...]]:
    """Conditions by ``Kind/name`` of every resource that has to do with the machine."""
    producers: dict[str, list[str]] = {}
    for wanted in outcome.lowered.wanted:
        for ref in dict.fromkeys((*wanted.producers, wanted.owner)):
            producers.setdefault(ref, []).append(wanted.key)
    for key, owner in outcome.planned.owners.items():
        producers.setdefault(owner, []).append(key)
    refs = dict.fromkeys((*outcome.lowered.refs, *outcome.lowered.waiting, *producers))
    return {ref: (_synced(ref, producers.get(ref, ()), outcome),) for ref in refs}


def _synced(ref: str, keys: Iterable[str], outcome: Outcome) -> Verdict:
    mine = set(keys)
    if (wait := outcome.lowered.waiting.get(ref)) is not None:
        return Verdict("Synced", "False", "Stalled" if wait.final else wait.reason, wait.message)
    if outcome.unreachable:
        return Verdict("Synced", "Unknown", "Unreachable", f"{outcome.machine} cannot be asked: {outcome.unreachable}")
    for one in outcome.executed.failed:
        if one.change.item.key in mine and one.error is not None:
            reason = "Stalled" if isinstance(one.error, Rejected) else "Failed"
            return Verdict("Synced", "False", reason, f"{one.change.item.key}: {explain(one.error)}")
    for key, why in outcome.left.unknown.items():
        if key in mine:
            return Verdict("Synced", "Unknown", "ItemUnknown", f"{key}: {why}")
    for held in outcome.left.held:
        if held.change.item.key in mine:
            return Verdict("Synced", "False", held.reason, held.message)
    left = [change for change in outcome.left.changes if change.item.key in mine]
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        return Verdict("Synced", "False", "Progressing", f"{left[0].verb} of {left[0].item.key}{more} is to be done")
    return Verdict("Synced", "True", "InSync", f"{len(mine)} item{'s' if len(mine) != 1 else ''} as wanted")


def reachable(outcome: Outcome) -> Verdict:
    """Whether the machine answered."""
    if outcome.unreachable:
        return Verdict("Reachable", "Unknown", "Unreachable", outcome.unreachable)
    return Verdict("Reachable", "True", "Answered", "the machine answered")


def summary(verdicts: Sequence[Verdict], missing: Sequence[str]) -> Verdict:
    """``Ready``: True when every condition is True and no machine is missing; else the worst says why."""
    for status in ("False", "Unknown"):
        for verdict in verdicts:
            if verdict.status == status:
                return Verdict("Ready", status, verdict.reason, verdict.message)
    if missing:
        return Verdict("Ready", "Unknown", "NotSeenYet", f"not looked at yet on {', '.join(missing[:5])}")
    if not verdicts:
        return Verdict("Ready", "True", "NothingToDo", "it has no items on any machine")
    return Verdict("Ready", "True", "AllTrue", "in sync, and every condition is True")
