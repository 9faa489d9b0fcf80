"""What can be wrong with virtual machines: in one manifest, and between several."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from resources.base import AnyResource, Path, Problem, Resource
from resources.fleet import Fleet
from resources.net import network_of, without_prefix
from resources.quantity import format_bytes
from resources.vm_spec import Interface, VirtualMachineSpec

_LEAST_MEMORY = 64 * 2**20
_LEAST_DISK = 2**20

# A field that is wrong, and why.
Finding = tuple[Path, str]


def alone(resource: Resource[VirtualMachineSpec], fleet: Fleet) -> Iterator[Problem]:
    """Contradictions in one manifest, and a host that cannot run it."""
    spec = resource.spec
    for path, message in (*_sizes(spec), *_placement(spec, fleet), *_interfaces(spec)):
        yield Problem(resource.ref, ("spec", *path), message)


def _sizes(spec: VirtualMachineSpec) -> Iterator[Finding]:
    if spec.cpu_max is not None and spec.cpu_max < spec.cpu:
        yield ("cpuMax",), f"is less than spec.cpu, {spec.cpu}; write at least that, or leave it out"
    if spec.memory < _LEAST_MEMORY:
        yield ("memory",), f"no machine boots with {format_bytes(spec.memory)}; write at least 64Mi"
    if spec.memory_max is not None and spec.memory_max < spec.memory:
        least = format_bytes(spec.memory)
        yield ("memoryMax",), f"is less than spec.memory, {least}; write at least that, or leave it out"
    if spec.root_disk.size < _LEAST_DISK:
        yield ("rootDisk", "size"), "is less than 1Mi; write the size of the whole disk, as in 20Gi"


def _placement(spec: VirtualMachineSpec, fleet: Fleet) -> Iterator[Finding]:
    name = spec.placement.host
    if name is None:
        return
    if spec.placement.selector is not None:
        yield ("placement", "selector"), "spec.placement.host is written too; write one of them"
    host = fleet.get("Host", name)
    if host is not None and host.whole and host.spec.hypervisor is None:
        yield ("placement", "host"), f"{host.ref} is no hypervisor; add spec.hypervisor to it, or choose another"


def _interfaces(spec: VirtualMachineSpec) -> Iterator[Finding]:
    seen: set[str] = set()
    routers: dict[bool, str] = {}
    for position, nic in enumerate(spec.interfaces):
        path: Path = ("interfaces", position)
        if nic.name in seen:
            yield (*path, "name"), f"{nic.name!r} is there twice; every interface has a name of its own"
        seen.add(nic.name)
        for field, message in _interface(nic):
            yield (*path, field), message
        if nic.gateway is not None:
            other = routers.setdefault(":" in nic.gateway, nic.name)
            if other != nic.name:
                yield (*path, "gateway"), f"{other} has a gateway already; a machine has one way out"


def _interface(nic: Interface) -> Iterator[tuple[str, str]]:
    if nic.address is not None and nic.dhcp:
        yield "dhcp", "the interface has an address too; write one of them"
    if nic.gateway is None:
        return
    if nic.address is None:
        yield "gateway", "needs a static address; with dhcp the router is told by the server"
    elif ipaddress.ip_address(nic.gateway) not in network_of(nic.address):
        yield "gateway", f"{nic.gateway} is not in the network of the address, {network_of(nic.address)}"
    elif nic.gateway == without_prefix(nic.address):
        yield "gateway", "is the machine's own address; write the router's"


def together(fleet: Fleet) -> Iterator[Problem]:
    """Two machines with one address or one MAC."""
    addresses = {str(host.spec.address): host for host in fleet.of("Host")}
    macs: dict[str, AnyResource] = {}
    for vm in fleet.of("VirtualMachine"):
        for position, nic in enumerate(vm.spec.interfaces):
            path: Path = ("spec", "interfaces", position)
            if nic.address is not None:
                address = without_prefix(nic.address)
                yield from _claim(addresses, address, vm, (*path, "address"), f"the address {address}")
            if nic.mac is not None:
                yield from _claim(macs, nic.mac, vm, (*path, "mac"), f"the MAC address {nic.mac}")


def _claim(taken: dict[str, AnyResource], value: str, vm: AnyResource, path: Path, what: str) -> Iterator[Problem]:
    if value in taken:
        who = "this machine" if taken[value] is vm else taken[value].ref
        yield Problem(vm.ref, path, f"{who} has {what} already; every interface has its own")
    else:
        taken[value] = vm
