"""What failed is not tried again at once, and each time later; nor is a machine started again and again for ever."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from controller.execute import explain
from drivers.base import Change, DriverError, InUse, Rejected, RolledBack, Unreachable, Verb
from drivers.items.domain import Domain

FIRST = 5.0
LONGEST = 300.0
# A domain is started so many times within so many seconds.
STARTS = 5
WITHIN = 600.0


@dataclass(frozen=True, slots=True)
class Rest:
    """A change that is not tried now: just this one, so that what is wanted or found otherwise is tried at once.

    ``reason`` and ``message`` are for conditions; ``again`` is when it is tried, in seconds since the epoch: infinite
    for what the machine refused for good.
    """

    change: Change
    reason: str
    message: str
    again: float


@dataclass(frozen=True, slots=True)
class _Failure:
    """The last tries of a change failed, ``count`` of them one after the other."""

    rest: Rest
    count: int


@dataclass(frozen=True, slots=True)
class _Starts:
    """When a domain was started lately, and the change that did it the last time."""

    change: Change
    at: tuple[float, ...]


class Rests:
    """The rests by machine and item. Safe for threads. ``clock`` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._failures: dict[str, dict[str, _Failure]] = {}
        self._starts: dict[str, dict[str, _Starts]] = {}
        self._lock = threading.Lock()

    def failed(self, machine: str, change: Change, error: DriverError, reason: str = "Failed") -> None:
        """The change went wrong: each time it rests twice as long; for good when it is refused as it is.

        What could not be told says nothing of the change; what the machine put back is noted there, and only there:
        who removes the note has it tried again.
        """
        if isinstance(error, (Unreachable, RolledBack)):
            return
        key = change.item.key
        with self._lock:
            failures = self._failures.setdefault(machine, {})
            before = failures.get(key)
            count = before.count + 1 if before and before.rest.change.item == change.item else 1
            message = f"{key}: {explain(error)}"
            if isinstance(error, Rejected):
                rest = Rest(change, "Stalled", message, math.inf)
            else:
                again = self._clock() + min(LONGEST, FIRST * 2.0 ** min(count - 1, 10))
                reason = "InUse" if isinstance(error, InUse) else reason
                rest = Rest(change, reason, f"{message}; it is tried again at {time_of_day(again)}", again)
            failures[key] = _Failure(rest, count)

    def made(self, machine: str, change: Change) -> None:
        """The change went well."""
        key = change.item.key
        with self._lock:
            self._failures.get(machine, {}).pop(key, None)
            if _starts(change):
                starts = self._starts.setdefault(machine, {})
                before = starts.get(key)
                at = before.at if before and before.change.item == change.item else ()
                starts[key] = _Starts(change, (*at, self._clock())[-STARTS:])

    def of(self, machine: str) -> Mapping[str, Rest]:
        """What rests on the machine now, by item key."""
        with self._lock:
            now = self._clock()
            failures = self._failures.get(machine, {}).values()
            starts = self._starts.get(machine, {}).values()
            rests = [*(failure.rest for failure in failures), *map(_enough, starts)]
            return {rest.change.item.key: rest for rest in rests if rest is not None and rest.again > now}

    def until(self, machine: str) -> float | None:
        """In how many seconds the first rest on the machine ends; None when none does."""
        ends = [rest.again - self._clock() for rest in self.of(machine).values() if rest.again < math.inf]
        return max(0.0, min(ends)) if ends else None

    def keep(self, machine: str, keys: Collection[str]) -> None:
        """Only of these items something is to be done on the machine: the other failures are over."""
        with self._lock:
            now = self._clock()
            failures = {key: one for key, one in self._failures.pop(machine, {}).items() if key in keys}
            starts = {key: one for key, one in self._starts.pop(machine, {}).items() if one.at[-1] + WITHIN > now}
            self._failures |= {machine: failures} if failures else {}
            self._starts |= {machine: starts} if starts else {}

    def end_all(self) -> None:
        """Everything is tried now."""
        with self._lock:
            self._failures.clear()
            self._starts.clear()

    def forget(self, machine: str) -> None:
        """The machine left the fleet."""
        with self._lock:
            self._failures.pop(machine, None)
            self._starts.pop(machine, None)


def _starts(change: Change) -> bool:
    """Whether it starts a domain that was off. One that is made anew was not there to fall over."""
    started = any(drift.field == "running" and drift.desired is True for drift in change.drift)
    return started and change.verb is Verb.UPDATE and isinstance(change.item, Domain)


def _enough(starts: _Starts) -> Rest | None:
    """It is started again when the first of the last starts is long enough ago."""
    if len(starts.at) < STARTS:
        return None
    again = starts.at[0] + WITHIN
    often = f"was started {STARTS} times within {WITHIN / 60:g} minutes and does not stay up"
    message = f"{starts.change.item.key} {often}; it is tried again at {time_of_day(again)}"
    return Rest(starts.change, "CrashLooping", message, again)


def time_of_day(at: float) -> str:
    """One that stays the same while one waits: a sentence that changes is written at every pass."""
    return time.strftime("%H:%M:%SZ", time.gmtime(at))
