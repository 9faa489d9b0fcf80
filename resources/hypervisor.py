"""``spec.hypervisor`` of a Host: where its virtual machines are, on which bridge, and how they are run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from drivers.items.directory import Directory
from resources.base import Model, Placed
from resources.fields import DeviceName, PlainPath
from resources.quantity import Seconds
from resources.storage import Storage

# qemu runs as a user of its own and must pass through; who is no root need not list.
_MODE = "0711"


def _an_hour(seconds: int) -> int:
    if seconds < 3600:
        raise ValueError("must be at least 1h: what was deleted by mistake is to be there when that is noticed")
    return seconds


class TrashSpec(Model):
    """What was deleted with data in it."""

    keep: Annotated[Seconds, AfterValidator(_an_hour)] = 7 * 86400
    """How long disks and host keys of deleted machines can be had back (``salvusctl disk undelete``); then they go."""


class HypervisorSpec(Model):
    """What a host needs to know to run virtual machines. libvirt and qemu must be installed there."""

    storage_path: PlainPath = "/var/lib/salvus"
    """The directory for images, disks and seeds. Made if missing; one that is there stays as it is."""
    bridge: DeviceName = "br0"
    """The bridge of the host for interfaces that name none. salvus does not make it."""
    domain_type: Literal["auto", "kvm", "qemu"] = "auto"
    """``kvm`` or ``qemu`` (emulation) for machines that say ``auto``; ``auto`` takes what was seen to work."""

    trash: TrashSpec = TrashSpec()
    """What was deleted with data in it."""

    @property
    def storage(self) -> Storage:
        """The folders and files of virtual machines."""
        return Storage(self.storage_path)

    def folders(self, owner: str) -> tuple[Placed, ...]:
        """The folders, as items of the host ``owner``. The one around them may be anybody's: it is made, if missing,
        and else left as it is.
        """
        storage = self.storage
        inner = (storage.images, storage.volumes, storage.seeds)
        return tuple(Placed(Directory(path, mode=_MODE), owner=owner) for path in inner)
