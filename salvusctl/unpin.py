"""``salvusctl unpin``: the newest revision of the manifests counts again."""

from __future__ import annotations

from collections.abc import Mapping

import typer

from controller.holder import who_am_i
from controller.sources.opening import Origin, open_source
from controller.store.source_records import Pin, place_of
from salvusctl import out
from salvusctl.exits import Missing
from salvusctl.flags import context_of, verb_app
from salvusctl.fleet import writing

app = verb_app()


@app.command()
def unpin(ctx: typer.Context) -> None:
    """Follow the newest revision of the manifests again.

    It comes into force as every revision does, under the budgets.
    """
    context = context_of(ctx)
    with writing(context) as session:
        pin = _meant(session.ledger.sources.pins(), context.manifests)
        session.unpin(pin, who_am_i())
        out.say(f"{place_of(pin.source)} is followed again")


def _meant(pins: Mapping[str, Pin], origin: Origin | None) -> Pin:
    """That of the context's source, or the only one there is: the configuration may name another source by now."""
    found = pins.get(open_source(origin).name) if origin is not None else None
    if found is None and len(pins) == 1:
        (found,) = pins.values()
    if found is None:
        what = "nothing is pinned" if not pins else "the manifests of this context are not pinned, but others are"
        raise Missing(what, hint="salvusctl revisions")
    return found
