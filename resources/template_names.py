"""What a template may ask of the fleet. Every answer is noted by the World, so a change renders the file anew."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from resources.base import AnyResource, Invalid, Selector
from resources.fleet import did_you_mean, machine_kind
from resources.targets import Targets, parse_selector
from resources.world import World

NAMES = ("machine", "members", "service", "fact")


class Member:
    """A machine, as templates see it."""

    __slots__ = ("_resource",)

    def __init__(self, resource: AnyResource) -> None:
        self._resource = resource

    @property
    def name(self) -> str:
        """Its name."""
        return self._resource.name

    @property
    def kind(self) -> str:
        """``Host`` or ``VirtualMachine``."""
        return self._resource.kind

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        return self._resource.metadata.labels

    @property
    def address(self) -> str:
        """Its address in the manifests. Raises Invalid when it has none there."""
        address = machine_kind(self._resource).address(self._resource)
        if address is None:
            raise Invalid(f"{self._resource.ref} has no static address that a template could use")
        return address

    def __str__(self) -> str:
        return self.name


class ServiceView:
    """A service, as templates see it."""

    __slots__ = ("machines", "name")

    def __init__(self, name: str, machines: tuple[Member, ...]) -> None:
        self.name = name
        self.machines = machines


def names(machine: AnyResource, world: World) -> Mapping[str, object]:
    """The names for templates of files on ``machine``."""

    def members(selector: str | Mapping[str, object]) -> tuple[Member, ...]:
        """Machines by labels, as ``"role=web"`` or ``{"role": "web"}``, sorted by name."""
        return _members(Targets.model_validate({"selector": _selector(selector)}), world)

    def service(name: str) -> ServiceView:
        """A service by name, with its machines. Raises Invalid without one."""
        found = world.get("Service", name)
        if found is None:
            known = (other.name for other in world.select("Service", Selector()))
            raise Invalid(f"there is no Service named {name!r}{did_you_mean(name, known)}")
        targets: Targets = found.spec.machines
        return ServiceView(found.name, _members(targets, world))

    def fact(ref: str, what: str) -> str:
        """What a machine told, as in ``fact("VirtualMachine/web01", "ssh_host_key")``. Raises NotYet until it has."""
        return world.fact(ref, what)

    return {"machine": Member(machine), "members": members, "service": service, "fact": fact}


def _members(targets: Targets, world: World) -> tuple[Member, ...]:
    return tuple(Member(resource) for resource in targets.select(world))


def _selector(selector: str | Mapping[str, object]) -> Selector:
    try:
        if isinstance(selector, str):
            return parse_selector(selector)
        if {"matchLabels", "matchExpressions"} & selector.keys():
            return Selector.model_validate(dict(selector))
        return Selector.model_validate({"matchLabels": dict(selector)})
    except ValidationError as error:
        raise Invalid(f"{selector!r} is not a selector; write labels, as in 'role=web'") from error
