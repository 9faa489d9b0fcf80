"""Drivers are kept while the way to their machines is the same, and closed when it is another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest

from controller.lower import NO_MACHINE, Lowered
from controller.machines import Machines
from drivers.base import Applied, Change, Driver, Item, Observation, SshTarget

TARGET = SshTarget(("192.0.2.1",), 22, "root", ("ssh-ed25519 AAAA",))


@dataclass(eq=False)
class Line:
    """A driver that only knows its way."""

    machine: str
    via: Driver | None
    hypervisor: bool
    closed: int = 0

    def observe(self, items: Sequence[Item]) -> Mapping[str, Observation]:
        raise AssertionError

    def apply(self, changes: Sequence[Change], epoch: int) -> tuple[Applied, ...]:
        raise AssertionError

    def fence(self, epoch: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.closed += 1


class Desk:
    def __init__(self) -> None:
        self.made: list[Line] = []
        self.ways = {"m": Lowered("m", target=TARGET)}
        self.machines = Machines(self.connect, lambda name: None)

    def connect(
        self, machine: str, target: SshTarget, *, hypervisor: bool, via: Driver | None, woken: Callable[[str], None]
    ) -> Line:
        self.made.append(Line(machine, via, hypervisor))
        return self.made[-1]

    def driver(self, name: str = "m") -> Driver | None:
        return self.machines.driver(name, lambda machine: self.ways.get(machine, Lowered(machine)))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_it_is_kept_while_the_way_is_the_same(desk: Desk) -> None:
    first = desk.driver()
    desk.ways["m"] = Lowered("m", target=replace(TARGET))
    assert desk.driver() is first
    assert [(line.machine, line.closed) for line in desk.made] == [("m", 0)]


@pytest.mark.parametrize(
    "now",
    [
        Lowered("m", target=replace(TARGET, addresses=("192.0.2.2",))),
        Lowered("m", target=replace(TARGET, host_keys=("ssh-ed25519 BBBB",))),
        Lowered("m", target=TARGET, hypervisor=True),
    ],
)
def test_another_way_is_another_driver_and_the_old_one_is_closed(desk: Desk, now: Lowered) -> None:
    first = desk.driver()
    desk.ways["m"] = now
    assert desk.driver() is not first
    assert [line.closed for line in desk.made] == [1, 0]
    assert desk.made[1].hypervisor is now.hypervisor


def test_over_another_machine(desk: Desk) -> None:
    desk.ways["inner"] = Lowered("inner", target=replace(TARGET, via="m"))
    inner = desk.driver("inner")
    assert [line.machine for line in desk.made] == ["m", "inner"]
    assert desk.made[1].via is desk.driver("m")
    desk.ways["m"] = Lowered("m", target=replace(TARGET, port=2222))
    assert desk.driver("inner") is not inner
    assert [(line.machine, line.closed) for line in desk.made] == [("m", 1), ("inner", 1), ("m", 0), ("inner", 0)]
    assert desk.made[3].via is desk.made[2]


def test_no_way_is_no_driver(desk: Desk) -> None:
    assert desk.driver("nobody") is None
    desk.ways["inner"] = Lowered("inner", target=replace(TARGET, via="nobody"))
    assert desk.driver("inner") is None
    desk.ways["m"] = Lowered("m", target=NO_MACHINE)
    assert desk.driver() is None
    assert desk.made == []


def test_who_leaves_is_closed_and_so_is_everybody_at_the_end(desk: Desk) -> None:
    desk.driver()
    desk.machines.forget("m")
    desk.machines.forget("m")
    desk.driver()
    desk.machines.close()
    assert [line.closed for line in desk.made] == [1, 1]
