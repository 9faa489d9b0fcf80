"""Where things of virtual machines are on a hypervisor."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Storage:
    """The folders under a host's ``spec.hypervisor.storagePath``, and the files in them.

    ``instance`` is the machine's name on its hypervisor: decided once, so that renaming the resource moves no file.
    Images have their digest in the name: a new version never changes a file under a running overlay.
    """

    root: str

    @property
    def images(self) -> str:
        """The folder of base images, kernels and initial RAM disks."""
        return f"{self.root}/images"

    @property
    def volumes(self) -> str:
        """The folder of disks."""
        return f"{self.root}/volumes"

    @property
    def seeds(self) -> str:
        """The folder of cloud-init seeds and the host keys in them."""
        return f"{self.root}/seeds"

    @property
    def trash(self) -> str:
        """The folder of what was deleted with data in it; ``drivers.items.paths.trash`` puts it there."""
        return f"{self.root}/trash"

    def image(self, name: str, sha256: str, ending: str) -> str:
        """The file of one version of an image; ``ending`` is ``qcow2``, ``raw``, ``kernel`` or ``initrd``."""
        return f"{self.images}/{name}-{sha256[:12]}.{ending}"

    def root_disk(self, instance: str) -> str:
        """The disk a machine boots from."""
        return f"{self.volumes}/{instance}-root.qcow2"

    def seed(self, instance: str) -> str:
        """The cloud-init ISO of a machine."""
        return f"{self.seeds}/{instance}.iso"

    def host_key(self, instance: str) -> str:
        """The private ssh host key of a machine, made on the hypervisor."""
        return f"{self.seeds}/{instance}.ssh_host_ed25519_key"
