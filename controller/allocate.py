"""Allocation: what the controller decides once and keeps: a virtual machine's host, its name there. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

from controller.lower import Wait, answer
from resources.base import AnyResource, Choice, pool_of
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
    taken = Counter((*_space(ref, what), value) for (ref, what), value in known.allocations.items())
    free: dict[tuple[str, str], Iterator[str]] = {}
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
                if not (choice.exclusive or pool_of(choice.what) or kept in choice.allowed):
                    waiting[resource.ref] = Wait("KeptElsewhere", _kept(choice, kept))
                continue
            value = _pick(resource, choice, taken, free)
            if value is None:
                waiting[resource.ref] = Wait("NotPlaced", choice.why_none or f"there is no {choice.what} for it")
            else:
                taken[(*_space(resource.ref, choice.what), value)] += 1
                decisions.append(Decision(resource.ref, choice.what, value))
    return tuple(decisions), waiting


def _space(ref: str, what: str) -> tuple[str, str]:
    """Within what a value is exclusive: the pool of one resource, or all of its kind."""
    pool = pool_of(what)
    return (ref, pool) if pool else (ref.partition("/")[0], what)


def _pick(
    resource: AnyResource,
    choice: Choice,
    taken: Mapping[tuple[str, str, str], int],
    free: dict[tuple[str, str], Iterator[str]],
) -> str | None:
    space = _space(resource.ref, choice.what)
    if pool_of(choice.what):
        # What was passed over is taken: the next one out of the pool goes on from there.
        left = free.setdefault(space, iter(choice.allowed))
        return next((value for value in left if (*space, value) not in taken), None)
    if choice.exclusive:
        return next((value for value in choice.allowed if not taken.get((*space, value))), None)
    return min(choice.allowed, key=lambda value: taken.get((*space, value), 0), default=None)


def _kept(choice: Choice, kept: str) -> str:
    allowed = ", ".join(islice(choice.allowed, 5)) or "none"
    return f"its {choice.what} stays {kept}, although the manifest now allows: {allowed}"
