"""``salvusctl apply``: manifests into force, and the fleet brought to what they say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.session import BY_HAND
from controller.store.base import Access
from controller.store.source_records import place_of
from resources.fleet import Fleet
from salvusctl import out
from salvusctl.diff import show_difference
from salvusctl.exits import Code, UseError
from salvusctl.flags import OutputOption, TextOrJson, context_of, verb_app
from salvusctl.fleet import comparing, reaching
from salvusctl.manifests import FilesOption, PathsArgument, enter_for_source, named_manifests, read_manifests

if TYPE_CHECKING:
    from controller.knowledge import Knowledge
    from controller.session import Session
    from controller.store.source_records import Pin
    from salvusctl.manifests import Named

WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]
TimeoutOption = Annotated[float, typer.Option(min=0, help="Seconds to wait at most.")]
app = verb_app()


@app.command()
def apply(
    ctx: typer.Context,
    paths: PathsArgument = None,
    files: FilesOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = 900.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do as diff does.")] = False,
    output: OutputOption = TextOrJson.TEXT,
) -> int:
    """Bring manifests into force, and wait until the fleet is so.

    With any error in them nothing is stored. When no controller runs, the work is done by this command. Changes that
    disturb more than spec.disruption.ceiling allows, or would lose data, are held, and this says so. Nothing is
    deleted because it is not in the manifests: that is what delete, and the controller's directory, are for.
    """
    if output is TextOrJson.JSON and not dry_run:
        raise UseError("apply prints JSON with --dry-run only", hint="salvusctl get -o json shows what came of it")
    context = context_of(ctx)
    named = named_manifests(context, paths, files)
    if dry_run:
        with comparing(context) as session:
            loaded = read_manifests(named, session.knowledge().fleet, old=True, pin=_pin(session, named))
            return show_difference(session, loaded, output)
    # No store is made for manifests that are wrong.
    there = not isinstance(context.store, Path) or context.store.exists()
    first = None
    if not there:
        enter_for_source(context)
        first = read_manifests(named, Fleet())
    with reaching(context, Access.MAKE) as session:
        before = session.knowledge()
        loaded = first or read_manifests(named, before.fleet, pin=_pin(session, named))
        puts = session.put(loaded, seen=before.rows)
        for put in puts:
            out.say(f"{put.ref} {put.verb}")
        warn_of_sync(before, [put.ref for put in puts if put.verb != "unchanged"], _name_of(named))
        return _brought_about(session, tuple(loaded.documents), timeout) if wait else Code.OK


def _pin(session: Session, named: Named) -> Pin | None:
    """Of the context's source: who applies it applies what the controller follows."""
    from controller.sources.settings import GitSettings

    return session.ledger.sources.pins().get(named.source) if isinstance(named, GitSettings) else None


def _name_of(named: Named) -> str:
    """The name of the source; empty for paths that the user named."""
    from controller.sources.opening import open_source

    if isinstance(named, Sequence):
        return ""
    with closing(open_source(named)) as source:
        return source.name


def warn_of_sync(before: Knowledge, refs: Collection[str], applied: str = "") -> None:
    """Says of what comes from a source that is followed, that a change by hand does not last; unless that source is
    what was ``applied``.
    """
    for ref in refs:
        row = before.rows.get(ref)
        if row is not None and row.source not in (BY_HAND, applied):
            out.warn(f"{ref} came from {place_of(row.source)}: the next sync takes this back; change it there")


def _brought_about(session: Session, refs: Collection[str], timeout: float) -> int:
    from controller.present import pending
    from salvusctl.follow import follow

    done = follow(session, refs, lambda knowledge: pending(knowledge, refs), done="Ready", timeout=timeout)
    if done:
        out.note(f"{out.counted(len(refs), 'resource')} Ready")
    return Code.OK if done else Code.DIFFERENT
