"""The nodes of a VPN: who is in it, with which address, and how it is reached. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from drivers.items.systemd_unit import SystemdUnit
from resources.base import AnyResource, Choice, Resource
from resources.fleet import machine_kind
from resources.net import Network
from resources.vpn_keys import IN_USE, KEY, REVOKED, digests, generation, is_open, is_out, key_fact, no_key, oldest
from resources.vpn_spec import NO_ENDPOINT, VPNNodeSpec, VPNSpec, split_endpoint
from resources.vpn_turn import in_turn
from resources.world import ALL, World

Vpn = Resource[VPNSpec]
# The pool of addresses.
ADDRESS = "address"


@dataclass(frozen=True, slots=True)
class Node:
    """One node as all others see it.

    Attributes:
        name: the machine's, or the VPNNode's of one outside the fleet.
        machine: False for a node outside the fleet.
        address: in the VPN; empty while there is none, or when another node has it.
        endpoint: address and port by which it can be reached; None when it cannot.
        keepalive: seconds, its own or the VPN's.
        public_key: the one in use; None while it is not known, and where nobody asked for it.
        generation: of the key in use.
        wanted: the generation that it is to turn to; as a rule the same.
        next_key: the public key that it turns to, once it has told that.
        aliases: further names.
        awaited: it is meant to be on, so that its key is to be expected.
    """

    name: str
    machine: bool
    address: str
    endpoint: tuple[str, int] | None
    subnets: tuple[str, ...]
    hub: bool
    keepalive: int
    public_key: str | None
    aliases: tuple[str, ...] = ()
    awaited: bool = False
    generation: int = 1
    wanted: int = 1
    next_key: str | None = None

    @property
    def known_by(self) -> tuple[Node, ...]:
        """The node under each key that it may come with: while it turns to another one, under both."""
        if self.public_key is None or self.next_key is None:
            return (self,)
        return (self, self.turned())

    def turned(self) -> Node:
        """As it is when it has turned to its next key."""
        return replace(self, generation=self.wanted, public_key=self.next_key, next_key=None)

    @property
    def networks(self) -> tuple[str, ...]:
        """What is reached through it: its address alone, and the subnets behind it."""
        return (str(ipaddress.ip_network(self.address)), *self.subnets)


class Addresses:
    """The addresses of a network that a node may have, in order, without those in ``reserved``. None is made before it
    is asked for: a /8 has 16 million.
    """

    def __init__(self, network: Network, reserved: frozenset[str]) -> None:
        self._network = network
        self._reserved = reserved

    def __iter__(self) -> Iterator[str]:
        return (str(one) for one in self._network.hosts() if str(one) not in self._reserved)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and usable(value, str(self._network)) and value not in self._reserved


@lru_cache(maxsize=65536)
def usable(address: str, cidr: str) -> bool:
    """Whether a node can have the address: not the network's own, nor the one for broadcasts."""
    ip, network = ipaddress.ip_address(address), ipaddress.ip_network(cidr)
    if ip not in network:
        return False
    outer = {network.network_address, *([network.broadcast_address] if network.version == 4 else [])}
    return ip not in outer or network.max_prefixlen - network.prefixlen <= 1


def members(vpn: Vpn, world: World) -> tuple[AnyResource, ...]:
    """Its machines, by name."""
    spec = vpn.spec
    named = (world.machine(name) for name in _settled(vpn, world))
    found = (*spec.members.select(world), *spec.hubs.select(world), *(machine for machine in named if machine))
    out = revoked(vpn, world)
    by_name = {machine.name: machine for machine in found if machine.name not in out}
    return tuple(sorted(by_name.values(), key=lambda machine: machine.name))


def revoked(vpn: Vpn, world: World) -> Mapping[str, str]:
    """The nodes that are let in nowhere, and what is kept of that: see ``revoked_value``."""
    return {name: value for name, value in world.pool(vpn.ref, REVOKED).items() if is_out(value)}


def revoked_keys(vpn: Vpn, world: World) -> frozenset[str]:
    """Digests of the public keys of all that are or were revoked: they are let in under no name."""
    return frozenset().union(*map(digests, world.pool(vpn.ref, REVOKED).values()))


def leaving(vpn: Vpn, world: World) -> Iterator[str]:
    """The machines that are revoked, but keep what they have until it is proved that nobody lets them in."""
    yield from (name for name, value in revoked(vpn, world).items() if is_open(value) and world.machine(name))


def is_member(vpn: Vpn, machine: AnyResource, world: World) -> bool:
    """The same of one machine, without looking at others."""
    if is_out(world.known_allocation(vpn.ref, f"{REVOKED}/{machine.name}")):
        return False
    named = machine.name in _settled(vpn, world)
    return named or vpn.spec.members.includes(machine) or vpn.spec.hubs.includes(machine)


def _settled(vpn: Vpn, world: World) -> Mapping[str, VPNNodeSpec]:
    """What VPNNodes say, by machine."""

    def found() -> Mapping[str, VPNNodeSpec]:
        specs = (node.spec for node in resources_of(vpn, world))
        return {spec.machine: spec for spec in specs if spec.machine is not None}

    return world.once(f"settled/{vpn.name}", found)


