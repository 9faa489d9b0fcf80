"""How a controller obeys pauses: which come, go and end, and the switch in the store that stops everything."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

from controller.knowledge import Knowledge
from controller.log import log
from controller.pauses import Pauses, in_force, pause_of, ref_of
from controller.store.base import StoreError
from controller.store.ledger import Ledger
from controller.store.mirror import Mirror
from controller.store.records import WORLD, Event, Pause


class Pausing:
    """Safe for threads, but for ``turned``, which is one thread's. ``clock`` gives seconds since the epoch."""

    def __init__(self, ledger: Ledger, mirror: Mirror, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._mirror = mirror
        self._clock = clock
        self._before: Pauses = {}

    def pauses(self) -> Pauses:
        """Those that the store has told of; some may have ended."""
        return self._mirror.pauses

    def in_force(self) -> Pauses:
        """Those that hold something now."""
        return in_force(self._mirror.pauses, self._clock())

    def world_stopped(self) -> bool:
        """Whether nothing is to be written, asked of the store itself: one that does not answer counts as yes."""
        try:
            return WORLD in self._mirror.pauses or self._ledger.world() is not None
        except StoreError as error:
            log(logging.ERROR, "nothing is written: the store does not say whether it may be", error=str(error))
            return True

    def came(self, since: Pauses, machine: str, refs: Collection[str]) -> bool:
        """Whether something on the machine, for these resources, was paused after ``since`` was asked for."""
        now = self._mirror.pauses
        new = {what: pause for what, pause in now.items() if since.get(what) != pause}
        return bool(new) and pause_of(new, self._clock(), refs, machine) is not None

    def turned(self, knowledge: Knowledge, *, first: bool) -> frozenset[str]:
        """What is paused now, or is not any more, or for another time, since this was last asked.

        Of several controllers the ``first`` tells of those that ended by themselves.
        """
        before, now = self._before, self.in_force()
        if now == before:
            return frozenset()
        self._before = now
        for what in now.keys() - before.keys():
            log(logging.WARNING, "paused", what=what, by=now[what].by, reason=now[what].reason)
        for what in before.keys() - now.keys():
            log(logging.INFO, "paused no more", what=what)
            if first and what in self._mirror.pauses:
                self._tell_end(before[what], knowledge)
        return frozenset(what for what in now.keys() | before.keys() if now.get(what) != before.get(what))

    def _tell_end(self, pause: Pause, knowledge: Knowledge) -> None:
        at = self._clock()
        text = f"the pause by {pause.by} is over: {pause.reason}"
        try:
            self._ledger.tell([Event(ref_of(pause.what, knowledge), "", "Normal", "PauseOver", text, at, at)])
        except StoreError as error:
            log(logging.WARNING, "the end of a pause was not noted", what=pause.what, error=str(error))
