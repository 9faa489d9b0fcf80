"""pydantic's errors as sentences for people: what is wrong, what is allowed, what was probably meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from resources.base import Path
from resources.schema_tree import root_node
from resources.sentence_table import sentence

if TYPE_CHECKING:
    from resources.yaml12 import Plain

# More from one document help nobody, and a hostile one could have millions.
MAX_WRONGS: Final = 50


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something wrong at a field of a document."""

    path: Path
    what: str


def wrongs(error: ValidationError, document: Plain, model: type[BaseModel]) -> list[Wrong]:
    """Everything pydantic found, by field; what it says twice of one field (of a union's members) is joined."""
    found: dict[Path, list[str]] = {}
    root = root_node(model)
    for details in error.errors(include_url=False)[: MAX_WRONGS + 1]:
        if _counts_wrong_entries_as_none(details):
            continue
        path = _path(details, document)
        text = sentence(details, path, root)
        if text not in found.setdefault(path, []):
            found[path].append(text)
    answer = [Wrong(path, "; or ".join(sentences)) for path, sentences in found.items()]
    if error.error_count() > MAX_WRONGS:
        rest = error.error_count() - MAX_WRONGS
        return [*answer[:MAX_WRONGS], Wrong((), f"has {rest} more errors; mend these first")]
    return answer


def _counts_wrong_entries_as_none(details: ErrorDetails) -> bool:
    """pydantic calls a list too short when enough entries are there, but wrong: that is told of each of them."""
    value = details["input"]
    return details["type"] == "too_short" and isinstance(value, list) and len(value) >= details["ctx"]["min_length"]


def _path(details: ErrorDetails, document: Plain) -> Path:
    """pydantic's location without what is no part of the document (union members, ``[key]``)."""
    path: list[str | int] = []
    here: Plain = document
    for part in details["loc"]:
        match here, part:
            case dict(), str() if part in here:
                here = here[part]
            case list(), int() if part < len(here):
                here = here[part]
            case _ if details["type"] != "missing" or part != details["loc"][-1]:
                continue
        path.append(part)
    return tuple(path)
