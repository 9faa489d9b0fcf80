"""Which revision of a VPN a machine has: the one in force there, until it has its turn for another. Pure.

What is read at the start and what is told by a reload belong together, so a machine that waits changes neither for the
revision; all that others do (members, keys, revocations) it takes over in the network as it is there.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from resources.base import AnyResource, Gate
from resources.rollouts import IN_FORCE, gate, held, revision
from resources.world import World

if TYPE_CHECKING:
    from resources.vpn_nodes import Vpn


def on_trial(vpn: Vpn) -> str:
    """The fields that all nodes must share for the network to be one, as they count: see ``Kind.on_trial``."""
    spec = vpn.spec
    fields = {
        "cidr": spec.cidr,
        "driver": spec.driver,
        "interface": spec.device(vpn.name),
        "keepalive": spec.keepalive,
        "port": spec.listens_on,
    }
    return json.dumps(fields, separators=(",", ":"), sort_keys=True)


def before(vpn: Vpn, machine: AnyResource, world: World) -> Vpn | None:
    """The VPN with the revision that is in force on the machine, where that is another one than is written."""
    # Each rule of a packet filter asks.
    return world.once(f"before/{vpn.name}/{machine.name}", partial(_before, vpn, machine, world))


def _before(vpn: Vpn, machine: AnyResource, world: World) -> Vpn | None:
    told = _told(vpn, machine, world)
    if not told or told == revision(vpn):
        return None
    return replace(vpn, spec=vpn.spec.model_copy(update=json.loads(told.partition("@")[2])))


def _told(vpn: Vpn, machine: AnyResource, world: World) -> str | None:
    return world.known_fact(machine.ref, f"{IN_FORCE}/{vpn.ref}")


def has_just(vpn: Vpn, name: str, world: World) -> bool:
    """Whether just this revision is in force on the machine of that name."""
    machine = world.machine(name)
    return machine is not None and _told(vpn, machine, world) == revision(vpn)


def in_turn(vpn: Vpn, machine: AnyResource, world: World) -> tuple[Vpn, Gate | None]:
    """The VPN as it is to be on the machine now, and what it waits for until it is as written.

    The first set-up needs no turn, but is not made with what was put back elsewhere: it is not on trial.
    """
    if not _told(vpn, machine, world):
        return vpn, held(vpn, world)
    if (former := before(vpn, machine, world)) is None:
        return vpn, None
    wait = gate(machine, [vpn], world)
    return (former, wait) if wait is not None else (vpn, None)


def on(vpn: Vpn, name: str, world: World) -> Vpn:
    """The VPN as it is to be now on the machine of that name, if there is one."""
    machine = world.machine(name)
    return in_turn(vpn, machine, world)[0] if machine is not None else vpn
