"""Whether a connection comes about: out of one machine and into another, through the packet filters of both. Pure.

``World`` is also who is meant here by *the world*: an address that no machine has and that no rule names otherwise than
by ``0.0.0.0/0`` or ``::/0``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from drivers.items.rules import Action, Protocol, Rule
from resources.base import AnyResource, Path
from resources.firewall_rules import Chain, Filter, Line, filter_of
from resources.peers import Addresses, parsed
from resources.world import World

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

WORLD = "world"
_DIRECT = frozenset({""})


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection.

    Attributes:
        version: 4 or 6.
        source, destination: addresses; empty for one in the world.
        protocol: ``ANY`` for one that is neither TCP, UDP nor ICMP.
        port: the destination port, of TCP and UDP.
        vpn: the VPN that it goes through; empty for one that goes by the machines' own networks.
    """

    version: int
    source: str
    destination: str
    protocol: Protocol
    port: int = 0
    vpn: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a packet at one end, and what decides it.

    Attributes:
        why: the resource and field that decides; else why there is nothing to decide.
        ref, path: the same as values; empty where nothing filters.
    """

    action: Action
    why: str
    ref: str = ""
    path: Path = ()


@dataclass(frozen=True, slots=True)
class Site:
    """One end: a machine with the addresses that are known, or the world, which has all of them and filters nothing.

    Attributes:
        vpns: of addresses the VPNs that they are reached through: in one, or behind one of its nodes. Those in a VPN
            are reached through nothing else.
    """

    name: str
    addresses: tuple[str, ...] = ()
    filter: Filter | None = None
    is_world: bool = False
    vpns: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def ways(self, address: str) -> frozenset[str]:
        """How the address is reached: the names of VPNs, and an empty one for the machines' own networks."""
        return self.vpns.get(address, _DIRECT)


@dataclass(frozen=True, slots=True)
class Trial:
    """One packet, and what becomes of it at both ends."""

    packet: Packet
    egress: Verdict
    ingress: Verdict

    @property
    def allowed(self) -> bool:
        """Whether it gets there."""
        return self.egress.action is self.ingress.action is Action.ALLOW


def site_of(machine: AnyResource, world: World) -> Site:
    """A machine as one end."""
    known = Addresses.known(world)
    vpns = {address: frozenset({vpn}) for vpn, address in known.vpns(machine).items() if address}
    for address in known.written(machine):
        if behind := known.behind(address):
            vpns[address] = _DIRECT | behind
    return Site(machine.name, known.of(machine), filter_of(machine, world), vpns=vpns)


THE_WORLD = Site(WORLD, is_world=True)


def decide(chain: Chain, peer: str, packet: Packet) -> Verdict:
    """The first line that matches, else the default. ``peer`` is the address at the other end.

    A rule with a rate counts as one that is not exceeded.
    """
    for line in chain.lines:
        if (
            line.vpn in {"", packet.vpn}
            and _speaks_of(line.rule, packet)
            and (not line.rule.peers or _within(peer, packet.version, line.networks))
        ):
            return Verdict(line.rule.action, line.rule.why, line.ref, line.path)
    default = chain.default
    return Verdict(default.action, default.why, default.ref, default.path)


def _speaks_of(rule: Rule, packet: Packet) -> bool:
    if rule.protocol not in {Protocol.ANY, packet.protocol}:
        return False
    return not rule.ports or any(ports.first <= packet.port <= ports.last for ports in rule.ports)


def _within(peer: str, version: int, networks: tuple[str, ...]) -> bool:
    found = parsed(networks)
    if not peer:
        return any(network.version == version and network.prefixlen == 0 for network in found)
    address = _address(peer)
    return any(address in network for network in found)


@lru_cache(maxsize=4096)
def _address(text: str) -> Address:
    return ipaddress.ip_address(text)


def trials(source: Site, destination: Site, protocol: Protocol, port: int) -> Iterator[Trial]:
    """One packet by each pair of addresses of one IP version, and each network that has both."""
    for version, one, other, vpn in _ways(source, destination):
        packet = Packet(version, one, other, protocol, port, vpn)
        if source.name == destination.name:
            loopback = Verdict(Action.ALLOW, "what a machine sends to itself is not filtered")
            yield Trial(packet, loopback, loopback)
            continue
        egress = _at(source, "egress", other, packet)
        yield Trial(packet, egress, _at(destination, "ingress", one, packet))


def _at(site: Site, direction: str, peer: str, packet: Packet) -> Verdict:
    if site.filter is None:
        why = "the world is not ours" if site.is_world else f"no Firewall selects {site.name}"
        return Verdict(Action.ALLOW, why)
    return decide(site.filter.egress if direction == "egress" else site.filter.ingress, peer, packet)


def _ways(source: Site, destination: Site) -> Iterator[tuple[int, str, str, str]]:
    for version in (4, 6):
        for one in _of(source, version):
            for other in _of(destination, version):
                if source.is_world or destination.is_world:
                    yield version, one, other, ""
                    continue
                for vpn in sorted(source.ways(one) & destination.ways(other)):
                    yield version, one, other, vpn


def _of(site: Site, version: int) -> tuple[str, ...]:
    return ("",) if site.is_world else tuple(one for one in site.addresses if _address(one).version == version)


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether one site reaches another, by the packet that tells.

    Attributes:
        trial: the first that gets there; of those that do not, the last. None where no address is known.
    """

    source: str
    destination: str
    trial: Trial | None

    @property
    def reached(self) -> bool:
        """Whether it does."""
        return self.trial is not None and self.trial.allowed


def reach(source: Site, destination: Site, port: int | None = None, protocol: Protocol = Protocol.TCP) -> Answer:
    """Whether a connection comes about by any pair of addresses; without a port, any connection at all."""
    tried: Trial | None = None
    wanted = [(protocol, port)] if port is not None else _kinds(source, destination)
    for one, number in wanted:
        for tried in trials(source, destination, one, number):
            if tried.allowed:
                return Answer(source.name, destination.name, tried)
    return Answer(source.name, destination.name, tried)


def _kinds(source: Site, destination: Site) -> list[tuple[Protocol, int]]:
    """A packet for each stretch of ports that all rules of both ends treat alike, and one of each other protocol."""
    filters = [one for one in (source.filter, destination.filter) if one is not None]
    lines: Iterable[Line] = (line for one in filters for line in (*one.ingress.lines, *one.egress.lines))
    ranges = [ports for line in lines for ports in line.rule.ports]
    starts = {1, *(ports.first for ports in ranges), *(ports.last + 1 for ports in ranges if ports.last < 65535)}
    of_ports = [(protocol, port) for protocol in (Protocol.TCP, Protocol.UDP) for port in sorted(starts)]
    return [*of_ports, (Protocol.ICMP, 0), (Protocol.ANY, 0)]
