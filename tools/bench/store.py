"""What a store costs a controller: three Cassandra nodes on this machine against a SQLite file, in one run.

``python -m tools.bench.store [--shape NxM] [--big NxM] [--json FILE]``, as root. The machines are in memory, sixteen
passes at a time as in the daemon. *first* brings a fleet into an empty store: manifests, what is decided, what is made
and seen on each machine. *no-op* is one look at the store and a pass over every machine, with nothing to do; its reads
and writes are calls of the store. Seconds of CPU are the controller's; the nodes share the machine's CPUs, and are in
the wall time only. Renewals of leases are not in it. Nothing fails on a clock.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table as Shown

from controller.store.base import Partition, Row, Store, StoreUnavailable, Table
from controller.store.cassandra.settings import CassandraSettings
from controller.store.cassandra.store import CassandraStore
from controller.store.ledger import Ledger
from controller.store.sqlite import SqliteStore
from drivers.simulated import SimulatedFleet
from tests.cassandra_ring import running_ring
from tools.bench.fleet import controller, decide, stored
from tools.bench.measure import Cost, median
from tools.bench.report import machine
from tools.bench.scale import documents

T = TypeVar("T")

WORKERS = 16
PASSES = 20
# First passes after which nothing must be left to write.
ROUNDS = 10


@dataclass
class Counted:
    """See Store; counts calls. A write that changed nothing is a read."""

    store: Store
    reads: int = 0
    writes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _count(self, wrote: bool = False) -> None:
        with self._lock:
            self.reads += not wrote
            self.writes += wrote

    def get(self, table: Table, partition: str, key: str) -> Row | None:
        """See Store."""
        self._count()
        return self.store.get(table, partition, key)

    def read(self, table: Table, partition: str) -> Mapping[str, Row]:
        """See Store."""
        self._count()
        return self.store.read(table, partition)

    def read_all(self, table: Table) -> Mapping[str, Mapping[str, Row]]:
        """See Store."""
        self._count()
        return self.store.read_all(table)

    def write(
        self,
        table: Table,
        partition: str,
        puts: Mapping[str, str],
        deletes: Collection[str] = (),
        *,
        ttl: float | None = None,
    ) -> bool:
        """See Store."""
        wrote = self.store.write(table, partition, puts, deletes, ttl=ttl)
        self._count(wrote)
        return wrote

    def compare_and_set(
        self,
        table: Table,
        partition: str,
        expected: Mapping[str, int | None],
        puts: Mapping[str, str],
        deletes: Collection[str] = (),
    ) -> bool:
        """See Store."""
        wrote = self.store.compare_and_set(table, partition, expected, puts, deletes)
        self._count(wrote)
        return wrote

    def changed_since(self, cursor: int) -> tuple[int, frozenset[Partition]]:
        """See Store."""
        self._count()
        return self.store.changed_since(cursor)

    def nodes(self) -> Mapping[str, bool]:
        """See Store."""
        return self.store.nodes()

    def close(self) -> None:
        """See Store."""
        self.store.close()


@dataclass(frozen=True, slots=True)
class Measured:
    """One store with one fleet; reads and writes as they are called, ``late`` what was not taken in time."""

    store: str
    machines: int
    items: int
    first: Cost
    written: int
    late: int
    noop: Cost
    reads: float
    writes: float


class Fleet:
    """A controller with its machines in memory."""

    def __init__(self, store: Counted, machines: int, items: int) -> None:
        self.store = store
        self.machines = machines
        self.items = items
        self.late = 0
        self.fleet = SimulatedFleet()
        self._ledger = Ledger(store)
        self._engine = controller(self._ledger, self.fleet)
        self._threads = ThreadPoolExecutor(WORKERS)

    def first(self) -> None:
        """Everything into the store and onto the machines, until nothing is written any more."""
        every = [stored(document) for document in documents(self.machines, self.items)]
        list(self._threads.map(lambda one: self._patiently(lambda: self._ledger.put_resource(one)), every))
        for _ in range(ROUNDS):
            before = self.store.writes
            decide(self._engine)
            self.passes()
            if self.store.writes == before:
                return
        raise RuntimeError("the store is written to though there is nothing to do")

    def passes(self) -> None:
        """One look, and a pass over every machine."""
        self._engine.refresh()
        list(self._threads.map(self._pass, self._engine.machine_names()))

    def _pass(self, name: str) -> None:
        outcome = self._patiently(lambda: self._engine.machine_pass(name, bool))
        assert outcome is not None
        assert outcome.result in {"changed", "synced"}, outcome.left

    def _patiently(self, work: Callable[[], T]) -> T:
        """As the daemon does it: what the store did not take in time is done again."""
        while True:
            try:
                return work()
            except StoreUnavailable:
                self.late += 1
                time.sleep(0.5)

    def close(self) -> None:
        """Ends it."""
        self._threads.shutdown()
        self._engine.close()


def cost(work: Callable[[], object]) -> Cost:
    """What it costs this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def measure(name: str, store: Store, machines: int, items: int, passes: int = PASSES) -> Measured:
    """One store, empty at first, with a fleet of so many machines with so many items each."""
    counted = Counted(store)
    with closing(Fleet(counted, machines, items)) as fleet:
        first, written = cost(fleet.first), counted.writes
        assert fleet.fleet.writes >= machines
        reads, begun = counted.reads, counted.writes
        costs = [cost(fleet.passes) for _ in range(passes)]
    each = (counted.reads - reads) / passes, (counted.writes - begun) / passes
    return Measured(name, machines, items, first, written, fleet.late, median(costs), *each)


