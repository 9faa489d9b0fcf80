"""The runner: what fails does not end it, what is down is waited for, and it says how it is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import pytest

from controller.holder import Holder
from controller.leases import Leases
from controller.log import Lines
from controller.members import FLEET, Register, Role, shard_of
from controller.metrics import Metrics
from controller.reconcile import Outcome
from controller.runner import PASS_HANGS, STEP_HANGS, Rhythm, Runner
from controller.session import Session, Settings
from controller.snapshot import snapshot
from controller.store.base import StoreError, StoreUnavailable, StoreUnusable, Table
from controller.store.memory import MemoryStore
from drivers.base import Failed
from drivers.simulated import SimulatedFleet
from resources.load import load
from salvusctl.follow import _working
from tests.fast.manifests import KEY

PATIENCE = 20.0
HOST = f"""
apiVersion: salv.us/v1
kind: Host
metadata: {{name: alpha}}
spec:
  address: 192.0.2.1
  ssh: {{hostKeys: ["{KEY}"]}}
---
apiVersion: salv.us/v1
kind: Service
metadata: {{name: hello}}
spec:
  machines: {{selector: {{}}}}
  files: [{{path: /etc/hello.conf, content: "hello\\n"}}]
"""
BETA = HOST.split("---")[0].replace("alpha", "beta").replace("192.0.2.1", "192.0.2.2")


class Weak(MemoryStore):
    """A store that can be down."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.error: StoreError = StoreUnavailable("the store is down")

    def __getattribute__(self, name: str) -> object:
        if name in {"get", "read", "read_all", "write", "compare_and_set", "changed_since"} and self.down:
            raise self.error
        return super().__getattribute__(name)


