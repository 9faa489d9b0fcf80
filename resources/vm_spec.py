"""The fields of a ``VirtualMachine`` manifest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from resources.base import Disruption, Model, Name, Selector
from resources.fields import DebianPackage, DeviceName, PublicKey, Text, User
from resources.net import InterfaceAddress, Ip, Mac
from resources.quantity import Bytes, Seconds
from resources.ssh import SshAccess


class RootDisk(Model):
    """The disk the machine boots from: an overlay on its image, thrown away with the machine."""

    size: Bytes
    """Its size, at least the image's. It can grow, never shrink."""
    cache: Literal["", "none", "writeback", "writethrough", "directsync", "unsafe"] = ""
    """qemu's cache mode; empty for qemu's default. ``writeback`` is fast, ``none`` allows live migration."""


class Interface(Model):
    """A network interface."""

    name: DeviceName
    """Its name inside the machine, as in ``eth0``."""
    bridge: DeviceName | None = None
    """The host's bridge that it is on; by default the one that the host says in ``spec.hypervisor.bridge``."""
    address: InterfaceAddress | None = None
    """Static address with prefix length, as in ``10.1.1.2/24``."""
    dhcp: bool = False
    """Whether the machine asks for an address (IPv4)."""
    gateway: Ip | None = None
    """The router for everything outside; needs a static address."""
    nameservers: tuple[Ip, ...] = ()
    """DNS servers."""
    mac: Mac | None = None
    """MAC address; by default derived from the machine's UUID, the same for all its life."""
    model: Literal["virtio", "e1000"] = "virtio"
    """The network card that is emulated."""


class Graphics(Model):
    """Ways to look at a machine whose network is dead."""

    vnc: bool = True
    """Whether there is a VNC display, on the host's loopback."""


class Placement(Model):
    """On which host the machine is: a name, or labels; without either any host that may be chosen."""

    host: Name | None = None
    """The host's name."""
    selector: Selector | None = None
    """Labels of hosts of which one is chosen, once."""


class CloudInit(Model):
    """What is done when the machine boots for the first time. Later changes reach new machines only."""

    user: User = "root"
    """The user that is made, with sudo without a password when it is not root."""
    ssh_authorized_keys: tuple[PublicKey, ...] = ()
    """Public keys that may log in as the user, besides those of the controller."""
    packages: tuple[DebianPackage, ...] = ()
    """Packages that are installed. A Service does this better: it can be changed."""
    runcmd: tuple[Text, ...] = ()
    """Shell commands that are run once."""
    hostname: Name | None = None
    """The machine's host name; by default the resource's first name."""


class VirtualMachineSsh(SshAccess):
    """How salvus reaches the machine by ssh. Its host key is known: it is made with the machine."""

    user: User | None = None
    """The user to log in as; by default ``spec.cloudInit.user``."""


class VirtualMachineSpec(Model):
    """A machine that salvus makes on a hypervisor host and keeps as written."""

    run_strategy: Literal["Always", "Halted", "Manual"] = "Always"
    """``Always``: running, and started again when it stops. ``Halted``: off. ``Manual``: left as it is found."""
    image: Name
    """The Image that its root disk starts from."""
    cpu: Annotated[int, Field(ge=1, le=512)] = 1
    """Virtual CPUs."""
    cpu_max: Annotated[int, Field(ge=1, le=512)] | None = None
    """Up to how many virtual CPUs can be plugged in while it runs; by default as many as ``cpu``."""
    memory: Bytes = 2**30
    """Memory, rounded up to whole MiB."""
    memory_max: Bytes | None = None
    """Up to how much memory can be plugged in while it runs; by default as much as ``memory``."""
    root_disk: RootDisk
    """The disk it boots from."""
    interfaces: tuple[Interface, ...] = ()
    """Network interfaces. The first static address is the one salvus uses."""
    graphics: Graphics = Graphics()
    """Ways to look at it when its network is dead."""
    domain_type: Literal["auto", "kvm", "qemu"] = "auto"
    """``kvm`` or ``qemu`` (emulation); ``auto`` takes what works on its host."""
    firmware: Literal["bios", "efi"] = "bios"
    """What boots it, when its image has no kernel."""
    placement: Placement = Placement()
    """On which host it is. Once chosen, the host stays."""
    cloud_init: CloudInit = CloudInit()
    """What is done at its first boot."""
    ssh: VirtualMachineSsh = VirtualMachineSsh()
    """How salvus reaches it."""
    termination_grace_period: Seconds = 60
    """How long it is given to shut down before its power is cut."""
    disruption: Disruption = Disruption()
    """How much salvus may disturb to bring changes about."""
