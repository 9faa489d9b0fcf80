"""``salvusctl explain``: what a kind, or a field of it, means."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from resources.fleet import kinds
from resources.schema import Explanation
from resources.schema import explain as explained
from salvusctl import out
from salvusctl.completing import complete_kinds
from salvusctl.flags import verb_app

app = verb_app()


@app.command()
def explain(
    field: Annotated[
        str | None, typer.Argument(help="KIND, or KIND.FIELD as in vm.spec.memory.", autocompletion=complete_kinds)
    ] = None,
) -> None:
    """Explain a kind or one of its fields: its type, what is allowed, what is inside. Without one, list the kinds."""
    if field is None:
        rows = [[k.name, k.plural, ",".join(k.short), explained(k.name).description] for k in kinds().values()]
        out.table(["KIND", "PLURAL", "SHORT", "WHAT IT IS"], rows)
    else:
        _print(explained(field))


def _print(found: Explanation) -> None:
    needed = ", must be written" if found.required else ""
    out.say(Text.assemble((found.path, "bold"), f": {found.type}{needed}"))
    for line in out.lines(found.description):
        out.say(f"  {line}")
    facts = (
        ("default", found.default),
        ("allowed", found.words),
        ("as in", ", ".join(found.examples)),
    )
    for name, value in facts:
        if value:
            out.say(f"  {name}: {value}")
    if found.fields:
        out.say()
        rows = [[f"  {f.name}", f"{f.type}{' *' if f.required else ''}", f.description] for f in found.fields]
        out.table(["  FIELD", "TYPE", "WHAT IT IS"], rows)
        if any(f.required for f in found.fields):
            out.say("  * must be written")
