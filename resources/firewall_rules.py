"""From all that is written to the packet filter of one machine: a function of the whole fleet. Pure.

The order of a machine's rules: ssh, also that to machines behind it, then what Firewalls say, by their names and in the
order of their lists, then what is derived from Services and VPNs, by their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from drivers.items.rules import Action, Group, Ports, Protocol, Rule, RuleSet
from resources import vpn_nodes
from resources.base import AnyResource, Path, Resource, Selector
from resources.firewall_spec import FirewallSpec, RuleSpec
from resources.fleet import machine_kind
from resources.peers import Addresses, Peer, collapsed, is_ip
from resources.ports import ports_of
from resources.ssh import IN_VPN
from resources.vpn_turn import before, in_turn
from resources.world import World

FirewallResource = Resource[FirewallSpec]

# What VPNs are carried by: tinc has control connections besides.
_CARRIERS = {"tinc": (Protocol.TCP, Protocol.UDP), "wireguard": (Protocol.UDP,)}
# The field by which ssh is let in, of Firewalls and of machines.
SSH: Path = ("spec", "ssh")
EVERYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class Line:
    """A rule and where it comes from.

    Attributes:
        rule: what is filtered.
        ref: the resource that it is there for.
        path: the field of it.
        peers: who is meant, in a few words.
        networks: their addresses; of use where the rule names a group.
        vpn: the VPN whose device the rule names; empty where it names none.
    """

    rule: Rule
    ref: str
    path: Path
    peers: str = "everybody"
    networks: tuple[str, ...] = ()
    vpn: str = ""


@dataclass(frozen=True, slots=True)
class Default:
    """What becomes of what no rule matches, and whose word that is."""

    action: Action
    ref: str
    path: Path

    @property
    def why(self) -> str:
        """The resource and field."""
        return f"{self.ref} {'.'.join(map(str, self.path))}"


@dataclass(frozen=True, slots=True)
class Chain:
    """All that is said of one direction, in order."""

    lines: tuple[Line, ...]
    default: Default


@dataclass(frozen=True, slots=True)
class Filter:
    """The packet filter of one machine, with the reasons; ``backend`` is what filters."""

    ingress: Chain
    egress: Chain
    backend: str

    @property
    def rules(self) -> RuleSet:
        """In the words of items."""
        lines = (*self.ingress.lines, *self.egress.lines)
        groups = {line.rule.peers: line.networks for line in lines if line.rule.peers}
        return RuleSet(
            ingress=tuple(line.rule for line in self.ingress.lines),
            egress=tuple(line.rule for line in self.egress.lines),
            default_ingress=self.ingress.default.action,
            default_egress=self.egress.default.action,
            groups=tuple(Group(name, found) for name, found in groups.items()),
        )


def firewalls_of(machine: AnyResource, world: World) -> tuple[FirewallResource, ...]:
    """The Firewalls that select the machine, by name."""
    return tuple(one for one in world.select("Firewall", Selector()) if one.spec.machines.includes(machine))


def filter_of(machine: AnyResource, world: World) -> Filter | None:
    """The packet filter of a machine; None when no Firewall selects it: then everything is let through."""
    return world.once(f"filter/{machine.name}", lambda: _filter(machine, world))


def _filter(machine: AnyResource, world: World) -> Filter | None:
    firewalls = firewalls_of(machine, world)
    if not firewalls:
        return None
    derive = any(firewall.spec.derive for firewall in firewalls)
    ingress, egress = _default(firewalls, "ingress"), _default(firewalls, "egress")
    known = Addresses.known(world)
    into = [*_ssh(machine, firewalls, known), *_written(firewalls, "ingress", machine, known)]
    out = [*_jumps(machine, known), *_written(firewalls, "egress", machine, known)]
    if derive:
        into += [*_to_services(machine, known), *_to_vpns(machine, world)]
    if derive and egress.action is Action.DENY:
        out += [*_as_client(machine, known), *_over_vpns(machine, world)]
    return Filter(Chain(tuple(into), ingress), Chain(tuple(out), egress), firewalls[0].spec.backend)


def _default(firewalls: Iterable[FirewallResource], direction: str) -> Default:
    """Of the first Firewall that denies, else of the first."""
    path = ("spec", "default", direction)
    said = [Default(Action(getattr(one.spec.default, direction)), one.ref, path) for one in firewalls]
    return next((default for default in said if default.action is Action.DENY), said[0])


def _ssh(machine: AnyResource, firewalls: Iterable[FirewallResource], known: Addresses) -> Iterator[Line]:
    port: int = machine.spec.ssh.port
    ports = (Ports(port, port),)
    said = [one for one in firewalls if one.spec.ssh is not None]
    for one in said:
        rule = Rule(Action.ALLOW, f"{one.ref} spec.ssh", f"ssh.{one.name}", Protocol.TCP, ports)
        yield from _lines(rule, one.ref, SSH, one.spec.ssh, machine, known)
    if not said:
        yield Line(Rule(Action.ALLOW, f"{machine.ref} spec.ssh", "", Protocol.TCP, ports), machine.ref, SSH)


def _written(
    firewalls: Iterable[FirewallResource], direction: str, machine: AnyResource, known: Addresses
) -> Iterator[Line]:
    for one in firewalls:
        # Of many rules about the same peers a set each is what makes nft slow.
        named: dict[str, str] = {}
        written = one.spec.ingress if direction == "ingress" else one.spec.egress
        for position, spec in enumerate(written):
            why = f"{one.ref} spec.{direction}[{spec.name}]"
            peers = getattr(spec, "from_" if direction == "ingress" else "to")
            group = f"{direction}.{one.name}.{named.setdefault(repr(peers), spec.name)}"
            path = ("spec", direction, position)
            yield from _lines(_rule(spec, why, group), one.ref, path, peers, machine, known)


def _rule(spec: RuleSpec, why: str, group: str) -> Rule:
    protocol = spec.protocol or ("any" if spec.ports is None else "tcp")
    ports = ports_of(spec.ports or ())
    return Rule(
        Action(spec.action),
        why,
        group,
        Protocol(protocol),
        ports,
        per_minute=spec.per_minute or 0,
        log=spec.log,
    )


def _to_services(machine: AnyResource, known: Addresses) -> Iterator[Line]:
    """The clients of the services on the machine come in."""
    for service in known.world.select("Service", Selector()):
        if service.spec.clients is not None and service.spec.machines.includes(machine):
            yield from _ports(service, f"clients.{service.name}", service.spec.clients, machine, known)


def _as_client(machine: AnyResource, known: Addresses) -> Iterator[Line]:
    """The machine gets to the services whose client it is."""
    for service in known.world.select("Service", Selector()):
        clients: tuple[Peer, ...] = service.spec.clients or ()
        if any(known.include(peer, machine) for peer in clients):
            yield from _ports(service, f"service.{service.name}", (Peer(service=service.name),), machine, known)


def _ports(
    service: AnyResource, group: str, peers: tuple[Peer, ...], machine: AnyResource, known: Addresses
) -> Iterator[Line]:
    for position, port in enumerate(service.spec.ports):
        why = f"{service.ref} spec.ports[{port.name}]"
        rule = Rule(Action.ALLOW, why, group, Protocol(port.protocol), (Ports(port.port, port.port),))
        yield from _lines(rule, service.ref, ("spec", "ports", position), peers, machine, known)


def _to_vpns(machine: AnyResource, world: World) -> Iterator[Line]:
    """The nodes of its VPNs come in, where they connect to it: from anywhere, as many have no address of their own."""
    for vpn in world.select("VPN", Selector()):
        if vpn_nodes.listens(vpn, machine, world):
            both = [one.spec for one in _both(vpn, machine, world)]
            carried = ((protocol, spec.listens_on) for spec in both for protocol in _CARRIERS[spec.driver])
            for protocol, port in dict.fromkeys(carried):
                rule = Rule(Action.ALLOW, f"{vpn.ref} spec.port", "", protocol, (Ports(port, port),))
                yield Line(rule, vpn.ref, ("spec", "port"))


def _both(vpn: vpn_nodes.Vpn, machine: AnyResource, world: World) -> Iterator[vpn_nodes.Vpn]:
    """As it is written, and as it is in force on the machine while that is another: until it has changed, or for good
    when that was put back, what carries it must get through.
    """
    yield vpn
    if (former := before(vpn, machine, world)) is not None:
        yield former


def _over_vpns(machine: AnyResource, world: World) -> Iterator[Line]:
    """The machine gets to the nodes of its VPNs; where one is known by a DNS name, at its port to everybody."""
    for vpn in world.select("VPN", Selector()):
        if not vpn_nodes.is_member(vpn, machine, world):
            continue
        both = tuple(_both(vpn, machine, world))
        found = tuple(endpoint for one in both for endpoint in vpn_nodes.endpoints(one, world))
        named = not all(is_ip(address) for address, _ in found)
        group, peers = ("", "everybody") if named else (f"vpn.{vpn.name}", f"endpoints of vpn {vpn.name}")
        networks = () if named else collapsed(tuple(address for address, _ in found))
        ports = ports_of({str(port) for _, port in found})
        for protocol in dict.fromkeys(p for one in both for p in _CARRIERS[one.spec.driver]) if found else ():
            rule = Rule(Action.ALLOW, f"{vpn.ref} spec.hubs", group, protocol, ports)
            yield Line(rule, vpn.ref, ("spec", "hubs"), peers, networks)


def _jumps(machine: AnyResource, known: Addresses) -> Iterator[Line]:
    """Over the machine the controller gets to those that name it in ``spec.ssh.via``: no trial of its own rules sees
    that it does not, so no rule is before these.
    """
    for other in known.world.over(machine.name):
        own = machine_kind(other).addresses(other)
        said = (way for way in other.spec.ssh.addresses if not way.startswith(IN_VPN))
        ways = (*own, *said, *known.of(other))
        # What a DNS name, or a guest without a static address, leads to, the machine alone knows.
        found = collapsed(ways) if ways and all(map(is_ip, ways)) else ()
        group, peers = (f"via.{other.name}", other.name) if found else ("", "everybody")
        port = Ports(other.spec.ssh.port, other.spec.ssh.port)
        rule = Rule(Action.ALLOW, f"{other.ref} spec.ssh.via", group, Protocol.TCP, (port,))
        yield Line(rule, other.ref, ("spec", "ssh", "via"), peers, found)


def _lines(
    rule: Rule, ref: str, path: Path, peers: tuple[Peer, ...] | None, machine: AnyResource, known: Addresses
) -> Iterator[Line]:
    """With the addresses of the peers; without a group where these are everybody.

    Those in a VPN of the machine are a line of their own: only what comes out of the VPN's device has proved whose
    address it is.
    """
    for vpn, found in known.networks(peers, machine).items() if peers is not None else [("", EVERYWHERE)]:
        network = known.world.get("VPN", vpn) if vpn else None
        who = ", ".join(map(str, peers or ()))
        if network is not None:
            device = in_turn(network, machine, known.world)[0].spec.device(vpn)
            bound = replace(rule, peers=f"{rule.peers}@{vpn}", interface=device)
            yield Line(
                bound, ref, path, f"{who} by {device}", _then_too(found, peers or (), network, machine, known), vpn
            )
        elif found == EVERYWHERE:
            yield Line(replace(rule, peers=""), ref, path)
        else:
            yield Line(rule, ref, path, who, found)


def _then_too(
    found: tuple[str, ...], peers: tuple[Peer, ...], vpn: vpn_nodes.Vpn, machine: AnyResource, known: Addresses
) -> tuple[str, ...]:
    """The addresses, and those of then as long as the VPN is in force on the machine as it was: its peers have them."""
    if (former := before(vpn, machine, known.world)) is None:
        return found
    whole = (former.spec.cidr,) if vpn.spec.cidr in found else ()
    chosen = (other for peer in peers for other in peer.select(known.world))
    meant = {other.name for other in chosen if vpn_nodes.is_member(vpn, other, known.world)}
    then = (vpn_nodes.address_then(former, name, known.world) for name in sorted(meant))
    return collapsed((*found, *whole, *filter(None, then)))
