"""What Typer says of words that it cannot take, in the form of all our errors: what is wrong, what is allowed."""

from __future__ import annotations

import difflib
from typing import Any

import typer

from resources.fleet import did_you_mean
from salvusctl.exits import UseError


def misuse(error: typer.TyperException) -> UseError:
    """An error of Typer's as one of ours."""
    ctx: typer.Context | None = getattr(error, "ctx", None)
    return UseError(_what(error, ctx), hint=f"{ctx.command_path if ctx else 'salvusctl'} --help")


def _what(error: Any, ctx: Any) -> str:
    # Typer keeps its classes of errors to itself, and so tells them apart by name, too.
    match type(error).__name__:
        case "NoSuchOption":
            options = [word for param in ctx.command.get_params(ctx) for word in param.opts if word.startswith("--")]
            return f"there is no option {error.option_name}{did_you_mean(error.option_name, options)}"
        case "MissingParameter":
            return f"{_name(error.param)} is missing{_allowed(error.param)}"
        case "BadParameter" if error.param is not None:
            value = str(error.__cause__.errors()[0]["input"])
            near = difflib.get_close_matches(value, _choices(error.param), n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            return f"{value!r} is no value of {_name(error.param)}{_allowed(error.param)}{meant}"
    said: str = error.format_message().rstrip(".")
    return said[:1].lower() + said[1:]


def _name(param: Any) -> str:
    return str(param.opts[0] if param.param_type_name == "option" else param.metavar or param.name.upper())


def _choices(param: Any) -> list[str]:
    return [choice.value for choice in param.type_descriptor.choices or ()]


def _allowed(param: Any) -> str:
    wanted = param.type_descriptor
    number = {int: "a whole number", float: "a number"}.get(wanted.annotation, "")
    if number and wanted.parameter_info.min is not None:
        number += f", at least {wanted.parameter_info.min:g}"
    allowed = ", ".join(_choices(param)) or number
    return f"; allowed: {allowed}" if allowed else ""
