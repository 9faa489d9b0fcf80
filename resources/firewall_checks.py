"""What can be wrong in one ``Firewall`` manifest."""

from __future__ import annotations

from collections.abc import Iterator

from resources import peers
from resources.base import Path, Problem, Reference, Resource
from resources.firewall_spec import FirewallSpec, RuleSpec
from resources.fleet import Fleet
from resources.peers import Peer
from resources.ports import twice

# A field that is wrong, and why.
Finding = tuple[Path, str]


def references(spec: FirewallSpec) -> Iterator[Reference]:
    """The machines and services that are named."""
    yield from spec.machines.references(("spec", "machines"))
    for path, named in _peers(spec):
        yield from peers.references(named, path)


def alone(firewall: Resource[FirewallSpec], fleet: Fleet) -> Iterator[Problem]:
    """Contradictions, and peers whose addresses nobody can know."""
    spec = firewall.spec
    yield from spec.machines.problems(firewall.ref, ("spec", "machines"))
    for path, named in _peers(spec):
        yield from peers.problems(firewall.ref, named, path, fleet)
    lists: tuple[tuple[str, tuple[RuleSpec, ...]], ...] = (("ingress", spec.ingress), ("egress", spec.egress))
    for direction, rules in lists:
        for path, message in twice(("spec", direction), [rule.name for rule in rules]):
            yield Problem(firewall.ref, path, message)
        for position, rule in enumerate(rules):
            for path, message in _rule(rule):
                yield Problem(firewall.ref, ("spec", direction, position, *path), message)


def _peers(spec: FirewallSpec) -> Iterator[tuple[Path, tuple[Peer, ...] | None]]:
    yield ("spec", "ssh"), spec.ssh
    for position, into in enumerate(spec.ingress):
        yield ("spec", "ingress", position, "from"), into.from_
    for position, out in enumerate(spec.egress):
        yield ("spec", "egress", position, "to"), out.to


def _rule(rule: RuleSpec) -> Iterator[Finding]:
    if rule.ports is not None and rule.protocol in {"icmp", "any"}:
        yield ("ports",), f"ports are those of tcp and udp, and protocol is {rule.protocol}; leave one of the two out"
    if rule.per_minute is not None and rule.action == "deny":
        yield ("perMinute",), "is of use where action is allow: what is above it meets the rules that follow"
