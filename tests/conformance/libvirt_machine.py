"""A machine whose libvirt is the library's own test driver: real calls, real events, domains in memory.

``admin`` is somebody else at the same libvirt. What the test driver cannot do is tested in the lab.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import libvirt
import pytest

from drivers.base import Absent, Change, DriverError, Grade, Item, Present, State, Verb, drift
from drivers.items.domain import Domain
from drivers.libvirt import LibvirtDriver, Patience
from drivers.libvirt.events import start_event_loop

URI = "test:///default"
PATIENCE = Patience(answer=5, work=5, farewell=5)


def unfenced(epoch: int) -> None:
    """Of a machine that nobody else has."""


def error(code: int, domain: int = libvirt.VIR_FROM_QEMU) -> libvirt.libvirtError:
    made = libvirt.libvirtError("what libvirt says")
    made.err = (code, domain, "what libvirt says", 2, None, None, None, 0, 0)
    return made


class Broken:
    """A connection on which one call fails in a way that the test chooses."""

    def __init__(self, connection: Any, name: str, code: int) -> None:
        self._connection, self._name, self._code = connection, name, code

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)
        return self._fail if name == self._name else found

    def _fail(self, *_: object) -> None:
        raise error(self._code)


@pytest.fixture
def admin() -> Iterator[Any]:
    """A connection of somebody else, who takes all domains away in the end but libvirt's own ``test``."""
    start_event_loop()
    connection = libvirt.open(URI)
    yield connection
    for domain in connection.listAllDomains():
        if domain.name() != "test":
            if domain.isActive():
                domain.destroy()
            if domain.name() in [one.name() for one in connection.listAllDomains()]:
                domain.undefine()
    connection.close()


@dataclass(frozen=True)
class World:
    """The driver, and what its events told."""

    driver: LibvirtDriver
    events: queue.SimpleQueue[str]

    def state(self, item: Item) -> State:
        return self.driver.observe([item])[item.key].state

    def change(self, item: Domain, verb: Verb | None = None, grade: Grade | None = None) -> DriverError | None:
        """Makes the change that the planner would plan, or what the test says."""
        state = self.state(item)
        found = drift(item.fields(), state.fields) if isinstance(state, Present) else ()
        planned = Verb.CREATE if isinstance(state, Absent) else Verb.UPDATE
        limit = item.grade(found) if grade is None else grade
        (result,) = self.driver.apply([Change(item, verb or planned, found, limit)], 1)
        return result.error

    def drift(self, item: Domain) -> set[str]:
        state = self.state(item)
        assert isinstance(state, Present), state
        return {one.field for one in drift(item.fields(), state.fields)}

    def in_sync(self, item: Domain) -> bool:
        return self.drift(item) == set()


@pytest.fixture
def world(admin: Any) -> Iterator[World]:
    events: queue.SimpleQueue[str] = queue.SimpleQueue()
    driver = LibvirtDriver("host1", lambda _: URI, events.put, fence=unfenced, patience=PATIENCE)
    yield World(driver, events)
    driver.close()
