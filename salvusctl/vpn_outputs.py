"""What ``vpn status`` and ``vpn revoke`` print with ``-o json``; see ``outputs``."""

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
    generation: int
    """Which of its keys it uses: 1 for the first."""
    since: str | None
    """Since when a controller has seen it use its key; RFC 3339, in UTC. Null before that."""
    silent: str | None
    """Why it could not be asked; null when it could, and of a node outside the fleet."""
    reaches: tuple[ReachOutput, ...]
    """The others, as it reaches them; none when it was not asked."""


class RevokedOutput(Output):
    """A node that is let in nowhere."""

    node: str
    """Which."""
    since: str
    """Since when; RFC 3339, in UTC."""
    proved: bool
    """Whether all machines were asked, and refuse it."""
    let_in_by: tuple[str, ...]
    """The machines that let it in still, as they told last."""


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
    revoked: tuple[RevokedOutput, ...]
    """Those that were in it and are not to be, by name."""


class VpnStatus(Output):
    """``vpn status``."""

    networks: tuple[NetworkOutput, ...]
    """By name."""


class RefusalOutput(Output):
    """How a machine meets a revoked node."""

    node: str
    """The machine."""
    refused: bool
    """Whether it is certain that it lets the node in no more."""
    has_key: bool | None
    """Whether its daemon has the node's key; null when it could not be asked."""
    answers: bool | None
    """Whether it answered when that was tried from the node, with the key that it still has; null when it was not."""
    silent: str | None
    """Why it could not be asked; null when it could."""


class RevocationOutput(Output):
    """A node that is revoked in a VPN."""

    vpn: str
    """The VPN."""
    node: str
    """The node."""
    since: str
    """Since when; RFC 3339, in UTC."""
    refused: bool
    """Whether all machines refuse it."""
    untried: str | None
    """Why it was not tried from the node; null when it was."""
    nodes: tuple[RefusalOutput, ...]
    """The machines in the VPN, by name."""


class VpnRevoke(Output):
    """``vpn revoke``."""

    items: tuple[RevocationOutput, ...]
    """By VPN."""
