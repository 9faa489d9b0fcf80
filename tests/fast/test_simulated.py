"""The simulated machines: every fault does what it says, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from drivers.base import Absent, Applied, Change, Failed, Fenced, Grade, Item, Present, SshTarget, Unknown, Verb
from drivers.base import Unreachable as UnreachableError
from drivers.items.hypervisor import Hypervisor
from drivers.items.system import System
from drivers.simulated import SimulatedDriver, SimulatedFleet, SimulatedMachine
from tests.fast.domains import DOMAIN
from tests.fast.things import Thing
from tests.fast.timing import Hourglass

TARGET = SshTarget(("192.0.2.1",), 22, "root", ())
X, Y, Z = Thing("x"), Thing("y"), Thing("z")


def create(*items: Item) -> tuple[Change, ...]:
    return tuple(Change(item, Verb.CREATE, (), Grade.LIVE) for item in items)


def delete(item: Item) -> tuple[Change, ...]:
    return (Change(item, Verb.DELETE, (), Grade.LIVE),)


class Way:
    """A machine and a way to it, in a time that nobody waits for."""

    def __init__(self) -> None:
        self.glass = Hourglass()
        self.fleet = SimulatedFleet(self.glass.timing)
        self.woken: list[str] = []
        self.machine: SimulatedMachine = self.fleet.machine("m")
        self.driver: SimulatedDriver = self.fleet.connect(
            "m", TARGET, hypervisor=True, via=None, woken=self.woken.append
        )

    def states(self, *items: Item) -> list[object]:
        seen = self.driver.observe(items)
        return [seen[item.key].state for item in items]


@pytest.fixture
def way() -> Way:
    return Way()


def errors(applied: Sequence[Applied]) -> list[tuple[str, str]]:
    return [(one.change.item.name, str(one.error or "")) for one in applied]


def test_what_is_made_is_seen_and_what_is_deleted_is_absent(way: Way) -> None:
    assert way.states(X) == [Absent()]
    assert errors(way.driver.apply(create(X, Y), 1)) == [("x", ""), ("y", "")]
    assert way.states(X, Y, Z) == [Present({"value": "a"}), Present({"value": "a"}), Absent()]
    way.driver.apply(delete(X), 1)
    assert way.states(X) == [Absent()]
    assert [(made.verb, made.key) for made in way.machine.log] == [
        (Verb.CREATE, "Thing:x"),
        (Verb.CREATE, "Thing:y"),
        (Verb.DELETE, "Thing:x"),
    ]
    assert way.fleet.writes == way.machine.writes == 3


def test_drift_by_hand_is_not_a_write(way: Way) -> None:
    way.machine.put(X)
    way.machine.alter("Thing:x", value="by hand")
    assert way.states(X) == [Present({"value": "by hand"})]
    way.machine.remove("Thing:x")
    assert way.states(X) == [Absent()]
    assert way.machine.writes == 0


def test_machines_tell_facts_of_their_own_and_the_same_each_time(way: Way) -> None:
    other = way.fleet.connect("n", TARGET, hypervisor=True, via=None, woken=way.woken.append)
    (here,), (there,) = way.states(System()), [other.observe([System()])["System:self"].state]
    assert isinstance(here, Present)
    assert isinstance(there, Present)
    assert way.states(System()) == [here]
    assert here.facts["boot_id"] != there.facts["boot_id"]
    (hypervisor,) = way.states(Hypervisor())
    assert isinstance(hypervisor, Present)
    assert hypervisor.facts["domain_type"] == "qemu"
    way.machine.reboot()
    (rebooted,) = way.states(System())
    assert isinstance(rebooted, Present)
    assert rebooted.facts["boot_id"] != here.facts["boot_id"]


def test_unreachable_is_unknown_and_changes_nothing(way: Way) -> None:
    way.machine.faults.unreachable = True
    assert way.states(X, System()) == [Unknown("connection refused"), Unknown("connection refused")]
    assert errors(way.driver.apply(create(X, Y), 1)) == [("x", "connection refused")]
    assert way.machine.items == {}
    assert way.glass.slept == 0


def test_frozen_costs_the_deadline_and_no_more(way: Way) -> None:
    way.machine.faults.frozen = True
    assert way.states(X) == [Unknown("no answer within 60 s")]
    assert way.glass.slept == TARGET.command_timeout
    (applied,) = way.driver.apply(create(X), 1)
    assert isinstance(applied.error, UnreachableError)
    assert way.machine.items == {}


@pytest.mark.parametrize(("latency", "slept", "state"), [(5.0, 5.0, Absent), (61.0, 60.0, Unknown)])
def test_slow_is_waited_for_until_the_deadline(way: Way, latency: float, slept: float, state: type) -> None:
    way.machine.faults.latency = latency
    assert isinstance(way.states(X)[0], state)
    assert way.glass.slept == slept


@pytest.mark.parametrize("made", [0, 1, 2, 3, 9])
def test_a_cut_batch_has_made_some_and_tells_of_none(way: Way, made: int) -> None:
    way.machine.faults.cut_after = made
    assert errors(way.driver.apply(create(X, Y, Z), 1)) == [("x", "the connection broke")]
    assert way.machine.writes == min(made, 3)
    assert errors(way.driver.apply(create(X), 1)) == [("x", "")], "once"


def test_a_refused_change_ends_the_batch(way: Way) -> None:
    way.machine.faults.refuses["Thing:y"] = Failed("no room")
    assert errors(way.driver.apply(create(X, Y, Z), 1)) == [("x", ""), ("y", "no room")]
    assert list(way.machine.items) == ["Thing:x"]


def test_lies_and_pretends_once(way: Way) -> None:
    way.machine.put(X)
    way.machine.faults.lies["Thing:x"] = Absent()
    assert way.states(X) == [Absent()]
    assert way.states(X) == [Present({"value": "a"})]
    way.machine.faults.pretends.add("Thing:y")
    assert errors(way.driver.apply(create(Y), 1)) == [("y", "")]
    assert way.states(Y) == [Absent()]
    assert way.machine.writes == 0
    way.driver.apply(create(Y), 1)
    assert way.machine.writes == 1


def test_an_older_epoch_is_refused_whoever_comes_with_it(way: Way) -> None:
    newer = way.fleet.connect("m", TARGET, hypervisor=True, via=None, woken=way.woken.append)
    way.driver.apply(create(X), 3)
    newer.fence(4)
    with pytest.raises(Fenced):
        way.driver.apply(create(Y), 3)
    with pytest.raises(Fenced):
        way.driver.fence(3)
    assert list(way.machine.items) == ["Thing:x"]
    newer.apply(create(Y), 4)
    assert [made.epoch for made in way.machine.log] == [3, 4]


def test_a_domain_that_dies_wakes_who_watches(way: Way) -> None:
    guest = replace(DOMAIN, running=True)
    way.machine.put(guest)
    way.states(guest)
    way.machine.die(guest.key)
    assert way.woken == ["m"]
    (state,) = way.states(guest)
    assert isinstance(state, Present)
    assert state.fields["running"] is False
    way.driver.close()
    way.machine.die(guest.key)
    assert way.woken == ["m"], "a closed driver hears nothing"


def test_many_threads_lose_no_write(way: Way) -> None:
    def work(number: int) -> None:
        for n in range(50):
            way.fleet.machine(f"m{n}")
            way.driver.apply(create(Thing(f"{number}-{n}")), 1)
            way.driver.observe([X])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert way.machine.writes == len(way.machine.items) == 400
    assert way.machine.round_trips == 800
