"""Jinja2 templates in a sandbox: they reach only the names they are given, and equal values give equal text.

The sandbox keeps a template from getting out. It does not keep one from wasting time; only its output is limited.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta, nodes, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from resources.base import Invalid
from resources.fleet import did_you_mean

# In characters: enough for any configuration file, too little to fill a machine.
MAX_OUTPUT = 2**20

_ERRORS = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@cache
def _sandbox() -> ImmutableSandboxedEnvironment:
    sandbox = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        # Configuration files are not HTML: nothing is escaped.
        autoescape=select_autoescape(enabled_extensions=(), default_for_string=False),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # These give another text at every pass, and the file would be written for ever.
    del sandbox.filters["random"]
    del sandbox.globals["lipsum"]
    return sandbox


@lru_cache(maxsize=1024)
def _compiled(source: str) -> Template:
    return _sandbox().from_string(source)


def problems(source: str, names: Iterable[str]) -> Iterator[str]:
    """What is wrong with a template however the fleet may be: syntax, unknown names, files it would include."""
    try:
        tree = _sandbox().parse(source)
        _compiled(source)
    except TemplateSyntaxError as error:
        yield f"line {error.lineno} of the template: {error.message}"
        return
    except (RecursionError, SyntaxError, MemoryError):
        yield "the template is nested too deep"
        return
    known = set(names)
    for name in sorted(meta.find_undeclared_variables(tree) - known - _sandbox().globals.keys()):
        yield f"the template uses {name!r}, which is nowhere defined{did_you_mean(name, known)}"
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        yield f"line {node.lineno} of the template: there are no other templates to include or import"


@lru_cache(maxsize=1024)
def named(source: str, name: str) -> tuple[str, ...]:
    """The texts that a template without problems gives to a name as its first argument: not what it works out."""
    calls = [call for call in _sandbox().parse(source).find_all(nodes.Call) if call.args]
    asked = [c.args[0] for c in calls if isinstance(c.node, nodes.Name) and c.node.name == name]
    return tuple(first.value for first in asked if isinstance(first, nodes.Const) and isinstance(first.value, str))


def render(source: str, names: Mapping[str, object]) -> str:
    """The text of a template. Raises Invalid, with the line, when it cannot be made of these values.

    What the names themselves raise (NotYet) comes through.
    """
    parts: list[str] = []
    length = 0
    try:
        for part in _compiled(source).generate(**names):
            parts.append(part)
            length += len(part)
            if length > MAX_OUTPUT:
                raise Invalid(f"gives more than {MAX_OUTPUT} characters")
    except (Invalid, *_ERRORS) as error:
        line = _line(error)
        where = f"line {line} of the template" if line else "the template"
        raise Invalid(f"{where}: {error}") from error
    return "".join(parts)


def _line(error: BaseException) -> int | None:
    """The template's line at which an error was raised: Jinja puts it into the traceback."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename in {"<template>", "<unknown>"}]
    return lines[-1] if lines else None
