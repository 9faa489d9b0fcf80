"""``VirtualMachine``: a machine that salvus makes on a hypervisor host and keeps as written."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.base import Grade, SshTarget
from drivers.items.domain import Domain
from resources.base import (
    AnyResource,
    Choice,
    Column,
    Invalid,
    MachineKind,
    NotYet,
    Placed,
    Problem,
    Reference,
    Resource,
    Selector,
)
from resources.fleet import Fleet
from resources.net import without_prefix
from resources.ssh import ssh_references, via_circle
from resources.vm_checks import alone, together
from resources.vm_spec import Placement, VirtualMachineSpec
from resources.ways import ways
from resources.world import World

Vm = Resource[VirtualMachineSpec]

# RFC 1123: a label has at most 63 characters.
_LONGEST_NAME = 63


class VirtualMachineKind(MachineKind[VirtualMachineSpec]):
    """Virtual machines."""

    name = "VirtualMachine"
    plural = "virtualmachines"
    short = ("vm", "vms")
    spec = VirtualMachineSpec
    columns = (
        Column("HOST", ("status", "allocations", "host")),
        Column("STATE", ("status", "states")),
        Column("ADDRESS", ("spec", "interfaces", 0, "address")),
        Column("CPU", ("spec", "cpu"), wide=True),
        Column("MEMORY", ("spec", "memory"), wide=True),
        Column("IMAGE", ("spec", "image"), wide=True),
        Column("RUN", ("spec", "runStrategy"), wide=True),
    )

    def references(self, resource: Vm) -> Iterator[Reference]:
        """The image, the host if one is named, and the machine to jump over."""
        spec = resource.spec
        yield Reference(("spec", "image"), ("Image",), spec.image)
        if spec.placement.host is not None:
            yield Reference(("spec", "placement", "host"), ("Host",), spec.placement.host)
        yield from ssh_references(spec.ssh, ("Host", "VirtualMachine"))

    def check(self, resource: Vm, fleet: Fleet) -> Iterator[Problem]:
        """Contradictions, a host that runs no machines."""
        yield from alone(resource, fleet)

    def check_together(self, fleet: Fleet) -> Iterator[Problem]:
        """Two machines with one address or MAC, jumps in a circle."""
        yield from together(fleet)
        for vm in fleet.of("VirtualMachine"):
            yield from via_circle(vm, fleet)

    def choices(self, resource: Vm, world: World) -> Iterator[Choice]:
        """Its host, and its name there, which stays when the resource is renamed."""
        none = "no Host fits: it needs spec.hypervisor and schedulable: true, and the labels of spec.placement.selector"
        taken = "its name, and each with -2 to -9 behind it, is still that of a machine that was renamed"
        yield Choice("host", _hosts(resource, world), why_none=none)
        yield Choice("instance", _names(resource.name), exclusive=True, why_none=taken)

    def machines(self, resource: Vm, world: World) -> Iterator[str]:
        """Its host."""
        yield world.allocation(resource.ref, "host")

    def runs_as(self, resource: Vm, machine: str, world: World) -> str:
        """Its domain, on its host; on itself it runs nothing."""
        instance = _decided(resource, "instance", world)
        return f"{Domain.type()}:{instance}" if instance and machine == _decided(resource, "host", world) else ""

    def items(self, resource: Vm, machine: str, world: World) -> Iterator[Placed]:
        """Its image, disk, host key, seed and domain, on its host."""
        host = world.get("Host", machine)
        if host is None:
            raise Invalid(f"its host {machine} is not in the manifests any more; write it there again")
        image = world.get("Image", resource.spec.image)
        if image is None:
            raise Invalid(f"its Image {resource.spec.image} is not in the manifests any more")
        from resources.vm_items import making, placed  # here, because who only reads the store lowers nothing

        yield from placed(making(resource, host, image, world), host.ref)

    def ceiling(self, resource: Vm) -> Grade:
        """``spec.disruption.ceiling``."""
        return resource.spec.disruption.grade

    def target(self, resource: Vm, world: World) -> SshTarget:
        """By ``spec.ssh.addresses`` or its first static address, and the host key that was made with it.

        Raises NotYet while the key is not made, and for a machine that is to be off or has no static address.
        """
        spec = resource.spec
        if spec.run_strategy == "Halted":
            raise NotYet("Halted", f"{resource.ref} is off, as spec.runStrategy says")
        addresses = ways(resource, self.address(resource), world)
        if not addresses:
            raise NotYet("NoAddress", f"{resource.ref} has no static address; write one in spec.interfaces")
        host_key = world.fact(resource.ref, "ssh_host_key")
        return spec.ssh.target(addresses, spec.ssh.user or spec.cloud_init.user, (host_key,))

    def answers(self, resource: Vm) -> bool:
        """Whether it is to run, and can be reached."""
        reached = self.address(resource) is not None or bool(resource.spec.ssh.addresses)
        return resource.spec.run_strategy == "Always" and reached

    def address(self, resource: Vm) -> str | None:
        """Its first static address."""
        return next(iter(self.addresses(resource)), None)

    def addresses(self, resource: Vm) -> tuple[str, ...]:
        """Its static addresses."""
        return tuple(without_prefix(nic.address) for nic in resource.spec.interfaces if nic.address)


def _hosts(resource: Vm, world: World) -> tuple[str, ...]:
    """The hosts that it may be on. One that takes no new machines keeps those that it has.

    Where it is, if it may be there, is all of the answer: what stays needs no other hosts looked at.
    """
    placement = resource.spec.placement
    here = world.get("Host", _decided(resource, "host", world))
    if here is not None and _fits(here, placement):
        return (here.name,)
    if placement.host is not None:
        named = world.get("Host", placement.host)
        return (named.name,) if named is not None and _fits(named, placement) else ()
    hosts = world.select("Host", placement.selector or Selector())
    return tuple(host.name for host in hosts if host.spec.schedulable and _fits(host, placement))


def _decided(resource: AnyResource, what: str, world: World) -> str:
    try:
        return world.allocation(resource.ref, what)
    except NotYet:
        return ""


def _fits(host: AnyResource, placement: Placement) -> bool:
    chosen = placement.host in (None, host.name)
    selected = placement.selector is None or placement.selector.matches(host.metadata.labels)
    return host.spec.hypervisor is not None and chosen and selected


def _names(name: str) -> tuple[str, ...]:
    """The resource's name, and further ones for when a machine that had it before was renamed and has it still."""
    endings = ("", *(f"-{number}" for number in range(2, 10)))
    return tuple(name[: _LONGEST_NAME - len(ending)].rstrip("-") + ending for ending in endings)


KIND = VirtualMachineKind()
