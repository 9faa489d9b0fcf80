"""What a pass says of each resource: its conditions on one machine. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from controller.execute import explain, reason
from controller.lower import Lowered, Wait
from controller.reconcile import Outcome
from controller.store.records import Condition, Status
from controller.values import change_lines
from drivers.base import Present, RolledBack, Verb


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition without its history: type, ``True|False|Unknown``, CamelCase reason, a sentence, and plan."""

    type: str
    status: str
    reason: str
    message: str
    plan: tuple[str, ...] = ()


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
    wait = outcome.lowered.waiting.get(ref)
    if wait is not None and not wait.partly:
        return Verdict("Synced", "False", "Stalled" if wait.final else wait.reason, wait.message)
    if outcome.unreachable:
        return _silent("Synced", outcome)
    resting = {held.change.item.key for held in outcome.left.held}
    for one in outcome.executed.failed:
        if one.change.item.key in mine - resting and one.error is not None:
            plan = tuple(change_lines(one.change)) if isinstance(one.error, RolledBack) else ()
            return Verdict("Synced", "False", reason(one.error), f"{one.change.item.key}: {explain(one.error)}", plan)
    for key, why in outcome.left.unknown.items():
        if key in mine:
            return Verdict("Synced", "Unknown", "ItemUnknown", f"{key}: {why}")
    for held in sorted(outcome.left.held, key=lambda held: held.reason != "Failed"):
        if held.change.item.key in mine:
            return Verdict("Synced", "False", held.reason, held.message, tuple(_put_back(held.reason, mine, outcome)))
    left = [change for change in outcome.left.changes if change.item.key in mine]
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        return Verdict("Synced", "False", "Progressing", f"{left[0].verb} of {left[0].item.key}{more} is to be done")
    return _as_wanted(len(mine), wait)


def _put_back(reason: str, mine: Collection[str], outcome: Outcome) -> Iterator[str]:
    """The changes that the machine put back: what is wanted and not made for that is what was tried, whoever did."""
    for change in (held.change for held in outcome.left.held if held.reason == reason == "RolledBack"):
        state = outcome.seen[change.item.key].state if change.item.key in outcome.seen else None
        if change.item.key in mine and isinstance(state, Present):
            said = change.item.stays if change.verb is Verb.DELETE else change.item.refusal
            if isinstance(said(state.fields), RolledBack):
                yield from change_lines(change)


def _as_wanted(items: int, wait: Wait | None) -> Verdict:
    if wait is not None:
        return Verdict("Synced", "False", wait.reason, wait.message)
    return Verdict("Synced", "True", "InSync", f"{items} item{'s' if items != 1 else ''} as wanted")


def reachable(outcome: Outcome) -> Verdict:
    """Whether the machine answered."""
    if outcome.unreachable:
        return _silent("Reachable", outcome)
    return Verdict("Reachable", "True", "Answered", "the machine answered")


def _silent(type_: str, outcome: Outcome) -> Verdict:
    """In the same words for every type, so that one outage is one event."""
    return Verdict(type_, "Unknown", "Unreachable", f"{outcome.machine} cannot be asked: {outcome.unreachable}")


def unreached(lowered: Lowered, wait: Wait) -> Mapping[str, tuple[Verdict, ...]]:
    """Conditions of everything on a machine that nobody knows how to reach yet."""
    verdict = Verdict("Synced", "False", "Stalled" if wait.final else wait.reason, wait.message)
    return dict.fromkeys((*lowered.refs, *lowered.waiting), (verdict,))


def conditions(found: Iterable[Verdict], before: Status | None, generation: int, now: float) -> Iterator[Condition]:
    """Verdicts with their history: ``since`` is kept while the status stays the same."""
    old = {condition.type: condition for condition in before.conditions} if before else {}
    for verdict in found:
        kept = old.get(verdict.type)
        since = kept.since if kept is not None and kept.status == verdict.status else now
        yield Condition(verdict.type, verdict.status, verdict.reason, verdict.message, since, generation, verdict.plan)