def _spec_of(vpn: Vpn, machine: str, world: World) -> VPNNodeSpec:
    """What a VPNNode says of the machine; else nothing in particular."""
    return _settled(vpn, world).get(machine) or VPNNodeSpec(vpn=vpn.name)


def resources_of(vpn: Vpn, world: World) -> tuple[Resource[VPNNodeSpec], ...]:
    """The VPNNodes that name it."""
    return tuple(node for node in world.select("VPNNode", ALL) if node.spec.vpn == vpn.name)


def outside_key(vpn: Vpn, name: str, world: World) -> str:
    """The public key that is written of a node outside the fleet; empty for others."""
    return next(((node.spec.public_key or "").strip() for node in resources_of(vpn, world) if node.name == name), "")


def nodes(vpn: Vpn, world: World) -> tuple[Node, ...]:
    """All nodes, by name; also those of which something is not known yet. Without the keys that machines told."""
    written = resources_of(vpn, world)
    given = world.pool(vpn.ref, ADDRESS)
    settled = _settled(vpn, world)
    hubs = {machine.name for machine in vpn.spec.hubs.select(world)}
    plain = VPNNodeSpec(vpn=vpn.name)
    found = []
    for machine in members(vpn, world):
        spec = settled.get(machine.name, plain)
        hub = spec.hub or machine.name in hubs
        found.append(_node(vpn, machine.name, spec, given, hub, machine))
    out = revoked(vpn, world)
    outside = (node for node in written if node.spec.machine is None and node.name not in out)
    found.extend(_node(vpn, n.name, n.spec, given, n.spec.hub, None) for n in outside)
    return tuple(sorted(found, key=lambda node: node.name))


def _node(
    vpn: Vpn,
    name: str,
    spec: VPNNodeSpec,
    given: Mapping[str, str],
    hub: bool,
    machine: AnyResource | None,
) -> Node:
    label = machine.metadata.labels.get(vpn.spec.aliases or "") if machine is not None else None
    return Node(
        name=name,
        machine=machine is not None,
        address=_address(vpn, name, spec, given),
        endpoint=_endpoint(vpn, spec, hub, machine),
        subnets=spec.subnets,
        hub=hub,
        keepalive=spec.keepalive or vpn.spec.keepalive,
        public_key=_right_key(vpn, spec.public_key),
        aliases=(label,) if label else (),
        awaited=machine is not None and machine_kind(machine).answers(machine),
    )


def with_key(vpn: Vpn, node: Node, world: World) -> Node:
    """The node with its key. Who asks is asked again when it comes: only those who need it should."""
    if not node.machine:
        return node
    wanted, used = generations(vpn, node.name, world)
    key, next_key = (_right_key(vpn, world.known_fact(vpn.ref, key_fact(one, node.name))) for one in (used, wanted))
    return replace(node, generation=used, wanted=wanted, public_key=key, next_key=next_key if used != wanted else None)


def everybody(vpn: Vpn, world: World) -> tuple[Node, ...]:
    """All nodes, by name, with their keys."""
    return tuple(with_key(vpn, node, world) for node in nodes(vpn, world))


def generations(vpn: Vpn, node: str, world: World) -> tuple[int, int]:
    """The generation that a node is to have, and the one it uses: until it told, the oldest of which a key is known."""
    decided = world.known_allocation(vpn.ref, f"{KEY}/{node}")
    told, wanted = world.known_fact(vpn.ref, f"{IN_USE}/{node}"), generation(decided)
    if told is not None:
        return wanted, max(oldest(decided), min(generation(told), wanted))
    kept = (one for one in range(oldest(decided), wanted) if world.known_fact(vpn.ref, key_fact(one, node)) is not None)
    return wanted, next(kept, wanted)


def _right_key(vpn: Vpn, told: str | None) -> str | None:
    """A machine that tells something else would get lines of its own into the configuration of others."""
    return told.strip() if told and not no_key(vpn.spec.driver, told) else None


def connected(vpn: Vpn, one: Node, other: Node) -> bool:
    """Whether two nodes are configured for each other, and so need each other's keys.

    tinc learns the rest from the hubs; of WireGuard one of the two must be reachable.
    """
    if vpn.spec.driver == "tinc":
        return one.hub or other.hub
    return one.endpoint is not None or other.endpoint is not None


def _address(vpn: Vpn, name: str, spec: VPNNodeSpec, given: Mapping[str, str]) -> str:
    """The one that is written, unless it was given to another before; else the one that was given."""
    address = given.get(name, "") if spec.address is None else spec.address
    free = spec.address is None or not holder(spec.address, name, given)
    return address if address and free and usable(address, vpn.spec.cidr) else ""


def addresses(machine: AnyResource, world: World) -> Mapping[str, str]:
    """The addresses that a machine has in its VPNs, by VPN; empty where it is not known yet."""
    vpns = (vpn for vpn in world.select("VPN", ALL) if is_member(vpn, machine, world))
    return {vpn.name: address_of(vpn, machine.name, world) for vpn in vpns}


