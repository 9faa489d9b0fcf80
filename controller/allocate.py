"""Allocation: what the controller decides once and keeps: a virtual machine's host, its name there. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from controller.lower import Wait, answer
from resources.base import AnyResource, Choice
from resources.fleet import Fleet, kinds
from resources.world import Known, World


@dataclass(frozen=True, slots=True)
class Decision:
    """One new allocation: ``value`` for ``what`` of the resource ``ref``."""

    ref: str
    what: str
    value: str


def allocate(fleet: Fleet, known: Known) -> tuple[tuple[Decision, ...], Mapping[str, Wait]]:
    """Decides what is open, resource by resource in a stable order; also says who cannot be served and why.

    What was decided before stays, also where the manifest now allows other values only: moving is an own step.
    """
    taken = Counter((ref.partition("/")[0], what, value) for (ref, what), value in known.allocations.items())
    decisions: list[Decision] = []
    waiting: dict[str, Wait] = {}
    for resource in fleet:
        choices = answer(resource, partial(kinds()[resource.kind].choices, resource, World(fleet, known)))
        if isinstance(choices, Wait):
            waiting[resource.ref] = choices
            continue
        for choice in choices:
            kept = known.allocations.get((resource.ref, choice.what))
            if kept is not None:
                if kept not in choice.allowed and not choice.exclusive:
                    waiting[resource.ref] = Wait("KeptElsewhere", _kept(choice, kept))
                continue
            value = _pick(resource, choice, taken)
            if value is None:
                waiting[resource.ref] = Wait("NotPlaced", choice.why_none or f"there is no {choice.what} for it")
            else:
                taken[resource.kind, choice.what, value] += 1
                decisions.append(Decision(resource.ref, choice.what, value))
    return tuple(decisions), waiting


def _pick(resource: AnyResource, choice: Choice, taken: Mapping[tuple[str, str, str], int]) -> str | None:
    uses = [(taken.get((resource.kind, choice.what, value), 0), value) for value in choice.allowed]
    if choice.exclusive:
        return next((value for used, value in uses if not used), None)
    return min(uses, key=lambda pair: pair[0], default=(0, None))[1]


def _kept(choice: Choice, kept: str) -> str:
    allowed = ", ".join(choice.allowed[:5]) or "none"
    return f"its {choice.what} stays {kept}, although the manifest now allows: {allowed}"
