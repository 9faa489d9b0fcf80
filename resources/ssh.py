"""What all machines have in common in ``spec.ssh``, and the check that jumps end somewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, WithJsonSchema

from drivers.base import SshTarget
from resources.base import AnyResource, Model, Name, Problem, Reference
from resources.fields import ControllerPath
from resources.fleet import Fleet
from resources.net import host_address
from resources.quantity import Timeout
from resources.words import WORDS

Port = Annotated[int, Field(ge=1, le=65535)]
# Before the name of a VPN, where an address may be written.
IN_VPN = "vpn/"
_NAME: TypeAdapter[str] = TypeAdapter(Name)


def way(text: str) -> str:
    """``vpn/NAME``, an IP address, or a DNS name in lower case. Raises ValueError."""
    if not text.startswith(IN_VPN):
        return host_address(text)
    try:
        return IN_VPN + _NAME.validate_python(text.removeprefix(IN_VPN))
    except ValidationError as error:
        raise ValueError(f"{text!r} names no VPN; write vpn/NAME") from error


Way = Annotated[
    str,
    AfterValidator(way),
    WithJsonSchema(
        {
            "type": "string",
            WORDS: "an IP address, a DNS name, or vpn/NAME for the machine's address in a VPN",
            "examples": ["vpn/fleet", "203.0.113.7"],
        }
    ),
]


class SshAccess(Model):
    """How salvus reaches a machine by ssh."""

    addresses: tuple[Way, ...] = ()
    """Addresses, DNS names, or ``vpn/NAME`` for its address in a VPN, which are tried in this order; then the address
    that it has anyway. So a machine is reached by the VPN when that is up, and by its public address before and else.
    """
    port: Port = 22
    """The port sshd listens on."""
    identity_files: tuple[ControllerPath, ...] = ()
    """Private key files on the controller, tried in order: absolute, or beginning with ``~/``."""
    use_agent: bool = False
    """Whether keys of a running ssh-agent are tried too."""
    via: Name | None = None
    """The machine to jump over, when this one cannot be reached directly."""
    connect_timeout: Timeout = 10
    """How long making a connection may take."""
    command_timeout: Timeout = 60
    """How long the machine may be silent during a command before it counts as frozen. One that is cut off, so that
    nothing that is sent is acknowledged, is noticed after 15 s.
    """

    def target(self, addresses: tuple[str, ...], user: str, host_keys: tuple[str, ...]) -> SshTarget:
        """All that a connection needs. ``host_keys`` are public key lines without comments."""
        return SshTarget(
            addresses=addresses,
            port=self.port,
            user=user,
            host_keys=host_keys,
            identity_files=self.identity_files,
            use_agent=self.use_agent,
            via=self.via or "",
            connect_timeout=self.connect_timeout,
            command_timeout=self.command_timeout,
        )


VIA = ("spec", "ssh", "via")


def ssh_references(access: SshAccess, machine_kinds: tuple[str, ...]) -> Iterator[Reference]:
    """The machine in ``spec.ssh.via``, and the VPNs in ``spec.ssh.addresses``."""
    if access.via is not None:
        yield Reference(VIA, machine_kinds, access.via)
    for position, written in enumerate(access.addresses):
        if written.startswith(IN_VPN):
            yield Reference(("spec", "ssh", "addresses", position), ("VPN",), written.removeprefix(IN_VPN))


def via_circle(resource: AnyResource, fleet: Fleet) -> Iterator[Problem]:
    """A problem when the jumps from this machine come back to it."""
    way = [resource.name]
    machine: AnyResource | None = resource
    while machine is not None and machine.spec.ssh.via is not None:
        name = machine.spec.ssh.via
        if name == resource.name:
            yield Problem(resource.ref, VIA, f"the jumps go in a circle: {' → '.join([*way, name])}")
        if name in way:
            return
        way.append(name)
        machine = fleet.machine(name)