def presumed(world: World) -> Mapping[tuple[str, str], str]:
    """Addresses as they could be given, for checks of manifests alone: which it is makes no difference there."""
    found: dict[tuple[str, str], str] = {}
    for vpn in world.select("VPN", ALL):
        open_ = tuple(choices(vpn, world))
        free = iter(open_[0].allowed if open_ else ())
        found |= {(vpn.ref, choice.what): address for choice, address in zip(open_, free, strict=False)}
    return found


def listens(vpn: Vpn, machine: AnyResource, world: World) -> bool:
    """Whether others connect to the machine, rather than it to them."""
    return is_member(vpn, machine, world) and _seen_at(vpn, machine, world) is not None


def endpoints(vpn: Vpn, world: World) -> tuple[tuple[str, int], ...]:
    """Where nodes connect to: addresses or DNS names, and ports."""
    out = revoked(vpn, world)
    written = (node for node in resources_of(vpn, world) if node.name not in out)
    outside = (node.spec for node in written if node.spec.machine is None)
    found = [_endpoint(vpn, spec, spec.hub, None) for spec in outside]
    found += [_seen_at(vpn, machine, world) for machine in members(vpn, world)]
    return tuple(one for one in found if one is not None)


def _seen_at(vpn: Vpn, machine: AnyResource, world: World) -> tuple[str, int] | None:
    spec = _spec_of(vpn, machine.name, world)
    return _endpoint(vpn, spec, spec.hub or vpn.spec.hubs.includes(machine), machine)


def address_of(vpn: Vpn, machine: str, world: World) -> str:
    """The address of one machine, without looking at the others, but where it is written and may be that of another;
    empty while there is none.
    """
    spec = _spec_of(vpn, machine, world)
    if spec.address is not None:
        return _address(vpn, machine, spec, world.once(f"pool/{vpn.name}", lambda: world.pool(vpn.ref, ADDRESS)))
    given = world.known_allocation(vpn.ref, f"{ADDRESS}/{machine}")
    return _address(vpn, machine, spec, {machine: given} if given is not None else {})


def address_then(former: Vpn, machine: str, world: World) -> str:
    """The address that a machine had in a VPN as it was: where another is written by now, the one that it was given;
    empty where that is not known.
    """
    given = world.known_allocation(former.ref, f"{ADDRESS}/{machine}")
    return address_of(former, machine, world) or (given if given and usable(given, former.spec.cidr) else "")


def holder(address: str, name: str, given: Mapping[str, str]) -> str:
    """The other node that was given this address; empty when there is none."""
    return next((node for node, value in given.items() if value == address and node != name), "")


def _endpoint(vpn: Vpn, spec: VPNNodeSpec, hub: bool, machine: AnyResource | None) -> tuple[str, int] | None:
    if spec.endpoint == NO_ENDPOINT:
        return None
    if spec.endpoint is not None:
        address, port = split_endpoint(spec.endpoint)
        return address, port or vpn.spec.listens_on
    # A guest's address is often behind its host's NAT: only of a hub it is known that all can reach it.
    if machine is None or not (machine.kind == "Host" or hub):
        return None
    found = machine_kind(machine).address(machine)
    return (found, vpn.spec.listens_on) if found is not None else None


def choices(vpn: Vpn, world: World) -> Iterator[Choice]:
    """An address for each node that has none written."""
    written = resources_of(vpn, world)
    reserved = frozenset(node.spec.address for node in written if node.spec.address is not None)
    fixed = {node.spec.machine or node.name for node in written if node.spec.address is not None}
    outside = [node.name for node in written if node.spec.machine is None]
    free = Addresses(ipaddress.ip_network(vpn.spec.cidr), reserved)
    for name in (*(machine.name for machine in members(vpn, world)), *outside):
        if name not in fixed:
            none = f"no address of {vpn.spec.cidr} is left for {name}; make spec.cidr larger, as in a shorter prefix"
            yield Choice(f"{ADDRESS}/{name}", free, why_none=none)


def unit(vpn: Vpn) -> str:
    """The systemd unit that runs it on a machine."""
    return f"tinc@{vpn.name}.service" if vpn.spec.driver == "tinc" else f"salvus-vpn-{vpn.name}.service"


def units_of(machine: str, world: World) -> Iterator[str]:
    """Keys of the items that run the VPNs of a machine: what uses these is started after them.

    Raises NotYet until the machine has had an address and a key in each: before, it is not even configured.
    """
    resource = world.machine(machine)
    for vpn in world.select("VPN", ALL) if resource is not None else ():
        if resource is not None and is_member(vpn, resource, world):
            if not address_of(vpn, machine, world):
                world.allocation(vpn.ref, f"{ADDRESS}/{machine}")
            world.fact(vpn.ref, key_fact(generations(vpn, machine, world)[1], machine))
            yield f"{SystemdUnit.type()}:{unit(in_turn(vpn, resource, world)[0])}"
