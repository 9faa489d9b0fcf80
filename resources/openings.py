"""Openings come first: a service of a new machine starts when those that are to let the machine in do so. Pure.

It is agreed by facts. A machine tells whom its rules let in by name, as digests of these with their addresses, as soon
as the rules are in force; a machine tells which services it has started. Who has told that asks nobody any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from resources.base import AnyResource, Gate
from resources.firewall_rules import firewalls_of
from resources.peers import Addresses, Peer
from resources.targets import Targets
from resources.world import ALL, STARTED, World

# The fact of a machine: digests of whom it lets in.
LETS_IN = "lets_in"


@dataclass(frozen=True, slots=True)
class _Door:
    """Machines that let peers in; those with a Firewall that derives where it is a Service that says so."""

    machines: Targets
    peers: tuple[Peer, ...]
    derived: bool


def _doors(world: World) -> Iterator[_Door]:
    for wall in world.select("Firewall", ALL):
        rules = (rule for rule in wall.spec.ingress if rule.action == "allow")
        yield _Door(wall.spec.machines, tuple(peer for rule in rules for peer in rule.from_ or ()), False)
    for service in world.select("Service", ALL):
        yield _Door(service.spec.machines, service.spec.clients or (), True)


def _has(door: _Door, machine: AnyResource, world: World) -> bool:
    """Whether it is a door of the machine."""
    walls = firewalls_of(machine, world) if door.machines.includes(machine) else ()
    return any(wall.spec.derive or not door.derived for wall in walls)


def lets_in(machine: AnyResource, world: World) -> str:
    """Whom the machine's rules let in by name."""
    doors = [door for door in _doors(world) if door.peers and _has(door, machine, world)]
    return " ".join(sorted(_digests((peer for door in doors for peer in door.peers), world)))


def _digests(peers: Iterable[Peer], world: World) -> set[str]:
    """The same wherever the peers are named, and others when their addresses are."""
    known = Addresses.known(world)
    named = (peer for peer in peers if peer.targets(world) is not None)
    return {world.once(f"peer/{peer.model_dump_json()}", partial(_digest, peer, known)) for peer in named}


def _digest(peer: Peer, known: Addresses) -> str:
    text = repr((peer.model_dump_json(), sorted(known.of_peer(peer).items())))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def gate(service: AnyResource, machine: AnyResource, world: World) -> Gate | None:
    """For whom a service waits before it is started on a machine: the first that answers and does not let it in yet."""
    if world.known_fact(service.ref, f"{STARTED}/{machine.name}"):
        return None
    naming = [(door, named) for door in _doors(world) if (named := _named(door, machine, world))]
    others = {other.name: other for door, _ in naming for other in door.machines.select(world)}
    for name in sorted(others.keys() - {machine.name}):
        other = others[name]
        needed = {digest for door, named in naming if _has(door, other, world) for digest in named}
        if not needed or needed <= set((world.known_fact(other.ref, LETS_IN) or "").split()):
            continue
        if world.condition(other.ref, "Reachable") == "True":
            text = f"waits until the rules of {name}, which are to let {machine.name} in, are in force"
            return Gate("WaitsForFirewall", f"{text}: salvusctl describe {other.ref}")
    return None


def _named(door: _Door, machine: AnyResource, world: World) -> set[str]:
    """The peers of a door who are meant to be the machine too."""
    who = ((peer, peer.targets(world)) for peer in door.peers)
    return _digests((peer for peer, targets in who if targets is not None and targets.includes(machine)), world)
