"""``salvusctl revisions``: which revisions of the manifests were in force, and what became of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from controller.clock import rfc3339
from controller.revisions import in_force, lasts
from controller.store.records import SHORT
from controller.store.source_records import SourceState
from salvusctl import out
from salvusctl.flags import OutputOption, TextOrJson, context_of, verb_app
from salvusctl.fleet import reading

if TYPE_CHECKING:
    from controller.session import Session
    from salvusctl.revision_outputs import SourceOutput

HEADINGS = ("REVISION", "STATE", "SINCE", "ABOUT", "WHY")
app = verb_app()


@app.command()
def revisions(ctx: typer.Context, output: OutputOption = TextOrJson.TEXT) -> None:
    """Show which revisions of the manifests were in force, held or refused, newest first.

    As the controller that follows them noted it. A commit that nobody read, as another one came soon after it, is not
    there. The newest of a source is shown also while it is pinned.
    """
    with reading(context_of(ctx)) as session:
        states = sorted(session.ledger.sources.states().items())
        if output is TextOrJson.JSON:
            from salvusctl.revision_outputs import Revisions

            out.emit(Revisions(items=tuple(_as_output(session, state) for _, state in states)))
            return
        if not states:
            out.note("no source was read yet")
        for position, (_, state) in enumerate(states):
            if position:
                out.say()
            _print(session, state)


def _print(session: Session, state: SourceState) -> None:
    out.say(out.clean(state.place))
    if state.trouble:
        out.say(f"  {out.clean(state.trouble[1])}")
    log = session.ledger.sources.turns(state.source)
    rows = [
        (t.revision[:SHORT], t.state if lasts(t, state, log) else f"was {t.state}", rfc3339(t.at), t.about, t.why)
        for t in reversed(log)
    ]
    out.table(HEADINGS, rows)


def _as_output(session: Session, state: SourceState) -> SourceOutput:
    from salvusctl.revision_outputs import PinOutput, SourceOutput, TurnOutput

    turns = session.ledger.sources.turns(state.source)
    pin = session.ledger.sources.pins().get(state.source)
    return SourceOutput(
        source=state.source,
        in_force=in_force(turns),
        newest=state.newest or state.revision,
        trouble=state.trouble[1] if state.trouble else "",
        pinned=PinOutput(revision=pin.revision, by=pin.by, reason=pin.reason, since=rfc3339(pin.since))
        if pin
        else None,
        revisions=tuple(
            TurnOutput.model_validate(
                {"revision": t.revision, "state": t.state, "since": rfc3339(t.at), "about": t.about, "why": t.why}
            )
            for t in reversed(turns)
        ),
    )
