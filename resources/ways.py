"""By which addresses a machine is reached. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from resources.base import AnyResource
from resources.fleet import machine_kind
from resources.net import is_address
from resources.ssh import IN_VPN
from resources.vpn_nodes import Vpn, address_of, address_then
from resources.vpn_turn import before
from resources.world import World


def ways(machine: AnyResource, own: str | None, world: World) -> tuple[str, ...]:
    """``spec.ssh.addresses`` in order, then its own; those in a VPN that are not known yet are left out."""
    return tuple(dict.fromkeys((*_written(machine, world), *([own] if own is not None else []))))


def lead_through(vpn: Vpn, machine: AnyResource) -> bool:
    """Whether one of the ways to the machine leads through the VPN, as far as is written."""
    network = ipaddress.ip_network(vpn.spec.cidr)
    own = machine_kind(machine).address(machine)
    written = (*machine.spec.ssh.addresses, *([own] if own is not None else []))
    inside = (one for one in written if is_address(one) and ipaddress.ip_address(one) in network)
    return f"{IN_VPN}{vpn.name}" in written or any(inside)


def _written(machine: AnyResource, world: World) -> Iterator[str]:
    for written in machine.spec.ssh.addresses:
        if not written.startswith(IN_VPN):
            yield written
        elif (vpn := world.get("VPN", written.removeprefix(IN_VPN))) is not None:
            # While the network is in force there as it was, that is where it is; it may be told to leave it.
            former = before(vpn, machine, world)
            then = address_then(former, machine.name, world) if former is not None else ""
            yield from filter(None, (then, address_of(vpn, machine.name, world)))
