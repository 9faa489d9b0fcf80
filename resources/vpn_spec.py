"""The fields of ``VPN`` and ``VPNNode`` manifests."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from resources.base import LabelKey, Model, Name
from resources.fields import DeviceName, Text
from resources.net import Cidr, Ip, host_address
from resources.quantity import Seconds, Share, Timeout, format_duration
from resources.rollouts import Rollout
from resources.ssh import Port
from resources.targets import Targets
from resources.words import WORDS, quoted

Driver = Literal["tinc", "wireguard"]
PORTS = {"tinc": 655, "wireguard": 51820}
# IFNAMSIZ without the NUL.
_LONGEST_DEVICE = 15
# Seconds: no key is rotated more often by itself.
_YOUNGEST = 3600
NO_ENDPOINT = "none"
ENDPOINT = "ADDRESS, ADDRESS:PORT, [IPV6]:PORT or none"


def split_endpoint(text: str) -> tuple[str, int | None]:
    """``198.51.100.1:655`` → address and port; an IPv6 address with a port stands in brackets. Raises ValueError."""
    bracketed = re.fullmatch(r"\[([^]]*)\](?::([0-9]{1,5}))?", text)
    plain = re.fullmatch(r"([^:]*):([0-9]{1,5})", text)
    address, port = bracketed.groups() if bracketed else plain.groups() if plain else (text, None)
    if port is not None and not 1 <= int(port) <= 65535:
        raise ValueError(f"{quoted(text)} has the port {port}; ports are 1 to 65535")
    return host_address(address or ""), None if port is None else int(port)


def shown(address: str, port: int) -> str:
    """An address or DNS name with a port, as it is written."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def endpoint(text: str) -> str:
    """An endpoint as it may be written. Raises ValueError."""
    if text == NO_ENDPOINT:
        return text
    address, port = split_endpoint(text)
    return address if port is None else shown(address, port)


Endpoint = Annotated[
    str,
    AfterValidator(endpoint),
    WithJsonSchema({"type": "string", WORDS: ENDPOINT, "examples": ["198.51.100.1", "vpn.example.org:655"]}),
]


def not_often(seconds: int) -> int:
    """How old a key may become. Raises ValueError."""
    if seconds < _YOUNGEST:
        raise ValueError(f"must be at least {format_duration(_YOUNGEST)}: tinc is started again each time")
    return seconds


KeyAge = Annotated[Seconds, AfterValidator(not_often)]


class VPNRollout(Rollout):
    """How a change of the network comes to its machines: one tries it first, the first by name."""

    max_parallel: Share = "100%"
    """How many machines make the change at once after that: a number, or a percentage of all of them. Who has made it
    and who has not are two networks.
    """


class VPNSpec(Model):
    """A private network of machines."""

    driver: Driver
    """What carries it."""
    cidr: Cidr
    """Its network. It can be made larger later; any other change stops machines whose address is not in it."""
    port: Port | None = None
    """The port on which the nodes listen: 655 for tinc (TCP and UDP), 51820 for WireGuard (UDP) if none is written."""
    members: Targets
    """The machines in it; a new one that matches joins by itself."""
    hubs: Targets
    """The machines to which the others connect, and over which those talk that cannot reach each other. They must be
    reachable by all; they are members, too.
    """
    interface: DeviceName | None = None
    """The network device; ``vpn-NAME``, cut to 15 characters, if none is written."""
    keepalive: Timeout = 25
    """How often a connection that is idle is used, so that a NAT on the way keeps it, and its loss is noticed."""
    rotate_keys_after: KeyAge | None = None
    """How old the key of a machine may become: then it gets another one. When that is differs by up to a tenth from
    machine to machine, so that not all turn at the same time. If none is written, keys stay until ``vpn rotate``.
    """
    aliases: LabelKey | None = None
    """A label whose value is a further name of the machine in ``/etc/hosts``; machines with one value share it."""
    rollout: VPNRollout = VPNRollout()
    """In which order machines make a change of ``driver``, ``cidr``, ``port``, ``interface`` or ``keepalive``."""

    @property
    def listens_on(self) -> int:
        """The port of all its nodes."""
        return self.port or PORTS[self.driver]

    def device(self, name: str) -> str:
        """The network device, in the VPN of that name."""
        if self.interface is not None:
            return self.interface
        full = f"vpn-{name}"
        if len(full) <= _LONGEST_DEVICE:
            return full
        # Names that begin alike have devices of their own.
        digest = hashlib.sha256(name.encode()).hexdigest()[:4]
        return f"{full[: _LONGEST_DEVICE - 5]}-{digest}"


class VPNNodeSpec(Model):
    """What is particular about one node of a VPN: a machine of the fleet, or one outside of it."""

    vpn: Name
    """The VPN."""
    machine: Name | None = None
    """The machine; it becomes a member if it is none. Without one, this is a node outside the fleet."""
    public_key: Text | None = None
    """The public key of a node outside the fleet: for tinc the lines from BEGIN to END, for WireGuard one line."""
    address: Ip | None = None
    """Its address in the VPN; one is chosen, once and for ever, if none is written."""
    endpoint: Endpoint | None = None
    """How others reach it: ``ADDRESS``, ``ADDRESS:PORT``, ``[IPV6]:PORT``, or ``none`` if only it can reach others.
    A Host has its ``spec.address``, a hub its static one, if none is written; other machines have none.
    """
    subnets: Annotated[tuple[Cidr, ...], Field(max_length=100)] = ()
    """Networks behind it that the others reach through it. It must forward packets there: that is yours to set."""
    hub: bool = False
    """Whether it is a hub, as if ``spec.hubs`` of the VPN selected it."""
    keepalive: Timeout | None = None
    """Its own interval, instead of the VPN's."""
