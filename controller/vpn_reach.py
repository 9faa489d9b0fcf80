"""Who reaches whom in a VPN: what its machines are asked for that, and what they answer. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drivers.base import Present
from drivers.items.tunnel import Tunnel

if TYPE_CHECKING:
    from resources.vpn_nodes import Node, Vpn


@dataclass(frozen=True, slots=True)
class Reach:
    """One node as another one reaches it.

    Attributes:
        node: whom.
        milliseconds: how long a ping through the tunnel took, there and back; None when none came back.
        handshake: seconds since the last one; None before the first, without a tunnel of its own, and with tinc.
        endpoint: where the tunnel's other end was last seen; None as above.
    """

    node: str
    milliseconds: float | None
    handshake: int | None
    endpoint: str | None


@dataclass(frozen=True, slots=True)
class Probed:
    """What a machine last said of a VPN: when (seconds since 1970), and how it reaches the others."""

    at: float
    reaches: tuple[Reach, ...]


@dataclass(frozen=True, slots=True)
class VpnPeers:
    """How machines reach others in their VPNs, as they were last asked.

    Attributes:
        reachable: (VPN, node, peer) → whether the peer answered the node, of all pairs or of those with hubs.
        round_trips: of those that did, how long that took, in seconds.
        handshakes: when the last handshake of the pair was, in seconds since 1970.
        asked: (VPN, node) → how many other machines it pinged.
        reached: how many of these answered.
    """

    reachable: Mapping[tuple[str, str, str], bool] = field(default_factory=dict)
    round_trips: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    handshakes: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    asked: Mapping[tuple[str, str], int] = field(default_factory=dict)
    reached: Mapping[tuple[str, str], int] = field(default_factory=dict)


def question(vpn: Vpn, me: Node, others: Sequence[Node]) -> Tunnel:
    """What a machine is asked; it may be among the ``others``."""
    addresses = tuple(other.address for other in others if other.name != me.name and other.address)
    return Tunnel(vpn.spec.device(vpn.name), addresses)


def reached(me: Node, others: Sequence[Node], said: Present) -> Iterator[Reach]:
    """The others as it reaches them, by what it said to the ``question``."""
    answers, handshakes, endpoints = (_pairs(said, field) for field in ("reached", "handshakes", "endpoints"))
    for other in others:
        if other.name != me.name:
            key, answer = other.public_key or "", answers.get(other.address)
            yield Reach(
                node=other.name,
                milliseconds=float(answer) if answer is not None else None,
                handshake=int(handshakes[key]) if key in handshakes else None,
                endpoint=endpoints.get(key),
            )


def _pairs(said: Present, field: str) -> Mapping[str, str]:
    lines = said.fields.get(field)
    return dict(str(line).split(" ", 1) for line in lines) if isinstance(lines, tuple) else {}
