"""``salvusctl unpin``: the newest revision of the manifests counts again."""

from __future__ import annotations

import typer

from controller.holder import who_am_i
from controller.store.records import place_of
from salvusctl import out
from salvusctl.exits import Missing
from salvusctl.flags import context_of, verb_app
from salvusctl.fleet import writing
from salvusctl.rollback import git_of

app = verb_app()


@app.command()
def unpin(ctx: typer.Context) -> None:
    """Follow the newest revision of the manifests again.

    It comes into force as every revision does, under the budgets.
    """
    context = context_of(ctx)
    source = git_of(context).source
    with writing(context) as session:
        pin = session.ledger.pins().get(source)
        if pin is None:
            raise Missing(f"{place_of(source)} is not pinned", hint="salvusctl revisions")
        session.unpin(pin, who_am_i())
        out.say(f"{place_of(source)} is followed again")
