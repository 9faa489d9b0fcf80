"""``salvusctl diff``: what apply would do, machine by machine; observes live, and changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from controller.store.base import Access
from salvusctl import out
from salvusctl.exits import Code
from salvusctl.flags import OutputOption, TextOrJson, context_of, verb_app
from salvusctl.fleet import comparing, reaching
from salvusctl.manifests import FilesOption, PathsArgument, manifest_paths, read_manifests

if TYPE_CHECKING:
    from controller.session import Session
    from resources.load import Loaded

app = verb_app()


@app.command()
def diff(
    ctx: typer.Context,
    paths: PathsArgument = None,
    files: FilesOption = None,
    output: OutputOption = TextOrJson.TEXT,
) -> int:
    """Show what apply would do on the machines, field by field; change nothing.

    With manifests (-f, or those of the context), as if they were in force; without any, what is in the store. Exits
    with 0 when there is nothing to do, with 1 when there is, or when not all could be seen.
    """
    context = context_of(ctx)
    named = bool(paths or files or context.manifests)
    with comparing(context) if named else reaching(context, Access.READ) as session:
        loaded = read_manifests(manifest_paths(context, paths, files), session.knowledge().fleet) if named else None
        return show_difference(session, loaded, output)


def show_difference(session: Session, loaded: Loaded | None, output: TextOrJson) -> int:
    """Prints the difference; returns the exit code."""
    from controller.difference import difference
    from salvusctl.plans import as_output, print_diff

    found = as_output(difference(session, loaded), session.knowledge(), loaded)
    if output is TextOrJson.JSON:
        out.emit(found)
    else:
        print_diff(found)
    same = not found.resources and not any(found.totals.model_dump().values())
    return Code.OK if same else Code.DIFFERENT
