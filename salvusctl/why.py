"""``salvusctl why``: what a resource waits for, since when, when it is looked at next, and the command that helps."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from controller.clock import rfc3339
from controller.pauses import explained, to_end
from controller.present import CURRENT, condition_document, conditions, machines, pause_document, settled
from controller.store.source_records import HELD_BY_BUDGET, PINNED, REFUSED, UNREADABLE
from salvusctl import out
from salvusctl.completing import WhatArgument
from salvusctl.exits import Code, UseError
from salvusctl.flags import OutputOption, TextOrJson, context_of, verb_app
from salvusctl.fleet import jobs_of, on_machines, pauses_of, reading, still_there

if TYPE_CHECKING:
    from controller.knowledge import Knowledge
    from controller.session import Session
    from controller.store.records import Condition, Pause, Run
    from salvusctl.resource_outputs import Pass, Reason

# By the reason for which something newer is not in force.
_HELD = {
    HELD_BY_BUDGET: "salvusctl approve    (shows what the budgets hold, and lets it through)",
    PINNED: "salvusctl unpin    (has the newest revision followed again)",
    REFUSED: "salvusctl validate    (shows all that is wrong in the manifests)",
    UNREADABLE: "salvusctl revisions    (shows why the manifests cannot be read)",
}
app = verb_app()


@app.command()
def why(
    ctx: typer.Context,
    words: WhatArgument = None,
    output: OutputOption = TextOrJson.TEXT,
) -> int:
    """Say what a resource waits for, since when, when it is looked at next, and the command that helps."""
    if not words:
        raise UseError("why what?", hint="salvusctl why NAME; salvusctl get all shows what is not Ready")
    with reading(context_of(ctx)) as session:
        knowledge = session.knowledge()
        refs = still_there(session, knowledge, words)
        if output is TextOrJson.JSON:
            from salvusctl.resource_outputs import Reasons

            out.emit(Reasons(items=tuple(_reason(session, knowledge, ref) for ref in refs)))
        else:
            for ref in refs:
                _explain(session, knowledge, ref)
        return Code.OK


def _helpful(
    knowledge: Knowledge, ref: str, ready: Condition, controller: str, paused: Sequence[Pause]
) -> Iterator[str]:
    """The commands that help with a resource in this condition."""
    if ref in knowledge.held:
        yield _HELD[knowledge.held[ref][0]]
    if ready.status == "True":
        return
    for other in dict.fromkeys(re.findall(r"[A-Za-z]+/[-a-z0-9]+", ready.message)):
        if other in knowledge.rows and other != ref:
            yield f"salvusctl why {other}    (what that waits for)"
    if not controller:
        yield "salvusctl controller run    (nobody works on the fleet now; salvusctl apply does so for a while)"
    for pause in paused:
        yield f"{to_end(pause)}    (paused by {pause.by}: {pause.reason})"
    yield _look(ref, ready)


def _look(ref: str, ready: Condition) -> str:
    """The command that shows more of what a resource in this condition waits for."""
    kind, _, name = ref.partition("/")
    match ready.reason:
        case "HeldByCeiling":
            return "salvusctl diff    (shows what is held; raise spec.disruption.ceiling in the manifest to allow it)"
        case "Paused" | "WorldStopped":
            return "salvusctl diff    (shows what is held)"
        case "Unreachable" | "ItemUnknown":
            return f"salvusctl describe {kind} {name}    (how it was last seen)"
    if settled(ready):
        return f"salvusctl events {ref}    (what was tried; then mend the manifest and apply it)"
    return f"salvusctl events {ref} --watch"


def last_runs(session: Session, knowledge: Knowledge, ref: str) -> list[Run]:
    """The last noted pass over each of the resource's machines: how things are there, as far as they are not well."""
    runs = (session.ledger.runs(machine) for machine in machines(knowledge, ref))
    return [found[-1] for found in runs if found]


def _explain(session: Session, knowledge: Knowledge, ref: str) -> None:
    ready = conditions(knowledge, ref)[0]
    now = time.time()
    head = Text.assemble((ref, "bold"), " is Ready: ", out.status_text(ready.status))
    out.say(head.append(f", {out.clean(ready.reason)}: {out.clean(ready.message)}"))
    out.say(f"  since      {_moment(ready.since, now)}")
    for machine, bad in _bad(knowledge, ref):
        where = f"on {machine}: " if machine else ""
        out.say(f"  {bad.type:<10} {where}{bad.status}, {bad.reason}: {bad.message}")
        for line in bad.plan:
            out.say(f"             {line}")
    for job in jobs_of(session, knowledge, ref):
        out.say(f"  job        {job.key} on {job.machine} is being made since {_moment(job.started, now)}")
    paused = pauses_of(session, knowledge, ref)
    for pause in paused:
        out.say(f"  held       {explained(pause)[1]}")
    controller = session.controller()
    runs = last_runs(session, knowledge, ref)
    for run in runs:
        out.say(f"  last noted {_moment(run.at, now)} on {run.machine}: {run.result}")
    if ready.status != "True":
        out.say(f"  next look  {_next(runs, controller, now)}")
    for command in _helpful(knowledge, ref, ready, controller, paused):
        out.say(Text.assemble("  help       ", (out.clean(command), "cyan")))


def _bad(knowledge: Knowledge, ref: str) -> list[tuple[str, Condition]]:
    said = [*on_machines(knowledge, ref), *(("", one) for one in conditions(knowledge, ref) if one.type == CURRENT)]
    return [(machine, one) for machine, one in said if one.status != "True"]


def _moment(at: float, now: float) -> str:
    return f"{rfc3339(at)} ({out.age(now - at)} ago)"


def _next(runs: Sequence[Run], controller: str, now: float) -> str:
    if not controller:
        return "none: no controller works on the fleet"
    times = [run.next_at for run in runs if run.next_at > now]
    when = f"in {out.age(min(times) - now)} at the latest" if times else "within a minute"
    return f"{when}, or as soon as something that it depends on changes (by {controller})"


def _reason(session: Session, knowledge: Knowledge, ref: str) -> Reason:
    from salvusctl.pause_outputs import PauseOutput
    from salvusctl.resource_outputs import ConditionOutput, MachineCondition, Reason

    ready = conditions(knowledge, ref)[0]
    controller = session.controller()
    paused = pauses_of(session, knowledge, ref)
    return Reason(
        resource=ref,
        ready=ConditionOutput.model_validate(condition_document(ready)),
        conditions=tuple(
            MachineCondition.model_validate({**condition_document(one), "machine": machine})
            for machine, one in _bad(knowledge, ref)
        ),
        paused=tuple(PauseOutput.model_validate(pause_document(pause)) for pause in paused),
        passes=tuple(_pass(run, controller) for run in last_runs(session, knowledge, ref)),
        controller=controller,
        help=tuple(command.partition("    ")[0] for command in _helpful(knowledge, ref, ready, controller, paused)),
    )


def _pass(run: Run, controller: str) -> Pass:
    from salvusctl.resource_outputs import Pass

    next_at = rfc3339(run.next_at) if controller and run.next_at else None
    return Pass(machine=run.machine, result=run.result, at=rfc3339(run.at), next_at=next_at, made=run.made)
