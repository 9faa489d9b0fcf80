"""The store backends as the conformance suite sees them, and what it does in processes of its own."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from controller.holder import Holder
from controller.leases import Leases
from controller.store.base import Access, Store, StoreError, StoreUnavailable, Table
from controller.store.cassandra.settings import CassandraSettings
from controller.store.cassandra.store import CassandraStore
from controller.store.memory import MemoryStore
from controller.store.sqlite import SqliteStore

SPAWN = multiprocessing.get_context("spawn")


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Backend:
    """One store to be tested.

    Attributes:
        store: an empty one.
        again: opens the same data once more, as another client would.
        advance: lets so many seconds pass for rows that expire (a backend whose server keeps time sleeps).
        pace: how many seconds a test takes for one, so that what it does meanwhile takes next to nothing.
    """

    store: Store
    again: Callable[[], Store]
    advance: Callable[[float], None]
    pace: float = 1.0


# Gives a keyspace that is empty, in a ring that runs.
Keyspace = Callable[[], CassandraSettings]


@contextmanager
def memory(folder: Path, keyspace: Keyspace) -> Iterator[Backend]:
    """In memory there is one client only."""
    clock = Clock()
    store = MemoryStore(clock)
    yield Backend(store, lambda: store, clock.advance)


@contextmanager
def sqlite(folder: Path, keyspace: Keyspace) -> Iterator[Backend]:
    """A file."""
    clock = Clock()
    opened: list[Store] = []

    def again() -> Store:
        opened.append(SqliteStore(folder / "salvus.db", clock))
        return opened[-1]

    try:
        yield Backend(again(), again, clock.advance)
    finally:
        for store in opened:
            store.close()


@contextmanager
def cassandra(folder: Path, keyspace: Keyspace) -> Iterator[Backend]:
    """Real nodes; they keep time, so passing it is sleeping."""
    settings = keyspace()
    opened: list[Store] = []

    def again() -> Store:
        opened.append(CassandraStore(settings))
        return opened[-1]

    try:
        yield Backend(again(), again, time.sleep, pace=4.0)
    finally:
        for store in opened:
            store.close()


def named(backends: Iterable[str]) -> list[Any]:
    """The backends as parameters of tests."""
    marks = {"cassandra": pytest.mark.cassandra}
    return [pytest.param(name, marks=marks.get(name, ())) for name in sorted(backends)]


BACKENDS = {"memory": memory, "sqlite": sqlite, "cassandra": cassandra}


@dataclass(frozen=True)
class SqliteElsewhere:
    """Opens a store from another process."""

    path: Path

    def __call__(self) -> Store:
        return SqliteStore(self.path)


# The backends that several processes can use at once: how to open an empty one in the folder.
@dataclass(frozen=True)
class CassandraElsewhere:
    """Opens a keyspace from another process."""

    settings: CassandraSettings

    def __call__(self) -> Store:
        return CassandraStore(self.settings)


# The backends that several processes can use at once: how to open an empty one.
SHARED: dict[str, Callable[[Path, Keyspace], Callable[[], Store]]] = {
    "sqlite": lambda folder, _: SqliteElsewhere(folder / "salvus.db"),
    "cassandra": lambda _, keyspace: CassandraElsewhere(keyspace()),
}


@contextmanager
def process(work: Callable[..., None], *args: Any) -> Iterator[tuple[BaseProcess, Connection]]:
    """Runs ``work(connection, *args)`` in a process of its own, which ends with the block."""
    here, there = SPAWN.Pipe()
    child = SPAWN.Process(target=work, args=(there, *args))
    child.start()
    there.close()
    try:
        yield child, here
    finally:
        child.kill()
        child.join()
        child.close()
        here.close()


def in_time(ask: Callable[[], bool]) -> bool:
    """What ``ask`` gives; on a busy machine a write may come too late, and is not made then: it is made again."""
    while True:
        try:
            return ask()
        except StoreUnavailable as error:
            if "came too late" not in str(error):
                raise


def increment(store: Store, times: int) -> int:
    """Counts up by compare-and-set, as often as is asked; returns how often somebody else was faster."""
    lost = 0
    for _ in range(times):
        while True:
            row = store.get(Table.META, "race", "counter")
            value = str(int(row.value) + 1 if row else 1)
            expected = {"counter": row.version if row else None}
            if in_time(partial(store.compare_and_set, Table.META, "race", expected, {"counter": value})):
                break
            lost += 1
    return lost


def increment_elsewhere(connection: Connection, open_: Callable[[], Store], times: int) -> None:
    """``increment`` in a process, begun by a word so that all begin at once."""
    store = open_()
    connection.send("ready")
    connection.recv()
    connection.send(increment(store, times))
    store.close()


def write_pairs(store: Store, who: str, times: int) -> None:
    """Writes two rows of a partition at once, always with one value, now here and now there."""
    for n in range(times):
        pair = {"left": f"{who} {n}", "right": f"{who} {n}"}
        in_time(partial(store.write, Table.FACT, f"{who}/{n % 7}", pair))


def write_pairs_elsewhere(connection: Connection, open_: Callable[[], Store], who: str, times: int) -> None:
    """``write_pairs`` in a process."""
    store = open_()
    connection.send("ready")
    write_pairs(store, who, times)
    connection.send("done")
    store.close()


def write_until_killed(connection: Connection, open_: Callable[[], Store]) -> None:
    """Tells every number after it was written."""
    store = open_()
    n = 0
    while True:
        store.write(Table.FACT, f"p{n % 5}", {str(n): "x" * 500})
        connection.send(n)
        n += 1


def open_together(connection: Connection, open_: Callable[[], Store]) -> None:
    """Opens, and so makes, the store at a word."""
    connection.send("ready")
    connection.recv()
    store = open_()
    store.write(Table.META, "opened", {str(os.getpid()): "yes"})
    store.close()
    connection.send("done")


def fill_disk(connection: Connection, open_: Callable[[], Store]) -> None:
    """Tells what happens to a write, a read and an opening without room, and to a write when there is room again."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = open_()
    store.write(Table.META, "disk", {"before": "kept"})
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, unlimited[1]))
    told: list[object] = []
    try:
        store.write(Table.META, "disk", {"big": "x" * 1_000_000})
    except StoreUnavailable as error:
        told += [str(error), error.hint]
    told.append({key: len(row.value) for key, row in store.read(Table.META, "disk").items()})
    reader = open_()
    told.append({key: len(row.value) for key, row in reader.read(Table.META, "disk").items()})
    reader.close()
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    told.append(store.write(Table.META, "disk", {"after": "kept"}))
    told.append(list(store.read(Table.META, "disk")))
    store.close()
    connection.send(told)


NOBODY = 65534


def read_as_nobody(connection: Connection, path: Path) -> None:
    """Opens a store for reading without root's rights; tells how many facts are there, or the error."""
    if os.geteuid() == 0:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        store = SqliteStore(path, access=Access.READ)
        connection.send(len(store.read_all(Table.FACT)))
        store.close()
    except StoreError as error:
        connection.send((str(error), error.hint))


def hold_leases(connection: Connection, open_: Callable[[], Store]) -> None:
    """Takes all leases, tells of it, and keeps them until it is killed."""
    leases = Leases(open_(), Holder.this_process())
    leases.tick()
    connection.send(leases.held())
    connection.recv()
