"""The only importer of libvirt."""

from drivers.libvirt.driver import LibvirtDriver
from drivers.libvirt.session import Patience

__all__ = ["LibvirtDriver", "Patience"]
