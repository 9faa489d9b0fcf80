"""Decisions about the keys of VPNs: another one for a node, none that is let in, one again. Machines act on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from controller.store.base import Conflict
from controller.store.ledger import Ledger
from drivers.base import Rejected
from resources.vpn_keys import (
    IN_USE,
    KEY,
    REVOKED,
    SEEN,
    TRUSTED,
    due,
    generation,
    generation_of,
    has_key,
    is_open,
    is_out,
    key_fact,
    key_value,
    oldest,
    revoked_as,
    revoked_value,
    seen_since,
    seen_value,
)
from resources.vpn_nodes import generations, members, outside_key, resources_of
from resources.vpn_rotation import in_use, keyed, told
from resources.world import ALL

if TYPE_CHECKING:
    from resources.vpn_nodes import Vpn
    from resources.world import World


def rotate(ledger: Ledger, vpn: Vpn, node: str, world: World) -> int | None:
    """Has a node make another key and turn to it; returns its generation. None when it makes one already.

    Raises Conflict when somebody else decides about the same key.
    """
    wanted, used = generations(vpn, node, world)
    if wanted != used or world.known_fact(vpn.ref, key_fact(used, node)) is None:
        return None
    what = f"{KEY}/{node}"
    before = world.known_allocation(vpn.ref, what)
    _decide(ledger, vpn, node, {what: before}, {what: key_value(wanted + 1, first=oldest(before))})
    forget_keys(ledger, vpn, node, world, lambda one: one < used)
    return wanted + 1


def note_keys(ledger: Ledger, world: World, now: float) -> bool:
    """Notes of each key that it is in use since now, when it is first seen so. Returns whether any was.

    Raises Conflict.
    """
    wrote = False
    for vpn in world.select("VPN", ALL):
        noted = world.pool(vpn.ref, SEEN)
        used = in_use(vpn, world)
        new = {name: key for name, key in used.items() if seen_since(noted.get(name), key) is None}
        if new:
            before = {f"{SEEN}/{name}": noted.get(name) for name in new}
            after = {f"{SEEN}/{name}": seen_value(now, key) for name, key in new.items()}
            _decide(ledger, vpn, ", ".join(new), before, after)
            wrote = True
    return wrote


def keep_young(ledger: Ledger, world: World, now: float) -> tuple[bool, float]:
    """Has keys rotated that are as old as their VPNs allow. Returns whether any was, and when to look next.

    Raises Conflict.
    """
    wrote, soonest = False, float("inf")
    for vpn in world.select("VPN", ALL):
        if (age := vpn.spec.rotate_keys_after) is not None:
            for machine in members(vpn, world):
                at = _due(vpn, machine.name, age, world)
                if at <= now:
                    rotate(ledger, vpn, machine.name, world)
                    at = due(now, age, machine.name)
                    wrote = True
                soonest = min(soonest, at)
    return wrote, soonest


def _due(vpn: Vpn, node: str, age: int, world: World) -> float:
    wanted, used = generations(vpn, node, world)
    key = world.known_fact(vpn.ref, key_fact(used, node))
    since = seen_since(world.known_allocation(vpn.ref, f"{SEEN}/{node}"), key or "")
    # It turns already, or is not seen to use a key yet: each step of that is told, and then this is asked again.
    return due(since, age, node) if wanted == used and since is not None else float("inf")


def revoke(ledger: Ledger, vpn: Vpn, node: str, world: World, now: float) -> bool:
    """Has a node let in nowhere, until it is admitted, and its keys under no name; False when that is so already.

    Raises Conflict.
    """
    what = f"{REVOKED}/{node}"
    before = world.known_allocation(vpn.ref, what)
    if is_out(before):
        return False
    _decide(ledger, vpn, node, {what: before}, {what: revoked_value(now, _keys(vpn, node, world), before)})
    return True


def _keys(vpn: Vpn, node: str, world: World) -> set[str]:
    """The public keys of a node. Those that another one has, too, it may tell to have that one shut out."""
    others = {key for other in keyed(vpn, world) - {node} for _, key in told(vpn, other, world)}
    others |= {(one.spec.public_key or "").strip() for one in resources_of(vpn, world) if one.name != node}
    own = {key for _, key in told(vpn, node, world)} - others
    return (own | {outside_key(vpn, node, world)}) - {""}


def prove(ledger: Ledger, vpn: Vpn, node: str, world: World) -> None:
    """Notes that a revoked node is let in nowhere: what it has is removed there. Raises Conflict."""
    what = f"{REVOKED}/{node}"
    before = world.known_allocation(vpn.ref, what)
    if before is not None and is_open(before):
        _decide(ledger, vpn, node, {what: before}, {what: revoked_as("proved", before)})


def admit(ledger: Ledger, vpn: Vpn, node: str, world: World) -> bool:
    """Lets a revoked node in again, with a key that it never told; False when it is not revoked.

    Raises Conflict, and Rejected for a node outside the fleet of which the manifest has the revoked key.
    """
    what, key = f"{REVOKED}/{node}", f"{KEY}/{node}"
    before, generation_before = (world.known_allocation(vpn.ref, one) for one in (what, key))
    if before is None or not is_out(before):
        return False
    if (outside := outside_key(vpn, node, world)) and has_key(before, outside):
        raise Rejected(
            f"the publicKey of VPNNode/{node} is the one that was revoked", hint="write its new one, and apply that"
        )
    number = generation(generation_before) + 1
    after = {what: revoked_as("admitted", before), key: key_value(number, first=number)}
    _decide(ledger, vpn, node, {what: before, key: generation_before}, after)
    forget_keys(ledger, vpn, node, world, lambda one: one < number)
    ledger.drop_facts(vpn.ref, [f"{IN_USE}/{node}", f"{TRUSTED}/{node}"])
    return True


def _decide(
    ledger: Ledger, vpn: Vpn, node: str, before: Mapping[str, str | None], after: Mapping[str, str | None]
) -> None:
    if not ledger.decide_anew(vpn.ref, before, after):
        raise Conflict(f"somebody else decides about the key of {node} in {vpn.ref}; try again")


def forget_keys(ledger: Ledger, vpn: Vpn, node: str, world: World, over: Callable[[int], bool]) -> None:
    """Forgets the public keys of a node of generations that are ``over``."""
    of_node = (what for ref, what in world.known.facts if ref == vpn.ref and what.partition("/")[2] == node)
    numbers = {what: generation_of(what) for what in of_node}
    ledger.drop_facts(vpn.ref, [what for what, number in numbers.items() if number is not None and over(number)])
