"""``python -m tools.bench``: measures, prints a table, writes JSON. Never fails on a clock."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Protocol

import typer

from lab.progress import Progress, on_terminal
from tools.bench.ansible import Ansible
from tools.bench.endpoints import Machines, machines
from tools.bench.measure import Cost, repeated
from tools.bench.pyinfra import Pyinfra
from tools.bench.report import Result, as_json, show
from tools.bench.salvus import SalvusDaemon, SalvusOnce
from tools.bench.work import Work


class Tool(Protocol):
    """A tool with its work prepared: the first run makes everything, each further one has nothing to do."""

    name: str

    def run(self) -> Cost:
        """One run. RuntimeError when the tool fails."""
        ...

    def close(self) -> None:
        """Ends what the tool keeps running."""
        ...


class Maker(Protocol):
    """Prepares a tool in an empty folder of its own."""

    def __call__(self, work: Work, folder: Path) -> Tool:
        """Starts nothing that costs."""
        ...


TOOLS: tuple[Maker, ...] = (SalvusDaemon, SalvusOnce, Pyinfra, Ansible)


def main(
    shape: Annotated[list[str] | None, typer.Option(metavar="NxM", help="Endpoints x items; 64x2 and 16x20.")] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Where the numbers go as JSON too.")] = None,
) -> None:
    """Measures salvus, pyinfra and Ansible on the same machines. Needs root; takes about a quarter of an hour."""
    shapes = [_shape(text) for text in shape or ["64x2", "16x20"]]
    with tempfile.TemporaryDirectory(prefix="salvus-bench-") as name, on_terminal() as progress:
        scratch = Path(name)
        most = max(endpoints for endpoints, _ in shapes)
        with machines(most, scratch, progress) as there:
            results = [r for s in shapes for r in _measure(there, there.work(*s), scratch, progress)]
    show(results)
    if json_ is not None:
        json_.write_text(json.dumps(as_json(results), indent=2) + "\n")


def _shape(text: str) -> tuple[int, int]:
    if (found := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)) is None:
        raise typer.BadParameter(f"{text!r} is not NxM, as in 64x2")
    return int(found[1]), int(found[2])


def _measure(there: Machines, work: Work, scratch: Path, progress: Progress) -> Iterator[Result]:
    for make in TOOLS:
        there.wipe()
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            tool = make(work, Path(folder))
            try:
                yield _measured(there, work, tool, progress)
            finally:
                tool.close()


def _measured(there: Machines, work: Work, tool: Tool, progress: Progress) -> Result:
    """Both passes, each checked by a look at the machines. RuntimeError when a tool did not do what it was to do."""
    progress(f"{work.shape}: {tool.name}")
    first = tool.run()
    there.check(work)
    before = there.look()
    noop = repeated(tool.run)
    if written := sorted(there.look() ^ before):
        raise RuntimeError(f"{tool.name} wrote though there was nothing to do: {'; '.join(written)}")
    return Result(len(work.endpoints), work.items, tool.name, first, noop)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
