"""How a node of a VPN turns to another key with nobody losing sight of it. Pure.

It makes the next pair beside the one in use, and tells its public half; who let it in with the old key lets it in with
both, and tells so; then it turns; then the old one is let in nowhere, and removed. Each step follows from what is told,
so a rotation goes on wherever it was left, by whoever comes next.
"""

from __future__ import annotations

from collections.abc import Iterable

from resources.vpn_keys import TRUSTED, generation_of, known_as
from resources.vpn_nodes import Node, Vpn, connected, nodes, with_key
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

    Who never knew it is told of both; nodes outside the fleet are told by hand.
    """
    driver = vpn.spec.driver
    old, new = (known_as(driver, one.name, one.generation, one.public_key or "") for one in me.known_by)
    return tuple(node.name for node in others if old in (said := _said(vpn, me, node, world)) and new not in said)


def unfinished(vpn: Vpn, name: str, world: World) -> str:
    """What the rotation of a node waits for, up to its end: the old key is let in nowhere. Empty when there is none."""
    everybody = nodes(vpn, world)
    me = next((with_key(vpn, node, world) for node in everybody if node.name == name), None)
    if me is None:
        return ""
    others = tuple(node for node in everybody if node.name != name)
    if wait := turning(vpn, me, others, world)[1]:
        return wait
    before = [(number, key) for number, key in told(vpn, name, world) if number < me.generation]
    old = {known_as(vpn.spec.driver, name, number, key) for number, key in before}
    late = [node.name for node in others if old & _said(vpn, me, node, world)]
    return f"{', '.join(late)} still let {name} in with its old key" if late else ""


def told(vpn: Vpn, name: str, world: World) -> tuple[tuple[int, str], ...]:
    """All public keys that a machine told and that are kept, by generation."""
    facts = (
        (generation_of(what), value)
        for (ref, what), value in world.known.facts.items()
        if ref == vpn.ref and what.partition("/")[2] == name
    )
    return tuple((number, value.strip()) for number, value in facts if number is not None)


def _said(vpn: Vpn, me: Node, other: Node, world: World) -> frozenset[str]:
    if not other.machine or not connected(vpn, me, other):
        return frozenset()
    return frozenset((world.known_fact(vpn.ref, f"{TRUSTED}/{other.name}") or "").split())
