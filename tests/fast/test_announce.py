"""The epoch is told to a machine before it is first looked at."""

from __future__ import annotations

import pytest

from controller.announce import Announced
from drivers.base import Absent, DriverError, Failed, Fenced, Unknown, Unreachable
from drivers.machine import Machine
from tests.fast.test_machine import Recorder
from tests.fast.things import Thing

ITEM = Thing("a")


def test_it_is_told_once_and_first() -> None:
    shell = Recorder()
    driver = Announced(Machine("m", shell), 7)
    for _ in range(2):
        assert driver.observe([ITEM])[ITEM.key].state == Absent()
    assert shell.given == ["fence@7", ITEM.key, ITEM.key]


def test_who_is_over_does_not_even_look() -> None:
    shell = Recorder(barrier=Fenced("newer"))
    with pytest.raises(Fenced):
        Announced(Machine("m", shell), 7).observe([ITEM])
    assert shell.given == ["fence@7"]


def test_a_machine_that_says_nothing_costs_one_deadline() -> None:
    shell = Recorder(barrier=Unreachable("away", hint="switch it on"))
    assert Announced(Machine("m", shell), 7).observe([ITEM])[ITEM.key].state == Unknown("away; switch it on")
    assert shell.given == ["fence@7"]


def test_a_machine_where_something_older_runs_is_looked_at_and_told_again() -> None:
    busy: DriverError = Failed("busy")
    shell = Recorder(barrier=busy)
    driver = Announced(Machine("m", shell), 7)
    assert driver.observe([ITEM])[ITEM.key].state == Absent()
    shell.barrier = None
    driver.observe([ITEM])
    driver.observe([ITEM])
    assert shell.given == ["fence@7", ITEM.key, "fence@7", ITEM.key, ITEM.key]
