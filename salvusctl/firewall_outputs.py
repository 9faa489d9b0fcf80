"""What ``firewall show`` and ``can-reach`` print with ``-o json``; see ``outputs``."""

from __future__ import annotations

from salvusctl.outputs import Output


class RuleOutput(Output):
    """A rule of a machine, or the default of a direction, which stands at its end."""

    direction: str
    """``ingress`` or ``egress``."""
    action: str
    """``allow`` or ``deny``."""
    protocol: str
    """``tcp``, ``udp``, ``icmp`` or ``any``."""
    ports: tuple[str, ...]
    """Destination ports and ranges, as in ``7000-7001``; none for all."""
    peers: str
    """Who is meant, in words."""
    addresses: tuple[str, ...] | None
    """Their networks, as in ``10.1.1.2/32``; null for all there are, empty where nobody is meant at the moment."""
    per_minute: int | None
    """So many new connections a minute match; null for all."""
    log: bool
    """Whether what matches is logged."""
    why: str
    """What it is there for; its comment on the machine."""
    resource: str
    """``Kind/name`` of what it is there for."""
    field: str
    """The field of it, as in ``spec.ingress[0]``."""


class FilterOutput(Output):
    """``firewall show``."""

    machine: str
    """Its name."""
    firewalls: tuple[str, ...]
    """``Kind/name`` of the Firewalls that select it; without any, everything is let through."""
    rules: tuple[RuleOutput, ...]
    """In order, ingress first; the first that matches decides."""


class VerdictOutput(Output):
    """What becomes of a packet at one end."""

    action: str
    """``allow`` or ``deny``."""
    why: str
    """The resource and field of what decides, or why nothing does."""
    resource: str | None
    """``Kind/name`` of whose word decides; null where nothing is filtered."""
    field: str | None
    """The field of it, as in ``spec.ingress[0]``."""


class PathOutput(Output):
    """A pair of machines, and the packet that tells whether one reaches the other."""

    source: str
    """Who connects: a machine, or ``world``."""
    destination: str
    """To whom: a machine, or ``world``."""
    reached: bool
    """Whether it gets there."""
    source_address: str | None
    """The address that it connects from; null of the world, and where the two have none of the same IP version."""
    destination_address: str | None
    """The address that it connects to; null of the world, and where the two have none of the same IP version."""
    protocol: str | None
    """``tcp``, ``udp``, ``icmp`` or ``any`` (any other)."""
    port: int | None
    """The destination port, of TCP and UDP."""
    egress: VerdictOutput | None
    """What becomes of it on its way out."""
    ingress: VerdictOutput | None
    """What becomes of it on its way in."""


class Reached(Output):
    """``can-reach``."""

    source: str
    """As it was asked."""
    destination: str
    """As it was asked."""
    reached: bool
    """Whether each pair of machines that is meant does."""
    paths: tuple[PathOutput, ...]
    """The pairs."""
