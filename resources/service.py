"""``Service``: what runs on machines, and the packages and files that it needs."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.base import Grade
from drivers.items.systemd_unit import SystemdUnit
from resources import peers
from resources.base import Column, Kind, Placed, Problem, Reference, Resource
from resources.fleet import Fleet
from resources.quantity import share_of
from resources.rollouts import digest
from resources.service_checks import alone, template_references, together
from resources.service_spec import ServiceSpec
from resources.world import World

CLIENTS = ("spec", "clients")


class ServiceKind(Kind[ServiceSpec]):
    """Services, on hosts and in virtual machines alike."""

    name = "Service"
    plural = "services"
    short = ("svc",)
    spec = ServiceSpec
    columns = (
        Column("MACHINES", ("status", "machines")),
        Column("STATE", ("status", "states")),
        Column("UNIT", ("spec", "unitName"), wide=True),
        Column("PACKAGES", ("spec", "packages"), wide=True),
    )

    def references(self, resource: Resource[ServiceSpec]) -> Iterator[Reference]:
        """The machines it names, what it needs, its clients, and the services that its templates name."""
        yield from resource.spec.machines.references(("spec", "machines"))
        for position, need in enumerate(resource.spec.needs):
            for field, kind, name in need.named():
                yield Reference(("spec", "needs", position, field), (kind,), name)
        yield from peers.references(resource.spec.clients, CLIENTS)
        yield from template_references(resource.spec)

    def check(self, resource: Resource[ServiceSpec], fleet: Fleet) -> Iterator[Problem]:
        """Contradictions; clients whose addresses nobody can know."""
        yield from alone(resource)
        yield from peers.problems(resource.ref, resource.spec.clients, CLIENTS, fleet)

    def check_together(self, fleet: Fleet) -> Iterator[Problem]:
        """Services that need each other in a circle; two that describe one file or unit of a machine."""
        yield from together(fleet)

    def machines(self, resource: Resource[ServiceSpec], world: World) -> Iterator[str]:
        """The machines that it names or selects."""
        yield from (machine.name for machine in resource.spec.machines.select(world))

    def runs_as(self, resource: Resource[ServiceSpec], machine: str, world: World) -> str:
        """Its unit, if it has one."""
        unit = resource.spec.unit_of(resource.name)
        return f"{SystemdUnit.type()}:{unit}" if unit else ""

    def items(self, resource: Resource[ServiceSpec], machine: str, world: World) -> Iterator[Placed]:
        """Packages, directories, files and the unit, once everything that it needs is there."""
        for need in resource.spec.needs:
            for _, kind, name in need.named():
                world.require(f"{kind}/{name}", need.condition)
        from resources.service_items import placed  # here, because who only reads the store lowers nothing

        yield from placed(resource, machine, world)

    def ceiling(self, resource: Resource[ServiceSpec]) -> Grade:
        """``spec.disruption.ceiling``."""
        return resource.spec.disruption.grade

    def at_once(self, resource: Resource[ServiceSpec], machines: int) -> int | None:
        """``spec.rollout.maxParallel``, of one with files on trial."""
        return share_of(resource.spec.rollout.max_parallel, machines) if resource.spec.perilous else None

    def on_trial(self, resource: Resource[ServiceSpec]) -> str:
        """Those files, as they are written."""
        return digest([file.model_dump(mode="json", exclude_unset=True) for file in resource.spec.perilous])


KIND = ServiceKind()
