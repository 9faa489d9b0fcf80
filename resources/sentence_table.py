"""One sentence for each type of error that pydantic can find in a manifest."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic_core import ErrorDetails

from resources.base import IN_WORDS, Path
from resources.fields import Shape
from resources.fleet import did_you_mean
from resources.schema_tree import Node
from resources.words import got, meant, mended, quoted, spellings


@dataclass(frozen=True, slots=True)
class Case:
    """One error of pydantic's: what it says, the field's path, its place in the schema (if it has one), the schema."""

    details: ErrorDetails
    path: Path
    node: Node | None
    root: Node

    @property
    def value(self) -> object:
        """What is written."""
        return self.details["input"]

    @property
    def secret(self) -> bool:
        """Whether what is written must not be shown."""
        return self.node is not None and self.node.secret

    def context(self, name: str) -> object:
        """A word of pydantic's about the error; empty without it."""
        return self.details.get("ctx", {}).get(name, "")


def sentence(details: ErrorDetails, path: Path, root: Node) -> str:
    """What is wrong and what is allowed. Types without a sentence of their own keep pydantic's words."""
    case = Case(details, path, root.at(path), root)
    if details["loc"][-1:] == ("[key]",):
        return f"{quoted(case.value)} cannot be a key here; {_form(case) or 'see salvusctl explain'}{_near_texts(case)}"
    make = _SENTENCES.get(details["type"])
    if make is None:
        message = details["msg"]
        return message[:1].lower() + message[1:]
    return make(case)


def similar(word: str, allowed: Iterable[str]) -> str:
    """``; did you mean 'cpuMax'?`` for ``cpu_max`` or ``CPUmax`` too; with nothing near, what is allowed."""
    names = sorted(allowed)
    plain = {_letters(name): name for name in names}
    if near := difflib.get_close_matches(_letters(word[:63]), plain, n=1):
        return f"; did you mean {plain[near[0]]!r}?"
    return did_you_mean(word[:63], names)


def _letters(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


Maker = Callable[[Case], str]


def _must_be(what: str, hint: str = "") -> Maker:
    def make(case: Case) -> str:
        instead = "" if case.secret else f", but {got(case.value)}"
        return f"must be {what}{instead}{hint}"

    return make


def _text(case: Case) -> str:
    hint = "; write it in quotes" if isinstance(case.value, int | float) else ""
    if isinstance(case.value, list):
        hint = "; write it without '- ' and brackets"
    return _must_be(_called(case) or "text", hint)(case)


def _called(case: Case) -> str:
    """``a name`` of "a name: lower-case letters …": what follows helps with a text only."""
    return re.split("[:,]", case.node.words)[0] if case.node and not case.node.entry() else ""


def _whole(case: Case) -> str:
    # Not of 1.5: which of its neighbours was meant cannot be told.
    number = re.match(r"\s*(-?[0-9]{1,18})(?![0-9]|\.[0-9]*[1-9])", str(case.value))
    return _must_be("a whole number", f"; write {number[1]}, without quotes or unit" if number else "")(case)


def _mapping(case: Case) -> str:
    fields = case.node.fields() if case.node else ()
    return _must_be(_mapping_of(fields), _near_labels(case.value, fields))(case)


def _mapping_of(fields: tuple[str, ...]) -> str:
    inside = f" ({', '.join(fields[:10])}{' …' if fields[10:] else ''})" if fields else ""
    return f"a mapping of fields{inside}"


def _near_labels(value: object, fields: tuple[str, ...]) -> str:
    """How ``role=web``, as it is written on the command line, is written in a manifest."""
    label = re.fullmatch("([^=, ]{1,63})==?([^=, ]{0,63})", value) if isinstance(value, str) else None
    if label is None or (fields and "matchLabels" not in fields):
        return ""
    labels = f"{{{label[1]}: {label[2]}}}"
    return f"; write {f'{{matchLabels: {labels}}}' if fields else labels}"


_BOOLS: Final = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}


def _bool(case: Case) -> str:
    word = _BOOLS.get(str(case.value).lower())
    hint = f"; write {word}, without quotes" if word else ""
    return _must_be("true or false", hint)(case)


