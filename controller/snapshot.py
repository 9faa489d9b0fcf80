"""The controller's state at a scrape of its metrics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from controller.knowledge import Knowledge
from controller.members import shard_of
from controller.metrics import Snapshot
from controller.reconcile import Outcome
from controller.runner import Runner
from controller.summary import merged
from controller.vpn_reach import Probed
from controller.vpn_state import vpn_key_ages, vpn_nodes, vpn_peers

NOTHING: Mapping[tuple[str, str], Probed] = MappingProxyType({})


def snapshot(runner: Runner, probed: Mapping[tuple[str, str], Probed] = NOTHING) -> Snapshot:
    """Reads only what is in memory; ``probed`` is what machines said of VPNs, by VPN and machine."""
    held = runner.engine.leases.held()
    # Of a machine that another controller has taken over, ours may be old.
    outcomes = {m: outcome for m, outcome in dict(runner.engine.outcomes).items() if shard_of(m) in held}
    world = runner.engine.knowledge.world()
    return Snapshot(
        queue_depth=runner.queue.depth(),
        queue_oldest=runner.queue.oldest(),
        reachable={machine: not outcome.unreachable for machine, outcome in outcomes.items()},
        items={(m, state): n for m, outcome in outcomes.items() for state, n in item_states(outcome).items()},
        resources=_resources(runner.engine.knowledge),
        leases=held,
        paused=tuple(runner.engine.pausing.in_force()),
        pinned=tuple(runner.engine.pins()),
        store_nodes=runner.engine.store_nodes(),
        controllers=runner.engine.leases.controllers(),
        vpn_nodes=vpn_nodes(world),
        vpn_key_ages=vpn_key_ages(world, time.time()),
        vpn_peers=vpn_peers(world, probed, {m for m, outcome in outcomes.items() if not outcome.unreachable}),
    )


def item_states(outcome: Outcome) -> dict[str, int]:
    """How many of a machine's items are in which state after its last pass."""
    left = outcome.left
    drifted, held, unknown = len(left.changes), len(left.held), len(left.unknown)
    wanted = len(outcome.lowered.wanted)
    return {"in_sync": max(0, wanted - drifted - held - unknown), "drifted": drifted, "held": held, "unknown": unknown}


def _resources(knowledge: Knowledge) -> dict[tuple[str, str, str], int]:
    return dict(
        Counter(
            (row.ref.partition("/")[0], condition.type, condition.status)
            for row in knowledge.rows.values()
            for condition in merged(row, knowledge.statuses.get(row.ref, {}))
        )
    )
