"""The numbers as a table and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from tools.bench.measure import Cost
from tools.bench.salvus import SalvusDaemon

BASE = SalvusDaemon.name
CAPTION = """\
shape: endpoints x items (one unit, else files). first: everything is made; no-op: nothing is to do.
CPU: of the controller with its children; ms/host: that of the no-op. ratio: wall time over that of salvus' daemon."""


@dataclass(frozen=True, slots=True)
class Result:
    """One tool at one shape: its first pass, which makes everything, and a pass that has nothing to do."""

    endpoints: int
    items: int
    tool: str
    first: Cost
    noop: Cost


def ratios(result: Result, results: Sequence[Result]) -> tuple[float, float]:
    """How many times as long as salvus' daemon on the same work: first pass, pass with nothing to do."""
    shape = (result.endpoints, result.items)
    base = next(r for r in results if (r.endpoints, r.items) == shape and r.tool == BASE)
    return result.first.wall / base.first.wall, result.noop.wall / base.noop.wall


def show(results: Sequence[Result]) -> None:
    """The table, on standard output."""
    table = Table(box=None, pad_edge=False, caption=CAPTION, caption_justify="left")
    for heading in ("shape", "tool"):
        table.add_column(heading, no_wrap=True)
    for heading in ("first s", "CPU s", "ratio", "no-op s", "CPU s", "ratio", "ms/host"):
        table.add_column(heading, justify="right", no_wrap=True)
    for before, result in zip((None, *results), results, strict=False):
        if before is not None and result.tool == BASE:
            table.add_section()
        first, noop = ratios(result, results)
        table.add_row(
            f"{result.endpoints}x{result.items}",
            result.tool,
            *(f"{result.first.wall:.2f}", f"{result.first.cpu:.2f}", f"{first:.1f}"),
            *(f"{result.noop.wall:.3f}", f"{result.noop.cpu:.3f}", f"{noop:.1f}"),
            f"{1000 * result.noop.cpu / result.endpoints:.2f}",
        )
    Console().print(table)


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """The same as data, with what it was measured on."""
    rows = []
    for result in results:
        first, noop = ratios(result, results)
        rows.append(asdict(result) | {"firstRatio": first, "noopRatio": noop})
    return {"machine": machine(), "results": rows}


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {"cpus": os.cpu_count(), "kernel": platform.release()}