def _unknown_field(case: Case) -> str:
    if case.path == ("status",):
        return "is written by salvus alone; leave it out"
    around = case.root.at(case.path[:-1])
    return f"unknown field{similar(str(case.path[-1]), around.fields() if around else ())}"


def _missing(case: Case) -> str:
    fields = case.node.fields() if case.node else ()
    what = _called(case) or (_mapping_of(fields) if fields else " or ".join(case.node.allowed if case.node else ()))
    return f"is missing{f'; write {what}' if what else ''}{_as_in(case.node)}"


def _allowed(case: Case) -> str:
    allowed = case.node.allowed if case.node else ()
    word = case.value
    if not allowed:
        return f"must be {case.context('expected')}"
    near = difflib.get_close_matches(word.lower(), {a.lower() for a in allowed}, n=1) if isinstance(word, str) else []
    hint = meant(*(a for a in allowed if near and a.lower() == near[0]))
    if not isinstance(word, str):
        return f"must be one of {', '.join(allowed)}, but {got(word)}"
    return f"{quoted(word)} is not allowed; allowed: {', '.join(allowed)}{hint}"


def _as_in(node: Node | None) -> str:
    return f", as in {node.examples[0]}" if node and node.examples else ""


def _form(case: Case) -> str:
    pattern = str(case.context("pattern"))
    if case.details["type"] == "string_pattern_mismatch":
        return f"allowed: {IN_WORDS.get(pattern, f'text that matches {pattern}')}"
    if case.details["type"] == "string_too_long":
        return f"at most {case.context('max_length')} characters are allowed"
    return ""


def _pattern(case: Case) -> str:
    if case.secret:
        return f"the value has the wrong form; {_form(case)}{_as_in(case.node)}"
    return f"{quoted(case.value)} has the wrong form; {_form(case)}{_as_in(case.node)}{_near_texts(case)}"


def _near_texts(case: Case) -> str:
    return mended(spellings(str(case.value)), Shape(str(case.context("pattern")), "").fits)


def _value_error(case: Case) -> str:
    return str(case.context("error"))


def _limit(words: str, name: str) -> Maker:
    def make(case: Case) -> str:
        allowed = (case.node.range if case.node else "") or f"{words} {case.context(name)}"
        return f"must be {allowed}, but {got(case.value)}"

    return make


def _length(words: str, name: str, one: str, many: str) -> Maker:
    def make(case: Case) -> str:
        number = case.context(name)
        size = f", but it has {len(case.value)}" if isinstance(case.value, str | list | tuple | dict) else ""
        return f"must have {words} {number} {one if number == 1 else many}{size}"

    return make


_LIST: Final = _must_be("a list", "; write each entry on a line that begins with '- '")

_SENTENCES: Final[Mapping[str, Maker]] = {
    "extra_forbidden": _unknown_field,
    "missing": _missing,
    "literal_error": _allowed,
    "enum": _allowed,
    "string_type": _text,
    "int_type": _whole,
    "int_parsing": _whole,
    "int_from_float": _whole,
    "float_type": _must_be("a number", "; write it without quotes and unit"),
    "bool_type": _bool,
    "tuple_type": _LIST,
    "list_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "dict_type": _mapping,
    "mapping_type": _mapping,
    "model_type": _mapping,
    "model_attributes_type": _mapping,
    "string_pattern_mismatch": _pattern,
    "string_too_long": _length("at most", "max_length", "character", "characters"),
    "string_too_short": _length("at least", "min_length", "character", "characters"),
    "too_long": _length("at most", "max_length", "entry", "entries"),
    "too_short": _length("at least", "min_length", "entry", "entries"),
    "greater_than_equal": _limit("at least", "ge"),
    "greater_than": _limit("more than", "gt"),
    "less_than_equal": _limit("at most", "le"),
    "less_than": _limit("less than", "lt"),
    "multiple_of": _limit("a multiple of", "multiple_of"),
    "value_error": _value_error,
    "assertion_error": _value_error,
}
