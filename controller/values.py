"""Values of items as text: short, on one line, harmless to a terminal; long texts as a line-by-line difference."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator

from drivers.base import Change, Drift

MASK = "***"
LONGEST = 120
CONTEXT = 1
# More lines of a difference than anybody reads in a terminal; -o json has everything.
MOST_LINES = 40


def short(value: object) -> str:
    """One value on one line: text in quotes only where it needs them, ``-`` for nothing; long ones are cut."""
    if value is None:
        return "-"
    text = value if isinstance(value, str) and _plain(value) else json.dumps(value, ensure_ascii=False)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 40]}…{text[-20:]} ({len(text)} characters)"
    return text


def _plain(text: str) -> bool:
    return bool(text) and text.isprintable() and text == text.strip()


def multiline(value: object) -> bool:
    """Whether a value is a text of several lines."""
    return isinstance(value, str) and "\n" in value.rstrip("\n")


def field_lines(name: str, value: object) -> list[str]:
    """A field as lines: a text of several lines is indented below its name."""
    if isinstance(value, str) and multiline(value):
        return [f"{name}:", *(f"  {line}" for line in _cut(value.splitlines()))]
    return [f"{name}: {short(value)}"]


def line_difference(observed: object, desired: object) -> list[str]:
    """Two texts as lines that begin with a blank, ``-`` (as it is) or ``+`` (as it is to be)."""
    old = observed.splitlines() if isinstance(observed, str) else []
    new = desired.splitlines() if isinstance(desired, str) else []
    found = list(difflib.unified_diff(old, new, lineterm="", n=CONTEXT))[2:]
    return _cut([line for line in found if not line.startswith("@@")])


def masked(change: Change) -> tuple[Drift, ...]:
    """What differs, without the values of secrets (rule 13)."""
    secret = change.item.secret_fields
    return tuple(_hidden(one) if one.field in secret else one for one in change.drift)


def _hidden(drift: Drift) -> Drift:
    return Drift(drift.field, MASK, None if drift.observed is None else MASK)


def change_lines(change: Change) -> Iterator[str]:
    """A change as lines: what is done to which item, and of each field from what to what; secrets masked."""
    yield f"{change.verb} {change.item.key}"
    for drift in masked(change):
        if multiline(drift.desired) or multiline(drift.observed):
            yield f"  {drift.field}:"
            yield from (f"    {line}" for line in line_difference(drift.observed, drift.desired))
        else:
            yield f"  {drift.field}: {short(drift.observed)} → {short(drift.desired)}"


def _cut(lines: list[str]) -> list[str]:
    rest = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], f"… {rest} more lines"] if rest > 0 else lines
