"""``salvusctl pause``: takes machines or resources out of salvus's hands for a while."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from controller.clock import rfc3339
from controller.holder import who_am_i
from controller.pauses import LONGEST, SHORTEST, in_force, key_of, ref_of, word_of
from controller.present import pause_document
from controller.store.records import ALL, WORLD, Pause
from resources.fleet import find_kind
from resources.quantity import format_duration, parse_duration
from salvusctl import out
from salvusctl.completing import WhatArgument
from salvusctl.exits import UseError
from salvusctl.flags import OutputOption, TextOrJson, context_of, verb_app
from salvusctl.fleet import by_name, jobs_of, reading, writing

if TYPE_CHECKING:
    from controller.knowledge import Knowledge
    from controller.session import Session

HEADINGS = ("PAUSED", "BY", "SINCE", "ENDS", "REASON")
AllOption = Annotated[bool, typer.Option("--all", help="Everything in the fleet.")]
app = verb_app()


@app.command()
def pause(
    ctx: typer.Context,
    words: WhatArgument = None,
    everything: AllOption = False,
    time_span: Annotated[str, typer.Option("--for", metavar="TIME", help="As in 30m, 2h, 1d; at most 7d.")] = "1h",
    reason: Annotated[str, typer.Option(help="Why: it is shown to everybody who wonders.")] = "",
    listing: Annotated[bool, typer.Option("--list", help="Show what is paused; pause nothing.")] = False,
    output: OutputOption = TextOrJson.TEXT,
) -> None:
    """Change nothing on machines, or of resources, for a while.

    Of a machine: nothing on it, nor what it is itself (a guest is not started again). Of a resource: nothing, on any
    machine. Deletions wait, too. It ends by itself, or with resume. Everything is still looked at, and what would be
    changed is shown as held. What has begun comes to its end first; controllers know of the pause within two seconds.
    """
    if output is TextOrJson.JSON and not listing:
        raise UseError("pause prints JSON with --list only", hint="salvusctl pause --list -o json")
    if listing:
        if words or everything:
            raise UseError("--list shows all that is paused", hint="salvusctl pause --list")
        with reading(context_of(ctx)) as session:
            _list(in_force(session.ledger.pauses(), time.time()), output)
        return
    seconds = _seconds(time_span)
    if not reason.strip():
        raise UseError("why? Whoever finds it paused wants to know", hint="say --reason 'disk is being replaced'")
    with writing(context_of(ctx)) as session:
        knowledge = session.knowledge()
        now = time.time()
        by = who_am_i()
        new = [Pause(what, by, reason, now, now + seconds) for what in meant(knowledge.rows, words, everything)]
        _refuse_shorter(new, in_force(session.ledger.pauses(), now))
        for one in new:
            session.pause(one, ref_of(one.what, knowledge))
            out.say(f"{_named(one.what)} is paused until {rfc3339(now + seconds)}")
        _tell_jobs(session, knowledge, [one.what for one in new])


def _seconds(text: str) -> int:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UseError(f"--for {error}") from error
    if not SHORTEST <= seconds <= LONGEST:
        longest = format_duration(LONGEST)
        raise UseError(f"--for must be from 1s to {longest}, not {text}", hint="pause it again before it ends")
    return seconds


def meant(known: Iterable[str], words: Sequence[str] | None, everything: bool) -> tuple[str, ...]:
    """What pauses of these words are of. ``known`` are ``Kind/name``. Raises UseError, Missing."""
    if bool(words) == everything:
        what = "a name and --all: which of the two?" if words else "what?"
        raise UseError(what, hint="name a machine, KIND/NAME or KIND NAME…; or say --all")
    if not words:
        return (ALL,)
    rows = tuple(known)
    if len(words) == 1 and (words[0] == ALL or find_kind(words[0]) is not None):
        raise UseError(f"which of {words[0]}?", hint=f"name them: {words[0]} NAME…; or say --all")
    return tuple(dict.fromkeys(key_of(ref) for ref in by_name(rows, words)))


def _refuse_shorter(new: Sequence[Pause], old: Mapping[str, Pause]) -> None:
    """Who paused something for longer relies on it."""
    for one in new:
        kept = old.get(one.what)
        if kept is not None and kept.until is not None and one.until is not None and kept.until > one.until:
            until = f"paused until {rfc3339(kept.until)} by {kept.by}: {kept.reason}"
            raise UseError(
                f"{_named(one.what)} is already {until}; nothing was changed",
                hint=f"to end that before: salvusctl resume {word_of(one.what)}",
            )


def _named(what: str) -> str:
    return "everything" if what == ALL else "the world" if what == WORLD else word_of(what)


def _tell_jobs(session: Session, knowledge: Knowledge, what: Sequence[str]) -> None:
    """What takes long and has begun is not cut."""
    refs = [ref for ref in knowledge.rows if what == [ALL] or key_of(ref) in what]
    jobs = {(job.key, job.machine) for ref in refs for job in jobs_of(session, knowledge, ref)}
    for key, machine in sorted(jobs):
        out.warn(f"{key} on {machine} is being made, and comes to its end first")


def _list(pauses: Mapping[str, Pause], output: TextOrJson) -> None:
    if output is TextOrJson.JSON:
        from salvusctl.pause_outputs import PauseList, PauseOutput

        out.emit(PauseList(items=tuple(PauseOutput.model_validate(pause_document(one)) for one in pauses.values())))
        return
    if not pauses:
        out.note("nothing is paused")
        return
    now = time.time()
    rows = [
        (_named(p.what), p.by, f"{out.age(now - p.since)} ago", "-" if p.until is None else rfc3339(p.until), p.reason)
        for p in pauses.values()
    ]
    out.table(HEADINGS, rows)
