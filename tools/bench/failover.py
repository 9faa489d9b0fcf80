"""How soon something happens after a ``git push``, and how soon after the controller that is to do it was killed.

``python -m tools.bench.failover [--rounds N] [--json FILE]``, as root: a lab of three hosts and three Cassandra nodes,
and two controllers, each in a pid namespace of its own, so that the other one cannot see that it died. A push changes a
file on all hosts; the time is until the file on a host was replaced, by the host's own clock, which is ours. For the
failover the controller that has the host is killed (``kill -9``) just before the push. Nothing fails on a clock.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import lab
from lab.progress import Progress, on_terminal
from tests.lab.fleet import eventually, resource
from tests.lab.ha import FAILOVER, HOSTS, HaFleet

NAME = "salvus-bench-ha"
HOST = HOSTS[0]
FILE = "/etc/bench.conf"
# Seconds after which a round is given up: something is broken then.
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds of each round, and what is promised of the worst, if anything is."""

    what: str
    seconds: tuple[float, ...]
    promise: float | None = None


class Bench:
    """A fleet with two controllers."""

    def __init__(self, fleet: HaFleet) -> None:
        self._fleet = fleet
        self._version = 0
        fleet.prepare()
        self._write()
        fleet.push()
        for _ in range(2):
            fleet.launch()
        self._settle()

    def _write(self) -> None:
        self._version += 1
        files = [{"path": FILE, "content": f"{self._version}\n"}]
        self._fleet.write("bench", resource("Service", "bench", {"machines": {"names": list(HOSTS)}, "files": files}))

    def _settle(self) -> None:
        self._fleet.all_members()
        self._fleet.whole()

    def after_push(self) -> float:
        """Seconds from the end of a push until its change is made."""
        self._write()
        self._fleet.push()
        return self._made(time.time())

    def after_kill(self) -> float:
        """Seconds from the death of the host's controller until another one makes what was pushed just then."""
        self._write()
        begin = time.time()
        self._fleet.end(self._fleet.controllers[self._fleet.holder(HOST)])
        self._fleet.push()
        seconds = self._made(begin)
        self._fleet.launch()
        self._settle()
        return seconds

    def _made(self, begin: float) -> float:
        there = f"{self._version}\n"
        if not eventually(lambda: self._fleet.inside(HOST, f"cat {FILE}") == there, PATIENCE):
            raise RuntimeError(f"never made:\n{self._fleet.said()}")
        return float(self._fleet.inside(HOST, f"stat -c %.3Z {FILE}")) - begin


@contextmanager
def _bench(progress: Progress) -> Iterator[Bench]:
    progress("the lab comes up")
    lab.down(NAME)
    try:
        made = lab.up(NAME, len(HOSTS), nodes=3)
        with (
            tempfile.TemporaryDirectory(prefix="salvus-bench-") as folder,
            closing(HaFleet(made, Path(folder))) as fleet,
        ):
            yield Bench(fleet)
    finally:
        lab.down(NAME)


def _rounds(what: str, one: Callable[[], float], rounds: int, progress: Progress) -> tuple[float, ...]:
    seconds: list[float] = []
    for number in range(rounds):
        progress(f"{what}: {number + 1} of {rounds}")
        seconds.append(round(one(), 3))
    return tuple(seconds)


def measured(rounds: int, progress: Progress) -> tuple[Result, ...]:
    """Both, so many times each."""
    with _bench(progress) as bench:
        push = _rounds("push", bench.after_push, rounds, progress)
        kill = _rounds("failover", bench.after_kill, rounds, progress)
    return Result("from git push to the change on a host", push), Result("kill -9 to that change", kill, FAILOVER)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 10,
    json_: Annotated[Path | None, typer.Option("--json", help="Where the numbers go as JSON too.")] = None,
) -> None:
    """Measures two controllers over three hosts and three Cassandra nodes. Needs root; about ten minutes."""
    with on_terminal() as progress:
        results = measured(rounds, progress)
    table = Table("seconds", "rounds", "median", "worst", "promised", box=None, pad_edge=False)
    for one in results:
        median, worst = statistics.median(one.seconds), max(one.seconds)
        promise = "" if one.promise is None else f"<= {one.promise:g}"
        table.add_row(one.what, str(len(one.seconds)), f"{median:.1f}", f"{worst:.1f}", promise)
    Console().print(table)
    if json_ is not None:
        json_.write_text(json.dumps([asdict(one) for one in results], indent=2) + "\n")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
