"""Peers: whom rules of a packet filter, and clients of services, speak of; and the addresses that they have. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Annotated

from pydantic import Field

from resources.base import AnyResource, Model, Name, Path, Problem, Reference
from resources.fleet import Fleet, machine_kind
from resources.net import Cidr, Network, cidr
from resources.targets import Targets
from resources.world import Known, World


class Peer(Model):
    """One of: machines, the machines of a service, a network."""

    machines: Targets | None = None
    """Machines, by the addresses that their manifests give them: ``spec.address`` of a Host, the static ones of a
    VirtualMachine.
    """
    service: Name | None = None
    """A Service: all machines that it is on."""
    cidr: Cidr | None = None
    """A network, or one address. All there is: ``0.0.0.0/0`` (IPv4) and ``::/0`` (IPv6), an entry each."""

    def __str__(self) -> str:
        """In a few words, for people."""
        if self.service is not None:
            return f"service {self.service}"
        if self.machines is not None:
            return f"machines {self.machines}"
        return self.cidr or "nobody"

    def select(self, world: World) -> tuple[AnyResource, ...]:
        """The machines that are meant."""
        targets = self._targets(world)
        return targets.select(world) if targets is not None else ()

    def includes(self, machine: AnyResource, world: World) -> bool:
        """Whether the machine is meant, or one of its addresses is in the network."""
        targets = self._targets(world)
        if targets is not None:
            return targets.includes(machine)
        network = parsed((self.cidr,) if self.cidr else ())
        return any(address in one for address in map(ipaddress.ip_address, addresses(machine)) for one in network)

    def _targets(self, world: World) -> Targets | None:
        if self.service is None:
            return self.machines
        service = world.get("Service", self.service)
        return service.spec.machines if service is not None else None


Peers = Annotated[tuple[Peer, ...], Field(min_length=1)]


def addresses(machine: AnyResource) -> tuple[str, ...]:
    """The IP addresses that are known of a machine; a DNS name is none, as a packet filter sees no names."""
    return tuple(address for address in machine_kind(machine).addresses(machine) if _is_ip(address))


def networks(peers: Iterable[Peer], world: World) -> tuple[str, ...]:
    """The peers' addresses as a ``Group`` has them: sorted, collapsed, IPv4 first."""
    written = [peer.cidr for peer in peers if peer.cidr is not None]
    machines = [address for peer in peers for machine in peer.select(world) for address in addresses(machine)]
    return collapsed((*written, *machines))


# Of the same machines many others want it: that they are the same is told faster than they are sorted.
@lru_cache(maxsize=1024)
def collapsed(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Addresses and networks, sorted, without those that are in others, neighbours put together; IPv4 first."""
    found = [ipaddress.ip_network(text) for text in dict.fromkeys(texts)]
    v4 = ipaddress.collapse_addresses(one for one in found if isinstance(one, ipaddress.IPv4Network))
    v6 = ipaddress.collapse_addresses(one for one in found if isinstance(one, ipaddress.IPv6Network))
    return tuple(map(str, (*v4, *v6)))


@lru_cache(maxsize=1024)
def parsed(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """The networks as values."""
    return tuple(map(ipaddress.ip_network, texts))


def references(peers: Iterable[Peer] | None, path: Path) -> Iterator[Reference]:
    """The machines and services that peers name; ``path`` is where the list stands."""
    for position, peer in enumerate(peers or ()):
        if peer.machines is not None:
            yield from peer.machines.references((*path, position, "machines"))
        if peer.service is not None:
            yield Reference((*path, position, "service"), ("Service",), peer.service)


def problems(ref: str, peers: Iterable[Peer] | None, path: Path, fleet: Fleet) -> Iterator[Problem]:
    """None or several of the ways to say who is meant; machines whose addresses nobody can know."""
    for position, peer in enumerate(peers or ()):
        here = (*path, position)
        if [peer.machines, peer.service, peer.cidr].count(None) != 2:
            yield Problem(ref, here, "write one of machines, service and cidr")
            continue
        if peer.machines is not None:
            yield from peer.machines.problems(ref, (*here, "machines"))
        if bare := [machine.ref for machine in peer.select(World(fleet, Known())) if not addresses(machine)]:
            more = f" and {len(bare) - 3} more" if len(bare) > 3 else ""
            yield Problem(
                ref,
                here,
                f"the manifests have no IP address of {', '.join(bare[:3])}{more}, and packet filters know no names; "
                "write one (spec.address, spec.interfaces.address), or say who is meant by cidr",
            )


def _is_ip(address: str) -> bool:
    try:
        cidr(address)
    except ValueError:
        return False
    return True
