"""Lowering: what all resources together want on one machine, as items in a safe order. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter

from drivers.base import Fields, Grade, Item
from resources.base import AnyResource, Invalid, NotYet, Placed
from resources.fleet import Fleet, kinds
from resources.world import Known, World


@dataclass(frozen=True, slots=True)
class Wanted:
    """An item as it is to be, with its comparable fields worked out once.

    Attributes:
        after: keys of the items on the same machine that must be right first.
        owner: ``Kind/name`` whose item it is in the inventory.
        producers: the resources that asked for it; one item may serve several.
    """

    item: Item
    key: str
    fields: Fields
    after: tuple[str, ...]
    owner: str
    producers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a resource is not lowered: a reason in CamelCase and a sentence; ``final`` until the manifests change."""

    reason: str
    message: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Lowered:
    """One machine's items, and what was looked at to find them.

    Attributes:
        wanted: in an order in which every item comes after those it needs.
        reads: names of everything read (see ``World``); when one changes, the machine is lowered again.
        refs: the resources that were lowered whole.
        waiting: the resources that were not, and why.
        ceilings: the highest grade of change that each resource allows.
    """

    machine: str
    wanted: tuple[Wanted, ...] = ()
    reads: frozenset[str] = frozenset()
    refs: frozenset[str] = frozenset()
    waiting: Mapping[str, Wait] = field(default_factory=dict)
    ceilings: Mapping[str, Grade] = field(default_factory=dict)


def lower(machine: str, on_machine: Iterable[AnyResource], fleet: Fleet, known: Known) -> Lowered:
    """The items that ``on_machine`` resources want on the machine. Of two that disagree on an item, neither gets it."""
    world = World(fleet, known)
    placed: dict[str, tuple[Placed, ...]] = {}
    waiting: dict[str, Wait] = {}
    ceilings: dict[str, Grade] = {}
    for resource in on_machine:
        kind = kinds()[resource.kind]
        ceilings[resource.ref] = kind.ceiling(resource)
        try:
            placed[resource.ref] = tuple(kind.items(resource, machine, world))
        except NotYet as wait:
            waiting[resource.ref] = Wait(wait.reason, wait.message)
        except Invalid as error:
            waiting[resource.ref] = Wait("Invalid", str(error), final=True)
    for ref, conflict in _conflicts(placed).items():
        waiting[ref] = conflict
        del placed[ref]
    wanted, cyclic = _ordered(_merge(placed))
    return Lowered(
        machine,
        wanted,
        frozenset(world.reads),
        frozenset(placed) - cyclic.keys(),
        waiting | cyclic,
        ceilings,
    )


def _conflicts(placed: Mapping[str, tuple[Placed, ...]]) -> dict[str, Wait]:
    first: dict[str, tuple[str, Item]] = {}
    found: dict[str, Wait] = {}
    for ref, items in placed.items():
        for place in items:
            other, item = first.setdefault(place.item.key, (ref, place.item))
            if item != place.item:
                text = "wants {} in another way than {}; only one of them may describe it"
                found[ref] = Wait("Conflict", text.format(place.item.key, other), final=True)
                found[other] = Wait("Conflict", text.format(place.item.key, ref), final=True)
    return found


def _merge(placed: Mapping[str, tuple[Placed, ...]]) -> dict[str, Wanted]:
    merged: dict[str, Wanted] = {}
    for ref, items in placed.items():
        for place in items:
            key = place.item.key
            before = merged.get(key)
            if before is None:
                owner = place.owner or ref
                merged[key] = Wanted(place.item, key, place.item.fields(), place.after, owner, (ref,))
            else:
                after = tuple(dict.fromkeys((*before.after, *place.after)))
                producers = tuple(dict.fromkeys((*before.producers, ref)))
                merged[key] = replace(before, after=after, producers=producers)
    return merged


def _ordered(merged: dict[str, Wanted]) -> tuple[tuple[Wanted, ...], dict[str, Wait]]:
    """Sorted by need; resources whose items wait for each other are taken out."""
    cyclic: dict[str, Wait] = {}
    while True:
        graph = {key: [k for k in wanted.after if k in merged] for key, wanted in merged.items()}
        try:
            return tuple(merged[key] for key in TopologicalSorter(graph).static_order()), cyclic
        except CycleError as error:
            circle: list[str] = error.args[1]
            owners = {ref for key in circle for ref in merged[key].producers}
            text = f"its items wait for each other: {' → '.join(circle)}"
            cyclic |= {ref: Wait("Cycle", text, final=True) for ref in owners}
            merged = {key: wanted for key, wanted in merged.items() if not owners & set(wanted.producers)}


@dataclass(frozen=True, slots=True)
class Layout:
    """Which resources have items on which machine, and what was read to know it."""

    machines: Mapping[str, tuple[str, ...]]
    by_machine: Mapping[str, tuple[str, ...]]
    waiting: Mapping[str, Wait]
    readers: Mapping[str, frozenset[str]]


def lay_out(fleet: Fleet, known: Known) -> Layout:
    """Asks every resource on which machines it is. ``readers`` maps a read's name to the resources that read it."""
    machines: dict[str, tuple[str, ...]] = {}
    by_machine: dict[str, list[str]] = {machine.name: [] for machine in fleet.machines()}
    waiting: dict[str, Wait] = {}
    readers: dict[str, set[str]] = defaultdict(set)
    for resource in fleet:
        world = World(fleet, known)
        try:
            names = tuple(dict.fromkeys(kinds()[resource.kind].machines(resource, world)))
        except NotYet as wait:
            names = ()
            waiting[resource.ref] = Wait(wait.reason, wait.message)
        machines[resource.ref] = names
        for name in names:
            by_machine.setdefault(name, []).append(resource.ref)
        for read in world.reads:
            readers[read].add(resource.ref)
    return Layout(
        machines,
        {name: tuple(refs) for name, refs in by_machine.items()},
        waiting,
        {read: frozenset(refs) for read, refs in readers.items()},
    )
