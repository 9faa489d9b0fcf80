"""Peers: whom rules of a packet filter, and clients of services, speak of; and the addresses that they have. Pure."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Annotated, Self

from pydantic import Field

from resources import vpn_nodes
from resources.base import AnyResource, Model, Name, Path, Problem, Reference, Selector
from resources.fleet import Fleet, machine_kind
from resources.net import Cidr, Network, cidr
from resources.targets import Targets
from resources.world import Known, World


class Peer(Model):
    """One of: machines, the machines of a service, a VPN, a network."""

    machines: Targets | None = None
    """Machines, by the addresses that their manifests give them (``spec.address`` of a Host, the static ones of a
    VirtualMachine), and by those that they have in VPNs.
    """
    service: Name | None = None
    """A Service: all machines that it is on."""
    vpn: Name | None = None
    """A VPN: its whole network, nodes outside the fleet included, and not what is behind its nodes."""
    cidr: Cidr | None = None
    """A network, or one address. All there is: ``0.0.0.0/0`` (IPv4) and ``::/0`` (IPv6), an entry each."""

    def __str__(self) -> str:
        """In a few words, for people."""
        if self.service is not None:
            return f"service {self.service}"
        if self.machines is not None:
            return f"machines {self.machines}"
        return f"vpn {self.vpn}" if self.vpn is not None else self.cidr or "nobody"

    def select(self, world: World) -> tuple[AnyResource, ...]:
        """The machines that are meant."""
        targets = self.targets(world)
        return targets.select(world) if targets is not None else ()

    def targets(self, world: World) -> Targets | None:
        """What says which machines; None for a network."""
        if self.service is None:
            return self.machines
        service = world.get("Service", self.service)
        return service.spec.machines if service is not None else None


Peers = Annotated[tuple[Peer, ...], Field(min_length=1)]


@dataclass
class Addresses:
    """The IP addresses by which others see the packets of machines come, as far as they are known now."""

    world: World
    _networks: dict[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    _in_vpns: dict[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def known(cls, world: World) -> Self:
        """Those of a world: what many rules ask for is looked up once."""
        return world.once("addresses", lambda: cls(world))

    @cached_property
    def _vpns(self) -> Mapping[str, Network]:
        return {vpn.name: ipaddress.ip_network(vpn.spec.cidr) for vpn in self.world.select("VPN", Selector())}

    def written(self, machine: AnyResource) -> tuple[str, ...]:
        """Those in its manifest. A DNS name is none: a packet filter sees no names."""
        return _written(machine)

    def vpns(self, machine: AnyResource) -> Mapping[str, str]:
        """Those in its VPNs, by VPN; empty while one is not known."""
        if machine.name not in self._in_vpns:
            self._in_vpns[machine.name] = vpn_nodes.addresses(machine, self.world)
        return self._in_vpns[machine.name]

    def behind(self, address: str) -> frozenset[str]:
        """The VPNs by one of whose nodes a written address is reached (``spec.subnets`` of a VPNNode)."""
        nodes = self.world.select("VPNNode", Selector())
        host = ipaddress.ip_address(address)
        return frozenset(one.spec.vpn for one in nodes if any(host in net for net in parsed(one.spec.subnets)))

    def of(self, machine: AnyResource) -> tuple[str, ...]:
        """All of them."""
        return (*_written(machine), *filter(None, self.vpns(machine).values()))

    def networks(self, peers: Iterable[Peer], machine: AnyResource) -> Mapping[str, tuple[str, ...]]:
        """The peers' addresses as a ``Group`` has them, by the VPN of this machine that their packets come out of;
        under ``""`` all others.
        """
        own, found = self.vpns(machine), defaultdict[str, list[str]](list)
        for peer in peers:
            for vpn, networks in self.of_peer(peer).items():
                found[vpn if vpn in own else ""] += networks
        return {vpn: collapsed(tuple(found[vpn])) for vpn in sorted(found)}

    def of_peer(self, peer: Peer) -> Mapping[str, tuple[str, ...]]:
        """A peer's addresses by the VPN that they are in; under ``""`` all others."""
        key = peer.model_dump_json()
        if key not in self._networks:
            self._networks[key] = self._looked_up(peer)
        return self._networks[key]

    def _looked_up(self, peer: Peer) -> Mapping[str, tuple[str, ...]]:
        if peer.cidr is not None:
            (network,) = parsed((peer.cidr,))
            return {next((name for name, all_ in self._vpns.items() if inside(network, all_)), ""): (peer.cidr,)}
        if peer.vpn is not None:
            return {peer.vpn: (str(self._vpns[peer.vpn]),)} if peer.vpn in self._vpns else {"": ()}
        found = defaultdict[str, tuple[str, ...]](tuple)
        for machine in peer.select(self.world):
            if own := _written(machine):
                found[""] += own
            for vpn, address in self.vpns(machine).items():
                found[vpn] += (address,) if address else ()
        return found or {"": ()}

    def include(self, peer: Peer, machine: AnyResource) -> bool:
        """Whether the machine is meant by a peer, or one of its addresses is."""
        if peer.vpn is not None:
            vpn = self.world.get("VPN", peer.vpn)
            return vpn is not None and vpn_nodes.is_member(vpn, machine, self.world)
        targets = peer.targets(self.world)
        if targets is not None:
            return targets.includes(machine)
        network = parsed((peer.cidr,) if peer.cidr else ())
        return any(address in one for address in map(ipaddress.ip_address, self.of(machine)) for one in network)


