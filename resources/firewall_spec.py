"""The fields of a ``Firewall`` manifest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from resources.base import Model
from resources.peers import Peers
from resources.ports import PortRange, RuleName
from resources.reach_claims import FORM, read_claim
from resources.rollouts import Rollout
from resources.targets import Targets
from resources.words import WORDS


def sentence(text: str) -> str:
    """A test that can be read. Raises ValueError."""
    read_claim(text)
    return text


Test = Annotated[
    str,
    AfterValidator(sentence),
    WithJsonSchema({"type": "string", WORDS: f"a test: {FORM}", "examples": ["web reaches cassandra:9042"]}),
]
PortRanges = Annotated[tuple[PortRange, ...], Field(min_length=1)]


class RuleSpec(Model):
    """What ingress and egress rules have in common."""

    name: RuleName
    """Its name, one of its own within the list: at most 32 characters."""
    ports: PortRanges | None = None
    """Destination ports and ranges of them, as in ``[9042, 7000-7001]``; left out, all."""
    protocol: Literal["tcp", "udp", "icmp", "any"] | None = None
    """Which packets; ``any`` is all of IP, ``icmp`` that of IPv4 and of IPv6. By default ``tcp`` where ports are
    written, else ``any``.
    """
    action: Literal["allow", "deny"] = "allow"
    """What becomes of what matches. What is denied is dropped without an answer."""
    per_minute: Annotated[int, Field(ge=1, le=60000)] | None = None
    """So many new connections a minute match, all peers taken together, but those in each VPN of the machine for
    themselves; what is above meets the rules that follow.
    """
    log: bool = False
    """Whether the kernel logs new connections that match, ten a minute at most."""


class IngressRule(RuleSpec):
    """Connections that others make to the machine."""

    from_: Annotated[Peers | None, Field(alias="from")] = None
    """Who connects: any of these; left out, everybody. What selects no machine at the moment matches nobody."""


class EgressRule(RuleSpec):
    """Connections that the machine makes to others."""

    to: Peers | None = None
    """Whom it connects to: any of these; left out, everybody. What selects no machine at the moment matches nobody."""


class Defaults(Model):
    """What becomes of connections that no rule matches."""

    ingress: Literal["deny", "allow"] = "deny"
    """Of those that others make to the machine."""
    egress: Literal["allow", "deny"] = "allow"
    """Of those that the machine makes to others."""


class FirewallSpec(Model):
    """Who may connect to machines, and to whom they may; a function of the whole fleet, renewed when it changes."""

    machines: Targets
    """The machines it is on. Of several Firewalls on a machine the rules stand in the order of the Firewalls' names."""
    backend: Literal["nftables", "ufw"] = "nftables"
    """What filters: ``nftables``, in a table of its own, all other tables of the machine are left alone; or ``ufw``, by
    rules before the operator's own, which are left alone. All Firewalls on a machine have the same.
    """
    default: Defaults = Defaults()
    """What becomes of connections that no rule matches. Of several Firewalls on a machine one that denies is enough."""
    derive: bool = True
    """Whether rules are also made from the graph, after those that are written: ``ports`` of the Services on the
    machine are open to their ``clients``, the port of its VPNs to all nodes; where ``default.egress`` is ``deny``, the
    machine may connect to the services whose client it is, and to its VPNs. Of several Firewalls on a machine one that
    derives is enough.
    """
    ssh: Peers | None = None
    """Where ssh to the machine, at its ``spec.ssh.port``, is let in from, before all rules: name the controller, and
    those who operate the machine. By default anywhere. Of several Firewalls on a machine, all that any of them names.
    """
    ingress: tuple[IngressRule, ...] = ()
    """Rules for connections that others make to the machine, in order: the first that matches decides."""
    egress: tuple[EgressRule, ...] = ()
    """Rules for connections that the machine makes to others, in order: the first that matches decides."""
    rollout: Rollout = Rollout()
    """In which order machines make a change of this Firewall that could lock somebody out."""
    tests: tuple[Test, ...] = ()
    """Sentences that must be true of the whole fleet, else the manifests have an error: ``web reaches cassandra:9042``,
    ``world never reaches cassandra``.
    """
