"""Seconds of a run: of the clock on the wall, and of the controller's CPU with its children's."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_ENOUGH = 5.0
_MOST = 20


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds."""

    wall: float
    cpu: float


def median(costs: Sequence[Cost]) -> Cost:
    """The median of each."""
    return Cost(statistics.median(c.wall for c in costs), statistics.median(c.cpu for c in costs))


def repeated(run: Callable[[], Cost]) -> Cost:
    """The median of as many runs as fit in a few seconds, one at least."""
    costs: list[Cost] = []
    while len(costs) < _MOST and sum(cost.wall for cost in costs) < _ENOUGH:
        costs.append(run())
    return median(costs)


def in_namespace(namespace: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs in a network namespace; nsenter(1) becomes the program, and costs it 1 ms."""
    return ["nsenter", f"--net=/run/netns/{namespace}", *argv]


def cost_of(argv: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Cost:
    """Runs a program to its end. The CPU is what wait4(2) tells: its own and that of the children it waited for.

    Raises RuntimeError with what it said when it fails.
    """
    log = folder / "log"
    begin = time.perf_counter()
    with (
        log.open("wb") as out,
        subprocess.Popen(
            argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        ) as process,
    ):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begin
    if process.returncode != 0:
        raise RuntimeError(f"{argv} ended with {process.returncode}:\n{log.read_text(errors='replace')[-3000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime)