def inside(one: Network, other: Network) -> bool:
    """Whether all of one network is in another."""
    return one.version == other.version and one.prefixlen >= other.prefixlen and one.network_address in other


def _written(machine: AnyResource) -> tuple[str, ...]:
    return tuple(address for address in machine_kind(machine).addresses(machine) if is_ip(address))


# Of the same machines many others want it: that they are the same is told faster than they are sorted.
@lru_cache(maxsize=1024)
def collapsed(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Addresses and networks, sorted, without those that are in others; IPv4 first.

    Neighbours are not put together: a machine more is to be a member more, and not other ones.
    """
    found: list[Network] = []
    for one in sorted(map(ipaddress.ip_network, dict.fromkeys(texts)), key=ipaddress.get_mixed_type_key):
        # A network stands before all that are in it.
        if not found or one.network_address not in found[-1]:
            found.append(one)
    return tuple(map(str, found))


@lru_cache(maxsize=1024)
def parsed(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """The networks as values."""
    return tuple(map(ipaddress.ip_network, texts))


def references(peers: Iterable[Peer] | None, path: Path) -> Iterator[Reference]:
    """The machines, services and VPNs that peers name; ``path`` is where the list stands."""
    for position, peer in enumerate(peers or ()):
        if peer.machines is not None:
            yield from peer.machines.references((*path, position, "machines"))
        if peer.service is not None:
            yield Reference((*path, position, "service"), ("Service",), peer.service)
        if peer.vpn is not None:
            yield Reference((*path, position, "vpn"), ("VPN",), peer.vpn)


def problems(ref: str, peers: Iterable[Peer] | None, path: Path, fleet: Fleet) -> Iterator[Problem]:
    """None or several of the ways to say who is meant; machines whose addresses nobody can know."""
    for position, peer in enumerate(peers or ()):
        here = (*path, position)
        if [peer.machines, peer.service, peer.vpn, peer.cidr].count(None) != 3:
            yield Problem(ref, here, "write one of machines, service, vpn and cidr")
            continue
        if peer.machines is not None:
            yield from peer.machines.problems(ref, (*here, "machines"))
        world = World(fleet, Known())
        if peer.cidr is not None and (vpn := _undecided(peer.cidr, world)):
            message = (
                f"{peer.cidr} is inside of VPN/{vpn}, where addresses are given to whoever comes; name the machines"
            )
            yield Problem(ref, (*here, "cidr"), f"{message}, or the VPN, or fix the address with a VPNNode")
        if bare := [machine.ref for machine in peer.select(world) if not _can_be_known(machine, world)]:
            more = f" and {len(bare) - 3} more" if len(bare) > 3 else ""
            yield Problem(
                ref,
                here,
                f"the manifests have no IP address of {', '.join(bare[:3])}{more}, and packet filters know no names; "
                "write one (spec.address, spec.interfaces.address), or say who is meant by cidr",
            )


def _undecided(text: str, world: World) -> str:
    """The VPN of which these are some of the addresses, but not one that a VPNNode fixes; empty if there is none."""
    (network,) = parsed((text,))
    fixed = {node.spec.address for node in world.select("VPNNode", Selector())}
    if network.prefixlen == network.max_prefixlen and str(network.network_address) in fixed:
        return ""
    vpns = ((vpn.name, ipaddress.ip_network(vpn.spec.cidr)) for vpn in world.select("VPN", Selector()) if vpn.whole)
    return next((name for name, all_ in vpns if network != all_ and inside(network, all_)), "")


def _can_be_known(machine: AnyResource, world: World) -> bool:
    vpns = world.select("VPN", Selector())
    return bool(_written(machine)) or any(vpn_nodes.is_member(vpn, machine, world) for vpn in vpns if vpn.whole)


@lru_cache(maxsize=8192)
def is_ip(address: str) -> bool:
    """Whether it is an IP address, and no DNS name."""
    try:
        cidr(address)
    except ValueError:
        return False
    return True
