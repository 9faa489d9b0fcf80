"""``salvusctl schema``: JSON Schemas of kinds, for editors, and of what verbs print, for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from resources.fleet import did_you_mean, kinds
from resources.schema import DIALECT
from resources.schema import schema as schema_of
from salvusctl import out
from salvusctl.completing import complete_kinds
from salvusctl.controller_outputs import ControllerList
from salvusctl.exits import UseError
from salvusctl.firewall_outputs import FilterOutput, FirewallTests, Reached
from salvusctl.flags import verb_app
from salvusctl.fleet import kind_of
from salvusctl.outputs import Events, Output, Validation
from salvusctl.pause_outputs import PauseList
from salvusctl.plan_outputs import Diff, Holds
from salvusctl.resource_outputs import Reasons, ResourceList
from salvusctl.revision_outputs import Revisions
from salvusctl.vpn_outputs import VpnRevoke, VpnStatus

SCHEMAS: Mapping[str, type[Output]] = {
    "approve": Holds,
    "can-reach": Reached,
    "controllers": ControllerList,
    "diff": Diff,
    "events": Events,
    "get": ResourceList,
    "pause": PauseList,
    "revisions": Revisions,
    "validate": Validation,
    "why": Reasons,
}
"""What verbs print with ``-o json``."""
app = verb_app()


@app.command()
def schema(
    kind: Annotated[
        str | None, typer.Argument(help="Which kind; all when left out.", autocompletion=complete_kinds)
    ] = None,
    verb: Annotated[
        str | None, typer.Option("--of", metavar="VERB", help="What this verb prints with -o json.")
    ] = None,
) -> None:
    """Print the JSON Schema of a kind's manifests.

    Without a kind, one that takes any of them; with --of, the one of what a verb prints. The dialect is 2020-12.
    """
    if verb is not None:
        if kind is not None:
            raise UseError("a kind or a verb, not both", hint="salvusctl schema --of VERB")
        out.write_json(output_schema(verb))
    elif kind is not None:
        out.write_json(schema_of(kind_of(kind)))
    else:
        out.write_json({"$schema": DIALECT, "oneOf": [_alone(schema_of(one)) for one in kinds().values()]})


def output_schema(verb: str) -> dict[str, object]:
    """The schema of what a verb prints. Raises UseError for one that prints no JSON."""
    # Apart: nothing else here needs what they import.
    from salvusctl.disk import TrashOutput
    from salvusctl.lab import LabStatus
    from salvusctl.store import StoreStatus

    models: Mapping[str, type[Output]] = {
        **SCHEMAS,
        "disk trash": TrashOutput,
        "firewall show": FilterOutput,
        "firewall test": FirewallTests,
        "lab status": LabStatus,
        "store status": StoreStatus,
        "vpn revoke": VpnRevoke,
        "vpn status": VpnStatus,
    }
    if verb not in models:
        raise UseError(f"{verb!r} prints no JSON{did_you_mean(verb, models)}")
    return {"$schema": DIALECT, **models[verb].model_json_schema(mode="serialization")}


def _alone(schema: dict[str, object]) -> dict[str, object]:
    """A schema inside another: with a name of its own, so that its ``#/$defs/…`` stay within it."""
    return {"$id": f"https://salv.us/schemas/v1/{schema['title']}", **schema}
