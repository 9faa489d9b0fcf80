"""``Host``: a machine that is there already, by itself or as the hypervisor of virtual machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from drivers.base import SshTarget
from drivers.items.hypervisor import Hypervisor
from drivers.items.trash import Trash
from resources.base import Column, MachineKind, Model, Placed, Problem, Reference, Resource
from resources.fields import PublicKey, User, bare_key
from resources.fleet import Fleet
from resources.hypervisor import HypervisorSpec
from resources.net import HostAddress
from resources.ssh import SshAccess, ssh_references, via_circle
from resources.ways import ways
from resources.world import World


class HostSsh(SshAccess):
    """How salvus reaches the host by ssh."""

    user: User = "root"
    """The user to log in as; one who is not root needs sudo without a password."""
    host_keys: Annotated[tuple[PublicKey, ...], Field(min_length=1)]
    """Public host keys that are accepted, no others: the lines that ``ssh-keyscan ADDRESS`` prints, without the
    address. Compare them with ``/etc/ssh/ssh_host_*_key.pub`` on the host.
    """


class HostSpec(Model):
    """A machine that is there already. salvus keeps what the manifests put on it; it does not make it, nor end it."""

    address: HostAddress
    """IP address or DNS name at which sshd answers."""
    ssh: HostSsh
    """How salvus reaches it."""
    hypervisor: HypervisorSpec | None = None
    """Written, even if as ``{}``: virtual machines can be put here."""
    schedulable: bool = True
    """Whether machines that name no host may be put here. Those that are here stay."""


class HostKind(MachineKind[HostSpec]):
    """Hosts."""

    name = "Host"
    plural = "hosts"
    spec = HostSpec
    columns = (
        Column("ADDRESS", ("spec", "address")),
        Column("SCHEDULABLE", ("spec", "schedulable")),
        Column("USER", ("spec", "ssh", "user"), wide=True),
        Column("VIA", ("spec", "ssh", "via"), wide=True),
        Column("STORAGE", ("spec", "hypervisor", "storagePath"), wide=True),
    )

    def references(self, resource: Resource[HostSpec]) -> Iterator[Reference]:
        """The machine to jump over, and VPNs by which it is reached."""
        yield from ssh_references(resource.spec.ssh, ("Host", "VirtualMachine"))

    def check_together(self, fleet: Fleet) -> Iterator[Problem]:
        """Jumps that go in a circle."""
        for host in fleet.of("Host"):
            yield from via_circle(host, fleet)

    def machines(self, resource: Resource[HostSpec], world: World) -> Iterator[str]:
        """Itself."""
        yield resource.name

    def items(self, resource: Resource[HostSpec], machine: str, world: World) -> Iterator[Placed]:
        """libvirt and the folders of virtual machines, on a hypervisor."""
        hypervisor = resource.spec.hypervisor
        if hypervisor is not None:
            yield Placed(Hypervisor())
            yield from hypervisor.folders(resource.ref)
            yield Placed(Trash(hypervisor.storage.trash, hypervisor.trash.keep))

    def target(self, resource: Resource[HostSpec], world: World) -> SshTarget:
        """By its addresses and its pinned keys; always known."""
        ssh = resource.spec.ssh
        addresses = ways(resource, resource.spec.address, world)
        return ssh.target(addresses, ssh.user, tuple(map(bare_key, ssh.host_keys)))

    def address(self, resource: Resource[HostSpec]) -> str:
        """``spec.address``."""
        return resource.spec.address

    def hypervisor(self, resource: Resource[HostSpec]) -> bool:
        """Whether it has ``spec.hypervisor``."""
        return resource.spec.hypervisor is not None


KIND = HostKind()
