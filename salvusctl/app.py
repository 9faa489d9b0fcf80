"""The application: its verbs, each loaded only when it is used."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from salvusctl.exits import expected_errors
from salvusctl.flags import SETTINGS, ConfigOption, ContextOption, Group, NamespaceOption, StoreOption, add_flags


@dataclass(frozen=True, slots=True)
class Verb:
    """Where a verb is, and what ``--help`` says of it without loading it."""

    module: str
    help: str
    panel: str


MANIFESTS, FLEET, SETUP = "Manifests", "The fleet", "Setting up"
VERBS = {
    "validate": Verb("salvusctl.validate", "Check manifests; touch nothing.", MANIFESTS),
    "diff": Verb("salvusctl.diff", "Show what apply would do on the machines.", MANIFESTS),
    "apply": Verb("salvusctl.apply", "Bring manifests into force, and wait until the fleet is so.", MANIFESTS),
    "approve": Verb("salvusctl.approve", "Show what budgets hold, and let it through.", MANIFESTS),
    "revisions": Verb("salvusctl.revisions", "Show which revisions of the manifests were in force.", MANIFESTS),
    "rollback": Verb("salvusctl.rollback", "Go back to an earlier revision, and stay there.", MANIFESTS),
    "unpin": Verb("salvusctl.unpin", "Follow the newest revision of the manifests again.", MANIFESTS),
    "delete": Verb("salvusctl.delete", "Delete resources, and what salvus made for them.", MANIFESTS),
    "explain": Verb("salvusctl.explain", "Explain a kind or one of its fields.", MANIFESTS),
    "schema": Verb("salvusctl.schema", "Print the JSON Schema of a kind's manifests.", MANIFESTS),
    "get": Verb("salvusctl.get", "List resources.", FLEET),
    "describe": Verb("salvusctl.describe", "Show everything that is known of resources.", FLEET),
    "why": Verb("salvusctl.why", "Say what a resource waits for.", FLEET),
    "events": Verb("salvusctl.events", "Show what happened.", FLEET),
    "pause": Verb("salvusctl.pause", "Change nothing on machines, or of resources, for a while.", FLEET),
    "resume": Verb("salvusctl.resume", "End a pause before its time.", FLEET),
    "stop-the-world": Verb("salvusctl.stop_the_world", "Have no controller write anything.", FLEET),
    "controllers": Verb("salvusctl.controllers", "Show who works on the fleet, and which leases each holds.", FLEET),
    "disk": Verb("salvusctl.disk", "Disks of deleted virtual machines: see them, and have them back.", FLEET),
    "firewall": Verb("salvusctl.firewall", "Packet filters of machines: see what is filtered, and why.", FLEET),
    "can-reach": Verb("salvusctl.can_reach", "Say whether a machine may connect to another, and what decides.", FLEET),
    "vpn": Verb(
        "salvusctl.vpn", "Private networks: see who reaches whom; give machines other keys, or shut them out.", FLEET
    ),
    "controller": Verb("salvusctl.daemon", "The controller: keep the fleet as it is written.", SETUP),
    "store": Verb(
        "salvusctl.store", "The store: make it, bring it up to date, look at it, copy it into a file and back.", SETUP
    ),
    "lab": Verb("salvusctl.lab", "A real fleet on this machine, to try salvus with.", SETUP),
    "completion": Verb("salvusctl.completion", "Print a completion script for a shell.", SETUP),
}


class Verbs(Group):
    """The verbs; a verb's module is imported when it is called, so that ``--help`` and the others answer at once."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, verb in VERBS.items():
            self.add_command(TyperCommand(name, help=verb.help, rich_help_panel=verb.panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See Group; the stand-in is replaced by the verb."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, load(name) if name is not None and stand_in is not None else None, rest

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Reads what is before the verb's name; ``--help`` and ``--version`` answer here."""
        if os.environ.get("NO_COLOR"):  # Rich alone would still print bold
            from typer import rich_utils

            rich_utils.COLOR_SYSTEM = None
        with expected_errors():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb; what it returns is the exit code."""
        with expected_errors():
            code = super().invoke(ctx)
            raise typer.Exit(code or 0)


def load(name: str) -> Any:
    """A verb as a command, with the options that all take added."""
    command = typer.main.get_command(importlib.import_module(VERBS[name].module).app)
    command.name = name
    add_flags(command)
    return command


def _version(value: bool) -> None:
    if value:
        from salvusctl.version import VERSION

        typer.echo(f"salvusctl {VERSION}")
        raise typer.Exit


app = typer.Typer(
    cls=Verbs, name="salvusctl", no_args_is_help=True, context_settings=SETTINGS, pretty_exceptions_enable=False
)


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
    config: ConfigOption = None,
    context: ContextOption = None,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
) -> None:
    """Keeps a fleet of Linux and KVM machines as it is written."""
