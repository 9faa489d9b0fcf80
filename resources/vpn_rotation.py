"""How a node of a VPN turns to another key with nobody losing sight of it. Pure.

It makes the next pair beside the one in use, and tells its public half; who let it in with the old key lets it in with
both, and tells so; then it turns; then the old one is let in nowhere, and removed. Each step follows from what is told,
so a rotation goes on wherever it was left, by whoever comes next.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from resources.vpn_keys import REVOKED, TRUSTED, generation_of, has_key, known_as, tinc_name
from resources.vpn_nodes import Node, Vpn, connected, everybody, outside_key
from resources.world import World


def turning(vpn: Vpn, me: Node, others: Iterable[Node], world: World) -> tuple[Node, str]:
    """The node with the key that it is to use now, and what its rotation waits for; empty when there is none."""
    if me.generation == me.wanted:
        return me, ""
    if me.next_key is None:
        return me, f"the next key of {me.name} is made, and told to the others"
    if late := unaware(vpn, me, others, world):
        return me, f"{me.name} turns to its next key when {', '.join(late)} let it in with that"
    return me.turned(), f"{me.name} turns to its next key"


def unaware(vpn: Vpn, me: Node, others: Iterable[Node], world: World) -> tuple[str, ...]:
    """The nodes that let it in with its present key, and not yet with the next one: it would be lost to them.

    Who never knew it is told of both. Who has a key and never told whom it lets in may do so. Nodes outside the fleet
    are told by hand.
    """
    driver = vpn.spec.driver
    old, new = (known_as(driver, one.name, one.generation, one.public_key or "") for one in (me, me.turned()))
    machines = (node for node in others if node.machine and connected(vpn, me, node))
    said = ((node, _trusted(vpn, node, world)) for node in machines)
    return tuple(n.name for n, them in said if (n.public_key if them is None else old in them and new not in them))


def unfinished(vpn: Vpn, name: str, world: World) -> str:
    """What the rotation of a node waits for, up to its end: the old key is let in nowhere. Empty when there is none."""
    them = everybody(vpn, world)
    me = next((node for node in them if node.name == name), None)
    if me is None:
        return ""
    others = tuple(node for node in them if node.name != name)
    if wait := turning(vpn, me, others, world)[1]:
        return wait
    before = [(number, key) for number, key in told(vpn, name, world) if number < me.generation]
    known = {known_as(vpn.spec.driver, name, number, key) for number, key in before}
    late = trusting(vpn, known.__contains__, others, world)
    return f"{', '.join(late)} still let {name} in with its old key" if late else ""


def trusting(vpn: Vpn, it: Callable[[str], bool], others: Iterable[Node], world: World) -> tuple[str, ...]:
    """The machines whose daemons let somebody in whom they know so (see ``known_as``), as they told last."""
    return tuple(node.name for node in others if node.machine and any(map(it, _trusted(vpn, node, world) or ())))


def recognizes(vpn: Vpn, name: str, world: World) -> Callable[[str], bool]:
    """Whether daemons know so (see ``known_as``) a node that is or was in the VPN, with any of its keys.

    Of one that is revoked that is so whatever the manifests say by now, or nothing.
    """
    # Where the driver changes, some know it as before. tinc does so under whichever number (see ``tinc_name``).
    named = re.compile(f"{tinc_name(name)}(K[0-9]+)?")
    keys = {key for _, key in told(vpn, name, world)} | {outside_key(vpn, name, world)}
    kept = world.known_allocation(vpn.ref, f"{REVOKED}/{name}")
    return lambda known: bool(named.fullmatch(known)) or known in keys or (kept is not None and has_key(kept, known))


def keyed(vpn: Vpn, world: World) -> frozenset[str]:
    """All that ever told a public key that is kept; a machine that is gone may still be let in by one that is away."""
    names = (what for ref, what in world.known.facts if ref == vpn.ref and generation_of(what) is not None)
    return frozenset(what.partition("/")[2] for what in names)


def in_use(vpn: Vpn, world: World) -> dict[str, str]:
    """The public key that each node uses, by name, as far as they are known."""
    return {node.name: node.public_key for node in everybody(vpn, world) if node.public_key is not None}


def told(vpn: Vpn, name: str, world: World) -> tuple[tuple[int, str], ...]:
    """All public keys that a machine told and that are kept, by generation."""
    facts = (
        (generation_of(what), value)
        for (ref, what), value in world.known.facts.items()
        if ref == vpn.ref and what.partition("/")[2] == name
    )
    return tuple((number, value.strip()) for number, value in facts if number is not None)


def _trusted(vpn: Vpn, other: Node, world: World) -> frozenset[str] | None:
    """Whom a machine's daemon lets in; None when it never told."""
    said = world.known_fact(vpn.ref, f"{TRUSTED}/{other.name}")
    return None if said is None else frozenset(said.split())
