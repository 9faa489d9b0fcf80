"""``Firewall``: what is refused and where, what machines get, and whom a change concerns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.plan import Circumstances, Owned, plan
from controller.rests import Rest
from controller.view import View
from drivers.base import Absent, Change, Grade, Observation, Present, Verb, drift
from drivers.items.nft_table import NftTable
from drivers.items.package import Package
from drivers.items.rules import RuleSet
from drivers.items.ufw_rules import UfwRules
from resources.base import AnyResource
from resources.fleet import Fleet
from resources.world import Known, World
from tests.fast.manifests import KEY, firewall, host, problems, refused, resource, service, vm


def machine(name: str, address: str, role: str) -> AnyResource:
    return host(name, labels={"role": role}, address=address, hypervisor=None)


def selecting(role: str) -> dict[str, Any]:
    return {"machines": {"selector": {"matchLabels": {"role": role}}}}


def rule(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "x", **more}]


DB, WEB = machine("db", "10.0.0.1", "db"), machine("web", "10.0.0.2", "web")
WALL = firewall(**selecting("db"), ingress=rule(**{"from": [selecting("web")], "ports": [9042]}))


# What is refused.


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"ingress": rule(ports=["7001-7000"])}, "did you mean '7000-7001'?"),
        (
            {"ingress": rule(ports=[0])},
            "'0' is not a port or a range of ports from 1 to 65535, as in 9042",
        ),
        ({"ingress": rule(ports=[])}, "at least 1 item"),
        ({"ingress": rule(**{"from": []})}, "at least 1 item"),
        ({"ingress": rule(**{"from": [{"cidr": "10.1.1.2/24"}]})}, "did you mean '10.1.1.0/24'?"),
        ({"ingress": rule(**{"from": [{"cidr": "fe80::1%eth0"}]})}, "is not an address or a network"),
        ({"ingress": rule(**{"from": [{"cidr": "web.example.org"}]})}, "is not an address or a network"),
        ({"ingress": rule(**{"from": [{"cidr": "::ffff:10.0.0.1"}]})}, "that is of IPv4, write 10.0.0.1"),
        ({"ingress": rule(**{"from": [{"cidr": "::ffff:10.0.0.0/104"}]})}, "that is of IPv4, write 10.0.0.0/8"),
        ({"ingress": rule(name="n" * 33)}, "at most 32 characters"),
        ({"ingress": rule(name='x"; drop')}, "String should match pattern"),
        ({"ingress": rule(perMinute=0)}, "greater than or equal to 1"),
        ({"ssh": []}, "at least 1 item"),
        ({"backend": "iptables"}, "'nftables' or 'ufw'"),
        ({"tests": ["web talks to db"]}, "is no test: write SUBJECT [never] reaches SUBJECT[:PORT[/udp]]"),
        ({"tests": ["web reaches db:70000"]}, "70000 is no port"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_is_allowed(wrong: dict[str, Any], sentence: str) -> None:
    assert sentence in refused("Firewall", {"machines": {"selector": {}}, **wrong})


@pytest.mark.parametrize(
    ("wrong", "place", "sentence"),
    [
        ({"ingress": rule(ports=[1], protocol="icmp")}, "spec.ingress.0.ports", "ports are those of tcp and udp"),
        ({"egress": rule(ports=[1], protocol="any")}, "spec.egress.0.ports", "protocol is any"),
        ({"ingress": rule(action="deny", perMinute=5)}, "spec.ingress.0.perMinute", "is of use where action is allow"),
        ({"backend": "ufw", "ingress": rule(protocol="icmp")}, "spec.ingress.0.protocol", "set spec.backend: nftables"),
        ({"backend": "ufw", "egress": rule(perMinute=5)}, "spec.egress.0.perMinute", "ufw has no such rate"),
        ({"egress": rule() + rule()}, "spec.egress.1.name", "'x' is there already"),
        ({"egress": rule(to=[{}])}, "spec.egress.0.to.0", "write one of machines, service, vpn and cidr"),
        ({"ssh": [{"cidr": "10.0.0.0/8", "vpn": "net"}]}, "spec.ssh.0", "write one of machines, service, vpn and cidr"),
        ({"ssh": [{"vpn": "nett"}]}, "spec.ssh.0.vpn", "there is no VPN named 'nett'; did you mean 'net'?"),
        ({"ssh": [{"service": "hubb"}]}, "spec.ssh.0.service", "there is no Service named 'hubb'; did you mean 'hub'?"),
        ({"ssh": [{"machines": {"names": ["db2"]}}]}, "spec.ssh.0.machines.names.0", "did you mean 'db'?"),
        ({"ssh": [{"machines": {}}]}, "spec.ssh.0.machines", "write either names or selector"),
        (
            {"ingress": rule(**{"from": [{"service": "hub"}]})},
            "spec.ingress.0.from.0",
            "no IP address of VirtualMachine/dynamic",
        ),
        ({"machines": {"names": ["nobody"]}}, "spec.machines.names.0", "there is no Host or VirtualMachine"),
    ],
)
def test_what_is_wrong_among_others_is_told_at_its_place(wrong: dict[str, Any], place: str, sentence: str) -> None:
    hub = service("hub", machines={"names": ["named", "dynamic"]})
    named = host("named", address="named.example.org")
    dynamic = vm("dynamic", interfaces=[{"name": "eth0", "dhcp": True}])
    spec = {"driver": "tinc", "cidr": "10.9.0.0/16", "members": {"names": ["db"]}, "hubs": {"names": ["db"]}}
    net = resource("VPN", "net", spec)
    found = [one for one in problems(DB, hub, named, dynamic, net, firewall(**wrong)) if "no Image" not in one]
    assert len(found) == 1
    assert found[0].startswith(f"Firewall/wall {place}: ")
    assert sentence in found[0]


def test_all_firewalls_of_a_machine_have_the_same_backend() -> None:
    both = firewall("all", backend="ufw"), firewall("more", backend="ufw")
    assert problems(WEB, *both, WALL) == []
    [found] = problems(WEB, DB, *both, WALL)
    assert found.startswith(
        "Firewall/wall spec.backend: is nftables, and Firewall/all, which selects Host/db too, has ufw;"
    )


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"clients": [{"cidr": "10.0.0.0/8"}]}, "spec.clients"),
        ({"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 1}]}, "spec.ports.1.port"),
        ({"ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]}, "spec.ports.1.name"),
        ({"ports": [{"name": "a", "port": 1}], "clients": [{}]}, "spec.clients.0"),
        ({"ports": [{"name": "a", "port": 1}], "clients": [{"service": "none"}]}, "spec.clients.0.service"),
    ],
)
def test_ports_and_clients_of_services_are_checked_too(wrong: dict[str, Any], place: str) -> None:
    (found,) = problems(service(**wrong))
    assert found.startswith(f"Service/hub {place}: ")


# What machines get.


def updated(view: View, *fleet: AnyResource, touched: set[str] | None = None) -> frozenset[str]:
    at = Fleet.of_resources(fleet)
    return view.update(at, Known(), {f"resource/{one.ref}" for one in at} if touched is None else touched)


def rules(view: View, name: str) -> RuleSet:
    (found,) = (wanted.item for wanted in view.lowered(name).wanted if isinstance(wanted.item, NftTable))
    return found.rules


def test_all_firewalls_of_a_machine_want_the_same_item_after_its_tool() -> None:
    view = View()
    updated(view, DB, WEB, WALL, firewall("all"))
    lowered = view.lowered("db")
    assert lowered.waiting == {}
    (table,) = (wanted for wanted in lowered.wanted if isinstance(wanted.item, NftTable))
    assert table.producers == ("Firewall/all", "Firewall/wall")
    assert table.after == (Package("nftables").key,)
    (other,) = (wanted for wanted in view.lowered("web").wanted if isinstance(wanted.item, NftTable))
    assert other.producers == ("Firewall/all",)


def test_with_ufw_it_is_another_item_of_the_same_rules_and_the_old_one_goes_after_it() -> None:
    view = View()
    updated(view, DB, WEB, WALL)
    before = rules(view, "db")
    other = firewall(**selecting("db"), backend="ufw", ingress=rule(**{"from": [selecting("web")], "ports": [9042]}))
    updated(view, DB, WEB, other)
    found = view.lowered("db")
    tool, item = (wanted.item for wanted in found.wanted)
    assert (tool, item) == (Package("ufw"), UfwRules(before))
    old = Owned(NftTable(before), "Firewall/wall", True)
    at = {one.key: Observation(state, 0, "shell") for one, state in ((tool, Absent()), (item, Absent()))}
    at[old.key] = Observation(Present(old.item.fields()), 0, "shell")
    waits = plan(found, at, [old], Circumstances(0))
    assert [change.item.key for change in waits.changes] == [tool.key]
    its_turn = replace(found, wanted=tuple(replace(wanted, gate=None) for wanted in found.wanted))
    made = plan(its_turn, at, [old], Circumstances(0))
    assert [change.item.key for change in made.changes] == [tool.key, item.key, old.key]
    assert set(made.changes[-1].after) == {tool.key, item.key}
    rest = {item.key: Rest(made.changes[1], "Failed", "it said no", 9)}
    assert [change.item.key for change in plan(its_turn, at, [old], Circumstances(0, rests=rest)).changes] == [tool.key]


def test_a_new_node_is_let_in_by_the_old_ones_in_the_same_sync_and_by_nobody_else() -> None:
    view = View()
    elsewhere = machine("elsewhere", "10.0.0.7", "")
    updated(view, DB, WEB, WALL, elsewhere)
    assert [group.networks for group in rules(view, "db").groups] == [("10.0.0.2/32",)]
    view.lowered("elsewhere")
    old = NftTable(rules(view, "db")).fields()
    new = machine("web2", "10.0.0.3", "web")
    touched = {"resource/Host/web2", "kind/Host"}
    assert updated(view, DB, WEB, WALL, elsewhere, new, touched=touched) == {"db", "web2"}
    before, after = rules(view, "db"), [group.networks for group in rules(view, "db").groups]
    table = NftTable(rules(view, "db"))
    assert not table.perilous(Change(table, Verb.UPDATE, drift(table.fields(), old), Grade.LIVE)), "a member more"
    assert after == [("10.0.0.2/32", "10.0.0.3/32")]
    assert updated(view, DB, WEB, WALL, elsewhere, touched=touched) == {"db", "web2"}
    assert rules(view, "db").ingress == before.ingress
    assert [group.networks for group in rules(view, "db").groups] == [("10.0.0.2/32",)]


def test_who_is_reached_over_a_machine_concerns_it_and_nobody_else() -> None:
    view = View()
    both = firewall("all", default={"egress": "deny"})
    behind = host("behind", address="10.0.0.9", ssh={"hostKeys": [KEY], "via": "db"}, hypervisor=None)
    updated(view, DB, WEB, both)
    assert (len(rules(view, "db").egress), len(rules(view, "web").egress)) == (0, 0)
    touched = {"resource/Host/behind", "kind/Host"}
    assert updated(view, DB, WEB, both, behind, touched=touched) == {"db", "behind"}
    assert len(rules(view, "db").egress) == 1
    assert updated(view, DB, WEB, both, touched=touched) == {"db", "behind"}
    assert len(rules(view, "db").egress) == 0


def test_another_firewall_or_service_of_the_machine_changes_its_rules() -> None:
    view = View()
    updated(view, DB, WEB, WALL)
    count = len(rules(view, "db").ingress)
    more = firewall("more", machines={"names": ["db"]}, ingress=rule())
    assert "db" in updated(view, DB, WEB, WALL, more, touched={"resource/Firewall/more", "kind/Firewall"})
    assert len(rules(view, "db").ingress) == count + 1
    hub = service("hub", machines={"names": ["db"]}, ports=[{"name": "a", "port": 1}], clients=[selecting("web")])
    touched = {"resource/Service/hub", "kind/Service"}
    assert "db" in updated(view, DB, WEB, WALL, more, hub, touched=touched)
    assert len(rules(view, "db").ingress) == count + 2


def test_in_one_world_things_are_worked_out_once() -> None:
    world = World(Fleet(), Known())
    made = [world.once("a", lambda: world.get("Host", "x")), world.once("b", list), world.once("b", lambda: [1])]
    assert made == [None, [], []]
    assert world.reads == {"resource/Host/x"}
    with pytest.raises(ZeroDivisionError):
        world.once("c", lambda: 1 // 0)
    assert world.once("c", lambda: 3) == 3


def test_a_machine_without_firewalls_gets_no_table() -> None:
    view = View()
    updated(view, DB, WEB, WALL)
    assert not [one for one in view.lowered("web").wanted if isinstance(one.item, NftTable)]
