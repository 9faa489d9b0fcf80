"""Real machines: one ssh connection each, and libvirt through it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from controller.machines import Connect
from drivers.base import Driver, Fencing, SshTarget
from drivers.libvirt import LibvirtDriver
from drivers.machine import Machine
from drivers.ssh import Connection, ShellDriver

LIBVIRT_HELPER = "virt-ssh-helper qemu:///system"


class RealMachine(Machine):
    """A Machine that knows its connection, so that others can jump over it."""

    def __init__(self, name: str, connection: Connection, shell: ShellDriver, libvirt: LibvirtDriver | None) -> None:
        super().__init__(name, shell, libvirt)
        self.connection = connection


def real(identity_files: tuple[str, ...] = ()) -> Connect:
    """How real machines are connected to (see ``controller.machines.Connect``): when they are first used.

    ``identity_files`` are private keys for machines whose manifest names none.
    """

    def connect(
        machine: str, target: SshTarget, *, hypervisor: bool, via: Driver | None, woken: Callable[[str], None]
    ) -> Fencing:
        jump = via.connection if isinstance(via, RealMachine) else None
        keys = target.identity_files or identity_files
        connection = Connection(machine, replace(target, identity_files=keys), jump)
        shell, libvirt = ShellDriver(connection), None
        if hypervisor:
            libvirt = LibvirtDriver(
                machine, partial(_uri, connection, shell), on_event=lambda _: woken(machine), fence=shell.fence
            )
        return RealMachine(machine, connection, shell, libvirt)

    return connect


def _uri(connection: Connection, shell: ShellDriver, epoch: int | None) -> str:
    """The way for changes under an epoch ends when the machine sees a newer one; nobody ends the one for looking."""
    command = LIBVIRT_HELPER if epoch is None else shell.session(LIBVIRT_HELPER, epoch)
    tunnel = connection.tunnel(command, "libvirt" if epoch is None else "libvirt, for changes")
    return f"qemu+unix:///system?socket={tunnel.path}"
