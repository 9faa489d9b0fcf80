"""``salvusctl schema``: JSON Schemas of kinds, for editors."""

from __future__ import annotations

from typing import Annotated

import typer

from resources.fleet import kinds
from resources.schema import DIALECT
from resources.schema import schema as schema_of
from salvusctl import out
from salvusctl.completing import complete_kinds
from salvusctl.flags import verb_app
from salvusctl.fleet import kind_of

app = verb_app()


@app.command()
def schema(
    kind: Annotated[
        str | None, typer.Argument(help="Which kind; all when left out.", autocompletion=complete_kinds)
    ] = None,
) -> None:
    """Print the JSON Schema (2020-12) of a kind's manifests, or one that takes any kind."""
    if kind is not None:
        out.write_json(schema_of(kind_of(kind)))
    else:
        out.write_json({"$schema": DIALECT, "oneOf": [_alone(schema_of(one)) for one in kinds().values()]})


def _alone(schema: dict[str, object]) -> dict[str, object]:
    """A schema inside another: with a name of its own, so that its ``#/$defs/…`` stay within it."""
    return {"$id": f"https://salv.us/schemas/v1/{schema['title']}", **schema}
