"""What can be wrong with VPNs and their nodes: in one manifest, and between several."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from resources.base import AnyResource, Path, Problem, Resource
from resources.fleet import Fleet
from resources.vpn_keys import no_key
from resources.vpn_nodes import Vpn, members, nodes, usable
from resources.vpn_spec import VPNNodeSpec
from resources.vpn_underlay import covered, devices, subnet_covers
from resources.world import Known, World


def alone(vpn: Vpn, fleet: Fleet) -> Iterator[Problem]:
    """Contradictions in a VPN, and hubs that nobody can reach."""
    yield from vpn.spec.members.problems(vpn.ref, ("spec", "members"))
    yield from vpn.spec.hubs.problems(vpn.ref, ("spec", "hubs"))
    network = ipaddress.ip_network(vpn.spec.cidr)
    if network.num_addresses < 4:
        yield Problem(vpn.ref, ("spec", "cidr"), f"{vpn.spec.cidr} has no room for two nodes; write a network")
    world = _world(fleet)
    yield from covered(vpn, world)
    yield from devices(vpn, fleet, world)
    for hub in (node for node in nodes(vpn, world) if node.hub and node.endpoint is None):
        what = f"{hub.name} is a hub, and no address is known at which others reach it"
        yield Problem(vpn.ref, ("spec", "hubs"), f"{what}; write a VPNNode for it, with spec.endpoint")


def _world(fleet: Fleet) -> World:
    """What is right in itself: of the rest it is not known whether it would be meant so."""
    return World(Fleet.of_resources(one for one in fleet if one.whole), Known())


def node_alone(node: Resource[VPNNodeSpec], fleet: Fleet) -> Iterator[Problem]:
    """Contradictions in a VPNNode, and what does not fit its VPN."""
    spec = node.spec
    if spec.machine is None and spec.public_key is None:
        yield Problem(node.ref, ("spec",), "write machine, or publicKey for a node outside the fleet")
    if spec.machine is not None and spec.public_key is not None:
        yield Problem(node.ref, ("spec", "publicKey"), "the machine makes its key by itself; write one of the two")
    vpn = fleet.get("VPN", spec.vpn)
    if vpn is None or not vpn.whole:
        return
    network = ipaddress.ip_network(vpn.spec.cidr)
    if spec.address is not None and not usable(spec.address, vpn.spec.cidr):
        message = f"{spec.address} is no address of a node in {vpn.spec.cidr}, the network of {vpn.ref}"
        yield Problem(node.ref, ("spec", "address"), message)
    for position, subnet in enumerate(spec.subnets):
        if ipaddress.ip_network(subnet).overlaps(network):
            message = f"{subnet} overlaps {vpn.spec.cidr}, in which all nodes are reached by themselves"
            yield Problem(node.ref, ("spec", "subnets", position), message)
    yield from subnet_covers(node, vpn, _world(fleet)) if spec.subnets else ()
    if spec.public_key is not None and (why := no_key(vpn.spec.driver, spec.public_key)):
        yield Problem(node.ref, ("spec", "publicKey"), why)


def together(fleet: Fleet) -> Iterator[Problem]:
    """VPNs that get in each other's way on a machine."""
    whole = [vpn for vpn in fleet.of("VPN") if vpn.whole]
    world = _world(fleet)
    machines = {vpn.name: {machine.name for machine in members(vpn, world)} for vpn in whole}
    for position, vpn in enumerate(whole):
        for other in whole[:position]:
            if both := sorted(machines[vpn.name] & machines[other.name]):
                for field, what in _clashes(vpn, other):
                    message = f"{what} of {other.ref}, which {both[0]} is in as well; choose another"
                    yield Problem(vpn.ref, ("spec", field), message)


def _clashes(vpn: AnyResource, other: AnyResource) -> Iterator[tuple[str, str]]:
    mine, theirs = vpn.spec, other.spec
    if mine.device(vpn.name) == theirs.device(other.name):
        yield "interface", f"{mine.device(vpn.name)} is the interface"
    if mine.listens_on == theirs.listens_on:
        yield "port", f"{mine.listens_on} is the port"
    if ipaddress.ip_network(mine.cidr).overlaps(ipaddress.ip_network(theirs.cidr)):
        yield "cidr", f"{mine.cidr} overlaps {theirs.cidr}, the network"


def nodes_together(fleet: Fleet) -> Iterator[Problem]:
    """Two nodes of a VPN with one machine, name or address; subnets behind two."""
    seen: dict[tuple[str, str, str], AnyResource] = {}
    for node in fleet.of("VPNNode"):
        if node.whole:
            for path, what, value in _claims(node):
                other = seen.setdefault((node.spec.vpn, what, value), node)
                if other is not node:
                    message = f"{value} is the {what} of {other.ref} already, in the same VPN"
                    yield Problem(node.ref, path, message)


def _claims(node: AnyResource) -> Iterator[tuple[Path, str, str]]:
    """What no other node of the VPN may have: (field, what it is, value)."""
    spec: VPNNodeSpec = node.spec
    yield (("spec", "machine") if spec.machine else ("metadata", "name")), "name", spec.machine or node.name
    if spec.address is not None:
        yield ("spec", "address"), "address", spec.address
    for position, subnet in enumerate(spec.subnets):
        yield ("spec", "subnets", position), "subnet", subnet


def outside_names(fleet: Fleet) -> Iterator[Problem]:
    """Nodes outside the fleet that are called as a machine in it."""
    for node in fleet.of("VPNNode"):
        if node.whole and node.spec.machine is None and fleet.machine(node.name) is not None:
            message = f"{node.name} is a machine of the fleet; write spec.machine, or call the node otherwise"
            yield Problem(node.ref, ("metadata", "name"), message)
