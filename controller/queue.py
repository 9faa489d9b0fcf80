"""The queue of machine names: each at most once, never worked on twice at the same time, with back-off and rate limit.

Adding a name carries no data: a trigger only says that the machine is to be looked at (DESIGN §2).
"""

from __future__ import annotations

import heapq
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

_JITTER = secrets.SystemRandom().random


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast names may come back.

    Attributes:
        min_interval: seconds between two beginnings of work on one name.
        first_retry: seconds after the first failure; each further one waits ``growth`` times as long.
        growth: so small that what comes up after a while (a guest that boots) waits a fifth of that while at most.
        longest_retry: seconds after a failure at most.
        doubtful: how many names that failed last time may be worked on at once: each may take its whole deadline.
    """

    min_interval: float = 0.1
    first_retry: float = 1.0
    growth: float = 1.25
    longest_retry: float = 60.0
    doubtful: int = 8


class Queue:
    """Names in order of when they are due. Safe for threads. The clock is monotonic and in seconds."""

    def __init__(
        self,
        pace: Pace | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = _JITTER,
    ) -> None:
        self._pace = pace or Pace()
        self._clock = clock
        self._jitter = jitter
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._busy: set[str] = set()
        self._again: dict[str, float] = {}
        self._started: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._doubted: set[str] = set()
        self._parked: list[tuple[float, str]] = []
        self._wake = threading.Condition()
        self._closed = False

    def add(self, name: str, delay: float = 0.0) -> None:
        """Queues the name; of two times the earlier one counts. One that is worked on comes again afterwards."""
        with self._wake:
            due = self._clock() + delay
            if name in self._busy:
                self._again[name] = min(due, self._again.get(name, due))
            else:
                self._put(name, due)

    def _put(self, name: str, due: float) -> None:
        if name in self._started:
            due = max(due, self._started[name] + self._pace.min_interval)
        if due < self._due.get(name, float("inf")):
            self._due[name] = due
            heapq.heappush(self._heap, (due, name))
            self._wake.notify()

    def take(self, timeout: float | None = None) -> str | None:
        """The next name that is due; None after ``timeout`` seconds or when the queue is closed."""
        deadline = None if timeout is None else self._clock() + timeout
        with self._wake:
            while not self._closed:
                now = self._clock()
                if (name := self._pop(now)) is not None:
                    self._busy.add(name)
                    self._started[name] = now
                    return name
                waits = [limit - now for limit in (deadline, self._heap[0][0] if self._heap else None) if limit]
                if deadline is not None and deadline <= now:
                    return None
                self._wake.wait(min(waits, default=None))
        return None

    def _pop(self, now: float) -> str | None:
        while self._heap and self._heap[0][0] <= now:
            due, name = heapq.heappop(self._heap)
            if self._due.get(name) != due:
                continue
            if name in self._failures:
                if len(self._doubted) >= self._pace.doubtful:
                    self._parked.append((due, name))
                    continue
                self._doubted.add(name)
            del self._due[name]
            return name
        return None

    def _unpark(self) -> None:
        """Those that were passed over may be taken now, or the first of them."""
        for one in self._parked:
            heapq.heappush(self._heap, one)
            self._wake.notify()
        self._parked.clear()

    def done(self, name: str, *, failed: bool = False, again_in: float | None = None) -> float | None:
        """The work on a name has ended. Returns in how many seconds it comes again, if it is queued.

        After a failure it comes again by itself, each time later (with jitter). ``again_in`` is the usual resync.
        """
        with self._wake:
            self._busy.discard(name)
            self._doubted.discard(name)
            self._unpark()
            now = self._clock()
            waits = [] if again_in is None else [now + again_in]
            if failed:
                count = self._failures[name] = self._failures.get(name, 0) + 1
                limit = min(self._pace.longest_retry, self._pace.first_retry * self._pace.growth ** min(count - 1, 99))
                waits = [now + limit * (1 + self._jitter()) / 2]
            else:
                self._failures.pop(name, None)
            if name in self._again:
                waits.append(self._again.pop(name))
            if not waits or self._closed:
                return None
            self._put(name, min(waits))
            return self._due[name] - now

    def hurry(self, name: str) -> None:
        """There is reason to think that it will not fail again: it is tried now, and soon again if it does."""
        with self._wake:
            self._failures.pop(name, None)
            self._unpark()
        self.add(name)

    def forget(self, name: str) -> None:
        """The machine is no longer in the fleet."""
        with self._wake:
            self._due.pop(name, None)
            self._again.pop(name, None)
            self._failures.pop(name, None)
            self._started.pop(name, None)

    def close(self) -> None:
        """No name is given out any more; everybody who waits is woken."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    def depth(self) -> int:
        """How many names are due now and not worked on."""
        with self._wake:
            now = self._clock()
            return sum(due <= now for due in self._due.values())

    def oldest(self) -> float:
        """Seconds for which the longest-waiting due name has waited."""
        with self._wake:
            now = self._clock()
            return max((now - due for due in self._due.values() if due <= now), default=0.0)

    def working(self) -> frozenset[str]:
        """The names that are worked on."""
        with self._wake:
            return frozenset(self._busy)

    def idle(self) -> bool:
        """Whether nothing is due and nothing is worked on."""
        with self._wake:
            now = self._clock()
            return not self._busy and not any(due <= now for due in self._due.values())
