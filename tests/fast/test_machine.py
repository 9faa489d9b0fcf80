"""A machine made of two drivers: each item goes to its own, and nothing passes the fence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from drivers.base import (
    Absent,
    Applied,
    Change,
    DriverError,
    Failed,
    Fenced,
    Grade,
    Item,
    Observation,
    Rejected,
    State,
    Unknown,
    Unreachable,
    Verb,
)
from drivers.machine import Machine
from tests.fast.things import Guest, Thing


@dataclass
class Recorder:
    """A driver that notes what it is given; ``barrier`` and ``error`` are what goes wrong."""

    barrier: DriverError | None = None
    state: State = field(default_factory=Absent)
    error: DriverError | None = None
    given: list[str] = field(default_factory=list)

    def observe(self, items: Sequence[Item]) -> Mapping[str, Observation]:
        self.given += [item.key for item in items]
        return {item.key: Observation(self.state, 0, "test") for item in items}

    def apply(self, changes: Sequence[Change], epoch: int) -> tuple[Applied, ...]:
        self.given += [f"{change.item.key}@{epoch}" for change in changes]
        return tuple(Applied(change, self.error) for change in changes)

    def fence(self, epoch: int) -> None:
        self.given.append(f"fence@{epoch}")
        if self.barrier:
            raise self.barrier

    def close(self) -> None:
        self.given.append("closed")


def test_a_machine_that_says_nothing_is_not_asked_by_its_other_door_too() -> None:
    shell, libvirt = Recorder(state=Unknown("frozen")), Recorder()
    seen = Machine("m", shell, libvirt).observe([Thing("a"), Guest("b")])
    assert {key: observation.state for key, observation in seen.items()} == {
        "Thing:a": Unknown("frozen"),
        "Guest:b": Unknown("frozen"),
    }
    assert libvirt.given == []


def made(*items: Item) -> list[Change]:
    return [Change(item, Verb.CREATE, (), Grade.LIVE) for item in items]


def test_each_item_is_asked_for_where_it_is() -> None:
    shell, libvirt = Recorder(), Recorder()
    seen = Machine("m", shell, libvirt).observe([Thing("a"), Guest("b"), Thing("c")])
    assert sorted(seen) == ["Guest:b", "Thing:a", "Thing:c"]
    assert (shell.given, libvirt.given) == (["Thing:a", "Thing:c"], ["Guest:b"])


def test_without_libvirt_its_items_are_unknown_and_their_changes_rejected() -> None:
    machine = Machine("m", Recorder())
    assert isinstance(machine.observe([Guest("b")])["Guest:b"].state, Unknown)
    done = machine.apply(made(Thing("a"), Guest("b"), Thing("c")), 7)
    assert [type(one.error) for one in done] == [type(None), Rejected]


def test_libvirt_is_touched_only_behind_the_fence() -> None:
    shell, libvirt = Recorder(), Recorder()
    done = Machine("m", shell, libvirt).apply(made(Thing("a"), Guest("b"), Thing("c")), 7)
    assert [one.error for one in done] == [None] * 3
    assert shell.given == ["Thing:a@7", "fence@7", "Thing:c@7"]
    assert libvirt.given == ["Guest:b@7"]


def test_a_newer_epoch_is_raised() -> None:
    shell, libvirt = Recorder(barrier=Fenced("newer")), Recorder()
    with pytest.raises(Fenced):
        Machine("m", shell, libvirt).apply(made(Guest("b")), 7)
    assert libvirt.given == []


@pytest.mark.parametrize("error", [Unreachable("away"), Failed("disk full")])
def test_a_machine_that_can_not_be_told_our_epoch_is_not_changed(error: DriverError) -> None:
    shell, libvirt = Recorder(barrier=error), Recorder()
    changes = made(Guest("b"), Guest("c"))
    assert Machine("m", shell, libvirt).apply(changes, 7) == (Applied(changes[0], error),)
    assert libvirt.given == []


def test_a_failure_ends_it() -> None:
    shell, libvirt = Recorder(error=Failed("no")), Recorder()
    done = Machine("m", shell, libvirt).apply(made(Thing("a"), Guest("b")), 7)
    assert len(done) == 1
    assert libvirt.given == []


def test_close_closes_both() -> None:
    shell, libvirt = Recorder(), Recorder()
    Machine("m", shell, libvirt).close()
    assert (shell.given, libvirt.given) == (["closed"], ["closed"])
