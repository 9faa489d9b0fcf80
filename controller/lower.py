"""Lowering: what all resources together want on one machine, as items in a safe order. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

from controller.log import LOGGER
from drivers.base import Fields, Grade, Item, SshTarget
from resources.base import AnyResource, Gate, Invalid, NotYet, Partly, Placed
from resources.fleet import Fleet, kinds, machine_kind
from resources.world import Known, World

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An item as it is to be, with its comparable fields worked out once.

    Attributes:
        after: keys of the items on the same machine that must be right first.
        owner: ``Kind/name`` whose item it is in the inventory.
        producers: the resources that asked for it; one item may serve several.
        gate: what its changes wait for.
        tells: (``Kind/name``, what) → value: what is a fact as soon as it is as wanted.
    """

    item: Item
    key: str
    fields: Fields
    after: tuple[str, ...]
    owner: str
    producers: tuple[str, ...]
    gate: Gate | None = None
    tells: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a resource is not lowered: a reason in CamelCase and a sentence; ``final`` until the manifests change.

    ``partly``: what could be lowered already was. ``whole``: that is all items there will be, so that others may go.
    """

    reason: str
    message: str
    final: bool = False
    partly: bool = False
    whole: bool = False


def answer(who: AnyResource, ask: Callable[[], Iterable[T]]) -> tuple[T, ...] | Wait:
    """What a kind says of its resource, or why it cannot. A defect in it stalls this resource, and nobody else."""
    try:
        return tuple(ask())
    except NotYet as wait:
        if isinstance(wait, Partly):
            return Wait(wait.reason, wait.message, partly=True, whole=wait.whole)
        return Wait(wait.reason, wait.message)
    except Invalid as error:
        return Wait("Invalid", str(error), final=True)
    except Exception as defect:
        LOGGER.exception("a defect in a kind; please report it", extra={"salvus": {"resource": who.ref}})
        return Wait("Defect", f"a defect of salvus ({type(defect).__name__}); see the controller's log", final=True)


NO_MACHINE = Wait("NotAMachine", "there is no Host or VirtualMachine of this name")


@dataclass(frozen=True, slots=True)
class Lowered:
    """One machine's items, and what was looked at to find them.

    Attributes:
        wanted: in an order in which every item comes after those it needs.
        reads: names of everything read (see ``World``); when one changes, the machine is lowered again.
        refs: the resources of which all items are there.
        waiting: the resources that wait for something, and why; of some there are items all the same.
        ceilings: the highest grade of change that each resource allows.
        target: how to reach the machine, or why that is not known yet.
        hypervisor: libvirt is to be asked on it.
    """

    machine: str
    wanted: tuple[Wanted, ...] = ()
    reads: frozenset[str] = frozenset()
    refs: frozenset[str] = frozenset()
    waiting: Mapping[str, Wait] = field(default_factory=dict)
    ceilings: Mapping[str, Grade] = field(default_factory=dict)
    target: SshTarget | Wait = NO_MACHINE
    hypervisor: bool = False


def lower(machine: str, on_machine: Iterable[AnyResource], fleet: Fleet, known: Known) -> Lowered:
    """The items that ``on_machine`` resources want on the machine. Of two that disagree on an item, neither gets it."""
    world = World(fleet, known)
    placed: dict[str, tuple[Placed, ...]] = {}
    waiting: dict[str, Wait] = {}
    ceilings: dict[str, Grade] = {}
    for resource in on_machine:
        kind = kinds()[resource.kind]
        ceilings[resource.ref] = kind.ceiling(resource)
        found, wait = _items(resource, partial(kind.items, resource, machine, world))
        if wait is not None:
            waiting[resource.ref] = wait
        if wait is None or wait.partly:
            placed[resource.ref] = found
    for ref, conflict in _conflicts(placed).items():
        waiting[ref] = conflict
        del placed[ref]
    wanted, cyclic = _ordered(_merge(placed))
    target, hypervisor = _target(machine, world)
    return Lowered(
        machine,
        wanted,
        frozenset(world.reads),
        frozenset(placed) - cyclic.keys() - {ref for ref, wait in waiting.items() if not wait.whole},
        waiting | cyclic,
        ceilings,
        target,
        hypervisor,
    )


def _items(resource: AnyResource, ask: Callable[[], Iterable[Placed]]) -> tuple[tuple[Placed, ...], Wait | None]:
    """What it wants, as far as it is said, and what it waits for."""
    given: list[Placed] = []

    def noting() -> Iterator[Placed]:
        for item in ask():
            given.append(item)
            yield item

    found = answer(resource, noting)
    return tuple(given), found if isinstance(found, Wait) else None


def _target(machine: str, world: World) -> tuple[SshTarget | Wait, bool]:
    resource = world.machine(machine)
    if resource is None:
        return NO_MACHINE, False
    kind = machine_kind(resource)
    found = answer(resource, lambda: [(kind.target(resource, world), kind.hypervisor(resource))])
    return (found, False) if isinstance(found, Wait) else found[0]


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
                fields = place.item.fields()
                merged[key] = Wanted(place.item, key, fields, place.after, owner, (ref,), place.gate, place.tells)
            else:
                after = tuple(dict.fromkeys((*before.after, *place.after)))
                producers = tuple(dict.fromkeys((*before.producers, ref)))
                gate, tells = before.gate or place.gate, {**before.tells, **place.tells}
                merged[key] = replace(before, after=after, producers=producers, gate=gate, tells=tells)
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
