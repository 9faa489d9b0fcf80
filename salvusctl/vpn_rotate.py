"""``salvusctl vpn rotate``: other keys for nodes of VPNs, and nobody loses sight of them meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from controller.store.base import Access
from controller.store.records import Condition
from resources.fleet import did_you_mean
from salvusctl import out
from salvusctl.apply import TimeoutOption, WaitOption
from salvusctl.exits import Code, Missing, UseError
from salvusctl.flags import context_of
from salvusctl.fleet import reaching

if TYPE_CHECKING:
    from controller.knowledge import Knowledge
    from controller.session import Session
    from resources.vpn_nodes import Vpn

# What is rotated: nodes by VPN.
Turning = Mapping[str, Sequence[str]]


def rotate(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The VPN.")] = None,
    nodes: Annotated[list[str] | None, typer.Option("--node", help="Only this machine in it; may be repeated.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All machines of all VPNs.")] = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = 300.0,
) -> int:
    """Give machines in VPNs other keys, and wait until the old ones are let in nowhere.

    Each makes its next key beside the one in use; who lets it in does so with both for a while; then it turns, and the
    old key goes. A machine that is away keeps its key until it is back, and so does one that a machine which is away
    lets in: salvusctl why VPN NAME says for whom it waits.
    """
    if (name is None) != everything or (nodes and everything):
        raise UseError(
            "which keys?", hint="salvusctl vpn rotate NAME, with --node MACHINE; or salvusctl vpn rotate --all"
        )
    with reaching(context_of(ctx), Access.WRITE) as session:
        knowledge = session.knowledge()
        meant = _meant(knowledge, name, nodes)
        for ref, machines in meant.items():
            _begin(session, knowledge, ref, machines)
        return _turned(session, meant, timeout) if wait else Code.OK


def vpn_named(knowledge: Knowledge, name: str) -> Vpn:
    """The VPN of that name. Raises Missing."""
    found = knowledge.fleet.get("VPN", name)
    if found is None:
        names = [vpn.name for vpn in knowledge.fleet.of("VPN")]
        raise Missing(f"there is no VPN {name!r}{did_you_mean(name, names)}", hint="salvusctl get vpns")
    return found


def _meant(knowledge: Knowledge, name: str | None, wanted: Sequence[str] | None) -> Turning:
    from resources.vpn_nodes import members

    world = knowledge.world()
    vpns = tuple(knowledge.fleet.of("VPN")) if name is None else (vpn_named(knowledge, name),)
    machines = {vpn.ref: [machine.name for machine in members(vpn, world)] for vpn in vpns}
    for one in wanted or ():
        if one not in machines[vpns[0].ref]:
            among = did_you_mean(one, machines[vpns[0].ref])
            raise Missing(f"{one!r} is no machine in {vpns[0].ref}{among}", hint=f"salvusctl vpn status {name}")
    return {ref: list(dict.fromkeys(wanted)) if wanted else all_ for ref, all_ in machines.items()}


def _begin(session: Session, knowledge: Knowledge, ref: str, machines: Sequence[str]) -> None:
    from controller.vpn_keys import rotate as decide
    from resources.vpn_nodes import connected, nodes

    world = knowledge.world()
    vpn = vpn_named(knowledge, ref.partition("/")[2])
    for machine in machines:
        number = decide(session.ledger, vpn, machine, world)
        what = "makes a key already" if number is None else f"is to have another key, its {_th(number)}"
        out.say(f"{ref}: {machine} {what}")
    everybody = nodes(vpn, world)
    turning = [node for node in everybody if node.name in machines]
    for outside in (node for node in everybody if not node.machine):
        if known := [node.name for node in turning if connected(vpn, outside, node)]:
            whose = f"the new public keys of {', '.join(known)}"
            out.warn(f"{outside.name} is not in the fleet: give it {whose} yourself (salvusctl get {ref} -o json)")


def _th(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"


def _turned(session: Session, meant: Turning, timeout: float) -> int:
    from salvusctl.follow import follow

    done = follow(session, meant, lambda now: _left(now, meant), done="rotated", timeout=timeout)
    if done:
        out.note(f"{out.counted(sum(map(len, meant.values())), 'key')} rotated")
    return Code.OK if done else Code.DIFFERENT


def _left(knowledge: Knowledge, meant: Turning) -> Mapping[str, Condition]:
    """Why rotations have not ended, by VPN."""
    from controller.present import conditions
    from resources.vpn_rotation import unfinished

    world = knowledge.world()
    found: dict[str, Condition] = {}
    for ref, machines in meant.items():
        vpn = knowledge.fleet.get(*ref.split("/", 1))
        waits = [wait for one in machines if vpn is not None and (wait := unfinished(vpn, one, world))]
        if waits:
            ready = conditions(knowledge, ref)[0]
            row = knowledge.rows[ref]
            why = Condition("Ready", "False", "KeyRotating", waits[0], ready.since, row.generation)
            found[ref] = why if ready.status == "True" else ready
    return found
