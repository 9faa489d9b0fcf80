"""Addresses and MACs: pydantic types that keep them in one canonical spelling, and pure helpers."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def ip(text: str) -> str:
    """An IPv4 or IPv6 address, in its shortest spelling. Raises ValueError."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address, as in 10.1.1.2 or fd00::2") from None


def interface_address(text: str) -> str:
    """An address with its prefix length (``10.1.1.2/24``), usable by a machine: not the network's or broadcast one."""
    try:
        interface = ipaddress.ip_interface(text if "/" in text else "")
    except ValueError:
        raise ValueError(f"{text!r} is not an address with its prefix length, as in 10.1.1.2/24") from None
    network = interface.network
    reserved = {network.network_address, network.broadcast_address}
    if interface.ip in reserved and network.max_prefixlen - network.prefixlen > 1:
        raise ValueError(f"{text!r} is the network's own or broadcast address; choose one between them")
    return str(interface)


def host_address(text: str) -> str:
    """An IP address, or a DNS name (RFC 1123) in lower case. Raises ValueError."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        labels = text.split(".")
        # A last label of digits makes it a mistyped IPv4 address (RFC 3696, section 2).
        if len(text) <= 253 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit():
            return text.lower()
    raise ValueError(f"{text!r} is neither an IP address nor a DNS name")


def mac(text: str) -> str:
    """A unicast MAC address with colons, in lower case. Raises ValueError."""
    if re.fullmatch("([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", text) is None:
        raise ValueError(f"{text!r} is not a MAC address: six pairs of hexadecimal digits, as in 52:54:00:12:34:56")
    if int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        raise ValueError(
            f"{text!r} is a multicast or null address; the first pair must be even, as in 52:54:00:12:34:56"
        )
    return text.lower()


def derived_mac(uid: str, interface: str) -> str:
    """The MAC address of an interface that was given none: the same for all the life of its machine.

    52:54 is QEMU's own beginning (locally administered, unicast). Four bytes of a digest follow it and not the usual
    three, because among a thousand interfaces those would meet with 3 %, and nothing would tell.
    """
    digest = hashlib.sha256(f"{uid}\0{interface}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x52, 0x54, *digest[:4]))


def without_prefix(address: str) -> str:
    """``10.1.1.2/24`` → ``10.1.1.2``."""
    return address.partition("/")[0]


def network_of(address: str) -> Network:
    """``10.1.1.2/24`` → the network 10.1.1.0/24."""
    return ipaddress.ip_interface(address).network


Ip = Annotated[str, AfterValidator(ip), WithJsonSchema({"type": "string", "examples": ["10.1.1.1"]})]
InterfaceAddress = Annotated[
    str, AfterValidator(interface_address), WithJsonSchema({"type": "string", "examples": ["10.1.1.2/24"]})
]
HostAddress = Annotated[
    str, AfterValidator(host_address), WithJsonSchema({"type": "string", "examples": ["10.1.1.1", "host1.example.org"]})
]
Mac = Annotated[str, AfterValidator(mac), WithJsonSchema({"type": "string", "examples": ["52:54:00:12:34:56"]})]
