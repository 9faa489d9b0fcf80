"""How VPNs stand, as numbers: nodes by state, and how old their keys are. Pure; reads only what is in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from resources.vpn_keys import SEEN, is_open, key_fact, seen_since
from resources.vpn_nodes import generations, members, revoked
from resources.vpn_rotation import in_use
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


def keys_since(vpn: Vpn, world: World) -> Mapping[str, float]:
    """Node → since when it was seen to use its key, in seconds since 1970, as far as that is noted."""
    noted = world.pool(vpn.ref, SEEN)
    seen = {name: seen_since(noted.get(name), key) for name, key in in_use(vpn, world).items()}
    return {name: since for name, since in seen.items() if since is not None}


def vpn_key_ages(world: World, now: float) -> Mapping[tuple[str, str], float]:
    """(VPN, node) → how old its key is, in seconds."""
    vpns = world.select("VPN", ALL)
    return {(vpn.name, name): max(0.0, now - at) for vpn in vpns for name, at in keys_since(vpn, world).items()}
