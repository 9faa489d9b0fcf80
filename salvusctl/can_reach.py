"""``salvusctl can-reach``: whether a machine may connect to another one, and which rules decide that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resources.errors import field_name
from salvusctl import out
from salvusctl.exits import Code, UseError
from salvusctl.firewall_outputs import PathOutput, Reached, VerdictOutput
from salvusctl.flags import OutputOption, TextOrJson, context_of, verb_app
from salvusctl.world import OverOption, world_of

if TYPE_CHECKING:
    from resources.reach import Answer, Verdict

app = verb_app()


@app.command()
def can_reach(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="A", help="Who connects: a machine, a Service, or world.")],
    destination: Annotated[str, typer.Argument(metavar="B[:PORT[/udp]]", help="To whom, and at which port.")],
    files: OverOption = None,
    output: OutputOption = TextOrJson.TEXT,
) -> int:
    """Say whether a machine may connect to another, and what decides.

    That is what the Firewalls of both ends let through, as it is written; no machine is asked. Of a Service each of its
    machines is meant. Without a port: whether any connection at all comes about. Exits with 0 for yes, 1 for no, 2 when
    it cannot be told.
    """
    from resources.reach_claims import read_target
    from resources.reach_ends import Ends, told

    world = world_of(context_of(ctx), files)
    try:
        answers = tuple(Ends(world).answers(source, read_target(destination)))
    except ValueError as error:
        raise UseError(str(error), hint="salvusctl get hosts,vms,services") from error
    reached = all(answer.reached for answer in answers)
    if output is TextOrJson.JSON:
        paths = tuple(map(_path, answers))
        out.emit(Reached(source=source, destination=destination, reached=reached, paths=paths))
    else:
        for answer in answers:
            out.say(f"{'yes' if answer.reached else 'no'}: {told(answer)}")
    return Code.OK if reached else Code.DIFFERENT


def _path(answer: Answer) -> PathOutput:
    trial = answer.trial
    packet = trial.packet if trial else None
    return PathOutput(
        source=answer.source,
        destination=answer.destination,
        reached=answer.reached,
        source_address=(packet.source or None) if packet else None,
        destination_address=(packet.destination or None) if packet else None,
        protocol=packet.protocol.value if packet else None,
        port=(packet.port or None) if packet else None,
        egress=_verdict(trial.egress) if trial else None,
        ingress=_verdict(trial.ingress) if trial else None,
    )


def _verdict(verdict: Verdict) -> VerdictOutput:
    return VerdictOutput(
        action=verdict.action.value,
        why=verdict.why,
        resource=verdict.ref or None,
        field=field_name(verdict.path) or None,
    )