@contextmanager
def keyspaces() -> Iterator[Callable[[], Store]]:
    """Gives stores in keyspaces of their own, on three nodes of this machine."""
    with running_ring("bench", "127.76.0", (3,)) as ring:
        made = 0

        def make() -> Store:
            nonlocal made
            made += 1
            settings = CassandraSettings(tuple(n.address for n in ring.nodes), "dc1", f"bench{made}")
            CassandraStore.make(settings, 3)
            return CassandraStore(settings)

        yield make


def measured(shapes: list[tuple[int, int]]) -> list[Measured]:
    """All measurements."""
    found: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="salvus-bench-") as folder, keyspaces() as keyspace:
        for number, (machines, items) in enumerate(shapes):
            for name, make in (
                ("SQLite", partial(SqliteStore, Path(folder) / f"{number}.db")),
                ("Cassandra", keyspace),
            ):
                with closing(make()) as store:
                    found.append(measure(name, store, machines, items))
    return found


def show(rows: list[Measured]) -> None:
    """The table, on standard output; ratios are to SQLite's line above."""
    table = Shown(box=None, pad_edge=False)
    for heading in ("shape", "store"):
        table.add_column(heading, no_wrap=True)
    for heading in (
        "first s",
        "ratio",
        "CPU s",
        "ratio",
        "writes",
        "late",
        "no-op s",
        "ratio",
        "CPU s",
        "ratio",
        "reads",
        "writes",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for base, row in ((rows[number - number % 2], row) for number, row in enumerate(rows)):
        table.add_row(
            f"{row.machines}x{row.items}",
            row.store,
            *_beside(row.first, base.first),
            str(row.written),
            str(row.late),
            *_beside(row.noop, base.noop),
            f"{row.reads:g}",
            f"{row.writes:g}",
        )
    Console(width=max(130, Console().width)).print(table)


def _beside(one: Cost, base: Cost) -> tuple[str, str, str, str]:
    return f"{one.wall:.3f}", f"{one.wall / base.wall:.1f}", f"{one.cpu:.3f}", f"{one.cpu / base.cpu:.1f}"


def main(
    shape: Annotated[str, typer.Option(metavar="NxM", help="Machines x items.")] = "100x40",
    big: Annotated[str, typer.Option(metavar="NxM", help="A second, larger fleet.")] = "1000x100",
    json_: Annotated[Path | None, typer.Option("--json", help="Where the numbers go as JSON too.")] = None,
) -> None:
    """Measures both stores. Needs root, for the nodes' control groups."""
    shapes = [(int(machines), int(items)) for machines, _, items in (text.partition("x") for text in (shape, big))]
    rows = measured(shapes)
    show(rows)
    if json_ is not None:
        json_.write_text(json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
