"""``salvusctl resume``: ends pauses before their time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import typer

from controller.holder import who_am_i
from controller.pauses import explained, in_force, pause_of, ref_of, word_of
from controller.store.records import ALL, MACHINE, WORLD, Pause
from salvusctl import out
from salvusctl.completing import WhatArgument
from salvusctl.flags import context_of, verb_app
from salvusctl.fleet import writing
from salvusctl.pause import AllOption, meant

app = verb_app()


@app.command()
def resume(ctx: typer.Context, words: WhatArgument = None, everything: AllOption = False) -> None:
    """End a pause before its time.

    With --all the pause of everything is ended; machines and resources that were paused by name stay so.
    """
    with writing(context_of(ctx)) as session:
        knowledge = session.knowledge()
        pauses = in_force(session.ledger.pauses(), time.time())
        wanted = meant({*knowledge.rows, *_gone(pauses, knowledge.rows)}, words, everything)
        for what in wanted:
            if what in pauses:
                session.resume(pauses[what], ref_of(what, knowledge), who_am_i())
                out.say(f"{'everything' if what == ALL else word_of(what)} is not paused any more")
            else:
                out.note(f"{'everything at once' if what == ALL else word_of(what)} is not paused")
        left = {what: pause for what, pause in pauses.items() if what not in wanted}
        if everything:
            for what in left.keys() - {WORLD}:
                out.note(f"{word_of(what)} stays {explained(left[what])[1]}")
        elif (still := pause_of(left, time.time(), ())) is not None and still.what == ALL:
            out.note(f"but {explained(still)[1]}")


def _gone(pauses: Mapping[str, Pause], rows: Mapping[str, object]) -> Iterator[str]:
    """``Kind/name`` of what is paused and not in the manifests any more."""
    names = {ref.partition("/")[2] for ref in rows}
    for what in pauses.keys() - {WORLD, ALL}:
        machine = what.removeprefix(MACHINE)
        if machine == what:
            yield what
        elif machine not in names:
            yield f"Host/{machine}"
