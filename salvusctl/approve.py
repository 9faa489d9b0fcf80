"""``salvusctl approve``: what budgets hold, and letting it through, once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from controller.holder import who_am_i
from controller.store.base import Access
from salvusctl import out
from salvusctl.exits import Missing, UseError
from salvusctl.flags import OutputOption, TextOrJson, context_of, verb_app
from salvusctl.fleet import enter_for_store, reading, settings_of

if TYPE_CHECKING:
    from controller.session import Session
    from controller.store.source_records import Hold

app = verb_app()


@app.command()
def approve(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID…]", help="What to let through; none lists it.")
    ] = None,
    output: OutputOption = TextOrJson.TEXT,
) -> None:
    """Show what budgets hold, and let it through, once.

    Without an ID, what waits is shown, and what it would do. An ID stands for one revision of the
    manifests and for just what was shown: what comes later is judged anew.
    Whichever controller follows the manifests obeys, within a day.
    """
    if ids and output is TextOrJson.JSON:
        raise UseError("approve prints JSON only when it lists", hint="salvusctl approve -o json")
    if not ids:
        with reading(context_of(ctx)) as session:
            _list(session, output)
        return
    from controller.session import open_session

    context = context_of(ctx)
    enter_for_store(context)
    with open_session(settings_of(context), access=Access.WRITE) as session:
        for hold in _meant(session, ids):
            _let_through(session, hold)


def _waiting(session: Session) -> Mapping[str, tuple[Hold, float]]:
    return {hold.id: (hold, state.at) for state in session.sources() for hold in state.holds}


def _list(session: Session, output: TextOrJson) -> None:
    from salvusctl.holds import as_output, lines
    from salvusctl.plan_outputs import Holds

    approvals = session.ledger.sources.approvals()
    found = Holds(items=tuple(as_output(hold, at, approvals) for hold, at in _waiting(session).values()))
    if output is TextOrJson.JSON:
        out.emit(found)
    elif not found.items:
        out.note("nothing waits for approval")
    for line in lines(found.items) if output is TextOrJson.TEXT else ():
        out.say(line)


def _meant(session: Session, ids: list[str]) -> list[Hold]:
    waiting = _waiting(session)
    if wrong := [one for one in ids if one not in waiting]:
        text = f"nothing with the ID {wrong[0]} waits (any more); nothing was approved"
        raise Missing(text, hint="salvusctl approve shows what waits now")
    return [waiting[one][0] for one in dict.fromkeys(ids)]


def _let_through(session: Session, hold: Hold) -> None:
    from controller.store.records import Event

    session.ledger.sources.approve(hold)
    now, text = time.time(), f"{hold.id} was approved by {who_am_i()}"
    session.ledger.tell(Event(ref, "", "Normal", "Approved", text, now, now) for ref in sorted(hold.refs))
    out.say(f"{hold.id} is approved: {out.counted(len(hold.of), 'change')} of {hold.source}, once")
