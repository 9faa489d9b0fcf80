"""``VPNNode``: what is particular about one node of a VPN, or a node outside the fleet."""

from __future__ import annotations

from collections.abc import Iterator

from resources.base import Column, Kind, Problem, Reference, Resource
from resources.fleet import Fleet
from resources.vpn_checks import node_alone, nodes_together, outside_names
from resources.vpn_spec import VPNNodeSpec


class VPNNodeKind(Kind[VPNNodeSpec]):
    """Nodes of VPNs. They have no items of their own: their VPN has."""

    name = "VPNNode"
    plural = "vpnnodes"
    spec = VPNNodeSpec
    columns = (
        Column("VPN", ("spec", "vpn")),
        Column("MACHINE", ("spec", "machine")),
        Column("ADDRESS", ("spec", "address")),
        Column("ENDPOINT", ("spec", "endpoint"), wide=True),
        Column("SUBNETS", ("spec", "subnets"), wide=True),
    )

    def references(self, resource: Resource[VPNNodeSpec]) -> Iterator[Reference]:
        """Its VPN, and its machine if it has one."""
        yield Reference(("spec", "vpn"), ("VPN",), resource.spec.vpn)
        if resource.spec.machine is not None:
            yield Reference(("spec", "machine"), ("Host", "VirtualMachine"), resource.spec.machine)

    def check(self, resource: Resource[VPNNodeSpec], fleet: Fleet) -> Iterator[Problem]:
        """Contradictions, and what does not fit the VPN."""
        yield from node_alone(resource, fleet)

    def check_together(self, fleet: Fleet) -> Iterator[Problem]:
        """Two nodes with one machine, name, address or subnet; a node outside that is called as a machine."""
        yield from nodes_together(fleet)
        yield from outside_names(fleet)


KIND = VPNNodeKind()
