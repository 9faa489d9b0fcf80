"""``salvusctl rollback``: the manifests as they were, until somebody unpins them."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated

import typer

from controller.holder import who_am_i
from controller.revisions import previous
from controller.store.records import SHORT
from controller.store.source_records import Pin
from salvusctl import out
from salvusctl.exits import UseError
from salvusctl.flags import context_of, verb_app
from salvusctl.fleet import writing
from salvusctl.manifests import enter_for_source, read_manifests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.sources.settings import GitSettings
    from controller.store.source_records import Turn
    from salvusctl.config import Context

# A commit's whole ID, and the least of one that is looked for among those that are known.
WHOLE, LEAST = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?"), re.compile(r"[0-9a-f]{4,64}")
app = verb_app()


@app.command()
def rollback(
    ctx: typer.Context,
    to: Annotated[str, typer.Option(metavar="REVISION", help="A commit; without it, what was in force before.")] = "",
    pin: Annotated[bool, typer.Option("--pin", help="Stay there until unpin, whatever is pushed.")] = False,
    reason: Annotated[str, typer.Option(help="Why: it is shown to everybody who wonders.")] = "",
) -> None:
    """Go back to an earlier revision, and stay there.

    The commit is read first: one with errors, or that cannot be had, is not pinned. The controller that follows the
    repository then brings it into force as it does with every revision, under the budgets; what is newer is held.
    """
    context = context_of(ctx)
    git = git_of(context)
    if not pin:
        what = "without --pin the next reading of the repository would bring its newest commit back"
        raise UseError(what, hint="say --pin, and unpin later; or git revert and push")
    if not reason.strip():
        raise UseError("why? Whoever finds it pinned wants to know", hint="say --reason 'web servers fail since noon'")
    enter_for_source(context)
    with writing(context) as session:
        if not to and (old := session.ledger.sources.pins().get(git.source)):
            # What was in force before is what was gone back from.
            raise UseError(f"{git} is pinned already, to {old.revision[:SHORT]}", hint="name a commit: --to REVISION")
        revision = _meant(to, session.ledger.sources.turns(git.source))
        new = Pin(git.source, revision, who_am_i(), reason, time.time())
        read_manifests(git, session.others(git.source), pin=new)
        session.pin(new)
        out.say(f"{git} is pinned to {revision[:SHORT]}; salvusctl revisions shows when it is in force")


def git_of(context: Context) -> GitSettings:
    """The repository of the context. Raises UseError for manifests that are elsewhere."""
    from controller.sources.settings import GitSettings

    if not isinstance(context.manifests, GitSettings):
        raise UseError(
            "the manifests of this context are not in git: no older revisions of them are kept",
            hint="put back what was there; or see manifests from git in docs/operations.md",
        )
    return context.manifests


def _meant(word: str, turns: Sequence[Turn]) -> str:
    """The whole ID of a commit. Raises UseError."""
    if not word:
        if not (found := previous(turns)):
            raise UseError("nothing else was in force before", hint="name a commit: --to REVISION")
        return found
    known = {turn.revision for turn in turns if LEAST.fullmatch(word) and turn.revision.startswith(word)}
    if len(known) == 1:
        return known.pop()
    if WHOLE.fullmatch(word):
        return word
    what = "is more than one revision" if known else "is no revision that was read"
    raise UseError(f"{word!r} {what}", hint="salvusctl revisions shows them; or write the commit's whole ID")
