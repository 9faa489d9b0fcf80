"""Jobs: changes that take long (an image push). Started by a pass, looked at by later passes; no pass waits for one.

A job's row is in the store, so that everybody sees its progress. A job whose controller died is simply not under way
any more: the next pass sees the item still missing and starts a new one (level, not edge).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from controller.log import LOGGER
from controller.lower import Wanted
from drivers.base import Change, Driver, DriverError, Failed, Fields


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: ``done`` from 0 to 1; times in seconds since the epoch; ``error`` when it failed."""

    machine: str
    key: str
    epoch: int
    started: float
    done: float = 0.0
    ended: float | None = None
    error: str = ""

    @property
    def sentence(self) -> str:
        """For conditions and listings."""
        return f"a job makes {self.key} since {_utc(self.started)}"


def _utc(at: float) -> str:
    """A time of day that stays the same while one waits: a sentence that changes is written at every pass."""
    return time.strftime("%H:%M:%SZ", time.gmtime(at))


FIRST_RETRY = 5.0
LONGEST_RETRY = 300.0


@dataclass(frozen=True, slots=True)
class _Failure:
    """The last tries of a job failed: what it was to make, and when it may be tried again, in seconds since 1970."""

    wanted: Fields
    error: str
    count: int
    again: float


class Jobs:
    """The jobs of this controller. Safe for threads. One that failed rests a while, each time longer."""

    def __init__(
        self,
        report: Callable[[Progress, Change, DriverError | None], None],
        side_by_side: int = 8,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._report = report
        self._clock = clock
        self._pool = ThreadPoolExecutor(side_by_side, thread_name_prefix="job")
        self._running: dict[tuple[str, str], Progress] = {}
        self._failures: dict[tuple[str, str], _Failure] = {}
        self._lock = threading.Lock()

    def start(self, machine: str, change: Change, driver: Driver, epoch: int) -> None:
        """Starts the change unless it is under way, or rests after a failure."""
        key = (machine, change.item.key)
        with self._lock:
            if key in self._running or self._rests(key, change.item.fields()):
                return
            job = Progress(machine, change.item.key, epoch, self._clock())
            self._running[key] = job
        self._report(job, change, None)
        self._pool.submit(self._run, job, change, driver)

    def _rests(self, key: tuple[str, str], wanted: Fields) -> bool:
        """Whether it failed lately; what is wanted otherwise now is tried at once (rule 16)."""
        failure = self._failures.get(key)
        return failure is not None and failure.wanted == wanted and failure.again > self._clock()

    def _run(self, job: Progress, change: Change, driver: Driver) -> None:
        error: DriverError | None
        try:
            (applied,) = driver.apply((change,), job.epoch)
            error = applied.error
        except DriverError as failure:
            error = failure
        except Exception as defect:
            LOGGER.exception("a defect; please report it", extra={"salvus": {"machine": job.machine, "item": job.key}})
            error = Failed(f"a defect of salvus: {defect!r}", machine=job.machine)
        key = (job.machine, job.key)
        with self._lock:
            del self._running[key]
            before = self._failures.pop(key, None)
            if error is not None:
                wanted = change.item.fields()
                count = before.count + 1 if before and before.wanted == wanted else 1
                rest = min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(count - 1, 10))
                self._failures[key] = _Failure(wanted, str(error), count, self._clock() + rest)
        self._report(replace(job, done=1.0, ended=self._clock(), error=str(error or "")), change, error)

    def under_way(self, machine: str, wanted: Iterable[Wanted] = ()) -> Mapping[str, tuple[str, str]]:
        """Item key → (reason, sentence), of the machine's jobs that run, and of those that rest after a failure.

        One that failed when something else was ``wanted`` than now does not rest.
        """
        with self._lock:
            if not self._running and not self._failures:
                return {}
            fields = {one.key: one.fields for one in wanted}
            running = {k: ("JobRunning", job.sentence) for (name, k), job in self._running.items() if name == machine}
            resting = {
                key: ("JobFailed", f"{failure.error}; it is tried again at {_utc(failure.again)}")
                for (name, key), failure in self._failures.items()
                if name == machine and self._rests((name, key), fields.get(key, failure.wanted))
            }
        return resting | running

    def busy(self) -> bool:
        """Whether any job is under way."""
        with self._lock:
            return bool(self._running)

    def close(self, interrupt: Callable[[], None]) -> None:
        """Begins no more, calls ``interrupt`` to end what the running ones wait for, and waits for their end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        interrupt()
        self._pool.shutdown(wait=True)
