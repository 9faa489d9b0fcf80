"""What ``firewall show``, ``firewall test`` and ``can-reach`` print with ``-o json``; see ``outputs``."""

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


class AttemptOutput(Output):
    """A connection that was tried, between one pair of addresses."""

    source_address: str
    """The address that it was made from."""
    destination_address: str
    """The address that it was made to."""
    outcome: str
    """``connected``, ``answered`` (UDP), ``refused`` (nothing listens there), ``silent``, ``unreachable``, ``blocked``
    (UDP, by the machine's own filter) or ``not-tried``.
    """
    reached: bool | None
    """Whether it got there; null where that cannot be told: UDP without an answer, and what was not tried."""
    written: bool
    """Whether it is let through as it is written."""
    message: str
    """The outcome in words; where it is not what is written, what may be the matter."""


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
    live: tuple[AttemptOutput, ...] | None
    """What came of trying, by pair of addresses; null without ``--live``."""


class Reached(Output):
    """``can-reach``."""

    source: str
    """As it was asked."""
    destination: str
    """As it was asked."""
    reached: bool
    """Whether each pair of machines that is meant does, as it is written."""
    live: bool | None
    """Whether each pair proved to; null where that cannot be told, and without ``--live``."""
    paths: tuple[PathOutput, ...]
    """The pairs."""


class SentenceOutput(Output):
    """One sentence in ``spec.tests`` of a Firewall."""

    resource: str
    """``Firewall/name``."""
    field: str
    """Where it stands, as in ``spec.tests[0]``."""
    test: str
    """The sentence."""
    true: bool | None
    """Whether it is; null where that cannot be told."""
    why: str
    """What tells, or why it cannot be told."""


class FirewallTests(Output):
    """``firewall test``."""

    live: bool
    """Whether connections were tried; else what is written counts."""
    tests: tuple[SentenceOutput, ...]
    """By Firewall, as they stand there."""
