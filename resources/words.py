"""Words for what somebody wrote, and for what was probably meant. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

# The keyword of our JSON Schemas that says in words what is allowed: "a MAC address: six pairs of …".
WORDS: Final = "x-allowed"


@dataclass(frozen=True, slots=True)
class Called:
    """How a value is called and what is allowed, as in "a name: small letters", for ``explain`` and messages."""

    words: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Adds the words to the schema."""
        return {**handler(schema), WORDS: self.words}


def got(value: object) -> str:
    """What is there instead of what is allowed, without quoting much of it."""
    match value:
        case None:
            return "nothing is written"
        case "":
            return "it is an empty text"
        case bool():
            return f"it is {str(value).lower()}"
        case int() | float():
            return f"it is the number {value}"
        case str():
            return f"it is the text {quoted(value)}"
        case Mapping():
            return "it is a mapping"
        case _:
            return "it is a list"


def as_text(value: object) -> object:
    """YAML reads ``9042`` as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def quoted(value: object) -> str:
    """The beginning of what is written, in quotes."""
    text = str(value)
    return repr(text if len(text) <= 40 else f"{text[:39]}…")


def meant(*words: str) -> str:
    """``; did you mean '2G' or '2Gi'?``; empty without words."""
    return f"; did you mean {' or '.join(map(repr, words))}?" if words else ""


def mended(candidates: Iterable[str], fits: Callable[[str], bool]) -> str:
    """``meant`` of the first candidate that fits."""
    return meant(*[candidate for candidate in candidates if fits(candidate)][:1])


def spellings(text: str) -> Iterator[str]:
    """What a hasty writer may have meant: no blanks around it, small letters, hyphens."""
    yield (bare := text.strip())
    yield bare.lower()
    yield re.sub(r"[_.\s]+", "-", bare.lower()).strip("-")
