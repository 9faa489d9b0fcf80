"""The options that every verb takes, before or after the verb's name."""

from __future__ import annotations

import enum
import inspect
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from salvusctl.config import Context

PANEL = "Options of all verbs"
SETTINGS = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True, slots=True)
class Flags:
    """The options that every verb takes; None where not given."""

    config: Path | None = None
    context: str | None = None
    store: Path | None = None
    namespace: str | None = None


class Group(TyperGroup):
    """A group whose unknown words are errors as all others are."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See TyperGroup. Raises UseError."""
        if args[0] not in self.commands and not args[0].startswith("-") and not ctx.resilient_parsing:
            from resources.fleet import did_you_mean
            from salvusctl.exits import UseError

            near = did_you_mean(args[0], self.commands)
            raise UseError(f"{ctx.command_path} has no verb {args[0]!r}{near}", hint=f"{ctx.command_path} --help")
        return super().resolve_command(ctx, args)


def context_of(ctx: typer.Context) -> Context:
    """What a verb works with. Raises SalvusError."""
    from salvusctl.config import current

    return current(ctx.find_root().obj or Flags())


def verb_app(**settings: Any) -> typer.Typer:
    """A Typer for one verb."""
    settings = {"cls": Group, "context_settings": SETTINGS, **settings}
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, **settings)


def add_flags(command: Any) -> None:
    """Adds the options to a command, or to the commands of a group.

    Where lines end in a docstring is for who reads the source: its paragraphs are joined, which Typer leaves undone.
    """
    command.help = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(command.help or ""))
    if isinstance(command, TyperGroup):
        for one in command.commands.values():
            add_flags(one)
    else:
        command.params.extend(typer.main.get_command(_carrier).params)


def _remember(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    root = ctx.find_root()
    root.obj = root.obj or Flags()
    if value is not None:
        root.obj = replace(root.obj, **{str(param.name): value})
    return value


def _option(name: str, help_: str, **more: Any) -> Any:
    return typer.Option(name, help=help_, rich_help_panel=PANEL, callback=_remember, expose_value=False, **more)


ConfigOption = Annotated[Path | None, _option("--config", "Configuration file.")]
ContextOption = Annotated[str | None, _option("--context", "Context of the configuration.")]
StoreOption = Annotated[Path | None, _option("--store", "SQLite file of the store.")]
NamespaceOption = Annotated[str | None, _option("--namespace", "Network namespace in which machines are reached.")]


class TextOrJson(enum.StrEnum):
    """The ways a verb without tables prints."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[TextOrJson, typer.Option("--output", "-o", help="How to print.")]

_carrier = typer.Typer(add_completion=False)


@_carrier.command()
def _carry(
    config: ConfigOption = None,
    context: ContextOption = None,
    store: StoreOption = None,
    namespace: NamespaceOption = None,
) -> None:
    """Only its options are used."""
