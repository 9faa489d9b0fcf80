"""What can be wrong in one ``Firewall`` manifest."""

from __future__ import annotations

from collections.abc import Iterator

from resources import peers
from resources.base import Path, Problem, Reference, Resource
from resources.firewall_spec import FirewallSpec, RuleSpec
from resources.fleet import Fleet
from resources.peers import Peer
from resources.ports import twice

_INSTEAD = "leave it out, or set spec.backend: nftables"
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
            for path, message in (*_rule(rule), *(_not_ufw(rule) if spec.backend == "ufw" else ())):
                yield Problem(firewall.ref, ("spec", direction, position, *path), message)


def disagreeing(fleet: Fleet) -> Iterator[Problem]:
    """Firewalls on the same machine that have not the same backend, each once."""
    firewalls = sorted((one for one in fleet.of("Firewall") if one.whole), key=lambda one: one.name)
    if len({one.spec.backend for one in firewalls}) < 2:
        return
    told: set[str] = set()
    for machine in fleet.machines():
        on = [one for one in firewalls if one.spec.machines.includes(machine)]
        for one in on[1:]:
            first = on[0]
            if one.spec.backend != first.spec.backend and one.ref not in told:
                told.add(one.ref)
                yield Problem(
                    one.ref,
                    ("spec", "backend"),
                    f"is {one.spec.backend}, and {first.ref}, which selects {machine.ref} too, has "
                    f"{first.spec.backend}; write the same in all Firewalls of a machine",
                )


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


def _not_ufw(rule: RuleSpec) -> Iterator[Finding]:
    if rule.protocol == "icmp":
        yield ("protocol",), f"ufw has no rules about icmp: ping is let in by its before.rules; {_INSTEAD}"
    if rule.per_minute is not None:
        yield ("perMinute",), f"ufw has no such rate: its own is of each address for itself; {_INSTEAD}"
