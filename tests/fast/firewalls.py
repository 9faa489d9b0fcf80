"""Random fleets with firewalls, for properties; and rule sets as the kernel and the evaluator are asked of them."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from resources.base import AnyResource
from resources.firewall_spec import RuleSpec
from resources.fleet import Fleet
from resources.world import Known
from tests.fast.manifests import firewall, host, resource, service, vm

NAMES = ("alpha", "beta", "gamma", "delta")
ROLES = ("web", "db", "none")
SERVICES = ("cassandra", "hub")
# A VPN may be where the machines are; of the others what comes out of its device can be told apart.
VPNS = ("10.0.0.0/29", "10.9.0.0/29", "fd09::/64")
CIDRS = (*VPNS, "10.0.0.0/30", "10.0.0.3", "0.0.0.0/0", "::/0", "fd00::/64", "fd00::3", "192.0.2.0/24")
PORTS = ("1", "2-4", "4", "5-8", "22", "65535")

ROLE = st.sampled_from(ROLES)
TARGETS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"selector": {}}),
    ROLE.map(lambda role: {"selector": {"matchLabels": {"role": role}}}),
    st.lists(st.sampled_from(NAMES[:2]), min_size=1, max_size=2, unique=True).map(lambda names: {"names": names}),
)
PEER: st.SearchStrategy[dict[str, Any]] = st.one_of(
    TARGETS.map(lambda targets: {"machines": targets}),
    st.sampled_from(SERVICES).map(lambda name: {"service": name}),
    st.sampled_from(CIDRS).map(lambda cidr: {"cidr": cidr}),
    st.just({"vpn": "net"}),
)
PEERS = st.lists(PEER, min_size=1, max_size=3)
DIRECTION = st.sampled_from(["allow", "deny"])


@st.composite
def rules(draw: st.DrawFn, peers: str) -> list[dict[str, Any]]:
    """A list of rules; ``peers`` is how their field is called."""
    found: list[dict[str, Any]] = []
    for number in range(draw(st.integers(0, 4))):
        rule: dict[str, Any] = {"name": f"r{number}", "action": draw(DIRECTION), "log": draw(st.booleans())}
        rule["protocol"] = draw(st.sampled_from(["tcp", "udp", "icmp", "any", None]))
        if rule["protocol"] not in {"icmp", "any"} and draw(st.booleans()):
            rule["ports"] = draw(st.lists(st.sampled_from(PORTS), min_size=1, max_size=3))
        if draw(st.booleans()):
            rule[peers] = draw(PEERS)
        found.append(rule)
    return found


@st.composite
def walls(draw: st.DrawFn, name: str) -> AnyResource:
    """A firewall."""
    spec: dict[str, Any] = {
        "machines": draw(TARGETS),
        "default": {"ingress": draw(DIRECTION), "egress": draw(DIRECTION)},
        "derive": draw(st.booleans()),
        "ingress": draw(rules("from")),
        "egress": draw(rules("to")),
    }
    if draw(st.booleans()):
        spec["ssh"] = draw(PEERS)
    return firewall(name, **spec)


@st.composite
def services(draw: st.DrawFn, name: str) -> AnyResource:
    """A service, with ports and clients or without."""
    numbers = draw(st.lists(st.integers(1, 9), max_size=2, unique=True))
    spec: dict[str, Any] = {"ports": [{"name": f"p{number}", "port": number} for number in numbers]}
    some = draw(st.none() | PEERS)
    if numbers and some:
        spec["clients"] = some
    return service(name, machines=draw(TARGETS), **spec)


@st.composite
def vpns(draw: st.DrawFn) -> AnyResource:
    """A VPN of some machines."""
    driver = draw(st.sampled_from(("tinc", "wireguard")))
    spec = {
        "driver": driver,
        "cidr": draw(st.sampled_from(VPNS)),
        "members": draw(TARGETS),
        "hubs": {"names": [NAMES[0]]},
    }
    return resource("VPN", "net", spec | {"port": draw(st.sampled_from([None, 4, 655]))})


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """Machines with one address of either version or both, services, a VPN, and up to three firewalls."""
    machines: list[AnyResource] = []
    for number, name in enumerate(NAMES, 1):
        labels = {"role": draw(ROLE)}
        four, six = f"10.0.0.{number}", f"fd00::{number}"
        nics = [{"name": "eth0", "address": f"{four}/24"}, {"name": "eth1", "address": f"{six}/64"}]
        kind = draw(st.sampled_from(("IPv4", "IPv6", "both")))
        if kind == "both":
            machines.append(vm(name, labels, interfaces=nics))
        else:
            machines.append(host(name, labels, address=four if kind == "IPv4" else six, hypervisor=None))
    some = [draw(walls(name)) for name in ("one", "three", "two")[: draw(st.integers(0, 3))]]
    others = [*(draw(services(name)) for name in SERVICES), draw(vpns())]
    return Fleet.of_resources([*machines, *others, *some])


def known(fleet: Fleet) -> Known:
    """The addresses in the VPN, where the machines' own are not in it."""
    (vpn,) = fleet.of("VPN")
    network = ipaddress.ip_network(vpn.spec.cidr)
    if network == ipaddress.ip_network(VPNS[0]):
        return Known()
    return Known({(vpn.ref, f"address/{name}"): str(network[number]) for number, name in enumerate(NAMES, 1)})


def without_icmp(fleet: Fleet) -> Fleet:
    """The same, but rules about ICMP are about everything."""

    def said(rules: tuple[RuleSpec, ...]) -> tuple[RuleSpec, ...]:
        return tuple(one.model_copy(update={"protocol": "any"}) if one.protocol == "icmp" else one for one in rules)

    def changed(one: AnyResource) -> AnyResource:
        if one.kind != "Firewall":
            return one
        rules = {"ingress": said(one.spec.ingress), "egress": said(one.spec.egress)}
        return replace(one, spec=one.spec.model_copy(update=rules))

    return Fleet.of_resources(map(changed, fleet))
