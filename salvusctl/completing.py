"""What the shell is offered while a word is typed: kinds, and names from the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from drivers.base import SalvusError


def complete_kinds(incomplete: str) -> Iterator[str]:
    """Kinds, in the plural."""
    from resources.fleet import kinds

    yield from (kind.plural for kind in kinds().values() if kind.plural.startswith(incomplete))


def complete_words(ctx: typer.Context, incomplete: str) -> Iterator[str]:
    """``KIND NAME…``, ``KIND/NAME…`` or a name alone. Nothing at all when the store cannot be read."""
    given: list[str] = ctx.params.get("words") or []
    if not given:
        yield from complete_kinds(incomplete)
    try:
        yield from _names(ctx, given, incomplete)
    except SalvusError:
        return


def _names(ctx: typer.Context, given: list[str], incomplete: str) -> Iterator[str]:
    from controller.session import open_session
    from controller.store.base import Access
    from resources.fleet import find_kind
    from salvusctl.flags import context_of
    from salvusctl.fleet import enter_for_store, settings_of

    context = context_of(ctx)
    enter_for_store(context)
    # Not as other commands read: nothing must be said while somebody types.
    with open_session(settings_of(context), access=Access.READ) as session:
        refs = sorted(session.knowledge().rows)
    kind = find_kind(given[0]) if given else None
    for ref in refs:
        its_kind, _, name = ref.partition("/")
        if given and kind is not None and its_kind == kind.name and name.startswith(incomplete):
            yield name
        elif (not given or "/" in given[0]) and "/" in incomplete and ref.startswith(incomplete):
            yield ref


WhatArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="WHAT", help="NAME, KIND NAME… or KIND/NAME…", autocompletion=complete_words),
]
