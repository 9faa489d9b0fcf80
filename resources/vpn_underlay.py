"""Whether a VPN gets in the way of the networks that carry it: addresses, names and devices that are there. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from resources.base import Problem, Resource
from resources.fleet import Fleet, machine_kind
from resources.net import Network, is_address
from resources.vpn_nodes import Vpn, endpoints, members, nodes
from resources.vpn_spec import VPNNodeSpec
from resources.world import World


def under(vpn: Vpn, world: World) -> tuple[str, ...]:
    """Addresses and DNS names at which its nodes are reached without it: endpoints, and those of its machines."""
    found = dict.fromkeys(address for address, _ in endpoints(vpn, world))
    for machine in members(vpn, world):
        kind = machine_kind(machine)
        found |= dict.fromkeys((*filter(None, [kind.address(machine)]), *kind.addresses(machine)))
    return tuple(found)


def covered(vpn: Vpn, world: World) -> Iterator[Problem]:
    """Addresses in its network, and names that its ``/etc/hosts`` would lead into it."""
    reached = under(vpn, world)
    if inside := _inside(ipaddress.ip_network(vpn.spec.cidr), reached):
        what = f"{inside}, at which a node is reached without the VPN, is in {vpn.spec.cidr}"
        yield Problem(vpn.ref, ("spec", "cidr"), f"{what}; choose a network that is used nowhere else")
    names = {name.lower() for node in nodes(vpn, world) for name in (*node.aliases, node.name)}
    if "localhost" in names:
        yield Problem(vpn.ref, ("spec", "members"), "a node cannot be called localhost: that is every machine itself")
    for name in sorted(names.intersection(reached) - {"localhost"}):
        what = f"{name} is where a node is reached without the VPN, and a name in it, which leads into the VPN"
        message = f"{what}; write the IP address or the full DNS name as the address, or call the node otherwise"
        yield Problem(vpn.ref, ("spec", "members"), message)


def subnet_covers(node: Resource[VPNNodeSpec], vpn: Vpn, world: World) -> Iterator[Problem]:
    """Subnets that would lead the connections that carry the VPN, or all there are, into it."""
    reached = under(vpn, world)
    for position, subnet in enumerate(node.spec.subnets):
        network = ipaddress.ip_network(subnet)
        if network.prefixlen == 0:
            message = f"{subnet} is everything, so also what carries the VPN; name the networks behind the node"
            yield Problem(node.ref, ("spec", "subnets", position), message)
        elif inside := _inside(network, reached):
            message = f"{inside}, at which a node of {vpn.ref} is reached without it, is in {subnet}"
            yield Problem(node.ref, ("spec", "subnets", position), f"{message}; leave it out")


def devices(vpn: Vpn, fleet: Fleet, world: World) -> Iterator[Problem]:
    """A device of one of its machines that is there for something else: a bridge of guests, or an interface."""
    mine = vpn.spec.device(vpn.name)
    nics = {vm.name: vm.spec.interfaces for vm in fleet.of("VirtualMachine") if vm.whole}
    bridges = {nic.bridge for several in nics.values() for nic in several}
    for machine in members(vpn, world):
        if machine.kind == "Host":
            here = machine.spec.hypervisor
            taken = here is not None and mine in {here.bridge, *bridges}
        else:
            taken = mine in {nic.name for nic in nics.get(machine.name, ())}
        if taken:
            message = f"{mine} is a bridge or an interface of {machine.ref}; choose another name"
            yield Problem(vpn.ref, ("spec", "interface"), message)
            return


def _inside(network: Network, reached: tuple[str, ...]) -> str:
    """The first that is in the network; of DNS names nobody knows yet where they will lead."""
    return next((one for one in reached if is_address(one) and ipaddress.ip_address(one) in network), "")
