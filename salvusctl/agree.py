"""Asking before something goes that does not come back by itself."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import typer

from salvusctl import out
from salvusctl.exits import UseError


def agreed(what: Iterable[str], question: str, undone: str, *, yes: bool) -> bool:
    """Whether the user wants it: what it is about is shown, a line each. ``yes`` is said in advance.

    Raises UseError, with what was ``undone``, where nobody can be asked.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UseError(f"nobody can be asked here, so {undone}", hint="say --yes")
    for line in what:
        out.note(f"  {line}")
    return typer.confirm(question, err=True)
