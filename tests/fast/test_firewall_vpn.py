"""Firewalls and VPNs: who is meant by a VPN, addresses in one, and what a VPN needs to be let through."""

from __future__ import annotations

from typing import Any

import pytest

from controller.view import View
from drivers.items.nft_table import NftTable
from drivers.items.rules import Action, Group, Ports, Protocol, Rule, RuleSet
from resources.base import AnyResource
from resources.firewall_rules import filter_of
from resources.fleet import Fleet
from resources.reach import Site, site_of, trials
from resources.world import Known, World
from tests.fast.manifests import firewall, host, problems, resource, vm

HUB = host("hub", address="192.0.2.1", hypervisor=None)
GUEST = vm("guest", interfaces=[{"name": "eth0", "dhcp": True}])
NODES = {"members": {"names": ["guest"]}, "hubs": {"names": ["hub"]}}
NET = resource("VPN", "net", {"driver": "tinc", "cidr": "10.9.0.0/16", **NODES})
GIVEN = Known(allocations={("VPN/net", "address/guest"): "10.9.0.2", ("VPN/net", "address/hub"): "10.9.0.1"})
TCP, UDP = Protocol.TCP, Protocol.UDP
FROM_GUEST = [{"name": "x", "from": [{"machines": {"names": ["guest"]}}], "ports": [9]}]


def rules(*fleet: AnyResource, of: str, known: Known = GIVEN) -> RuleSet:
    world = World(Fleet.of_resources(fleet), known)
    machine = world.machine(of)
    assert machine is not None
    made = filter_of(machine, world)
    assert made is not None
    return made.rules


def net(**more: Any) -> AnyResource:
    return resource("VPN", "net", {"driver": "wireguard", "cidr": "10.9.0.0/16", **NODES, **more})


def test_a_vpn_is_its_whole_network() -> None:
    found = rules(HUB, GUEST, NET, firewall(ssh=[{"vpn": "net"}]), of="guest")
    assert found.groups == (Group("ssh.wall@net", ("10.9.0.0/16",)),)


def test_machines_are_also_meant_by_their_addresses_in_vpns() -> None:
    fixed = resource("VPNNode", "guest-in-net", {"vpn": "net", "machine": "guest", "address": "10.9.0.7"})
    wall = firewall(derive=False, ingress=FROM_GUEST)
    assert rules(HUB, GUEST, NET, wall, of="hub").groups == (Group("ingress.wall.x@net", ("10.9.0.2/32",)),)
    assert rules(HUB, GUEST, NET, fixed, wall, of="hub").groups == (Group("ingress.wall.x@net", ("10.9.0.7/32",)),)


def test_addresses_in_a_vpn_are_let_in_by_its_device_alone_where_the_machine_is_in_it() -> None:
    both = [{"machines": {"names": ["guest", "hub"]}}, {"cidr": "10.9.1.0/24"}, {"cidr": "10.0.0.0/8"}]
    wall = firewall(derive=False, ingress=[{"name": "x", "from": both}])
    why = "Firewall/wall spec.ingress[x]"
    found = rules(HUB, GUEST, NET, wall, of="guest")
    assert found.ingress[1:] == (
        Rule(Action.ALLOW, why, "ingress.wall.x"),
        Rule(Action.ALLOW, why, "ingress.wall.x@net", interface="vpn-net"),
    )
    inside = ("10.9.0.1/32", "10.9.0.2/32", "10.9.1.0/24")
    assert [group.networks for group in found.groups] == [("10.0.0.0/8", "192.0.2.1/32"), inside]
    outside = host("outside", address="192.0.2.9", hypervisor=None)
    (line,) = rules(HUB, GUEST, outside, NET, firewall(ingress=FROM_GUEST), of="outside").ingress[1:]
    assert line.interface == ""


def test_a_packet_goes_within_one_network() -> None:
    lan = host("lan", address="192.168.7.2", hypervisor=None)
    node = resource("VPNNode", "hub-in-net", {"vpn": "net", "machine": "hub", "subnets": ["192.168.7.0/24"]})
    world = World(Fleet.of_resources([HUB, GUEST, lan, NET, node]), GIVEN)
    hub, guest, behind = (site_of(machine, world) for machine in (HUB, GUEST, lan))

    def ways(one: Site, other: Site) -> list[tuple[str, str, str]]:
        packets = [trial.packet for trial in trials(one, other, TCP, 22)]
        return [(packet.source, packet.destination, packet.vpn) for packet in packets]

    assert ways(guest, hub) == [("10.9.0.2", "10.9.0.1", "net")]
    assert ways(guest, behind) == [("10.9.0.2", "192.168.7.2", "net")]
    assert ways(hub, behind) == [("192.0.2.1", "192.168.7.2", ""), ("10.9.0.1", "192.168.7.2", "net")]


