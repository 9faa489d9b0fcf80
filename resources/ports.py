"""Ports as manifests write them: numbers, ranges, and the names of what speaks of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, StringConstraints, WithJsonSchema

from drivers.items.rules import Ports, joined
from resources.base import Name, Path
from resources.words import WORDS, as_text, quoted

PORTS = "a port or a range of ports"

# Short enough that "Firewall/NAME spec.ingress[NAME]" always fits into a rule's comment.
RuleName = Annotated[Name, StringConstraints(max_length=32)]
# As long as a service's name may be (RFC 6335, section 5.1).
PortName = Annotated[Name, StringConstraints(max_length=15)]


def port_range(text: str) -> str:
    """``9042`` or ``7000-7001``, from 1 to 65535. Raises ValueError."""
    found = re.fullmatch("([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last <= 65535:
        swapped = f"; did you mean '{last}-{first}'?" if 1 <= last < first <= 65535 else ""
        raise ValueError(f"{quoted(text)} is not {PORTS} from 1 to 65535, as in 9042 or 7000-7001{swapped}")
    return text


PortRange = Annotated[
    str,
    AfterValidator(port_range),
    BeforeValidator(as_text),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}], WORDS: PORTS, "examples": ["9042"]}),
]


def ports_of(texts: Iterable[str]) -> tuple[Ports, ...]:
    """What is written, in order, with none that is in another or goes on where another ends."""
    return joined(map(_ports, texts))


def _ports(text: str) -> Ports:
    first, _, last = text.partition("-")
    return Ports(int(first), int(last or first))


def twice(path: Path, names: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """The places of names that are in a list already."""
    for position, name in enumerate(names):
        if name in names[:position]:
            yield (*path, position, "name"), f"{name!r} is there already; names are unique within a list"
