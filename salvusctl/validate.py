"""``salvusctl validate``: everything that is wrong in manifests, in one run; no store and no machine is asked."""

from __future__ import annotations

import typer

from salvusctl import out
from salvusctl.exits import Code
from salvusctl.flags import OutputOption, TextOrJson, context_of, verb_app
from salvusctl.manifests import FilesOption, PathsArgument, enter_for_source, load_named, named_manifests, no_manifests

app = verb_app()


@app.command()
def validate(
    ctx: typer.Context,
    paths: PathsArgument = None,
    files: FilesOption = None,
    output: OutputOption = TextOrJson.TEXT,
) -> int:
    """Check manifests; touch nothing.

    Without -f those of the context; of a repository the newest commit. The manifests must be complete in themselves:
    what they refer to is not looked up in the store. All errors are found in one run, each with its file, line and
    column. Where there are no manifests, that is an error. Once nothing is wrong, warnings tell what is hardly meant (a
    rule that never decides); they change no exit code.
    """
    context = context_of(ctx)
    named = named_manifests(context, paths, files)
    if named is context.manifests:
        enter_for_source(context)
    from resources.load import warnings  # here, because ``--help`` reads no manifests

    loaded = load_named(named, old=True)
    errors = (no_manifests(named),) if loaded.empty else loaded.errors
    warned = warnings(loaded)
    refs = tuple(sorted(loaded.documents))
    if output is TextOrJson.JSON:
        from salvusctl.outputs import ManifestFault, Validation

        faults, doubts = (tuple(map(ManifestFault.of, found)) for found in (errors, warned))
        out.emit(Validation(valid=not errors, resources=refs, errors=faults, warnings=doubts))
    else:
        for error in errors:
            out.complain(error)
        for warning in warned:
            out.warn(str(warning))
        if not errors:
            out.say(f"{out.counted(len(refs), 'resource')} in order")
    return Code.INPUT if errors else Code.OK
