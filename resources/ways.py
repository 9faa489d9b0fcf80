"""By which addresses a machine is reached. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from resources.base import AnyResource
from resources.ssh import IN_VPN
from resources.vpn_nodes import address_of
from resources.world import World


def ways(machine: AnyResource, own: str | None, world: World) -> tuple[str, ...]:
    """``spec.ssh.addresses`` in order, then its own; those in a VPN that are not known yet are left out."""
    return tuple(dict.fromkeys((*_written(machine, world), *([own] if own is not None else []))))


def _written(machine: AnyResource, world: World) -> Iterator[str]:
    for written in machine.spec.ssh.addresses:
        if not written.startswith(IN_VPN):
            yield written
        elif (vpn := world.get("VPN", written.removeprefix(IN_VPN))) is not None:
            address = address_of(vpn, machine.name, world)
            yield from [address] if address else []
