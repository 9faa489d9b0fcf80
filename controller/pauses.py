"""Pauses: what is not to be worked on for a while. Pure; each is judged by its own end, whatever row is still there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from controller.clock import rfc3339
from controller.knowledge import Knowledge
from controller.store.records import ALL, MACHINE, WORLD, Pause, pause_key
from resources.fleet import machine_named

# By what they are of.
Pauses = Mapping[str, Pause]

# Seconds. Who wants it longer says so again, or takes the thing out of the manifests.
SHORTEST, LONGEST = 1, 7 * 86400


def key_of(ref: str) -> str:
    """What a pause of a resource is kept under. A machine is one thing, whichever way it is named."""
    return pause_key(ref, machine=bool(machine_named(ref)))


def word_of(what: str) -> str:
    """What ``salvusctl pause`` and ``resume`` take for it."""
    return "--all" if what == ALL else what.removeprefix(MACHINE)


def in_force(pauses: Pauses, now: float) -> Pauses:
    """Those that have not ended."""
    return {what: pause for what, pause in pauses.items() if pause.until is None or pause.until > now}


def holding(pauses: Pauses, now: float, refs: Iterable[str] = (), machines: Iterable[str] = ()) -> list[Pause]:
    """Those that hold changes for these resources, or on these machines; those of everything included."""
    if not (left := in_force(pauses, now)):
        return []
    keys = {WORLD, ALL, *map(key_of, refs), *(f"{MACHINE}{machine}" for machine in machines)}
    return [pause for what, pause in left.items() if what in keys]


def pause_of(pauses: Pauses, now: float, refs: Iterable[str], machine: str = "") -> Pause | None:
    """The one of those that lasts longest."""
    return max(holding(pauses, now, refs, [machine] if machine else []), key=_end, default=None)


def _end(pause: Pause) -> float:
    return float("inf") if pause.until is None else pause.until


def explained(pause: Pause) -> tuple[str, str]:
    """Reason and sentence of a condition; the same as long as the pause is, so that nothing is written anew."""
    who, end = f"{pause.by}: {pause.reason}", to_end(pause)
    if pause.what == WORLD:
        return "WorldStopped", f"the world is stopped since {rfc3339(pause.since)} by {who}; to go on: {end}"
    until = f" until {rfc3339(pause.until)}" if pause.until is not None else ""
    what = "everything is " if pause.what == ALL else ""
    return "Paused", f"{what}paused{until} by {who}; to go on before: {end}"


def to_end(pause: Pause) -> str:
    """The command that ends it."""
    return "salvusctl stop-the-world --end" if pause.what == WORLD else f"salvusctl resume {word_of(pause.what)}"


def ref_of(what: str, knowledge: Knowledge) -> str:
    """The ``Kind/name`` that a pause is of; empty for all, and for what is gone."""
    return next((ref for ref in knowledge.rows if key_of(ref) == what), "")


def concerned(what: Collection[str], knowledge: Knowledge) -> frozenset[str]:
    """The machines of the fleet on which pauses of this hold something."""
    here = {machine.name for machine in knowledge.fleet.machines()}
    if not {WORLD, ALL}.isdisjoint(what):
        return frozenset(here)
    refs = {ref for ref in knowledge.statuses if key_of(ref) in what} if what else ()
    found = {key.removeprefix(MACHINE) for key in what} | {name for ref in refs for name in knowledge.statuses[ref]}
    return frozenset(found & here)
