"""By which addresses a machine is reached."""

from __future__ import annotations

import pytest

from drivers.base import SshTarget
from resources.base import AnyResource, NotYet
from resources.fleet import machine_kind
from resources.world import Known, World
from tests.fast.manifests import KEY, host, problems, refused, resource, vm, world

NET = {"driver": "tinc", "cidr": "10.1.0.0/16", "members": {"selector": {}}, "hubs": {"names": ["host1"]}}


def target(machine: AnyResource, world: World) -> SshTarget:
    return machine_kind(machine).target(machine, world)


def test_the_addresses_are_tried_in_order_and_its_own_last_and_none_twice() -> None:
    machine = host(
        address="192.0.2.1", ssh={"hostKeys": [KEY], "addresses": ["Box.Example.org", "192.0.2.1", "fd00::0:1"]}
    )
    assert target(machine, world(machine)).addresses == ("box.example.org", "192.0.2.1", "fd00::1")
    other = host(address="192.0.2.1", ssh={"hostKeys": [KEY], "addresses": ["192.0.2.9"]})
    assert target(other, world(other)).addresses == ("192.0.2.9", "192.0.2.1")


def test_a_machine_is_reached_by_the_vpn_as_soon_as_it_has_an_address_there() -> None:
    machine = host(address="192.0.2.1", ssh={"hostKeys": [KEY], "addresses": ["vpn/net"]})
    net = resource("VPN", "net", NET)
    before = world(machine, net)
    assert target(machine, before).addresses == ("192.0.2.1",)
    assert "allocation/VPN/net/address/host1" in before.reads, "asked again when it is decided"
    known = Known(allocations={("VPN/net", "address/host1"): "10.1.0.7"})
    assert target(machine, world(machine, net, known=known)).addresses == ("10.1.0.7", "192.0.2.1")
    fixed = resource("VPNNode", "hub", {"vpn": "net", "machine": "host1", "address": "10.1.9.9"})
    assert target(machine, world(machine, net, fixed)).addresses == ("10.1.9.9", "192.0.2.1")


def test_a_guest_without_a_static_address_is_reached_by_what_is_written() -> None:
    machine = vm(interfaces=[{"name": "eth0"}], ssh={"addresses": ["vpn/net"]})
    net = resource("VPN", "net", NET)
    facts = {(machine.ref, "ssh_host_key"): KEY}
    assert machine_kind(machine).answers(machine)
    with pytest.raises(NotYet) as waits:
        target(machine, world(machine, net, known=Known(facts=facts)))
    assert waits.value.reason == "NoAddress"
    known = Known(facts=facts, allocations={("VPN/net", f"address/{machine.name}"): "10.1.0.8"})
    assert target(machine, world(machine, net, known=known)).addresses == ("10.1.0.8",)


def test_what_is_no_way_is_refused_and_a_vpn_that_is_not_there() -> None:
    for wrong in ("vpn/", "vpn/Not a name", "ssh://alpha", ""):
        refused("Host", {"address": "192.0.2.1", "ssh": {"hostKeys": [KEY], "addresses": [wrong]}})
    machine = host(ssh={"hostKeys": [KEY], "addresses": ["192.0.2.3", "vpn/nte"]})
    assert any("nte" in problem for problem in problems(machine))
