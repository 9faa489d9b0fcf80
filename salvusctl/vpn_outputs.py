"""What ``vpn status`` prints with ``-o json``; see ``outputs``."""

from __future__ import annotations

from salvusctl.outputs import Output


class ReachOutput(Output):
    """One node as another one reaches it."""

    node: str
    """Whom."""
    milliseconds: float | None
    """How long a ping through the tunnel took, there and back; null when none came back."""
    handshake: int | None
    """Seconds since the last handshake; null before the first, without a tunnel of its own, and with tinc, which
    does not tell.
    """
    endpoint: str | None
    """Where the tunnel's other end was last seen, as in ``198.51.100.1:51820``; null as above."""


class NodeOutput(Output):
    """A node of a VPN."""

    node: str
    """The machine's name, or the VPNNode's of one outside the fleet."""
    machine: bool
    """Whether it is a machine of the fleet."""
    address: str | None
    """In the VPN; null while it has none."""
    endpoint: str | None
    """How it is reached as it is written; null when it cannot be."""
    hub: bool
    """Whether the others connect to it."""
    key: bool
    """Whether its public key is known."""
    silent: str | None
    """Why it could not be asked; null when it could, and of a node outside the fleet."""
    reaches: tuple[ReachOutput, ...]
    """The others, as it reaches them; none when it was not asked."""


class NetworkOutput(Output):
    """A VPN."""

    vpn: str
    """Its name."""
    driver: str
    """``tinc`` or ``wireguard``."""
    complete: bool
    """Whether all machines in it reach each other."""
    nodes: tuple[NodeOutput, ...]
    """All that are in it, by name."""


class VpnStatus(Output):
    """``vpn status``."""

    networks: tuple[NetworkOutput, ...]
    """By name."""
