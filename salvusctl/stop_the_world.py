"""``salvusctl stop-the-world``: one switch that every controller asks for before each write."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from controller.holder import who_am_i
from controller.store.records import WORLD, Pause
from salvusctl import out
from salvusctl.exits import UseError
from salvusctl.flags import context_of, verb_app
from salvusctl.fleet import writing

app = verb_app()


@app.command("stop-the-world")
def stop_the_world(
    ctx: typer.Context,
    reason: Annotated[str, typer.Option(help="Why: every command shows it.")] = "",
    end: Annotated[bool, typer.Option("--end", help="Let everything go on.")] = False,
) -> None:
    """Have no controller write anything.

    Each controller asks the store before each batch of changes on a machine, and writes nothing when that does not
    answer. What has begun (a batch of changes, a guest's shutdown) comes to its end. Nothing is decided either, and no
    manifests are taken over from directories. Machines are still looked at. There is no time at which it ends by
    itself: every command says so until --end.
    """
    if end and reason:
        raise UseError("--end takes no reason", hint="salvusctl stop-the-world --end")
    if not end and not reason.strip():
        raise UseError("why? Whoever finds it stopped wants to know", hint="say --reason 'the store is being moved'")
    with writing(context_of(ctx)) as session:
        world = session.ledger.world()
        if end and world is not None:
            session.resume(world, "", who_am_i())
            out.say("the world goes on")
        elif end:
            out.note("the world was not stopped")
        elif world is not None:
            out.note("it is stopped already, and nothing was changed")
        else:
            session.pause(Pause(WORLD, who_am_i(), reason, time.time()), "")
            out.say("the world is stopped")
