"""What people see. Answers on stdout, all else on stderr; nothing that a machine said reaches the terminal raw."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from drivers.base import SalvusError

if TYPE_CHECKING:
    from pydantic import BaseModel

GAP = "   "
STATUS_STYLES = {"True": "green", "False": "red", "Unknown": "yellow"}


def console(*, stderr: bool = False, soft_wrap: bool = True) -> Console:
    """A console that takes text as it is: no markup, no emoji, no wrapping. ``NO_COLOR`` and pipes are honoured."""
    # no-color.org; left alone, Rich still prints bold.
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=soft_wrap, color_system=colours)


def clean(text: str) -> str:
    """The text on one line, with control characters, line ends and bidi overrides as escapes such as ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def lines(text: str) -> list[str]:
    """The text's lines, each of them clean."""
    return [clean(line) for line in text.expandtabs(4).split("\n")]


def say(text: str | Text = "") -> None:
    """One line on stdout."""
    console().print(text if isinstance(text, Text) else clean(text))


def note(text: str | Text) -> None:
    """Progress: one line on stderr."""
    console(stderr=True).print(text if isinstance(text, Text) else clean(text))


def warn(text: str) -> None:
    """A warning on stderr."""
    _block("warning", "yellow", text, "")


def complain(error: SalvusError) -> None:
    """An error on stderr: what happened, and what to do."""
    failed(str(error), error.hint)


def failed(text: str, hint: str) -> None:
    """Something that went wrong, on stderr, and what to do."""
    _block("error", "bold red", text, hint)


def _block(word: str, style: str, text: str, hint: str) -> None:
    first, *rest = lines(text)
    block = Text.assemble((f"{word}: ", style), first)
    for line in rest:
        block.append(f"\n  {line}")
    if hint:
        block.append("\n  hint: ", "cyan").append("\n        ".join(lines(hint)))
    console(stderr=True).print(block)


def table(headings: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Columns on stdout, as wide as their contents; nothing is cut, so that pipes get everything."""
    cells = [[cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row] for row in rows]
    heads = [Text(heading, "bold") for heading in headings]
    widths = [max(cell_len(row[column].plain) for row in (heads, *cells)) for column in range(len(heads))]
    out = console()
    for row in (heads, *cells):
        line = Text()
        for cell, width in zip(row[:-1], widths[:-1], strict=True):
            line.append_text(cell).append(" " * (width - cell_len(cell.plain)) + GAP)
        out.print(line.append_text(row[-1]))


def status_text(status: str) -> Text:
    """``True``, ``False``, ``Unknown`` in their colours."""
    return Text(clean(status), STATUS_STYLES.get(status, ""))


def emit(output: BaseModel) -> None:
    """A model as JSON on stdout."""
    write_json(output.model_dump(mode="json", by_alias=True, exclude_unset=True))


def write_json(value: object) -> None:
    """JSON on stdout; ASCII only, so that nothing in it can speak to a terminal."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
    sys.stdout.flush()


def write_yaml(documents: Sequence[Mapping[str, Any]]) -> None:
    """YAML documents on stdout, which read back as the same values."""
    from salvusctl.yaml_out import to_yaml

    sys.stdout.write("---\n".join(map(to_yaml, documents)))
    sys.stdout.flush()


def counted(number: int, noun: str) -> str:
    """``1 error``, ``2 errors``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def age(seconds: float) -> str:
    """A time span in its largest unit, as kubectl writes it: ``12s``, ``5m``, ``3h``, ``9d``."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"
