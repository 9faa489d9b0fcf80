"""What can be wrong with Firewalls as a whole: tests that do not hold, and rules that are of no use. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from drivers.items.rules import Protocol, Rule
from resources.base import Path, Problem
from resources.firewall_rules import SSH, Line, filter_of
from resources.fleet import Fleet
from resources.peers import inside, parsed
from resources.reach_claims import read_claim
from resources.reach_ends import Ends, broken, told
from resources.vpn_nodes import presumed
from resources.world import Known, World


def failed_tests(fleet: Fleet) -> Iterator[Problem]:
    """The sentences in ``spec.tests`` that are not true."""
    # Of a resource without its wrong fields other things are true than of what is meant.
    tests = [one for one in fleet.of("Firewall") if one.whole and one.spec.tests]
    if not tests or not all(one.whole for one in fleet):
        return
    ends = Ends(_presumed(fleet))
    for one in tests:
        for position, text in enumerate(one.spec.tests):
            if message := failure(text, ends):
                yield Problem(one.ref, ("spec", "tests", position), message)


def _presumed(fleet: Fleet) -> World:
    """What can be known of manifests alone: in VPNs each machine has some address."""
    return World(fleet, Known(allocations=presumed(World(fleet, Known()))))


def failure(text: str, ends: Ends) -> str:
    """Why a sentence is not true, or means nothing; empty for one that is true."""
    try:
        answer = broken(read_claim(text), ends)
    except ValueError as error:
        return str(error)
    return f"is not so: {told(answer)}" if answer is not None else ""


def useless(fleet: Fleet) -> Iterator[Problem]:
    """Rules that decide nothing on any machine: they match nobody, or what is before them takes all that they match."""
    world = _presumed(fleet)
    found: defaultdict[tuple[str, Path], set[str]] = defaultdict(set)
    judged: dict[tuple[str, ...], tuple[str, ...]] = {}
    for machine in fleet.machines():
        made = filter_of(machine, world)
        for chain in (made.ingress, made.egress) if made else ():
            # Machines differ in ssh alone: of all else there are few lists, and each is long to look through.
            first = [line for line in chain.lines if line.path == SSH]
            rest = chain.lines[len(first) :]
            key = tuple(line.rule.why + line.vpn for line in rest)
            if key not in judged:
                judged[key] = tuple(_doubt(line, rest[:position]) for position, line in enumerate(rest))
            for line, why in zip(rest, judged[key], strict=True):
                found[line.ref, line.path].add(why or _hidden(line, first))
            for position, line in enumerate(first):
                found[line.ref, line.path].add(_doubt(line, first[:position]))
    for (ref, path), reasons in found.items():
        if "" not in reasons:
            yield Problem(ref, path, min(reasons))


def _doubt(line: Line, before: Iterable[Line]) -> str:
    """Why a rule is of no use; empty for one that is."""
    if line.rule.peers and not line.networks:
        return f"matches nobody: {line.peers} have no address at the moment"
    return _hidden(line, before)


def _hidden(line: Line, before: Iterable[Line]) -> str:
    for other in before:
        if _covers(other, line):
            same = other.rule.action is line.rule.action
            # Nobody wrote what is derived: that it is said once more does no harm.
            if same and not line.ref.startswith("Firewall/"):
                return ""
            what = "does the same" if same else f"has the action {other.rule.action}"
            return f"never decides: {other.rule.why} is before it, takes all that it matches, and {what}"
    return ""


def _covers(one: Line, other: Line) -> bool:
    """Whether ``one`` matches all that ``other`` does."""
    # Above its rate a rule lets what matches go on to the next.
    if one.rule.per_minute or one.rule.protocol not in {Protocol.ANY, other.rule.protocol}:
        return False
    if one.vpn not in {"", other.vpn}:
        return False
    return _covers_ports(one.rule, other.rule) and _covers_peers(one, other)


def _covers_ports(one: Rule, other: Rule) -> bool:
    if not one.ports:
        return True
    return bool(other.ports) and all(
        any(mine.first <= ports.first and ports.last <= mine.last for mine in one.ports) for ports in other.ports
    )


def _covers_peers(one: Line, other: Line) -> bool:
    if not one.rule.peers or one.networks == other.networks != ():
        return True
    if not other.rule.peers:
        return False
    return all(any(inside(network, mine) for mine in parsed(one.networks)) for network in parsed(other.networks))
