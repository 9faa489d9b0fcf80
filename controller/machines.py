"""One driver a machine, kept as long as the way to it stays the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from controller.lower import Lowered
from drivers.base import Driver, Fencing, SshTarget


class Connect(Protocol):
    """Makes a driver. ``via`` is the driver of the machine to jump over; ``woken`` is called when it has news."""

    def __call__(
        self, machine: str, target: SshTarget, *, hypervisor: bool, via: Driver | None, woken: Callable[[str], None]
    ) -> Fencing:
        """Must not do I/O: drivers connect lazily."""
        ...


@dataclass(frozen=True, slots=True)
class _Way:
    target: SshTarget
    hypervisor: bool
    via: Driver | None


class Machines:
    """The drivers by machine name. Safe for threads."""

    def __init__(self, connect: Connect, woken: Callable[[str], None]) -> None:
        self._connect = connect
        self._woken = woken
        self._drivers: dict[str, tuple[_Way, Fencing]] = {}
        self._lock = threading.RLock()

    def driver(self, machine: str, lowered: Callable[[str], Lowered]) -> Fencing | None:
        """The machine's driver; None while nobody knows how to reach it. ``lowered`` tells the way to any machine."""
        here = lowered(machine)
        target = here.target
        if not isinstance(target, SshTarget):
            return None
        via = self.driver(target.via, lowered) if target.via else None
        if target.via and via is None:
            return None
        way = _Way(target, here.hypervisor, via)
        with self._lock:
            kept = self._drivers.get(machine)
            if kept is not None and kept[0] == way:
                return kept[1]
            made = self._connect(machine, target, hypervisor=here.hypervisor, via=via, woken=self._woken)
            self._drivers[machine] = (way, made)
        if kept is not None:
            kept[1].close()
        return made

    def forget(self, machine: str) -> None:
        """The machine left the fleet."""
        with self._lock:
            kept = self._drivers.pop(machine, None)
        if kept is not None:
            kept[1].close()

    def close(self) -> None:
        """Drops all connections."""
        for machine in tuple(self._drivers):
            self.forget(machine)
