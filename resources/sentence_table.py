"""One sentence for each type of error that pydantic can find in a manifest."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from pydantic_core import ErrorDetails

from resources.base import Path
from resources.fleet import did_you_mean
from resources.schema_tree import Node


def sentence(details: ErrorDetails, path: Path, root: Node) -> str:
    """What is wrong and what is allowed. Types without a sentence of their own keep pydantic's words."""
    if details["loc"][-1:] == ("[key]",):
        return f"{_quoted(details['input'])} cannot be a key here; {_form(details) or 'see salvusctl explain'}"
    make = _SENTENCES.get(details["type"])
    if make is None:
        message = details["msg"]
        return message[:1].lower() + message[1:]
    return make(details, root.at(path), path, root)


def similar(word: str, allowed: Iterable[str]) -> str:
    """``; did you mean 'cpuMax'?`` for ``cpu_max`` or ``CPUmax`` too; with nothing near, what is allowed."""
    names = sorted(allowed)
    plain = {_letters(name): name for name in names}
    if near := difflib.get_close_matches(_letters(word[:63]), plain, n=1):
        return f"; did you mean {plain[near[0]]!r}?"
    return did_you_mean(word[:63], names)


def _letters(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


def _context(details: ErrorDetails, name: str) -> object:
    return details.get("ctx", {}).get(name, "")


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


Maker = Callable[[ErrorDetails, Node | None, Path, Node], str]


def _must_be(what: str, hint: str = "") -> Maker:
    def make(details: ErrorDetails, node: Node | None, path: Path, root: Node) -> str:
        secret = node is not None and node.secret
        got = "" if secret else f", but {_got(details['input'])}"
        return f"must be {what}{got}{hint}"

    return make


def _text(details: ErrorDetails, node: Node | None, path: Path, root: Node) -> str:
    hint = "; write it in quotes" if isinstance(details["input"], bool | int | float) else ""
    return _must_be("text", hint)(details, node, path, root)


def _unknown_field(details: ErrorDetails, node: Node | None, path: Path, root: Node) -> str:
    if path == ("status",):
        return "is written by salvus alone; leave it out"
    around = root.at(path[:-1])
    return f"unknown field{similar(str(path[-1]), around.fields() if around else ())}"


def _missing(details: ErrorDetails, node: Node | None, path: Path, root: Node) -> str:
    return f"is missing{_as_in(node)}"


def _allowed(details: ErrorDetails, node: Node | None, path: Path, root: Node) -> str:
    allowed = node.allowed if node else ()
    if not allowed:
        return f"must be {_context(details, 'expected')}"
    word = details["input"]
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
        "letters, digits and . _ -, beginning and ending with a letter or digit; before them a DNS name and '/' if need be"
    ),
}


def _form(details: ErrorDetails) -> str:
    pattern = str(_context(details, "pattern"))
    if details["type"] == "string_pattern_mismatch":
        return f"allowed: {_FORMS.get(pattern, f'text that matches {pattern}')}"
    if details["type"] == "string_too_long":
        return f"at most {_context(details, 'max_length')} characters are allowed"
    return ""


def _pattern(details: ErrorDetails, node: Node | None, path: Path, root: Node) -> str:
    shown = "the value" if node is not None and node.secret else _quoted(details["input"])
    return f"{shown} has the wrong form; {_form(details)}{_as_in(node)}"


def _value_error(details: ErrorDetails, node: Node | None, path: Path, root: Node) -> str:
    return str(_context(details, "error"))


def _limit(words: str, name: str) -> Maker:
    def make(details: ErrorDetails, node: Node | None, path: Path, root: Node) -> str:
        return f"must be {words} {_context(details, name)}, but {_got(details['input'])}"

    return make


def _length(words: str, name: str, unit: str) -> Maker:
    def make(details: ErrorDetails, node: Node | None, path: Path, root: Node) -> str:
        value = details["input"]
        size = f", but it has {len(value)}" if isinstance(value, str | list | dict) else ""
        return f"must have {words} {_context(details, name)} {unit}{size}"

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
    "string_too_long": _length("at most", "max_length", "characters"),
    "string_too_short": _length("at least", "min_length", "characters"),
    "too_long": _length("at most", "max_length", "entries"),
    "too_short": _length("at least", "min_length", "entries"),
    "greater_than_equal": _limit("at least", "ge"),
    "greater_than": _limit("more than", "gt"),
    "less_than_equal": _limit("at most", "le"),
    "less_than": _limit("less than", "lt"),
    "multiple_of": _limit("a multiple of", "multiple_of"),
    "value_error": _value_error,
    "assertion_error": _value_error,
}
