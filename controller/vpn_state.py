"""How VPNs stand, as numbers: nodes by state, and how old their keys are. Pure; reads only what is in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from resources.vpn_keys import KEY, is_open, key_fact, key_since
from resources.vpn_nodes import generations, members, revoked
from resources.world import ALL, World

if TYPE_CHECKING:
    from resources.vpn_nodes import Vpn

# Of a machine in a VPN: its key is known; it turns to another one; none is known yet. ``revoked``: not yet proved.
STATES = ("known", "turning", "unknown", "revoked")


def vpn_nodes(world: World) -> Mapping[tuple[str, str], int]:
    """(VPN, state) → number of machines, of the revoked all nodes; each state of each VPN is there."""
    found: dict[tuple[str, str], int] = {}
    for vpn in world.select("VPN", ALL):
        count = Counter(_state(vpn, machine.name, world) for machine in members(vpn, world))
        count["revoked"] = sum(map(is_open, revoked(vpn, world).values()))
        found |= {(vpn.name, state): count[state] for state in STATES}
    return found


def _state(vpn: Vpn, machine: str, world: World) -> str:
    wanted, used = generations(vpn, machine, world)
    if world.known_fact(vpn.ref, key_fact(used, machine)) is None:
        return "unknown"
    return "known" if wanted == used else "turning"


def vpn_key_ages(world: World, now: float) -> Mapping[str, float]:
    """VPN → seconds since the oldest key of a machine in it was decided; none where nobody counts."""
    found: dict[str, float] = {}
    for vpn in world.select("VPN", ALL):
        kept = (world.known_allocation(vpn.ref, f"{KEY}/{machine.name}") for machine in members(vpn, world))
        since = [at for value in kept if (at := key_since(value)) is not None]
        if since:
            found[vpn.name] = max(0.0, now - min(since))
    return found
