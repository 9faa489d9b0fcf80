"""A controller whose state is in Cassandra: what it asks of the nodes, and what it does without them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.metrics import Metrics
from controller.runner import Runner
from controller.session import Session, Settings
from controller.store.cassandra import ring as rings
from controller.store.cassandra.settings import CassandraSettings
from controller.store.cassandra.store import CassandraStore
from drivers.simulated import SimulatedFleet
from lab import cassandra
from lab.cassandra import Ring
from resources.load import load
from tests.fast.cli import HOST, OTHER, SERVICE
from tests.lab.fleet import eventually

pytestmark = pytest.mark.cassandra


class Counting:
    """Wraps the driver's session: what was asked by which profile."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._lock = threading.Lock()
        self.asked: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def execute(self, statement: Any, **more: Any) -> Any:
        use = more["execution_profile"].partition("/")[0]
        with self._lock:
            self.asked[use] = self.asked.get(use, 0) + 1
        return self._session.execute(statement, **more)

    def taken(self) -> dict[str, int]:
        """What was asked since the last time."""
        with self._lock:
            asked, self.asked = self.asked, {}
        return asked


class Controlled:
    """A runner on simulated machines, on its own threads."""

    def __init__(self, settings: CassandraSettings, folder: Path) -> None:
        self.store = CassandraStore(settings)
        self.counting = Counting(self.store._ring.session)
        self.store._ring.session = self.counting
        self.fleet = SimulatedFleet()
        self.session = Session(self.store, Settings(settings, resync=1.0), self.fleet.connect)
        self.metrics = Metrics("test")
        self.runner = self.session.runner(self.metrics)
        self._file = folder / "all.yaml"

    def put(self, *texts: str) -> None:
        self._file.write_text("---".join(texts))
        loaded = load([self._file])
        assert loaded.ok, loaded.errors
        self.session.put(loaded)

    def close(self) -> None:
        self.runner.stop()
        self.store.close()


@pytest.fixture
def controlled(keyspace: Callable[[], CassandraSettings], tmp_path: Path) -> Iterator[Controlled]:
    made = Controlled(keyspace(), tmp_path)
    yield made
    made.close()


def test_without_a_quorum_nothing_is_done_and_it_goes_on_by_itself(controlled: Controlled, ring: Ring) -> None:
    """Neither a write to a machine, nor a crash, nor a busy loop; then all is made up for."""
    runner = controlled.runner
    machine = controlled.fleet.machine("alpha")
    machine.faults.unreachable = True
    controlled.put(HOST, SERVICE)
    runner.start()
    assert eventually(lambda: runner.ready() == "", 60), runner.ready()
    lost = ring.nodes[1:]
    try:
        for node in lost:
            cassandra.kill(ring, node)
        assert eventually(lambda: not runner.engine.leases.held(), 60)
        machine.faults.unreachable = False
        controlled.counting.taken()
        began = time.monotonic()
        time.sleep(20)
        asked = sum(controlled.counting.taken().values())
        assert asked / (time.monotonic() - began) < 20, "it tries, now and then"
        assert asked > 0
        assert controlled.fleet.writes == 0
        assert runner.ready().startswith("the store cannot be used: ")
        assert runner.healthy() == ""
    finally:
        for node in lost:
            cassandra.start(ring, node)
        for node in lost:
            cassandra.wait(ring, node)
    assert eventually(lambda: runner.ready() == "" and controlled.fleet.writes > 0, 120), runner.ready()


def test_what_stays_as_it_is_costs_one_read_a_look_and_no_write(controlled: Controlled) -> None:
    controlled.put(HOST, OTHER, SERVICE)
    runner = controlled.runner
    while not (runner.try_step() and runner.queue.idle()):
        if (machine := runner.queue.take(0.5)) is not None:
            runner.work(machine)
    look_at(runner, "alpha", "beta")  # what was written is looked at once: it may have been overtaken
    controlled.counting.taken()
    runner.step()
    assert controlled.counting.taken() == {rings.READ: 1}, "the end of the log of changes"
    look_at(runner, "alpha", "beta")
    assert controlled.counting.taken() == {}


def look_at(runner: Runner, *machines: str) -> None:
    for machine in machines:
        runner.queue.hurry(machine)
    while (due := runner.queue.take(0.5)) is not None:
        runner.work(due)
