"""Packet filter rules of one machine, in no backend's words: what ``NftTable`` and ``UfwRules`` put into the kernel.

Order counts: the first rule that matches decides, then the default of its direction. Before all rules, and not written
as such, every backend lets through: what goes over loopback, what belongs to a connection that was let through, and the
ICMP without which IP does not work (errors; for IPv6 neighbour discovery and MLD, RFC 4890), what the machine asks
servers as a client of DHCP (UDP from port 68 to 67, RFC 2131; DHCPv6 on the link: from 546 to 547, RFC 8415), and what
DHCPv6 servers of the link answer, as nobody asked them under the address they answer from; the invalid is dropped.
Forwarded packets (of virtual machines, of containers) are never looked at.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Action(enum.StrEnum):
    """What becomes of a packet."""

    ALLOW = "allow"
    DENY = "deny"


class Protocol(enum.StrEnum):
    """Of which packets a rule speaks; ``ANY`` is all of IP, ``ICMP`` is that of both IP versions."""

    ANY = "any"
    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"


@dataclass(frozen=True, slots=True, order=True)
class Ports:
    """Ports from ``first`` to ``last``, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        """``9042``, ``7000-7001``."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def joined(some: Iterable[Ports]) -> tuple[Ports, ...]:
    """The same ports in order, with none that is in another or goes on where another ends."""
    found: list[Ports] = []
    for new in sorted(some):
        if found and new.first <= found[-1].last + 1:
            found[-1] = Ports(found[-1].first, max(found[-1].last, new.last))
        else:
            found.append(new)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line.

    Attributes:
        action: for what matches.
        peers: name of the group of addresses that the packet comes from (ingress) or goes to (egress); empty for all.
        protocol: which packets.
        ports: destination ports, of TCP and UDP; none for all.
        interface: the interface that the packet comes in by (ingress) or goes out by (egress); empty for all.
        per_minute: so many new connections a minute match, from all peers together; after a minute without any, as many
            again at once, so that in one minute it is at most twice as many. 0 for all.
        log: the kernel logs what matches, a line for each new connection, ten a minute at most.
        why: the resource and field that it is there for; becomes its comment.
    """

    action: Action
    why: str
    peers: str = ""
    protocol: Protocol = Protocol.ANY
    ports: tuple[Ports, ...] = ()
    interface: str = ""
    per_minute: int = 0
    log: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Addresses that rules name: networks as ``ipaddress`` writes them (``10.1.0.0/16``, ``fd00::1/128``), sorted,
    none in another, IPv4 first; neighbours stay apart. An empty group matches nothing.
    """

    name: str
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of one machine, with the groups that they name; what no rule matches meets the default.

    The first rule of ingress is about the port at which one logs in.
    """

    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    default_ingress: Action = Action.DENY
    default_egress: Action = Action.ALLOW
    groups: tuple[Group, ...] = ()
