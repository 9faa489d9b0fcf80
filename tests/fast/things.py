"""An item for tests that belongs to no driver: a name, a value, and a grade for changing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from controller.lower import Lowered, Wanted
from controller.store.ledger import Ledger
from controller.store.mirror import Mirror
from controller.store.records import Status
from drivers.base import Drift, Fields, Grade, Item, Observation, State, Transport


@dataclass(frozen=True, slots=True)
class Thing(Item):
    """Compared by ``value``; changing it has the grade ``costs``."""

    transport: ClassVar[Transport] = Transport.SHELL

    title: str
    value: str = "a"
    costs: Grade = Grade.LIVE

    @property
    def name(self) -> str:
        return self.title

    def fields(self) -> Fields:
        return {"value": self.value}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        return self.costs


@dataclass(frozen=True, slots=True)
class Guest(Thing):
    """A Thing that goes over libvirt."""

    transport: ClassVar[Transport] = Transport.LIBVIRT


def statuses(ledger: Ledger, ref: str) -> Mapping[str, Status]:
    """What is said of a resource in the store, by machine; under the empty name what the fleet pass says."""
    mirror = Mirror(ledger.store)
    mirror.refresh()
    return mirror.statuses.get(ref, {})


def wanted(item: Item, *after: str, owner: str = "Service/s", producers: tuple[str, ...] = ()) -> Wanted:
    return Wanted(item, item.key, item.fields(), after, owner, producers or (owner,))


def lowered(*items: Wanted, ceiling: Grade = Grade.RESTART, refs: frozenset[str] = frozenset()) -> Lowered:
    owners = {ref for w in items for ref in w.producers} | refs
    return Lowered("m", items, refs=frozenset(owners), ceilings=dict.fromkeys(owners, ceiling))


def seen(now: float = 1000.0, /, **states: State) -> dict[str, Observation]:
    return {f"Thing:{name}": Observation(state, now, "test") for name, state in states.items()}
