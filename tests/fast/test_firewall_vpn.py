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
    assert found.groups == (Group("ssh.wall", ("10.9.0.0/16",)),)


def test_machines_are_also_meant_by_their_addresses_in_vpns() -> None:
    fixed = resource("VPNNode", "guest-in-net", {"vpn": "net", "machine": "guest", "address": "10.9.0.7"})
    wall = firewall(derive=False, ingress=FROM_GUEST)
    assert rules(HUB, GUEST, NET, wall, of="hub").groups == (Group("ingress.wall.x", ("10.9.0.2/32",)),)
    assert rules(HUB, GUEST, NET, fixed, wall, of="hub").groups == (Group("ingress.wall.x", ("10.9.0.7/32",)),)


def test_an_address_that_is_not_decided_yet_comes_by_itself() -> None:
    fleet = Fleet.of_resources([HUB, GUEST, NET, firewall(machines={"names": ["hub"]}, ingress=FROM_GUEST)])
    view = View()
    view.update(fleet, Known(), {f"resource/{one.ref}" for one in fleet})

    def groups() -> tuple[Group, ...]:
        (found,) = (one.item for one in view.lowered("hub").wanted if isinstance(one.item, NftTable))
        return found.rules.groups

    assert groups() == (Group("ingress.wall.x", ()),)
    assert "hub" in view.update(fleet, GIVEN, {"allocation/VPN/net/address/guest", "allocation/VPN/net/address"})
    assert groups() == (Group("ingress.wall.x", ("10.9.0.2/32",)),)


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
