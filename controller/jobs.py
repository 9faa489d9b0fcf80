"""Jobs: changes that take long (an image push). Started by a pass, looked at by later passes; no pass waits for one.

A job's row is in the store, so that everybody sees its progress. A job whose controller died is simply not under way
any more: the next pass sees the item still missing and starts a new one (level, not edge).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from drivers.base import Change, Driver, DriverError


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
        return f"a job makes {self.key} since {time.time() - self.started:.0f} s"


class Jobs:
    """The jobs of this controller. Safe for threads."""

    def __init__(self, report: Callable[[Progress, DriverError | None], None], side_by_side: int = 8) -> None:
        self._report = report
        self._pool = ThreadPoolExecutor(side_by_side, thread_name_prefix="job")
        self._running: dict[tuple[str, str], Progress] = {}
        self._lock = threading.Lock()

    def start(self, machine: str, change: Change, driver: Driver, epoch: int) -> None:
        """Starts the change unless it is under way."""
        key = (machine, change.item.key)
        with self._lock:
            if key in self._running:
                return
            job = Progress(machine, change.item.key, epoch, time.time())
            self._running[key] = job
        self._report(job, None)
        self._pool.submit(self._run, job, change, driver)

    def _run(self, job: Progress, change: Change, driver: Driver) -> None:
        error: DriverError | None
        try:
            (applied,) = driver.apply((change,), job.epoch)
            error = applied.error
        except DriverError as failure:
            error = failure
        with self._lock:
            del self._running[job.machine, job.key]
        self._report(replace(job, done=1.0, ended=time.time(), error=str(error or "")), error)

    def under_way(self, machine: str) -> Mapping[str, str]:
        """Item key → sentence, of the machine's jobs."""
        with self._lock:
            return {key: job.sentence for (name, key), job in self._running.items() if name == machine}

    def busy(self) -> bool:
        """Whether any job is under way."""
        with self._lock:
            return bool(self._running)

    def close(self) -> None:
        """Waits for the jobs that run; begins no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
