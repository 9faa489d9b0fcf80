"""``salvusctl vpn revoke`` and ``admit``: who is let in nowhere, proved on each machine; and who may come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from controller.clock import rfc3339
from controller.store.base import Access, Conflict
from controller.store.records import Condition
from drivers.base import Absent, Present, State, Unknown
from drivers.items.tunnel import Tunnel
from resources.fleet import did_you_mean
from resources.vpn_keys import revoked_since
from salvusctl import out
from salvusctl.apply import TimeoutOption, WaitOption
from salvusctl.exits import Code, Missing
from salvusctl.flags import OutputOption, TextOrJson, context_of
from salvusctl.fleet import reaching
from salvusctl.vpn_outputs import RefusalOutput, RevocationOutput, VpnRevoke
from salvusctl.vpn_rotate import vpn_named

if TYPE_CHECKING:
    from controller.knowledge import Knowledge
    from controller.session import Session
    from resources.vpn_nodes import Node, Vpn

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="A machine, or a VPNNode outside the fleet.")]
VpnOption = Annotated[str | None, typer.Option("--vpn", metavar="NAME", help="In this VPN only, not in all it is in.")]


NOT_THERE = "the VPN does not run there"


def revoke(
    ctx: typer.Context,
    node: NodeArgument,
    name: VpnOption = None,
    timeout: TimeoutOption = 60.0,
    output: OutputOption = TextOrJson.TEXT,
) -> int:
    """Have a node let in nowhere, for good, and prove it.

    Its key is taken off all other machines, and its name out of their /etc/hosts. Each of them is asked then whether
    its daemon still has the key; and if the node itself can be reached, it is tried from there, with the key that it
    still has, whether anybody answers. Only then its own side is removed. Ends with 1 while a machine may still let it
    in, as one that is away; call it again to go on. salvusctl vpn admit lets the node in again, with another key.
    """
    with reaching(context_of(ctx), Access.WRITE) as session:
        knowledge = session.knowledge()
        vpns = _in(knowledge, node, name)
        _begin(session, knowledge, vpns, node, say=output is TextOrJson.TEXT)
        _wait(session, vpns, node, timeout)
        found = tuple(_proved(session, vpn, node) for vpn in vpns)
    if output is TextOrJson.JSON:
        out.emit(VpnRevoke(items=found))
    else:
        for one in found:
            _show(one)
    return Code.OK if all(one.refused for one in found) else Code.DIFFERENT


def admit(
    ctx: typer.Context,
    node: NodeArgument,
    name: VpnOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = 300.0,
) -> int:
    """Let a node in again that was revoked, with a key that it never had, and wait until it is in the network."""
    from controller.present import pending
    from controller.vpn_keys import admit as decide
    from salvusctl.follow import follow

    with reaching(context_of(ctx), Access.WRITE) as session:
        knowledge = session.knowledge()
        world = knowledge.world()
        vpns = _in(knowledge, node, name)
        for vpn in vpns:
            back = decide(session.ledger, vpn, node, world)
            out.say(f"{vpn.ref}: {node} {'may come back, with another key' if back else 'is not revoked'}")
        refs = [vpn.ref for vpn in vpns]
        done = not wait or follow(session, refs, lambda now: pending(now, refs), done="Ready", timeout=timeout)
        return Code.OK if done else Code.DIFFERENT


def _in(knowledge: Knowledge, node: str, name: str | None) -> tuple[Vpn, ...]:
    """The VPNs that a node is or was in. Raises Missing."""
    from resources.vpn_nodes import nodes, revoked
    from resources.vpn_rotation import keyed

    world = knowledge.world()
    vpns = tuple(knowledge.fleet.of("VPN")) if name is None else (vpn_named(knowledge, name),)
    names = {
        vpn.ref: {one.name for one in nodes(vpn, world)} | revoked(vpn, world).keys() | keyed(vpn, world)
        for vpn in vpns
    }
    found = tuple(vpn for vpn in vpns if node in names[vpn.ref])
    if not found:
        where = "in any VPN" if name is None else f"in VPN/{name}"
        among = did_you_mean(node, frozenset().union(*names.values()))
        raise Missing(f"there is no node {node!r} {where}{among}", hint="salvusctl vpn status")
    return found


def _begin(session: Session, knowledge: Knowledge, vpns: Iterable[Vpn], node: str, *, say: bool) -> None:
    from controller.vpn_keys import revoke as decide

    world = knowledge.world()
    for vpn in vpns:
        new = decide(session.ledger, vpn, node, world, time.time())
        if say:
            out.say(f"{vpn.ref}: {node} is revoked{'' if new else ' already'}")


def _wait(session: Session, vpns: tuple[Vpn, ...], node: str, timeout: float) -> None:
    """Until nobody lets it in, as far as machines told, or those who do are known to be away."""
    from salvusctl.follow import follow

    refs = [vpn.ref for vpn in vpns]
    follow(
        session,
        refs,
        lambda now: _open(now, vpns, node),
        done=f"closed to {node}, as far as machines told",
        timeout=timeout,
    )


def _open(knowledge: Knowledge, vpns: Iterable[Vpn], node: str) -> Mapping[str, Condition]:
    found: dict[str, Condition] = {}
    for vpn in vpns:
        if vpn.ref in knowledge.rows and (late := still_let_in(knowledge, vpn, node)):
            generation = knowledge.rows[vpn.ref].generation
            away = all(_away(knowledge, vpn.ref, machine) for machine in late)
            # Of who is away nothing is to be expected: there is no use in waiting.
            reason = "Stalled" if away else "Progressing"
            message = f"{', '.join(late)} let{'s' if len(late) == 1 else ''} {node} in{', and cannot be asked' * away}"
            found[vpn.ref] = Condition("Ready", "False", reason, message, time.time(), generation)
    return found


def _away(knowledge: Knowledge, ref: str, machine: str) -> bool:
    status = knowledge.statuses.get(ref, {}).get(machine)
    return status is not None and any(one.reason == "Unreachable" for one in status.conditions)


def still_let_in(knowledge: Knowledge, vpn: Vpn, node: str) -> tuple[str, ...]:
    """The machines whose daemons let it in, as they told last."""
    from resources.vpn_nodes import nodes
    from resources.vpn_rotation import recognizes, trusting

    world = knowledge.world()
    others = [one for one in nodes(vpn, world) if one.name != node]
    return trusting(vpn, recognizes(vpn, node, world), others, world)


def _proved(session: Session, vpn: Vpn, node: str) -> RevocationOutput:
    """Asks all, tries it, and ends it when nobody lets the node in. Raises Conflict when somebody admitted it."""
    from controller.asking import ask
    from controller.vpn_keys import prove
    from resources.vpn_items import telling
    from resources.vpn_nodes import leaving, nodes, revoked
    from resources.vpn_rotation import recognizes

    knowledge = session.knowledge()
    world = knowledge.world()
    kept = revoked(vpn, world).get(node)
    if kept is None:
        raise Conflict(f"somebody let {node} in again in {vpn.ref} meanwhile: salvusctl vpn status {vpn.name}")
    others = [one for one in nodes(vpn, world) if one.machine]
    tried_from = [node] if node in leaving(vpn, world) else []
    items = {name: telling(vpn, name, world) for name in (*(one.name for one in others), *tried_from)}
    said = ask(session, items)
    trying, why_not = _tried(session, vpn, others, said.get(node))
    it = recognizes(vpn, node, world)
    found = tuple(_refusal(one, said[one.name], f"trusted/{one.name}", it, trying) for one in others)
    refused = all(one.refused for one in found)
    if refused:
        prove(session.ledger, vpn, node, world)
    since = rfc3339(revoked_since(kept))
    return RevocationOutput(vpn=vpn.name, node=node, since=since, refused=refused, untried=why_not, nodes=found)


def _tried(session: Session, vpn: Vpn, others: Iterable[Node], said: State | None) -> tuple[State | None, str | None]:
    """What the revoked machine reaches with the key that it still has, or why that was not tried."""
    from controller.asking import ask
    from resources.vpn_turn import on

    if said is None:
        return None, "it has nothing of the VPN any more, or is not in the fleet"
    if isinstance(said, Unknown):
        return None, said.reason
    if isinstance(said, Absent) or not said.facts:
        return None, NOT_THERE
    (name,) = {what.partition("/")[2] for what in said.facts}
    addresses = tuple(one.address for one in others if one.address)
    there = on(vpn, name, session.knowledge().world())
    answer = ask(session, {name: Tunnel(there.spec.device(vpn.name), addresses)})[name]
    return (answer, None) if isinstance(answer, Present) else (None, "it cannot be tried from there")


def _refusal(other: Node, said: State, trusted: str, it: Callable[[str], bool], trying: State | None) -> RefusalOutput:
    has: bool | None = None
    silent = None
    if isinstance(said, Present) and trusted in said.facts:
        has = any(map(it, said.facts[trusted].split()))
    else:
        # Without a pair, too: who knows with what its daemon was started.
        silent = said.reason if isinstance(said, Unknown) else NOT_THERE
    reached = trying.fields.get("reached", ()) if isinstance(trying, Present) else None
    answers = None
    if isinstance(reached, tuple):
        answers = any(str(one).split(" ")[0] == other.address for one in reached)
    return RefusalOutput(
        node=other.name, refused=has is False and answers is not True, has_key=has, answers=answers, silent=silent
    )


def _show(one: RevocationOutput) -> None:
    rows = [(node.node, "refused" if node.refused else "open", _why(node)) for node in one.nodes]
    out.table(("NODE", one.node.upper(), "WHY"), rows)
    if one.untried is not None:
        out.note(f"VPN/{one.vpn}: it was not tried from {one.node}: {one.untried}")
    if not one.refused:
        late = ", ".join(node.node for node in one.nodes if not node.refused)
        out.warn(f"VPN/{one.vpn}: {late} may let {one.node} in; call this again when it can be asked")


def _why(node: RefusalOutput) -> str:
    if node.silent is not None:
        return f"cannot be asked: {node.silent}"
    key = "its daemon has the key" if node.has_key else "its daemon does not have the key"
    tried = {None: "", True: "; it answered when it was tried", False: "; it did not answer when it was tried"}
    return f"{key}{tried[node.answers]}"
