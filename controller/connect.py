"""Real machines: one ssh connection each, and libvirt through it."""

from __future__ import annotations

from collections.abc import Callable

from drivers.base import Driver, SshTarget
from drivers.libvirt import LibvirtDriver
from drivers.machine import Machine
from drivers.ssh import Connection, ShellDriver

LIBVIRT_HELPER = "virt-ssh-helper qemu:///system"


class RealMachine(Machine):
    """A Machine that knows its connection, so that others can jump over it."""

    def __init__(self, name: str, connection: Connection, shell: ShellDriver, libvirt: LibvirtDriver | None) -> None:
        super().__init__(name, shell, libvirt)
        self.connection = connection


def connect(
    machine: str, target: SshTarget, *, hypervisor: bool, via: Driver | None, woken: Callable[[str], None]
) -> Driver:
    """The driver of a real machine (see ``controller.machines.Connect``). Connects when it is first used."""
    jump = via.connection if isinstance(via, RealMachine) else None
    connection = Connection(machine, target, jump)
    libvirt = None
    if hypervisor:
        libvirt = LibvirtDriver(machine, lambda: _uri(connection), on_event=lambda domain: woken(machine))
    return RealMachine(machine, connection, ShellDriver(connection), libvirt)


def _uri(connection: Connection) -> str:
    return f"qemu+unix:///system?socket={connection.tunnel(LIBVIRT_HELPER).path}"
