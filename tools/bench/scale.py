"""What the controller costs by itself: a big fleet of machines in memory, its passes in one thread.

``python -m tools.bench.scale [--machines N] [--items N] [--json]``. Every machine has the same ten services, each with
a package, files, a unit's text and a unit. Seconds are CPU of this process; nothing fails on them.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from controller.plan import Circumstances, plan
from controller.store.ledger import Ledger
from controller.store.memory import MemoryStore
from controller.view import View
from drivers.base import Absent, Observation
from drivers.simulated import SimulatedFleet
from tools.bench.fleet import KEY, Document, controller, decide, manifest, stored

SERVICES = 10


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: CPU seconds over everything, what is to be reached, and how many writes machines saw in it."""

    what: str
    seconds: float
    goal: float | None
    writes: int


def documents(machines: int, items: int) -> Iterator[Document]:
    """The manifests of a fleet with so many items on each machine."""
    for number in range(machines):
        address = f"198.18.{number // 250}.{number % 250 + 1}"
        yield manifest("Host", f"host{number}", {"address": address, "ssh": {"hostKeys": [KEY]}})
    for number in range(SERVICES):
        # A package, the unit's text and the unit are three items.
        files = [{"path": f"/etc/service{number}/{n}.conf", "content": f"{n}\n"} for n in range(items // SERVICES - 3)]
        spec = {
            "machines": {"selector": {}},
            "packages": [f"package{number}"],
            "files": files,
            "unit": "[Service]\nExecStart=/usr/bin/sleep infinity\n",
        }
        yield manifest("Service", f"service{number}", spec)


class Scale:
    """A controller with its fleet in memory."""

    def __init__(self, machines: int, items: int) -> None:
        self.fleet = SimulatedFleet()
        self.rows: list[Row] = []
        ledger = Ledger(MemoryStore())
        for document in documents(machines, items):
            ledger.put_resource(stored(document))
        self.engine = controller(ledger, self.fleet)

    def measure(self, what: str, goal: float | None, work: Callable[[], object]) -> None:
        """Does the work and notes what it cost."""
        writes, begin = self.fleet.writes, time.process_time()
        work()
        self.rows.append(Row(what, time.process_time() - begin, goal, self.fleet.writes - writes))

    def plan_all(self) -> None:
        """Lowers and plans every machine as if it were empty."""
        knowledge, view = self.engine.knowledge, View()
        view.update(knowledge.fleet, knowledge.known, {f"resource/{ref}" for ref in knowledge.rows})
        for name in self.engine.machine_names():
            lowered, now = view.lowered(name), time.time()
            absent = Observation(Absent(), now, "bench")
            planned = plan(lowered, {w.key: absent for w in lowered.wanted}, (), Circumstances(now))
            assert len(planned.changes) == len(lowered.wanted)

    def pass_all(self) -> None:
        """One pass over every machine, results written to the store."""
        for name in self.engine.machine_names():
            outcome = self.engine.machine_pass(name, lambda: False)
            assert outcome is not None
            assert outcome.result in {"changed", "synced"}, outcome.left

    def close(self) -> None:
        """Ends the controller."""
        self.engine.close()


@contextmanager
def profiled(wanted: bool) -> Iterator[None]:
    """Prints where the time went."""
    if not wanted:
        yield
        return
    with cProfile.Profile() as profile:
        yield
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)


def measured(machines: int, items: int, profile: bool) -> list[Row]:
    """All measurements."""
    scale = Scale(machines, items)
    with profiled(profile):
        scale.measure("read the store and decide", None, lambda: decide(scale.engine))
        scale.measure("lower and plan everything", 5.0, scale.plan_all)
        scale.measure("first pass: everything is made", None, scale.pass_all)
    scale.measure("what machines told comes in", None, lambda: decide(scale.engine))
    scale.measure("second pass: everything is looked at", None, scale.pass_all)
    with profiled(profile):
        scale.measure("every further pass", 1.0, scale.pass_all)
    scale.close()
    return scale.rows


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.scale")
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--items", type=int, default=100, help="on each machine; a multiple of 10 above 30")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--profile", action="store_true", help="where the time goes, on standard error")
    options = parser.parse_args()
    rows = measured(options.machines, options.items, options.profile)
    if options.json:
        print(json.dumps({**vars(options), "rows": [asdict(row) for row in rows]}, indent=2))
        return
    print(f"{options.machines} machines x {options.items} items, CPU seconds")
    for row in rows:
        goal = f"goal < {row.goal:g}" if row.goal is not None else ""
        print(f"{row.what:40} {row.seconds:8.2f}  {goal:10} {row.writes:8} writes")


if __name__ == "__main__":
    main()
