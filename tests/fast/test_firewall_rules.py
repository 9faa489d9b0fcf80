"""From Firewalls, Services and machines to the rules of one machine."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.items.rules import Action, Group, Ports, Protocol, Rule, RuleSet
from resources.base import AnyResource
from resources.firewall_rules import filter_of
from resources.fleet import Fleet
from resources.world import Known, World
from tests.fast.manifests import firewall, host, resource, service, vm

ALLOW, DENY = Action.ALLOW, Action.DENY
TCP, UDP, ANY = Protocol.TCP, Protocol.UDP, Protocol.ANY
SSH = Rule(ALLOW, "Host/db spec.ssh", "", TCP, (Ports(22, 22),))
CQL = {"name": "cql", "port": 9042}


def machine(name: str, address: str, role: str = "", **spec: Any) -> AnyResource:
    return host(name, labels={"role": role}, address=address, hypervisor=None, **spec)


def rules(*resources: AnyResource, of: str = "db") -> RuleSet:
    """The rules of a machine."""
    fleet = Fleet.of_resources(resources)
    found = fleet.machine(of)
    assert found is not None
    made = filter_of(found, World(fleet, Known()))
    assert made is not None
    return made.rules


DB = machine("db", "10.0.0.1", "db")
WEB = machine("web", "10.0.0.2", "web")


def test_nothing_is_filtered_where_no_firewall_is() -> None:
    elsewhere = firewall(machines={"names": ["web"]})
    assert filter_of(DB, World(Fleet.of_resources([DB, WEB, elsewhere]), Known())) is None


def test_by_default_only_ssh_comes_in_and_everything_goes_out() -> None:
    assert rules(DB, firewall()) == RuleSet(ingress=(SSH,))


def test_ssh_is_at_the_port_where_the_machine_listens_and_from_where_it_is_said() -> None:
    db = machine("db", "10.0.0.1", ssh={"port": 2222, "hostKeys": DB.spec.ssh.host_keys})
    found = rules(db, firewall(derive=False, ssh=[{"cidr": "10.9.0.1"}]))
    assert found.ingress == (Rule(ALLOW, "Firewall/wall spec.ssh", "ssh.wall", TCP, (Ports(2222, 2222),)),)
    assert found.groups == (Group("ssh.wall", ("10.9.0.1/32",)),)


def test_ssh_comes_in_from_all_that_any_firewall_names_and_one_without_a_word_adds_nobody() -> None:
    two = [firewall(name, ssh=[{"cidr": cidr}]) for name, cidr in (("a", "10.1.0.0/16"), ("b", "10.2.0.0/16"))]
    found = rules(DB, *two, firewall("c"))
    assert [rule.why for rule in found.ingress] == ["Firewall/a spec.ssh", "Firewall/b spec.ssh"]


def test_all_that_a_rule_can_say() -> None:
    wall = firewall(
        ingress=[
            {
                "name": "cql",
                "from": [{"machines": {"selector": {"matchLabels": {"role": "web"}}}}, {"cidr": "10.0.0.3"}],
                "ports": [9042, "7001-7005", "7000"],
                "protocol": "udp",
                "perMinute": 30,
                "log": True,
            },
            {"name": "rest", "action": "deny"},
        ],
        egress=[{"name": "dns", "to": [{"cidr": "fd00::/8"}, {"cidr": "10.0.0.53"}], "ports": [53]}],
    )
    found = rules(DB, WEB, wall)
    ports = (Ports(7000, 7005), Ports(9042, 9042))
    cql = Rule(ALLOW, "Firewall/wall spec.ingress[cql]", "ingress.wall.cql", UDP, ports, per_minute=30, log=True)
    assert found.ingress == (SSH, cql, Rule(DENY, "Firewall/wall spec.ingress[rest]"))
    dns = Rule(ALLOW, "Firewall/wall spec.egress[dns]", "egress.wall.dns", TCP, (Ports(53, 53),))
    assert found.egress == (dns,)
    assert found.groups == (
        Group("ingress.wall.cql", ("10.0.0.2/32", "10.0.0.3/32")),
        Group("egress.wall.dns", ("10.0.0.53/32", "fd00::/8")),
    )


@pytest.mark.parametrize(
    ("written", "protocol"), [({}, ANY), ({"ports": [1]}, TCP), ({"protocol": "icmp"}, Protocol.ICMP)]
)
def test_the_protocol_is_tcp_where_ports_are_written(written: dict[str, Any], protocol: Protocol) -> None:
    assert rules(DB, firewall(ingress=[{"name": "x", **written}])).ingress[1].protocol is protocol


def test_all_addresses_of_both_versions_are_everybody() -> None:
    both = [{"cidr": "::/0"}, {"cidr": "0.0.0.0/0"}]
    found = rules(DB, firewall(ingress=[{"name": "x", "from": both}, {"name": "y", "from": both[:1]}]))
    assert [rule.peers for rule in found.ingress[1:]] == ["", "ingress.wall.y"]
    assert found.groups == (Group("ingress.wall.y", ("::/0",)),)


def test_a_selector_that_selects_nobody_lets_nobody_in() -> None:
    nobody = [{"machines": {"selector": {"matchLabels": {"role": "none"}}}}]
    found = rules(DB, firewall(ingress=[{"name": "x", "from": nobody}]))
    assert found.ingress[1].peers == "ingress.wall.x"
    assert found.groups == (Group("ingress.wall.x", ()),)


def test_rules_about_peers_that_are_written_alike_share_a_group() -> None:
    """So that it is one element that a member more adds. Peers that only have the same addresses today stay apart."""
    role = [{"machines": {"selector": {"matchLabels": {"role": "web"}}}}]
    written = [("x", role), ("y", [{"cidr": "10.0.0.2"}]), ("z", role)]
    found = rules(DB, WEB, firewall(ingress=[{"name": name, "from": peers} for name, peers in written]))
    assert [rule.peers for rule in found.ingress[1:]] == [f"ingress.wall.{name}" for name in "xyx"]
    assert found.groups == tuple(Group(f"ingress.wall.{name}", ("10.0.0.2/32",)) for name in "xy")


def test_all_static_addresses_of_a_virtual_machine_are_its_own() -> None:
    nics = [{"name": "eth0", "address": "10.0.0.8/24"}, {"name": "eth1", "address": "fd00::8/64"}]
    guest = vm("web01", interfaces=[*nics, {"name": "eth2", "dhcp": True}])
    found = rules(DB, guest, firewall(ingress=[{"name": "x", "from": [{"machines": {"names": ["web01"]}}]}]))
    assert found.groups == (Group("ingress.wall.x", ("10.0.0.8/32", "fd00::8/128")),)


def test_firewalls_stand_by_name_and_one_that_denies_is_enough() -> None:
    rule = [{"name": "x", "ports": [1]}]
    a = firewall("a", default={"ingress": "allow", "egress": "allow"}, ingress=rule)
    b = firewall("b", default={"ingress": "deny", "egress": "deny"}, ingress=rule)
    found = rules(DB, b, a)
    assert [rule.why for rule in found.ingress[1:]] == ["Firewall/a spec.ingress[x]", "Firewall/b spec.ingress[x]"]
    assert (found.default_ingress, found.default_egress) == (DENY, DENY)
    assert rules(DB, a).default_ingress is ALLOW


# What is derived.

CASSANDRA = service(
    "cassandra",
    machines={"names": ["db"]},
    ports=[CQL, {"name": "gossip", "port": 7000, "protocol": "udp"}],
    clients=[{"service": "hub"}, {"service": "cassandra"}],
)
HUB = service("hub", machines={"names": ["web"]})


def test_the_ports_of_services_are_open_to_their_clients() -> None:
    found = rules(DB, WEB, CASSANDRA, HUB, firewall())
    why = "Service/cassandra spec.ports[{}]"
    assert found.ingress == (
        SSH,
        Rule(ALLOW, why.format("cql"), "clients.cassandra", TCP, (Ports(9042, 9042),)),
        Rule(ALLOW, why.format("gossip"), "clients.cassandra", UDP, (Ports(7000, 7000),)),
    )
    assert found.groups == (Group("clients.cassandra", ("10.0.0.1/32", "10.0.0.2/32")),)
    assert rules(DB, WEB, CASSANDRA, HUB, firewall(), of="web").ingress[1:] == ()


def test_what_is_written_goes_before_what_is_derived() -> None:
    found = rules(DB, WEB, CASSANDRA, HUB, firewall(ingress=[{"name": "x", "ports": [9042], "action": "deny"}]))
    assert [rule.action for rule in found.ingress] == [ALLOW, DENY, ALLOW, ALLOW]


def test_nothing_is_derived_for_services_without_clients_nor_where_no_firewall_says_so() -> None:
    alone = service("hub", machines={"names": ["db"]}, ports=[CQL])
    assert rules(DB, alone, firewall()).ingress == (SSH,)
    assert rules(DB, WEB, CASSANDRA, HUB, firewall(derive=False)).ingress == (SSH,)
    assert len(rules(DB, WEB, CASSANDRA, HUB, firewall(derive=False), firewall("z")).ingress) == 3


def test_who_may_go_nowhere_gets_to_the_services_that_it_uses() -> None:
    fleet = [DB, WEB, CASSANDRA, HUB]
    closed = firewall(default={"egress": "deny"})
    found = rules(*fleet, closed, of="web")
    assert [rule.why for rule in found.egress] == [f"Service/cassandra spec.ports[{n}]" for n in ("cql", "gossip")]
    assert found.groups == (Group("service.cassandra", ("10.0.0.1/32",)),)
    assert rules(*fleet, firewall(), of="web").egress == ()
    assert rules(*fleet, firewall(default={"egress": "deny"}, derive=False), of="web").egress == ()


def test_also_by_an_address_in_a_network() -> None:
    cassandra = service("cassandra", machines={"names": ["db"]}, ports=[CQL], clients=[{"cidr": "10.0.0.2/31"}])
    closed = firewall(default={"egress": "deny"})
    assert len(rules(DB, WEB, cassandra, closed, of="web").egress) == 1
    assert rules(DB, WEB, cassandra, closed, of="db").egress == ()


@pytest.mark.parametrize("default", ["allow", "deny"])
def test_over_a_machine_that_others_are_reached_by_the_controller_gets_to_them_whatever_is_written(
    default: str,
) -> None:
    keys = DB.spec.ssh.host_keys
    behind = machine("behind", "10.0.0.9", ssh={"via": "db", "port": 2222, "addresses": ["10.0.1.9"], "hostKeys": keys})
    named = machine("named", "named.example.org", ssh={"via": "db", "hostKeys": keys})
    none = [{"name": "none", "ports": [22, 2222], "action": "deny"}]
    found = rules(DB, behind, named, firewall(default={"egress": default}, derive=False, egress=none))
    assert found.egress[:2] == (
        Rule(ALLOW, "Host/behind spec.ssh.via", "via.behind", TCP, (Ports(2222, 2222),)),
        Rule(ALLOW, "Host/named spec.ssh.via", "", TCP, (Ports(22, 22),)),
    )
    assert [rule.why for rule in found.egress[2:]] == ["Firewall/wall spec.egress[none]"]
    assert found.groups == (Group("via.behind", ("10.0.0.9/32", "10.0.1.9/32")),)


def test_reasons_fit_into_a_comment() -> None:
    long = "n" * 63
    names = {"name": "r" * 32, "ports": [1]}
    wall = firewall(long, ingress=[names], egress=[names])
    busy = resource(
        "Service",
        long,
        {"machines": {"selector": {}}, "ports": [{"name": "p" * 15, "port": 1}], "clients": [{"cidr": "10.0.0.0/8"}]},
    )
    found = rules(machine(long, "10.0.0.1"), wall, busy, of=long)
    assert len(found.ingress) == 3
    assert max(len(rule.why.encode()) for rule in (*found.ingress, *found.egress)) <= 128
