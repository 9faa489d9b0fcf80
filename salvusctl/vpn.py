"""``salvusctl vpn``: who reaches whom in a VPN, tried through its tunnels; and other keys."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from controller.clock import rfc3339
from controller.store.base import Access
from drivers.base import Present, State, Unknown
from resources.vpn_keys import is_open, revoked_since
from salvusctl import out
from salvusctl.exits import Code
from salvusctl.flags import OutputOption, TextOrJson, context_of, verb_app
from salvusctl.fleet import reaching
from salvusctl.vpn_outputs import NetworkOutput, NodeOutput, ReachOutput, RevokedOutput, VpnStatus
from salvusctl.vpn_revoke import admit, revoke, still_let_in
from salvusctl.vpn_rotate import rotate, vpn_named

if TYPE_CHECKING:
    from controller.session import Session
    from resources.vpn_nodes import Node, Vpn

HEADINGS = ("FROM", "ADDRESS", "ENDPOINT", "KEY", "HANDSHAKE")
app = verb_app(no_args_is_help=True)


@app.callback()
def vpn() -> None:
    """Private networks: see who reaches whom; give machines other keys, or shut them out."""


app.command()(rotate)
app.command()(revoke)
app.command()(admit)


@app.command()
def status(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="Only these VPNs.")] = None,
    output: OutputOption = TextOrJson.TEXT,
) -> int:
    """Try who reaches whom: each machine pings all others through the tunnel, many at the same time.

    A row is who asks, a column who answers: milliseconds there and back, - for no answer, ? where nobody could be
    asked. KEY is how long it has used its key, HANDSHAKE how long ago it had one with the peer that it last heard of
    longest ago (WireGuard). Ends with 1 when a machine does not reach another one or cannot be asked, and while a
    revoked node may still be let in.
    """
    with reaching(context_of(ctx), Access.READ) as session:
        networks = tuple(_network(session, one) for one in _meant(session, names))
    if output is TextOrJson.JSON:
        out.emit(VpnStatus(networks=networks))
    else:
        for one in networks:
            _show(one)
        if not networks:
            out.note("there is no VPN")
    fine = all(one.complete and all(gone.proved for gone in one.revoked) for one in networks)
    return Code.OK if fine else Code.DIFFERENT


def _meant(session: Session, names: Sequence[str] | None) -> tuple[Vpn, ...]:
    knowledge = session.knowledge()
    there = [one.name for one in knowledge.fleet.of("VPN")]
    return tuple(vpn_named(knowledge, name) for name in dict.fromkeys(names or there))


def _network(session: Session, vpn: Vpn) -> NetworkOutput:
    from controller.asking import ask
    from controller.vpn_reach import question
    from controller.vpn_state import keys_since
    from resources.vpn_nodes import everybody, revoked
    from resources.vpn_turn import on

    knowledge = session.knowledge()
    world = knowledge.world()
    nodes = everybody(vpn, world)
    said = ask(session, {me.name: question(on(vpn, me.name, world), me, nodes) for me in nodes if me.machine})
    since = keys_since(vpn, world)
    shown = tuple(_node(me, nodes, said.get(me.name), since.get(me.name)) for me in nodes)
    machines = {node.name for node in nodes if node.machine}
    whole = all(one.silent is None and _reaches(one) >= machines - {one.node} for one in shown if one.machine)
    out_of_it = tuple(
        RevokedOutput(
            node=name,
            since=rfc3339(revoked_since(value)),
            proved=not is_open(value),
            let_in_by=still_let_in(knowledge, vpn, name),
        )
        for name, value in revoked(vpn, world).items()
    )
    return NetworkOutput(vpn=vpn.name, driver=vpn.spec.driver, complete=whole, nodes=shown, revoked=out_of_it)


def _reaches(node: NodeOutput) -> set[str]:
    return {one.node for one in node.reaches if one.milliseconds is not None}


def _node(me: Node, others: Sequence[Node], said: State | None, since: float | None) -> NodeOutput:
    from controller.vpn_reach import reached

    found = reached(me, others, said) if isinstance(said, Present) else ()
    return NodeOutput(
        node=me.name,
        machine=me.machine,
        address=me.address or None,
        endpoint=_endpoint(me),
        hub=me.hub,
        key=me.public_key is not None,
        generation=me.generation,
        since=rfc3339(since) if since is not None else None,
        silent=said.reason if isinstance(said, Unknown) else None,
        reaches=tuple(
            ReachOutput(node=one.node, milliseconds=one.milliseconds, handshake=one.handshake, endpoint=one.endpoint)
            for one in found
        ),
    )


def _endpoint(node: Node) -> str | None:
    from resources.vpn_spec import shown

    return shown(*node.endpoint) if node.endpoint is not None else None


def _show(network: NetworkOutput) -> None:
    names = [node.node for node in network.nodes]
    out.say(f"{network.vpn} ({network.driver})")
    out.table((*HEADINGS, *names), [_row(node, names) for node in network.nodes if node.machine])
    for node in network.nodes:
        if node.silent is not None:
            out.warn(f"{node.node} cannot be asked: {node.silent}")
        elif not node.key:
            out.warn(f"the public key of {node.node} is not known yet")
    for gone in network.revoked:
        if not gone.proved:
            by = f"; {', '.join(gone.let_in_by)} let it in still" if gone.let_in_by else ""
            out.warn(f"{gone.node} is revoked, which is not proved{by}: salvusctl vpn revoke {gone.node}")


def _row(node: NodeOutput, names: Sequence[str]) -> tuple[str, ...]:
    took = {one.node: "-" if one.milliseconds is None else f"{one.milliseconds:.1f}" for one in node.reaches}
    cells = ("" if name == node.node else took.get(name, "?") for name in names)
    handshakes = [one.handshake for one in node.reaches if one.handshake is not None]
    oldest = out.age(max(handshakes)) if handshakes else "-"
    return (node.node, node.address or "none", node.endpoint or "-", _age(node.since), oldest, *cells)


def _age(since: str | None) -> str:
    return "-" if since is None else out.age(time.time() - datetime.fromisoformat(since).timestamp())
