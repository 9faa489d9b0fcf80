"""Carrying out: order, batches, and failures that stop only their own chain."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from controller.execute import SIDE_BY_SIDE, carry_out
from drivers.base import Applied, Change, DriverError, Failed, Grade, Item, Observation, Unreachable, Verb
from tests.fast.things import Guest, Thing


class Recorder:
    """A driver that notes its batches and fails for some names, as a real one does: the rest is not tried."""

    def __init__(self, *broken: str) -> None:
        self.broken = broken
        self.error: DriverError = Failed("broken")
        self.batches: list[list[str]] = []
        self._lock = threading.Lock()

    def observe(self, items: Sequence[Item]) -> Mapping[str, Observation]:
        return {}

    def apply(self, changes: Sequence[Change], epoch: int) -> tuple[Applied, ...]:
        with self._lock:
            self.batches.append([change.item.name for change in changes])
        done: list[Applied] = []
        for change in changes:
            error = self.error if change.item.name in self.broken else None
            done.append(Applied(change, error))
            if error:
                break
        return tuple(done)

    def close(self) -> None:
        pass


def create(item: Item, *after: str) -> Change:
    return Change(item, Verb.CREATE, (), Grade.LIVE, after)


TWO_GUESTS = (
    create(Thing("dir")),
    create(Thing("disk1"), "Thing:dir"),
    create(Thing("disk2"), "Thing:dir"),
    create(Guest("vm1"), "Thing:disk1"),
    create(Guest("vm2"), "Thing:disk2"),
    create(Thing("last"), "Guest:vm1"),
)


def test_one_round_trip_for_what_order_allows() -> None:
    driver = Recorder()
    result = carry_out(driver, TWO_GUESTS, 1)
    assert driver.batches[0] == ["dir", "disk1", "disk2"]
    assert sorted(driver.batches[1:3]) == [["vm1"], ["vm2"]]
    assert driver.batches[3:] == [["last"]]
    assert len(result.applied) == 6
    assert result.skipped == ()


def test_a_failure_stops_only_its_own_chain() -> None:
    driver = Recorder("disk1")
    result = carry_out(driver, TWO_GUESTS, 1)
    assert [one.change.item.name for one in result.failed] == ["disk1"]
    assert {one.change.item.name for one in result.applied} == {"dir", "disk1", "disk2", "vm2"}
    assert {change.item.name for change in result.skipped} == {"vm1", "last"}


def test_stops_at_a_safe_point() -> None:
    driver = Recorder()
    result = carry_out(driver, TWO_GUESTS, 1, stop=lambda: bool(driver.batches))
    assert driver.batches == [["dir", "disk1", "disk2"]]
    assert {change.item.name for change in result.skipped} == {"vm1", "vm2", "last"}


def test_a_machine_that_falls_silent_costs_one_deadline_a_line_and_not_one_a_change() -> None:
    guests = [Guest(f"vm{number}") for number in range(22)]
    driver = Recorder("dir", *(guest.name for guest in guests))
    driver.error = Unreachable("no answer within 60 s")
    changes = (create(Thing("dir")), create(Thing("file"), "Thing:dir"), *map(create, guests))
    result = carry_out(driver, changes, 1)
    assert len(driver.batches) <= SIDE_BY_SIDE
    assert len(result.applied) + len(result.skipped) == len(changes)
    assert all(isinstance(one.error, Unreachable) for one in result.failed)


def test_nothing_is_told_to_it_in_a_later_wave() -> None:
    driver = Recorder("dir")
    driver.error = Unreachable("no answer within 60 s")
    result = carry_out(driver, (create(Thing("dir")), create(Guest("vm1")), create(Thing("x"), "Guest:vm1")), 1)
    assert "x" not in {name for batch in driver.batches for name in batch}
    assert create(Thing("x"), "Guest:vm1") in result.skipped
