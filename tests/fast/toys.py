"""A kind for tests: where a toy is, what it has there and what is to be decided for it is what the test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

import pytest

from drivers.base import Grade, Item
from resources.base import AnyResource, Choice, Kind, Metadata, Model, Placed, Resource
from resources.fleet import kinds
from resources.world import World


class ToySpec(Model):
    """Nothing is written in a toy, but who it was before."""


class Toys(Kind[ToySpec]):
    """The kind ``Toy``. A toy that nothing was said of is nowhere and has nothing."""

    name: ClassVar[str] = "Toy"
    plural: ClassVar[str] = "toys"
    spec = ToySpec

    def __init__(self) -> None:
        self.where: dict[str, Callable[[World], Iterable[str]]] = {}
        self.what: dict[str, Callable[[World], Iterable[Placed]]] = {}
        self.open: dict[str, Callable[[World], Iterable[Choice]]] = {}
        self.ceilings: dict[str, Grade] = {}
        self.asked: list[str] = []

    def make(self, name: str, *placed: Placed | Item, on: Iterable[str] = ()) -> AnyResource:
        """A toy with these items on these machines."""
        items = [one if isinstance(one, Placed) else Placed(one) for one in placed]
        self.where[name] = lambda world: on
        self.what[name] = lambda world: items
        return toy(name)

    def machines(self, resource: AnyResource, world: World) -> Iterable[str]:
        return self.where[resource.name](world) if resource.name in self.where else ()

    def items(self, resource: AnyResource, machine: str, world: World) -> Iterable[Placed]:
        self.asked.append(f"{resource.name}@{machine}")
        return self.what[resource.name](world) if resource.name in self.what else ()

    def choices(self, resource: AnyResource, world: World) -> Iterable[Choice]:
        return self.open[resource.name](world) if resource.name in self.open else ()

    def ceiling(self, resource: AnyResource) -> Grade:
        return self.ceilings.get(resource.name, Grade.RESTART)


def toy(name: str) -> AnyResource:
    """The resource alone."""
    return Resource("Toy", Metadata.model_validate({"name": name}), ToySpec())


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Toys:
    """The kind, known to the pure part of the controller."""
    made = Toys()
    known = {**kinds(), "Toy": made}
    for module in ("allocate", "lower", "view"):
        monkeypatch.setattr(f"controller.{module}.kinds", lambda: known)
    return made
