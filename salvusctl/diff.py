"""``salvusctl diff``: what apply would do, machine by machine; observes live, and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import typer

from controller.store.base import Access
from salvusctl import out
from salvusctl.exits import Code
from salvusctl.flags import OutputOption, TextOrJson, context_of, verb_app
from salvusctl.fleet import comparing, reaching
from salvusctl.manifests import FilesOption, PathsArgument, read_manifests

if TYPE_CHECKING:
    from controller.budget import Budgets
    from controller.session import Session
    from controller.sources.opening import Origin
    from resources.load import Loaded
    from salvusctl.plan_outputs import HoldOutput, ResourceDiff

app = verb_app()


@app.command()
def diff(
    ctx: typer.Context,
    paths: PathsArgument = None,
    files: FilesOption = None,
    output: OutputOption = TextOrJson.TEXT,
) -> int:
    """Show what apply would do on the machines, field by field; change nothing.

    With -f, as if an apply had brought these manifests into force. Else with those of the context, as if the controller
    that follows them had read them: what is gone from there is deleted, unless budgets hold it. Without any, what is in
    the store. Exits with 0 when there is nothing to do, with 1 when there is, or when not all could be seen.
    """
    context = context_of(ctx)
    if named := [*(files or ()), *(paths or ())]:
        with comparing(context) as session:
            return show_difference(session, read_manifests(named, session.knowledge().fleet), output)
    if context.manifests is not None:
        with comparing(context) as session:
            return _as_followed(session, context.manifests, context.budgets.budgets(), output)
    with reaching(context, Access.READ) as session:
        return show_difference(session, None, output)


def _as_followed(session: Session, origin: Origin, budgets: Budgets, output: TextOrJson) -> int:
    """As the next syncs of the source see it."""
    from controller.sources.opening import open_source
    from controller.sync import foresee
    from salvusctl import holds
    from salvusctl.plan_outputs import ResourceDiff

    with closing(open_source(origin)) as opened:
        source = opened.name
    pin, emptied = session.ledger.sources.pins().get(source), bool(session.refs_from(source))
    loaded = read_manifests(origin, session.others(source), old=True, pin=pin, emptied=emptied)
    foreseen = foresee(session, source, loaded, budgets)
    gone = [ResourceDiff(resource=ref, verb="deleted") for ref in sorted(foreseen.deleted)]
    held = [
        ResourceDiff(resource=ref, verb="deleted", held=hold.message)
        for hold in foreseen.holds
        if hold.what == "deletions"
        for ref in sorted(hold.refs)
    ]
    return show_difference(session, loaded, output, [*gone, *held], [holds.as_output(hold) for hold in foreseen.holds])


def show_difference(
    session: Session,
    loaded: Loaded | None,
    output: TextOrJson,
    leaving: Sequence[ResourceDiff] = (),
    budgets: Sequence[HoldOutput] = (),
) -> int:
    """Prints the difference; returns the exit code."""
    from controller.difference import difference
    from salvusctl.plans import as_output, print_diff

    deleted = [one.resource for one in leaving if not one.held]
    found = as_output(difference(session, loaded, deleted), session.knowledge(), loaded, leaving, budgets)
    if output is TextOrJson.JSON:
        out.emit(found)
    else:
        print_diff(found)
    same = not found.resources and not any(found.totals.model_dump().values())
    return Code.OK if same else Code.DIFFERENT
