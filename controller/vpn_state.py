"""How VPNs stand, as numbers: nodes by state, the age of keys, who reaches whom. Pure; reads what is in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from controller.vpn_reach import Probed, Reach, VpnPeers
from resources.vpn_keys import SEEN, is_open, key_fact, seen_since
from resources.vpn_nodes import generations, members, nodes, revoked
from resources.vpn_rotation import in_use
from resources.world import ALL, World

if TYPE_CHECKING:
    from resources.vpn_nodes import Node, Vpn

# Of a machine in a VPN: its key is known; it turns to another one; none is known yet. ``revoked``: not yet proved.
STATES = ("known", "turning", "unknown", "revoked")
# Of a VPN with more nodes than this, only pairs with a hub have series of their own, and with so many hubs at most.
PAIRS = 32


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


def vpn_peers(world: World, probed: Mapping[tuple[str, str], Probed], machines: Collection[str]) -> VpnPeers:
    """How these machines reach others that are in a VPN still; ``probed`` is what they said, by VPN and machine."""
    pairs: dict[tuple[str, str, str], tuple[Reach, float]] = {}
    asked: dict[tuple[str, str], int] = {}
    reached: dict[tuple[str, str], int] = {}
    for vpn in world.select("VPN", ALL):
        there = {node.name: node for node in nodes(vpn, world) if node.address}
        shown = _paired(tuple(there.values()))
        for name in there.keys() & machines:
            if (said := probed.get((vpn.name, name))) is not None:
                pairs |= {(vpn.name, name, one.node): (one, said.at) for one in said.reaches if one.node in shown}
                others = [one for one in said.reaches if one.node in there and there[one.node].machine]
                asked[vpn.name, name] = len(others)
                reached[vpn.name, name] = sum(one.milliseconds is not None for one in others)
    took = {pair: one.milliseconds for pair, (one, _) in pairs.items()}
    ago = {pair: (at, one.handshake) for pair, (one, at) in pairs.items()}
    return VpnPeers(
        reachable={pair: one is not None for pair, one in took.items()},
        round_trips={pair: one / 1000 for pair, one in took.items() if one is not None},
        handshakes={pair: at - one for pair, (at, one) in ago.items() if one is not None},
        asked=asked,
        reached=reached,
    )


def _paired(everybody: Sequence[Node]) -> frozenset[str]:
    """The nodes that are named as the other one of a pair."""
    hubs = [node for node in everybody if node.hub]
    return frozenset(node.name for node in (everybody if len(everybody) <= PAIRS else hubs[:PAIRS]))