class Desk:
    """A runner that is driven by hand, or by its threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Weak()
        self.fleet = SimulatedFleet()
        self.session = Session(self.store, Settings(store=folder / "unused"), self.fleet.connect)
        self.metrics = Metrics("test")
        self.now = 5000.0
        made = self.session.runner(self.metrics)
        self.ended: list[str] = []
        self.runner = Runner(
            made.engine, Rhythm(resync=30.0, workers=2), self.metrics, self._note, clock=lambda: self.now
        )
        self.put(HOST)

    def _note(self, outcome: Outcome) -> None:
        self.ended.append(outcome.result)

    def put(self, *texts: str) -> None:
        (self.folder / "all.yaml").write_text("---".join(texts))
        loaded = load([self.folder / "all.yaml"])
        assert loaded.ok, loaded.errors
        self.session.put(loaded)

    def visit(self, machine: str = "alpha") -> None:
        self.runner.queue.hurry(machine)
        while (taken := self.runner.queue.take(5.0)) != machine:
            assert taken is not None
            self.runner.queue.done(taken, again_in=0.0)
        self.runner.work(machine)

    def passes(self, result: str) -> float:
        return self.metrics.registry.get_sample_value("salvus_pass_seconds_count", {"result": result}) or 0.0


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.down = False
    made.runner.stop()


def test_it_acts_only_with_a_store_a_lease_and_until_it_stops(desk: Desk) -> None:
    assert desk.runner.ready() == "nothing was read from the store yet"
    assert desk.runner.try_step()
    assert desk.runner.ready() == ""
    desk.store.down = True
    assert not desk.runner.try_step()
    assert desk.runner.ready() == "the store cannot be used: the store is down"
    desk.store.down = False
    assert desk.runner.try_step()
    assert desk.runner.ready() == ""
    desk.runner.engine.leases.release_all()
    assert desk.runner.ready() == "its leases were not renewed in time: the store has not answered yet"
    desk.runner.stop()
    assert desk.runner.ready() == "stopping"


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def beside(desk: Desk, role: Role = Role.DAEMON) -> Runner:
    """Another controller, of another machine."""
    other = desk.session.runner(Metrics("test"))
    other.engine.leases = Leases(desk.store, Holder("elsewhere", "boot", "pid:[1]", 7, "1"), role)
    return other


def test_a_second_one_stands_by_says_who_has_the_leases_and_touches_nothing(desk: Desk) -> None:
    desk.runner.step()
    second = beside(desk, Role.APPLY)
    assert second.try_step()
    assert second.ready() == "", "it could act"
    assert second.engine.leases.about().startswith("holds 0 of 17 leases; the others: pid ")
    assert second.queue.take(5.0) == "alpha"
    second.work("alpha")
    assert desk.fleet.writes == 0
    assert second.queue.idle()
    assert second.queue.take(0.1) is None, "what is another one's does not come again"


def test_what_another_one_gives_is_looked_at_at_once(desk: Desk) -> None:
    desk.runner.step()
    desk.visit()
    second = beside(desk)
    second.step()
    while second.queue.take(0.1) is not None:
        second.work("alpha")
    assert desk.fleet.writes == 1
    desk.runner.stop()
    second.try_renew()
    second.step()
    assert second.queue.take(5.0) == "alpha"
    second.work("alpha")
    assert second.engine.outcomes["alpha"].result == "synced"
    second.stop()


def test_apply_that_worked_alone_leaves_it_to_a_daemon_that_comes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salvusctl.follow.configure", lambda *_: None)  # it is for the whole process
    with _working(desk.session, lambda _: None) as passes:
        until(lambda: (ours := passes()) is not None and ours.asked == {"alpha"})
        daemon = beside(desk)
        until(lambda: daemon.try_step() and passes() is None)
    with _working(desk.session, lambda _: None) as passes:
        assert passes() is None


def test_it_is_healthy_while_its_threads_move(desk: Desk) -> None:
    desk.runner.step()
    assert desk.runner.healthy() == ""
    desk.now += STEP_HANGS + 1
    assert "has not moved for 61 s" in desk.runner.healthy()
    desk.store.down = True
    desk.runner.try_step()
    assert "renews the leases has not moved" in desk.runner.healthy()

    desk.runner.try_renew()
    assert desk.runner.healthy() == "", "a store that is down is no reason to be started anew"
    desk.runner._busy.update(alpha=desk.now, beta=desk.now)
    desk.now += PASS_HANGS + 1
    desk.runner._moved = desk.runner._renewed = desk.now
    assert desk.runner.healthy().startswith("all 2 workers have been busy")
    desk.runner._busy["beta"] = desk.now
    assert desk.runner.healthy() == "", "one of them has moved on"
    del desk.runner._busy["beta"]
    assert desk.runner.healthy() == "", "one of them is free"


def test_a_fleet_pass_of_many_writes_is_not_taken_for_hanging(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    write, writes, said = desk.store.write, 0, set()

    def slowly(table: Table, partition: str, puts: Mapping[str, str], deletes: Collection[str] = ()) -> bool:
        nonlocal writes
        writes += 1
        desk.now += STEP_HANGS - 1
        desk.runner._renewed = desk.now
        said.add(desk.runner.healthy())
        return write(table, partition, puts, deletes)

    desk.put(HOST, BETA)
    desk.runner.engine.refresh()
    desk.runner.engine.leases.tick()
    with monkeypatch.context() as patch:
        patch.setattr(desk.store, "write", lambda *words, ttl=None: slowly(*words))
        assert desk.runner.try_step()
    assert (writes >= 3, said) == (True, {""})


def test_who_hangs_renews_no_lease_and_goes_on_when_it_moves_again(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="salvus")
    desk.runner.step()
    (before,) = Register.read(desk.store).members.values()
    desk.runner._busy.update(alpha=desk.now, beta=desk.now)
    desk.now += PASS_HANGS + 1
    desk.runner._moved = desk.runner._renewed = desk.now
    desk.runner.engine.leases.release_all()
    for _ in range(2):
        desk.runner.try_renew()
        desk.runner.try_step()
    assert Register.read(desk.store).members == {}
    assert desk.runner.ready().startswith("all 2 workers have been busy")
    assert [record.getMessage() for record in caplog.records] == [
        "hangs, and lets its leases run out",
        "its leases were not renewed in time",
    ]
    desk.runner._busy.clear()
    desk.runner.try_renew()
    (after,) = Register.read(desk.store).members.values()
    assert (desk.runner.ready(), after.who) == ("", before.who)


def test_while_the_store_is_down_nothing_is_written_to_machines_and_then_it_goes_on(desk: Desk) -> None:
    desk.runner.step()
    desk.store.down = True
    desk.visit()
    assert not desk.runner.try_step()
    assert desk.fleet.writes == 0
    desk.store.down = False
    assert desk.runner.try_step()
    desk.visit()
    assert "File:/etc/hello.conf" in desk.fleet.machine("alpha").items


def test_a_store_that_is_away_and_comes_back_is_said_once_each(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="salvus")
    told: list[StoreUnusable] = []
    desk.runner.broken = told.append
    desk.runner.step()
    desk.store.down = True
    for number in range(3):
        desk.store.error = StoreUnavailable(f"no answer from node {number}")
        assert not desk.runner.try_step()
    desk.store.down = False
    assert desk.runner.try_step()
    assert desk.runner.try_step()
    assert [record.message for record in caplog.records] == [
        "the store cannot be used; nothing is written to machines",
        "the store can be used again",
    ]
    assert told == [], "it is waited for, however long it takes"


def test_a_damaged_store_is_reported_whoever_meets_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[StoreUnusable] = []
    desk.runner.broken = told.append
    desk.runner.step()
    damaged = desk.store.error = StoreUnusable("malformed")
    with monkeypatch.context() as patch:
        patch.setattr(desk.store, "down", True)
        desk.runner.try_step()
        assert told == [damaged], "the thread that keeps up"
        desk.visit()
        assert told == [damaged] * 2, "a pass"

    def run(*_: object) -> None:
        raise damaged

    monkeypatch.setattr(desk.runner.engine.recorder, "run", run)
    desk.visit()
    assert told == [damaged] * 3, "what notes a pass"


def test_an_outage_is_one_event_of_the_machine(desk: Desk) -> None:
    desk.runner.step()
    desk.visit()
    desk.fleet.machine("alpha").faults.unreachable = True
    desk.visit()
    (event,) = [event for event in desk.session.ledger.events("Host/alpha") if event.type == "Warning"]
    assert (event.reason, event.message) == ("Unreachable", "alpha cannot be asked: connection refused")


def test_the_log_tells_of_each_change_and_of_each_turn_but_not_of_contents(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="salvus")
    alpha, key = desk.fleet.machine("alpha"), "File:/etc/hello.conf"
    desk.runner.step()

    def said() -> list[str]:
        desk.runner.look_at_all()
        desk.visit()
        lines = [Lines().format(record).partition("Z ")[2] for record in caplog.records]
        caplog.clear()
        return lines

    made = f'INFO change made machine="alpha" item="{key}" verb="create" grade="live" resource="Service/hello"'
    assert said() == [made]
    assert said() == [], "nothing of a pass that found all as wanted"
    alpha.alter(key, mode="0666")
    assert said() == [made.replace("create", "update")]
    alpha.faults.unreachable = True
    assert said() == ['WARNING cannot be asked machine="alpha" error="connection refused"']
    assert said() == [], "an outage is said once"
    alpha.faults.unreachable = False
    assert said() == ['INFO can be asked again machine="alpha"']
    alpha.alter(key, mode="0666")
    alpha.faults.refuses[key] = Failed("no room", hint="make some")
    assert said() == [f'WARNING changes failed machine="alpha" failed=1 errors=["{key}: no room; make some"]']


def test_a_lease_that_ran_out_ends_the_writing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.runner.step()
    monkeypatch.setattr(desk.runner.engine.leases, "_clock", lambda: 1e12)
    desk.visit()
    assert desk.fleet.writes == 0
    assert desk.ended == []


def test_fenced_drops_the_pass_and_it_is_counted(desk: Desk) -> None:
    desk.runner.step()
    desk.fleet.machine("alpha").fence(10**12)
    desk.visit()
    assert desk.passes("fenced") == 1
    assert desk.fleet.writes == 0
    assert desk.ended == []


def test_a_machine_in_sync_is_told_a_newer_epoch_too(desk: Desk) -> None:
    """Else a paused controller would wake up and carry its old plan out."""
    desk.runner.step()
    desk.visit()
    machine = desk.fleet.machine("alpha")
    writes, machine.epoch = desk.fleet.writes, 1
    desk.runner.engine.forget("alpha")
    desk.visit()
    assert machine.epoch == desk.runner.engine.leases.held()[shard_of("alpha")]
    assert desk.fleet.writes == writes


def test_a_defect_in_a_pass_or_after_it_ends_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.put(HOST, BETA)
    with monkeypatch.context() as patch:
        patch.setattr("controller.engine.reconcile", lambda *_, **__: 1 // 0)
        desk.runner.step()
        desk.visit()
    both = {"alpha", "beta"}
    seen: set[str] = set()
    done = threading.Event()

    def broken(outcome: Outcome) -> None:
        seen.add(outcome.machine)
        if seen == both:
            done.set()
        raise ZeroDivisionError

    desk.runner._ended = broken
    desk.runner.look_at_all()
    desk.runner.start()
    assert done.wait(PATIENCE)
    for machine in both:
        seen.clear()
        done.clear()
        desk.runner.queue.hurry(machine)
    desk.runner.look_at_all()
    assert done.wait(PATIENCE), "each worker met a defect, and they still work"


def test_a_pass_that_begins_while_the_one_before_is_still_noted_costs_no_worker(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = threading.Event(), threading.Event()
    note = desk.runner.engine.recorder.run
    died: list[object] = []

    def slow(outcome: Outcome, again: float | None) -> None:
        note(outcome, again)
        if first.is_set():
            second.set()
        else:
            first.set()
            assert second.wait(PATIENCE)

    monkeypatch.setattr(desk.runner.engine.recorder, "run", slow)
    monkeypatch.setattr(threading, "excepthook", died.append)
    desk.runner.start()
    assert first.wait(PATIENCE)
    desk.runner.queue.hurry("alpha")
    assert second.wait(PATIENCE)
    desk.runner.stop()
    assert died == []
    assert len(desk.ended) == 2


def test_a_defect_in_a_step_is_no_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(desk.runner.engine, "fleet_pass", lambda: 1 // 0)
        assert not desk.runner.try_step()
        assert desk.runner.ready() == "a defect in the fleet pass; see the log"
    assert desk.runner.try_step()
    assert desk.runner.queue.take(1.0) == "alpha", "who was concerned is not forgotten"
    desk.runner.queue.done("alpha")


def test_what_was_won_in_a_step_that_failed_is_acted_on_in_the_next(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.runner.step()
    desk.visit()
    desk.runner.engine.leases.release_all()
    with monkeypatch.context() as patch:
        patch.setattr(desk.runner.engine, "refresh", lambda: 1 // 0)
        assert not desk.runner.try_step()
    assert desk.runner.try_step()
    assert desk.runner.queue.take(1.0) == "alpha"
    desk.runner.queue.done("alpha")


def test_a_machine_that_left_is_not_looked_at_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.put(HOST, BETA)
    desk.runner.step()
    genuine = desk.runner.engine.machine_pass

    def leaving(machine: str, stop: Callable[[], bool]) -> Outcome | None:
        found = genuine(machine, stop)
        desk.session.delete(["Host/beta"])
        desk.runner.step()
        return found

    monkeypatch.setattr(desk.runner.engine, "machine_pass", leaving)
    desk.visit("beta")
    assert not desk.runner.queue._due.keys() & {"beta"}
    assert "beta" not in snapshot(desk.runner).reachable
    desk.runner.engine.woken("beta")
    desk.visit("beta")
    assert not desk.runner.queue._due.keys() & {"beta"}, "something late told of it, and it is forgotten again"


def test_what_another_has_taken_over_is_not_told_of(desk: Desk) -> None:
    desk.runner.step()
    desk.visit()
    assert snapshot(desk.runner).reachable == {"alpha": True}
    assert snapshot(desk.runner).leases.keys() >= {FLEET}
    desk.runner.engine.leases.release_all()
    assert snapshot(desk.runner).reachable == {}
    assert snapshot(desk.runner).items == {}


def test_stop_ends_at_a_safe_point_and_gives_the_leases_back(desk: Desk) -> None:
    looked = threading.Event()
    go_on = threading.Event()
    machine = desk.fleet.machine("alpha")
    genuine = machine.answer

    def slow(deadline: float) -> None:
        looked.set()
        assert go_on.wait(PATIENCE)
        genuine(deadline)

    machine.answer = slow  # type: ignore[method-assign]
    desk.runner.start()
    assert looked.wait(PATIENCE)
    stopper = threading.Thread(target=desk.runner.stop)
    stopper.start()
    assert desk.runner._stop.wait(PATIENCE)
    go_on.set()
    stopper.join(PATIENCE)
    assert not stopper.is_alive()
    assert desk.fleet.writes == 0, "it stopped between looking and writing"
    assert desk.session.controller() == ""


def test_everything_is_looked_at_when_asked(desk: Desk) -> None:
    desk.runner.step()
    desk.visit()
    desk.runner.look_at_all()
    assert desk.runner.queue.take(1.0) == "alpha"
    desk.runner.queue.done("alpha")