@pytest.mark.parametrize(("cidr", "refused"), [("10.9.4.0/24", True), ("10.9.0.8", True), ("10.9.0.7", False)])
def test_an_address_that_is_given_to_somebody_later_is_no_peer(cidr: str, refused: bool) -> None:
    fixed = resource("VPNNode", "guest-in-net", {"vpn": "net", "machine": "guest", "address": "10.9.0.7"})
    wall = firewall(ingress=[{"name": "x", "from": [{"cidr": cidr}, {"cidr": "10.9.0.0/16"}, {"cidr": "10.0.0.0/8"}]}])
    found = [one for one in problems(HUB, GUEST, NET, fixed, wall) if one.startswith("Firewall/")]
    assert [one.partition(" is ")[0] for one in found] == [
        f"Firewall/wall spec.ingress.0.from.0.cidr: {cidr if '/' in cidr else f'{cidr}/32'}"
    ] * refused


def test_an_address_that_is_not_decided_yet_comes_by_itself() -> None:
    fleet = Fleet.of_resources([HUB, GUEST, NET, firewall(machines={"names": ["hub"]}, ingress=FROM_GUEST)])
    view = View()
    view.update(fleet, Known(), {f"resource/{one.ref}" for one in fleet})

    def groups() -> tuple[Group, ...]:
        (found,) = (one.item for one in view.lowered("hub").wanted if isinstance(one.item, NftTable))
        return found.rules.groups

    assert groups() == (Group("ingress.wall.x@net", ()),)
    assert "hub" in view.update(fleet, GIVEN, {"allocation/VPN/net/address/guest", "allocation/VPN/net/address"})
    assert groups() == (Group("ingress.wall.x@net", ("10.9.0.2/32",)),)


def test_a_machine_without_address_may_be_a_peer_when_it_is_in_a_vpn() -> None:
    wall = firewall(ingress=FROM_GUEST)
    assert [one for one in problems(HUB, GUEST, wall) if one.startswith("Firewall/")]
    assert not [one for one in problems(HUB, GUEST, NET, wall) if one.startswith("Firewall/")]


@pytest.mark.parametrize(
    ("vpn", "port", "protocols"), [(NET, 655, (TCP, UDP)), (net(), 51820, (UDP,)), (net(port=7000), 7000, (UDP,))]
)
def test_nodes_come_in_where_they_connect_to(vpn: AnyResource, port: int, protocols: tuple[Protocol, ...]) -> None:
    expected = [Rule(Action.ALLOW, "VPN/net spec.port", "", protocol, (Ports(port, port),)) for protocol in protocols]
    assert list(rules(HUB, GUEST, vpn, firewall(), of="hub").ingress[1:]) == expected
    assert rules(HUB, GUEST, vpn, firewall(), of="guest").ingress[1:] == ()
    assert rules(HUB, GUEST, vpn, firewall(derive=False), of="hub").ingress[1:] == ()


def test_who_may_go_nowhere_gets_to_the_endpoints_of_its_vpns() -> None:
    closed = firewall(default={"egress": "deny"})
    found = rules(HUB, GUEST, net(), closed, of="guest")
    assert found.egress == (Rule(Action.ALLOW, "VPN/net spec.hubs", "vpn.net", UDP, (Ports(51820, 51820),)),)
    assert found.groups == (Group("vpn.net", ("192.0.2.1/32",)),)
    named = resource("VPNNode", "hub-in-net", {"vpn": "net", "machine": "hub", "endpoint": "hub.example.org:700"})
    found = rules(HUB, GUEST, net(), named, closed, of="guest")
    assert found.egress == (Rule(Action.ALLOW, "VPN/net spec.hubs", "", UDP, (Ports(700, 700),)),)
    assert rules(HUB, GUEST, net(), firewall(), of="guest").egress == ()


@pytest.mark.parametrize(
    ("sentence", "holds"),
    [
        ("guest reaches hub:22", True),
        ("world never reaches hub:22", True),
        ("guest reaches hub:23", False),
        ("hub never reaches guest:22", False),
    ],
)
def test_sentences_hold_before_addresses_are_decided(sentence: str, holds: bool) -> None:
    wall = firewall(ssh=[{"vpn": "net"}], tests=[sentence])
    failed = [one for one in problems(HUB, GUEST, NET, wall) if one.startswith("Firewall/")]
    assert (failed == []) == holds, failed
