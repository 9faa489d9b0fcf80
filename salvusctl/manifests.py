"""Which manifests a verb works on, and reading them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resources.errors import ManifestError
from resources.manifest_files import STDIN
from salvusctl import out
from salvusctl.config import Context
from salvusctl.exits import UseError

if TYPE_CHECKING:
    from resources.fleet import Fleet
    from resources.load import Loaded

PathsArgument = Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="The same as -f.")]
FilesOption = Annotated[
    list[Path] | None,
    typer.Option("--file", "-f", help="Manifest file, directory, or - for standard input; may be repeated."),
]


def manifest_paths(context: Context, paths: Sequence[Path] | None, files: Sequence[Path] | None) -> list[Path]:
    """What the user named, else the manifests of the context. Raises UseError without either."""
    if named := [*(files or ()), *(paths or ())]:
        return named
    if context.manifests is None:
        raise UseError("no manifests were named", hint="give -f PATH, or set manifests in the configuration")
    return [context.manifests]


def no_manifests(paths: Sequence[Path]) -> ManifestError:
    """What to say of paths under which nothing is written: a name is mistyped more often than a fleet is empty."""
    where = ("standard input" if path == STDIN else str(path) for path in paths)
    return ManifestError(
        f"there are no manifests in {', '.join(where)}",
        hint="files in a directory end in .yaml or .yml, and a manifest is more than comments",
    )


def read_manifests(paths: Sequence[Path], base: Fleet) -> Loaded:
    """Manifests that may refer to ``base``. Shows all errors, and raises UseError when there are any.

    Raises ManifestError when there is nothing.
    """
    from resources.load import load

    loaded = load(paths, base=base)
    for error in loaded.errors:
        out.complain(error)
    if loaded.errors:
        raise UseError(f"{out.counted(len(loaded.errors), 'error')} in the manifests; nothing was changed")
    if loaded.empty:
        raise no_manifests(paths)
    return loaded
