"""Whatever a fleet is like: rules are made, each with a reason that is there; and the evaluator says what they mean."""

from __future__ import annotations

import ipaddress
import re
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.items.rules import Action, Protocol, RuleSet
from resources.base import AnyResource
from resources.firewall_rules import Chain, Filter, filter_of
from resources.firewall_together import useless
from resources.fleet import Fleet
from resources.reach import THE_WORLD, Packet, decide, reach, site_of
from resources.world import Known, World
from tests.fast.firewalls import fleets


def filters(fleet: Fleet) -> dict[str, Filter]:
    world = World(fleet, Known())
    made = {machine.name: filter_of(machine, world) for machine in fleet.machines()}
    return {name: found for name, found in made.items() if found is not None}


@settings(max_examples=40)
@given(fleet=fleets())
def test_every_reason_names_a_resource_and_a_field_of_it(fleet: Fleet) -> None:
    for found in filters(fleet).values():
        for line in (*found.ingress.lines, *found.egress.lines):
            ref, _, field = line.rule.why.partition(" ")
            assert ref == line.ref
            resource = fleet.get(*ref.split("/"))
            assert resource is not None
            _walk(resource, field)
        for default in (found.ingress.default, found.egress.default):
            assert fleet.get(*default.ref.split("/")) is not None


def _walk(resource: AnyResource, field: str) -> None:
    """Fails unless the resource has the field, as in ``spec.ingress[NAME]``."""
    here: object = resource
    for name, member in re.findall(r"([a-z]+)(?:\[([^]]+)\])?", field):
        here = getattr(here, name)
        if member:
            assert isinstance(here, tuple)
            (here,) = (one for one in here if one.name == member)


@settings(max_examples=40)
@given(fleet=fleets())
def test_rule_sets_are_whole(fleet: Fleet) -> None:
    """Each group that a rule names is there once, in the form that the contract asks for, and no other."""
    for found in filters(fleet).values():
        rules = found.rules
        named = {rule.peers for rule in (*rules.ingress, *rules.egress) if rule.peers}
        assert sorted(group.name for group in rules.groups) == sorted(named)
        for group in rules.groups:
            networks = [ipaddress.ip_network(text) for text in group.networks]
            assert [str(network) for network in networks] == list(group.networks)
            versions = [network.version for network in networks]
            assert versions == sorted(versions)
            assert not any(one.overlaps(other) for one, other in product(networks, networks) if one is not other)
        for rule in (*rules.ingress, *rules.egress):
            assert all(a.last + 1 < b.first for a, b in zip(rule.ports, rule.ports[1:], strict=False))


@settings(max_examples=40)
@given(fleet=fleets())
def test_ssh_comes_first_and_what_is_derived_last(fleet: Fleet) -> None:
    for found in filters(fleet).values():
        kinds = [_sort(line.rule.why) for line in found.ingress.lines]
        assert kinds == sorted(kinds)
        assert kinds[0] == 0
        whys = [line.rule.why for line in found.ingress.lines if _sort(line.rule.why) == 1]
        firewalls = [why.partition(" ")[0] for why in whys]
        assert firewalls == sorted(firewalls)


def _sort(why: str) -> int:
    return 0 if why.endswith("spec.ssh") else 1 if "spec.ingress" in why else 2


UNIVERSE = [ipaddress.ip_address(text) for text in ("10.0.0.1", "10.0.0.3", "10.0.0.6", "fd00::3", "fd01::1")]
SOME_PORTS = (1, 2, 3, 4, 5, 8, 9, 22, 65535)
PACKETS = [
    *product(UNIVERSE, (Protocol.TCP, Protocol.UDP), SOME_PORTS),
    *product(UNIVERSE, (Protocol.ICMP, Protocol.ANY), (0,)),
]


# Directly, or through the VPN of random fleets.
WAYS = {"": "", "net": "vpn-net"}


def painted(chain: Chain, rules: RuleSet, device: str) -> dict[object, tuple[Action, str]]:
    """What becomes of each packet, by painting: the default first, then each rule over it, the last one first."""
    groups = {group.name: [*map(ipaddress.ip_network, group.networks)] for group in rules.groups}
    canvas: dict[object, tuple[Action, str]] = dict.fromkeys(PACKETS, (chain.default.action, chain.default.why))
    for rule in reversed([line.rule for line in chain.lines if line.rule.interface in {"", device}]):
        peers = {one for one in UNIVERSE if not rule.peers or any(one in network for network in groups[rule.peers])}
        protocols = set(Protocol) if rule.protocol is Protocol.ANY else {rule.protocol}
        numbers = {number for ports in rule.ports for number in range(ports.first, ports.last + 1)} or {0, *SOME_PORTS}
        for packet in product(peers, protocols, numbers & {0, *SOME_PORTS}):
            if packet in canvas:
                canvas[packet] = (rule.action, rule.why)
    return canvas


@settings(max_examples=40)
@given(fleet=fleets())
def test_the_first_rule_that_matches_decides(fleet: Fleet) -> None:
    for found in filters(fleet).values():
        for chain, (vpn, device) in product((found.ingress, found.egress), WAYS.items()):
            expected = painted(chain, found.rules, device)
            for address, protocol, port in PACKETS:
                packet = Packet(address.version, str(address), "", protocol, port, vpn)
                verdict = decide(chain, str(address), packet)
                assert (verdict.action, verdict.why) == expected[address, protocol, port]


@settings(max_examples=40)
@given(fleet=fleets())
def test_any_connection_at_all_is_found_by_trying_all_that_differ(fleet: Fleet) -> None:
    """Without a port: yes just when some protocol and port of all get there."""
    world = World(fleet, Known())
    source, destination = (site_of(one, world) for one in fleet.machines()[:2])
    for one, other in ((source, destination), (THE_WORLD, destination), (source, THE_WORLD)):
        each = [
            *(reach(one, other, port, protocol) for protocol in (Protocol.TCP, Protocol.UDP) for port in range(1, 30)),
            *(reach(one, other, 0, protocol) for protocol in (Protocol.ICMP, Protocol.ANY)),
            *(
                reach(one, other, port, protocol)
                for protocol in (Protocol.TCP, Protocol.UDP)
                for port in (655, 9999, 51820, 65535)
            ),
        ]
        assert reach(one, other).reached == any(answer.reached for answer in each)


@settings(max_examples=40)
@given(fleet=fleets())
def test_what_is_called_useless_changes_nothing_when_it_is_left_out(fleet: Fleet) -> None:
    doubted = {(problem.ref, problem.path) for problem in useless(fleet)}
    for found in filters(fleet).values():
        for chain, vpn in product((found.ingress, found.egress), WAYS):
            kept = tuple(line for line in chain.lines if (line.ref, line.path) not in doubted)
            for address, protocol, port in PACKETS:
                packet = Packet(address.version, str(address), "", protocol, port, vpn)
                without = decide(Chain(kept, chain.default), str(address), packet)
                assert without.action is decide(chain, str(address), packet).action


@settings(max_examples=40)
@given(data=st.data())
def test_the_world_is_in_no_network_but_all(data: st.DataObject) -> None:
    fleet = data.draw(fleets())
    for found in filters(fleet).values():
        for chain in (found.ingress, found.egress):
            for version, stranger in ((4, "203.0.113.99"), (6, "2001:db8::99")):
                packet = Packet(version, "", "", Protocol.TCP, data.draw(st.sampled_from(SOME_PORTS)))
                assert decide(chain, "", packet) == decide(chain, stranger, packet)
