"""``salvusctl events``: what happened, newest last."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from salvusctl import out
from salvusctl.completing import WhatArgument
from salvusctl.flags import OutputOption, TextOrJson, context_of, verb_app
from salvusctl.fleet import by_name, reading

if TYPE_CHECKING:
    from controller.session import Session
    from controller.store.records import Event
    from salvusctl.outputs import EventOutput

POLL = 1.0
HEADINGS = ("LAST", "TYPE", "REASON", "RESOURCE", "MACHINE", "COUNT", "MESSAGE")
app = verb_app()


@app.command()
def events(
    ctx: typer.Context,
    words: WhatArgument = None,
    warnings: Annotated[bool, typer.Option("--warnings", help="Only what is worth a look.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with what happens next.")] = False,
    output: OutputOption = TextOrJson.TEXT,
) -> None:
    """Show what happened in the last week, newest last; repeats are counted."""
    with reading(context_of(ctx)) as session:
        found = _find(session, words, warnings)
        if output is TextOrJson.JSON:
            from salvusctl.outputs import Events

            out.emit(Events(items=tuple(map(_output, found))))
        elif found:
            out.table(HEADINGS, [row for event in found for row in _rows(event)])
        else:
            out.note("nothing happened")
        while watch:
            time.sleep(POLL)
            before, found = set(found), _find(session, words, warnings)
            for event in found:
                if event not in before:
                    for row in _rows(event):
                        out.say(Text("   ").join(row))


def _find(session: Session, words: list[str] | None, warnings: bool) -> list[Event]:
    found = session.ledger.events()
    if words:
        # Of what is gone, too: just then one wants to know what happened.
        known = {*session.knowledge().rows, *(event.ref for event in found)}
        wanted = set(by_name(known, words))
        found = [event for event in found if event.ref in wanted]
    return [event for event in found if event.type == "Warning" or not warnings]


def _rows(event: Event) -> Iterator[tuple[Text, ...]]:
    texts = (
        f"{out.age(time.time() - event.last)} ago",
        event.type,
        event.reason,
        event.ref,
        event.machine,
        str(event.count),
        event.message,
    )
    style = "yellow" if event.type == "Warning" else ""
    yield tuple(Text(out.clean(text), style if column in {1, 2} else "") for column, text in enumerate(texts))
    for line in event.plan:
        yield (*(Text() for _ in HEADINGS[1:]), Text(out.clean(f"  {line}")))


def _output(event: Event) -> EventOutput:
    from controller.clock import rfc3339
    from salvusctl.outputs import EventOutput

    kind: Literal["Normal", "Warning"] = "Warning" if event.type == "Warning" else "Normal"
    return EventOutput(
        resource=event.ref,
        machine=event.machine,
        type=kind,
        reason=event.reason,
        message=event.message,
        first=rfc3339(event.first),
        last=rfc3339(event.last),
        count=event.count,
        plan=event.plan,
    )
