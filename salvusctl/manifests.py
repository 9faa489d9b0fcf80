"""Which manifests a verb works on, and reading them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resources.errors import ManifestError
from resources.manifest_files import STDIN
from salvusctl import out
from salvusctl.config import Context
from salvusctl.exits import UseError

if TYPE_CHECKING:
    from controller.sources.opening import Origin
    from controller.sources.settings import GitSettings
    from controller.store.source_records import Pin
    from resources.fleet import Fleet
    from resources.load import Loaded

    # Paths that the user named, or the source of the context.
    Named = Sequence[Path] | Origin

PathsArgument = Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="The same as -f.")]
FilesOption = Annotated[
    list[Path] | None,
    typer.Option("--file", "-f", help="Manifest file, directory, or - for standard input; may be repeated."),
]


def named_manifests(context: Context, paths: Sequence[Path] | None, files: Sequence[Path] | None) -> Named:
    """What the user named, else the manifests of the context. Raises UseError without either."""
    if named := [*(files or ()), *(paths or ())]:
        return named
    if context.manifests is None:
        raise UseError("no manifests were named", hint="give -f PATH, or set manifests in the configuration")
    return context.manifests


def enter_for_source(context: Context) -> None:
    """Enters the context's network namespace where its manifests come over a network, as the machines are reached.

    To be called before any thread is started.
    """
    if context.namespace and context.manifests is not None and not isinstance(context.manifests, Path):
        from salvusctl import netns

        netns.enter(context.namespace)


def no_manifests(named: Named) -> ManifestError:
    """What to say of where nothing is written: a name is mistyped more often than a fleet is empty."""
    places = named if isinstance(named, Sequence) else [named]
    where = ("standard input" if place == STDIN else str(place) for place in places)
    return ManifestError(
        f"there are no manifests in {', '.join(where)}",
        hint="files in a directory end in .yaml or .yml, and a manifest is more than comments",
    )


def load_named(named: Named, base: Fleet | None = None, *, old: bool = False, pin: Pin | None = None) -> Loaded:
    """Reads manifests that may refer to ``base``; what is wrong with them is in the answer.

    With ``old``, what was last fetched of a repository that cannot be read counts, with a warning; of one that is
    pinned, the pinned commit. Raises Unreadable.
    """
    from resources.load import load

    if isinstance(named, Path):
        return load([named], base=base)
    return load(named, base=base) if isinstance(named, Sequence) else _fetched(named, base, old, pin)


def _fetched(git: GitSettings, base: Fleet | None, old: bool, pin: Pin | None) -> Loaded:
    from controller.clock import rfc3339
    from controller.sources.base import Unreadable
    from controller.sources.git import GitSource
    from controller.store.records import SHORT

    with closing(GitSource(git)) as source:
        try:
            loaded = source.read(base, pin.revision if pin else "").loaded
        except Unreadable as error:
            kept = source.kept(base) if old else None
            if kept is None:
                raise Unreadable(f"{git} cannot be read: {error}", hint=error.hint) from error
            loaded, at = kept
            about = f"this is commit {loaded.revision[:SHORT]} of it, as fetched at {rfc3339(at)}"
            out.warn(f"{git} cannot be read: {error}; {about}")
    if loaded.errors:
        out.note(f"in commit {loaded.revision[:SHORT]} of {git}:")
    return loaded


def read_manifests(
    named: Named, base: Fleet, *, old: bool = False, pin: Pin | None = None, emptied: bool = False
) -> Loaded:
    """As ``load_named``. Shows all errors, and raises UseError when there are any.

    Raises ManifestError when there is nothing, unless there was something before: then it is ``emptied``.
    """
    loaded = load_named(named, base, old=old, pin=pin)
    for error in loaded.errors:
        out.complain(error)
    if loaded.errors:
        raise UseError(f"{out.counted(len(loaded.errors), 'error')} in the manifests; nothing was changed")
    if loaded.empty and not emptied:
        raise no_manifests(named)
    return loaded
