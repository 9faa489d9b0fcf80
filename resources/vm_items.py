"""A virtual machine in machine words, on the host that was chosen for it. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from drivers.items.directory import Directory
from drivers.items.domain import Disk, Domain, DomainType
from drivers.items.domain import Interface as Card
from drivers.items.host_key import HostKey
from drivers.items.image_file import ImageFile
from drivers.items.seed import Seed
from drivers.items.volume import Volume
from resources.base import AnyResource, Invalid, Placed, Resource
from resources.cloud_init import network_config, user_data
from resources.hypervisor import HypervisorSpec
from resources.net import derived_mac
from resources.quantity import whole_mebibytes
from resources.storage import Storage
from resources.vm_spec import Interface, VirtualMachineSpec
from resources.world import World

_RUNNING = {"Always": True, "Halted": False, "Manual": None}


@dataclass(frozen=True, slots=True)
class BaseFiles:
    """The files of an image on a host; a kernel and an initial RAM disk only where the image has them."""

    disk: ImageFile
    kernel: ImageFile | None
    initrd: ImageFile | None

    @classmethod
    def of(cls, image: AnyResource, storage: Storage) -> BaseFiles:
        """Where the image's files are on a host."""

        def file(ending: Literal["qcow2", "raw", "kernel", "initrd"], source: str, sha256: str) -> ImageFile:
            return ImageFile(storage.image(image.name, sha256, ending), source, sha256)

        spec = image.spec
        return cls(
            file(spec.format, spec.source, spec.sha256),
            file("kernel", spec.kernel.source, spec.kernel.sha256) if spec.kernel else None,
            file("initrd", spec.initrd.source, spec.initrd.sha256) if spec.initrd else None,
        )

    def all(self) -> tuple[ImageFile, ...]:
        """Those that there are."""
        return tuple(file for file in (self.disk, self.kernel, self.initrd) if file is not None)


@dataclass(frozen=True, slots=True)
class Making:
    """A virtual machine with all that was decided and found out for it.

    Attributes:
        instance: its name on its hypervisor; uid: its UUID.
        controller_keys: public keys that the controller logs in with.
        former: the name that it may have there instead; empty when there is none.
    """

    spec: VirtualMachineSpec
    image: AnyResource
    hypervisor: HypervisorSpec
    instance: str
    uid: str
    domain_type: DomainType
    controller_keys: tuple[str, ...] = ()
    former: str = ""

    @property
    def storage(self) -> Storage:
        """Where its files are."""
        return self.hypervisor.storage

    @property
    def base(self) -> BaseFiles:
        """What it is made from."""
        return BaseFiles.of(self.image, self.storage)

    def macs(self) -> tuple[tuple[Interface, str], ...]:
        """Its interfaces with their MAC addresses."""
        return tuple((nic, nic.mac or derived_mac(self.uid, nic.name)) for nic in self.spec.interfaces)

    def root(self) -> Volume:
        """The disk it boots from."""
        size = whole_mebibytes(self.spec.root_disk.size)
        return Volume(self.storage.root_disk(self.instance), size, self.base.disk.path, self.image.spec.format)

    def host_key(self) -> HostKey:
        """The key that it is known by."""
        return HostKey(self.storage.host_key(self.instance))

    def seed(self) -> Seed:
        """What it is told at its first boot."""
        return Seed(
            path=self.storage.seed(self.instance),
            host_key=self.host_key().path,
            instance_id=self.uid,
            hostname=self.spec.cloud_init.hostname or self.instance,
            user_data=user_data(self.spec.cloud_init, self.controller_keys),
            network_config=network_config(self.macs()),
        )

    def domain(self) -> Domain:
        """Its definition, and whether it runs."""
        spec, base = self.spec, self.base
        return Domain(
            domain=self.instance,
            uuid=self.uid,
            owner_uid=self.uid,
            running=_RUNNING[spec.run_strategy],
            vcpus=spec.cpu,
            vcpus_max=spec.cpu_max or spec.cpu,
            memory=spec.memory,
            memory_max=spec.memory_max or spec.memory,
            domain_type=self.domain_type,
            disks=(
                Disk(self.storage.root_disk(self.instance), "vda", cache=spec.root_disk.cache),
                Disk(self.storage.seed(self.instance), "sda", device="cdrom", format="raw", readonly=True),
            ),
            interfaces=tuple(Card(nic.bridge or self.hypervisor.bridge, mac, nic.model) for nic, mac in self.macs()),
            kernel=base.kernel.path if base.kernel else "",
            initrd=base.initrd.path if base.initrd else "",
            cmdline=self.image.spec.cmdline,
            firmware=spec.firmware,
            vnc=spec.graphics.vnc,
            former=self.former,
            grace=spec.termination_grace_period,
        )


def making(vm: Resource[VirtualMachineSpec], host: AnyResource, image: AnyResource, world: World) -> Making:
    """Asks for what the manifests do not say.

    Raises NotYet while the UUID, the name on the hypervisor or what the host can run is not known; Invalid when the
    host is no hypervisor any more.
    """
    hypervisor: HypervisorSpec | None = host.spec.hypervisor
    if hypervisor is None:
        raise Invalid(f"its host {host.ref} is no hypervisor any more; add spec.hypervisor to it again")
    instance, uid = world.allocation(vm.ref, "instance"), world.uid(vm.ref)
    domain_type = _domain_type(vm.spec, hypervisor, host, world)
    # A renamed machine keeps its name there. When it has another one, the store that renamed it was another.
    former = vm.moved_from if vm.moved_from not in (None, instance) else None
    return Making(vm.spec, image, hypervisor, instance, uid, domain_type, world.controller_keys(), former or "")


def _domain_type(
    spec: VirtualMachineSpec, hypervisor: HypervisorSpec, host: AnyResource, world: World
) -> Literal["kvm", "qemu"]:
    for written in (spec.domain_type, hypervisor.domain_type):
        if written != "auto":
            return written
    return "kvm" if world.fact(host.ref, "domain_type") == "kvm" else "qemu"


def placed(making: Making, host: str) -> Iterator[Placed]:
    """All that the machine needs on the host of that ``Kind/name``, from its folders to the domain."""
    base, root, key, seed = making.base, making.root(), making.host_key(), making.seed()
    yield from making.hypervisor.folders(host)
    for file in base.all():
        yield Placed(file, after=(_folder(file.path),), owner=making.image.ref)
    yield Placed(root, after=(_folder(root.path), base.disk.key))
    yield Placed(key, after=(_folder(key.path),))
    yield Placed(seed, after=(_folder(seed.path), key.key))
    yield Placed(making.domain(), after=tuple(item.key for item in (*base.all(), root, seed)))


def _folder(path: str) -> str:
    return Directory(posixpath.dirname(path)).key
