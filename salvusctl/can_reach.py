"""``salvusctl can-reach``: whether a machine may connect to another one, and which rules decide that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from resources.errors import field_name
from salvusctl import out
from salvusctl.exits import Code, UseError
from salvusctl.firewall_outputs import AttemptOutput, PathOutput, Reached, VerdictOutput
from salvusctl.flags import OutputOption, TextOrJson, context_of, verb_app
from salvusctl.world import OverOption, world_of

if TYPE_CHECKING:
    from resources.reach import Answer, Verdict
    from resources.reach_claims import Target
    from resources.reach_live import Tried
    from resources.world import World
    from salvusctl.config import Context

app = verb_app()
LiveOption = Annotated[
    bool, typer.Option("--live", help="Prove it: connect now, from the machines themselves. Nothing is changed.")
]


@app.command()
def can_reach(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="A", help="Who connects: a machine, a Service, or world.")],
    destination: Annotated[str, typer.Argument(metavar="B[:PORT[/udp]]", help="To whom, and at which port.")],
    files: OverOption = None,
    live: LiveOption = False,
    output: OutputOption = TextOrJson.TEXT,
) -> int:
    """Say whether a machine may connect to another, and what decides.

    That is what the Firewalls of both ends let through, as it is written; no machine is asked. Of a Service each of its
    machines is meant. Without a port: whether any connection at all comes about. Exits with 0 for yes, 1 for no, 2 when
    it cannot be told.

    With --live it is tried by each pair of addresses, and 0 and 1 are about what came of that: who is refused because
    nothing listens there was let through. It is said where that is not what is written.
    """
    from resources.reach_claims import read_target

    try:
        target = read_target(destination)
        if live:
            answers, tried = _live(context_of(ctx), source, target, files)
        else:
            answers, tried = _written(world_of(context_of(ctx), files), source, target), None
    except ValueError as error:
        raise UseError(str(error), hint="salvusctl get hosts,vms,services") from error
    reached = all(answer.reached for answer in answers)
    proved = _proved(tried) if tried is not None else None
    if output is TextOrJson.JSON:
        paths = tuple(_path(answer, tried[n] if tried is not None else None) for n, answer in enumerate(answers))
        out.emit(Reached(source=source, destination=destination, reached=reached, live=proved, paths=paths))
    elif tried is None:
        _show(answers)
    else:
        _show_live(answers, tried)
    return Code.OK if (reached if tried is None else proved) else Code.DIFFERENT


def _written(world: World, source: str, target: Target) -> Sequence[Answer]:
    from resources.reach_ends import Ends

    return tuple(Ends(world).answers(source, target))


def _live(
    context: Context, source: str, target: Target, files: object
) -> tuple[Sequence[Answer], Sequence[Sequence[Tried]]]:
    """What is written of each pair of machines, and what came of trying. Raises ValueError, SalvusError."""
    from controller.store.base import Access
    from resources.reach import reach
    from resources.reach_ends import Ends
    from resources.reach_live import untried
    from salvusctl.fleet import reaching
    from salvusctl.live import try_all, world_in_force

    if files:
        raise UseError("--live tries what is in force, and not what is in --file", hint="leave out one of them")
    if why := untried(source, target):
        raise UseError(f"--live: {why}")
    with reaching(context, Access.READ) as session:
        pairs = tuple(Ends(world_in_force(session)).pairs(source, target))
        answers = tuple(reach(one, other, target.port, target.protocol) for one, other in pairs)
        return answers, try_all(session, [(one, other, target) for one, other in pairs])


def _proved(tried: Sequence[Sequence[Tried]]) -> bool | None:
    from resources.reach_live import through

    found = {through(one) for one in tried}
    return False if False in found else None if None in found else True


def _show(answers: Sequence[Answer]) -> None:
    from resources.reach_ends import told

    for answer in answers:
        out.say(f"{'yes' if answer.reached else 'no'}: {told(answer)}")


def _show_live(answers: Sequence[Answer], tried: Sequence[Sequence[Tried]]) -> None:
    for answer, found in zip(answers, tried, strict=True):
        if not found:
            _show([answer])
        for one in found:
            out.say(f"{_WORDS[one.through]}: {one}")
            if one.doubt:
                out.warn(one.doubt)


_WORDS = {True: "yes", False: "no", None: "unknown"}


def _path(answer: Answer, tried: Sequence[Tried] | None) -> PathOutput:
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
        live=tuple(map(_attempt, tried)) if tried is not None else None,
    )


def _attempt(one: Tried) -> AttemptOutput:
    packet = one.trial.packet
    return AttemptOutput(
        source_address=packet.source,
        destination_address=packet.destination,
        outcome=one.outcome.value,
        reached=one.through,
        written=one.trial.allowed,
        message=one.doubt or one.what,
    )


def _verdict(verdict: Verdict) -> VerdictOutput:
    return VerdictOutput(
        action=verdict.action.value,
        why=verdict.why,
        resource=verdict.ref or None,
        field=field_name(verdict.path) or None,
    )
