"""One sentence for each type of error that pydantic can find in a manifest."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic_core import ErrorDetails

from resources.base import Path
from resources.fleet import did_you_mean
from resources.schema_tree import Node


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
        return f"{_quoted(case.value)} cannot be a key here; {_form(case) or 'see salvusctl explain'}"
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


def _got(value: object) -> str:
    """What is there instead, without quoting much of it."""
    match value:
        case None:
            return "nothing is written"
        case bool():
            return f"it is {str(value).lower()}"
        case int() | float():
            return f"it is the number {value}"
        case str():
            return f"it is the text {_quoted(value)}"
        case Mapping():
            return "it is a mapping"
        case _:
            return "it is a list"


def _quoted(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 40 else f"{text[:39]}…")


Maker = Callable[[Case], str]


def _must_be(what: str, hint: str = "") -> Maker:
    def make(case: Case) -> str:
        got = "" if case.secret else f", but {_got(case.value)}"
        return f"must be {what}{got}{hint}"

    return make


def _text(case: Case) -> str:
    hint = "; write it in quotes" if isinstance(case.value, bool | int | float) else ""
    return _must_be("text", hint)(case)


def _unknown_field(case: Case) -> str:
    if case.path == ("status",):
        return "is written by salvus alone; leave it out"
    around = case.root.at(case.path[:-1])
    return f"unknown field{similar(str(case.path[-1]), around.fields() if around else ())}"


def _missing(case: Case) -> str:
    return f"is missing{_as_in(case.node)}"


def _allowed(case: Case) -> str:
    allowed = case.node.allowed if case.node else ()
    word = case.value
    if not allowed:
        return f"must be {case.context('expected')}"
    near = difflib.get_close_matches(word.lower(), {a.lower() for a in allowed}, n=1) if isinstance(word, str) else []
    meant = "".join(f"; did you mean {a!r}?" for a in allowed if near and a.lower() == near[0])
    if not isinstance(word, str):
        return f"must be one of {', '.join(allowed)}, but {_got(word)}"
    return f"{_quoted(word)} is not allowed; allowed: {', '.join(allowed)}{meant}"


def _as_in(node: Node | None) -> str:
    return f", as in {node.examples[0]}" if node and node.examples else ""


# The patterns of resources/base.py, in words.
_FORMS: Final = {
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": "lower-case letters, digits and '-', beginning and ending with no '-'",
    r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$": (
        "letters, digits and . _ -, beginning and ending with a letter or digit"
    ),
    r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$": (
        "letters, digits and . _ -, beginning and ending with a letter or digit; a DNS name and '/' may come before"
    ),
}


def _form(case: Case) -> str:
    pattern = str(case.context("pattern"))
    if case.details["type"] == "string_pattern_mismatch":
        return f"allowed: {_FORMS.get(pattern, f'text that matches {pattern}')}"
    if case.details["type"] == "string_too_long":
        return f"at most {case.context('max_length')} characters are allowed"
    return ""


def _pattern(case: Case) -> str:
    shown = "the value" if case.secret else _quoted(case.value)
    return f"{shown} has the wrong form; {_form(case)}{_as_in(case.node)}"


def _value_error(case: Case) -> str:
    return str(case.context("error"))


def _limit(words: str, name: str) -> Maker:
    def make(case: Case) -> str:
        return f"must be {words} {case.context(name)}, but {_got(case.value)}"

    return make


def _length(words: str, name: str, one: str, many: str) -> Maker:
    def make(case: Case) -> str:
        number = case.context(name)
        size = f", but it has {len(case.value)}" if isinstance(case.value, str | list | tuple | dict) else ""
        return f"must have {words} {number} {one if number == 1 else many}{size}"

    return make


_LIST: Final = _must_be("a list", "; write each entry on a line that begins with '- '")
_MAPPING: Final = _must_be("a mapping of fields")
_WHOLE: Final = _must_be("a whole number", "; write it without quotes and unit")

_SENTENCES: Final[Mapping[str, Maker]] = {
    "extra_forbidden": _unknown_field,
    "missing": _missing,
    "literal_error": _allowed,
    "enum": _allowed,
    "string_type": _text,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _must_be("a number", "; write it without quotes and unit"),
    "bool_type": _must_be("true or false", "; in YAML 1.2 yes, no, on and off are texts"),
    "tuple_type": _LIST,
    "list_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "dict_type": _MAPPING,
    "mapping_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
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
