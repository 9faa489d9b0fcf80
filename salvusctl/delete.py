"""``salvusctl delete``: resources, and what salvus made for them on machines."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.store.base import Access
from salvusctl import out
from salvusctl.agree import agreed
from salvusctl.apply import TimeoutOption, WaitOption, warn_of_sync
from salvusctl.completing import WhatArgument
from salvusctl.exits import Code, UseError
from salvusctl.flags import context_of, verb_app
from salvusctl.fleet import reaching, select
from salvusctl.manifests import FilesOption, read_manifests

if TYPE_CHECKING:
    from controller.knowledge import Knowledge
    from controller.session import Session
    from controller.store.records import Condition

app = verb_app()


@app.command()
def delete(
    ctx: typer.Context,
    words: WhatArgument = None,
    files: FilesOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = 300.0,
) -> int:
    """Delete resources, and what salvus made for them on machines.

    Only what salvus made is deleted; what was there before stays. Data goes to the trash of its machine.
    """
    with reaching(context_of(ctx), Access.WRITE) as session:
        knowledge = session.knowledge()
        refs = _meant(knowledge, words, files)
        question = f"Delete {out.counted(len(refs), 'resource')}?"
        if not agreed(refs, question, "nothing was deleted", yes=yes or not refs):
            out.note("nothing was deleted")
            return Code.DIFFERENT
        for ref in session.delete(refs):
            out.say(f"{ref} is being deleted")
        gone = frozenset().union(*(state.undeleted for state in session.ledger.sources.states().values()))
        warn_of_sync(knowledge, [ref for ref in refs if ref not in gone])
        return _gone(session, refs, timeout) if wait else Code.OK


def _meant(knowledge: Knowledge, words: Sequence[str] | None, files: Sequence[Path] | None) -> tuple[str, ...]:
    if bool(words) == bool(files):
        raise UseError("delete what?", hint="salvusctl delete KIND NAME…, or salvusctl delete -f FILE")
    if not words:
        loaded = read_manifests(files or (), knowledge.fleet)
        return tuple(ref for ref in loaded.documents if ref in knowledge.rows)
    if len(words) == 1 and "/" not in words[0]:
        raise UseError(f"delete which of {words[0]}?", hint=f"salvusctl delete {words[0]} NAME…")
    return select(knowledge.rows, words)


def _gone(session: Session, refs: Collection[str], timeout: float) -> int:
    from controller.present import conditions
    from salvusctl.follow import follow

    def left(knowledge: Knowledge) -> Mapping[str, Condition]:
        return {ref: conditions(knowledge, ref)[0] for ref in refs if ref in knowledge.rows}

    done = follow(session, refs, left, done="gone", timeout=timeout)
    return Code.OK if done else Code.DIFFERENT
