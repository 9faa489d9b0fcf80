"""Addresses and MACs: pydantic types that keep them in one canonical spelling, and pure helpers."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from resources.words import WORDS, meant, quoted

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

IP = "an IP address"
INTERFACE = "an address with its prefix length"
CIDR = "an address or a network"
MAC = "a MAC address: six pairs of hexadecimal digits"

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def ip(text: str) -> str:
    """An IPv4 or IPv6 address, in its shortest spelling. Raises ValueError."""
    if (found := _ip(text)) is not None:
        return found
    near = meant(bare) if (bare := _ip(text.partition("/")[0].strip())) else ""
    raise ValueError(f"{quoted(text)} is not {IP}, as in 10.1.1.2 or fd00::2{_why(text)}{near}")


def _ip(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def interface_address(text: str) -> str:
    """An address with its prefix length (``10.1.1.2/24``), usable by a machine: not the network's or broadcast one."""
    if (interface := _interface(text)) is None:
        near = meant(bare) if _interface(bare := "".join(text.split())) else ""
        raise ValueError(f"{quoted(text)} is not {INTERFACE}, as in 10.1.1.2/24{_why(text)}{near}")
    network = interface.network
    reserved = {network.network_address, network.broadcast_address}
    if interface.ip in reserved and network.max_prefixlen - network.prefixlen > 1:
        between = f"choose one from {network[1]} to {network[-2]}"
        raise ValueError(f"{text!r} is the network's own or broadcast address; {between}")
    return str(interface)


def _interface(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    try:
        return ipaddress.ip_interface(text) if "/" in text and not _unmapped(text) else None
    except ValueError:
        return None


def cidr(text: str) -> str:
    """A network with its prefix length (``10.1.0.0/16``); an address alone becomes one. Raises ValueError."""
    try:
        if "%" not in text and not _unmapped(text):
            return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    near = meant(str(inside.network)) if (inside := _interface("".join(text.split()))) else ""
    raise ValueError(f"{quoted(text)} is not {CIDR}, as in 10.1.0.0/16 or 10.1.1.2{_why(text)}{near}")


def _unmapped(text: str) -> str:
    """``::ffff:10.0.0.0/104`` → ``10.0.0.0/8``, as packets have it (RFC 4291, 2.5.5.2); empty for all others."""
    address, _, prefix = text.partition("/")
    try:
        inside = ipaddress.IPv6Address(address).ipv4_mapped
    except ValueError:
        return ""
    if inside is None:
        return ""
    return f"{inside}/{int(prefix) - 96}" if prefix.isdecimal() and 96 <= int(prefix) <= 128 else str(inside)


def _why(text: str) -> str:
    """Which number of a mistyped address it is; or nothing."""
    bare = "".join(text[:64].split())
    if inside := _unmapped(bare):
        return f"; that is of IPv4, write {inside}"
    address, _, prefix = bare.partition("/")
    if re.fullmatch(r"[0-9]+(\.[0-9]+){3}", address):
        for part in address.split("."):
            if int(part) > 255:
                return f"; {part} is more than 255"
            if part != str(int(part)):
                return f"; write {part} without leading zeros"
    most = 128 if ":" in address else 32
    return f"; a prefix length is at most {most}" if prefix.isdecimal() and int(prefix) > most else ""


def host_address(text: str) -> str:
    """An IP address, or a DNS name (RFC 1123) in lower case. Raises ValueError."""
    if (found := _host(text)) is not None:
        return found
    # As it stands in an URL, behind a user or before a port.
    bare = re.sub(r"^([a-z0-9+]+://)?([^@/]*@)?|(:[0-9]+)?(/.*)?$", "", text[:300].strip())
    near = meant(bare) if _host(bare) is not None else ""
    raise ValueError(f"{quoted(text)} is neither {IP} nor a DNS name{_why(text)}{near}")


def _host(text: str) -> str | None:
    labels = text.split(".")
    # A last label of digits makes it a mistyped IPv4 address (RFC 3696, section 2).
    name = len(text) <= 253 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()
    return _ip(text) or (text.lower() if name else None)


def is_address(host: str) -> bool:
    """Whether what ``host_address`` gave is an IP address, and no DNS name."""
    return _ip(host) is not None


def mac(text: str) -> str:
    """A unicast MAC address with colons, in lower case. Raises ValueError."""
    if re.fullmatch("([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", text) is None:
        raise ValueError(f"{quoted(text)} is not {MAC}, as in 52:54:00:12:34:56{meant(*_near_macs(text))}")
    if int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        raise ValueError(
            f"{text!r} is a multicast or null address; the first pair must be even, as in 52:54:00:12:34:56"
        )
    return text.lower()


def _near_macs(text: str) -> Iterator[str]:
    """``52-54-00-12-34-56``, ``5254.0012.3456`` and ``52:54:0:12:34:56`` with six pairs and colons."""
    parts = re.split(r"[-:.\s]", text.strip().lower())
    digits = "".join(part.zfill(2) for part in parts) if len(parts) == 6 else "".join(parts)
    if re.fullmatch("[0-9a-f]{12}", digits):
        yield ":".join(digits[at : at + 2] for at in range(0, 12, 2))


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


def _schema(words: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", WORDS: words, "examples": list(examples)})


Ip = Annotated[str, AfterValidator(ip), _schema(IP, "10.1.1.1")]
InterfaceAddress = Annotated[str, AfterValidator(interface_address), _schema(INTERFACE, "10.1.1.2/24")]
HostAddress = Annotated[
    str, AfterValidator(host_address), _schema(f"{IP} or DNS name", "10.1.1.1", "host1.example.org")
]
Cidr = Annotated[str, AfterValidator(cidr), _schema(CIDR, "10.1.0.0/16", "10.1.1.2")]
Mac = Annotated[str, AfterValidator(mac), _schema(MAC, "52:54:00:12:34:56")]
