"""``VPN``: a private network of machines, over any network between them."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.items.systemd_unit import SystemdUnit
from resources.base import Choice, Column, Kind, Placed, Problem, Reference
from resources.fleet import Fleet
from resources.quantity import share_of
from resources.vpn_checks import alone, together
from resources.vpn_nodes import Vpn, choices, leaving, members, unit
from resources.vpn_spec import VPNSpec
from resources.vpn_turn import on_trial
from resources.world import World


class VPNKind(Kind[VPNSpec]):
    """Private networks, on hosts and in virtual machines alike."""

    name = "VPN"
    plural = "vpns"
    spec = VPNSpec
    columns = (
        Column("DRIVER", ("spec", "driver")),
        Column("CIDR", ("spec", "cidr")),
        Column("MACHINES", ("status", "machines")),
        Column("STATE", ("status", "states"), wide=True),
        Column("PORT", ("spec", "port"), wide=True),
    )

    def references(self, resource: Vpn) -> Iterator[Reference]:
        """The machines that it names."""
        yield from resource.spec.members.references(("spec", "members"))
        yield from resource.spec.hubs.references(("spec", "hubs"))

    def check(self, resource: Vpn, fleet: Fleet) -> Iterator[Problem]:
        """Contradictions, hubs that nobody can reach."""
        yield from alone(resource, fleet)

    def check_together(self, fleet: Fleet) -> Iterator[Problem]:
        """Two on one machine with one interface or port, or with networks that overlap."""
        yield from together(fleet)

    def choices(self, resource: Vpn, world: World) -> Iterator[Choice]:
        """An address for each node that has none written."""
        yield from choices(resource, world)

    def machines(self, resource: Vpn, world: World) -> Iterator[str]:
        """Its members in the fleet, and those that leave it."""
        yield from (machine.name for machine in members(resource, world))
        yield from leaving(resource, world)

    def runs_as(self, resource: Vpn, machine: str, world: World) -> str:
        """The unit that carries it."""
        return f"{SystemdUnit.type()}:{unit(resource)}"

    def items(self, resource: Vpn, machine: str, world: World) -> Iterator[Placed]:
        """Packages, keys, configuration, the unit, and the names of all in ``/etc/hosts``."""
        from resources.vpn_items import placed  # here, because who only reads the store lowers nothing

        yield from placed(resource, machine, world)

    def at_once(self, resource: Vpn, machines: int) -> int:
        """``spec.rollout.maxParallel``."""
        return share_of(resource.spec.rollout.max_parallel, machines)

    def on_trial(self, resource: Vpn) -> str:
        """What all nodes must share."""
        return on_trial(resource)


KIND = VPNKind()
