"""The tables of fields in ``docs/kinds``, from the docstrings: ``python -m tools.field_tables`` writes them anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from resources.base import AnyKind
from resources.fleet import kinds
from resources.schema import Explanation, explain

PAGES = Path(__file__).parent.parent / "docs" / "kinds"
_TABLE = re.compile(r"(?<=<!-- fields -->\n).*(?=<!-- end of fields -->)", re.DOTALL)


def page(kind: AnyKind) -> Path:
    """``VirtualMachine`` → ``docs/kinds/virtual-machine.md``, ``VPNNode`` → ``docs/kinds/vpn-node.md``."""
    return PAGES / (re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", kind.name).lower() + ".md")


def table(kind: AnyKind) -> str:
    """All fields of the kind's ``spec``, a row each."""
    rows = [_row(found) for found in _fields(f"{kind.name}.spec")]
    return "\n".join(["| Field | Type | Default | |", "|---|---|---|---|", *rows, ""])


def _fields(path: str) -> Iterator[Explanation]:
    for summary in explain(path).fields:
        found = explain(f"{path}.{summary.name}")
        yield found
        yield from _fields(found.path)


def _row(found: Explanation) -> str:
    default = "required" if found.required else f"`{found.default}`" if found.default else ""
    type_ = ", ".join(f"`{value}`" for value in found.allowed if value) or found.type
    text = found.description.replace("\n", " ")
    cells = (f"`{found.path.partition('.')[2]}`", type_, default, text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def rewritten(text: str, kind: AnyKind) -> str:
    """The page with its table made anew."""
    return _TABLE.sub(lambda _: table(kind), text)


def main() -> None:
    """Writes the tables of all pages."""
    for kind in kinds().values():
        path = page(kind)
        path.write_text(rewritten(path.read_text(), kind))


if __name__ == "__main__":
    main()
