"""Decisions about the keys of VPNs: another generation for a node. Written to the store; machines act on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from controller.store.base import Conflict
from controller.store.ledger import Ledger
from resources.vpn_keys import KEY, generation_of, key_value
from resources.vpn_nodes import generations

if TYPE_CHECKING:
    from resources.vpn_nodes import Vpn
    from resources.world import World


def rotate(ledger: Ledger, vpn: Vpn, node: str, world: World, now: float) -> int | None:
    """Has a node make another key and turn to it; returns its generation. None when it turns to one already.

    Raises Conflict when somebody else decides about the same key.
    """
    wanted, used = generations(vpn, node, world)
    if wanted != used:
        return None
    what = f"{KEY}/{node}"
    before = world.known_allocation(vpn.ref, what)
    if not ledger.decide_anew(vpn.ref, {what: before}, {what: key_value(wanted + 1, now, before)}):
        raise Conflict(f"somebody else decides about the key of {node} in {vpn.ref}; try again")
    forget_keys(ledger, vpn, node, world, lambda one: one < used)
    return wanted + 1


def forget_keys(ledger: Ledger, vpn: Vpn, node: str, world: World, over: Callable[[int], bool]) -> None:
    """Forgets the public keys of a node of generations that are ``over``."""
    of_node = (what for ref, what in world.known.facts if ref == vpn.ref and what.partition("/")[2] == node)
    numbers = {what: generation_of(what) for what in of_node}
    ledger.drop_facts(vpn.ref, [what for what, number in numbers.items() if number is not None and over(number)])
