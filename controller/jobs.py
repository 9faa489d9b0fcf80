"""Jobs: changes that take long (an image push). Started by a pass, looked at by later passes; no pass waits for one.

A job's row is in the store, so that everybody sees its progress. A job whose controller died is simply not under way
any more: the next pass sees the item still missing and starts a new one (level, not edge).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from controller.log import LOGGER, log
from controller.rests import time_of_day
from controller.store.records import Job
from drivers.base import Change, Driver, DriverError, Failed, Fenced
from drivers.items.domain import Domain
from drivers.items.shell import ShellItem

# Seconds that a hypervisor or a machine may take for its part of a job, a guest's own time to shut down not counted.
WORK = 120.0
# Seconds between two looks at what still runs when salvus stops.
POLL = 0.5


class Jobs:
    """The jobs of this controller. Safe for threads.

    ``report`` hears of each job that begins or has ended, before another one of the same item can begin. It may raise
    Fenced; of a job that was fenced it hears no end. ``woken`` is given the machines for which there is something to do
    then. ``keep`` is called with a machine when a job begins there, and what it gave is called at the job's end.
    """

    def __init__(
        self,
        report: Callable[[Job, Change, DriverError | None], None],
        woken: Callable[[str], None],
        side_by_side: int = 8,
        clock: Callable[[], float] = time.time,
        keep: Callable[[str], Callable[[], None]] = lambda _: lambda: None,
    ) -> None:
        self._keep = keep
        self._report = report
        self._woken = woken
        self._clock = clock
        self._side_by_side = side_by_side
        self._pool = ThreadPoolExecutor(side_by_side, thread_name_prefix="job")
        self._running: dict[tuple[str, str], tuple[Job, Change]] = {}
        self._waiting: dict[str, None] = {}
        self._changed = threading.Condition()

    def start(self, machine: str, change: Change, driver: Driver, epoch: int) -> bool:
        """Starts the change now or not at all: what waited here would be carried out when it is wanted no more.

        Returns whether it is under way. If not, the machine is woken when there is room, and its pass plans anew.
        """
        key = (machine, change.item.key)
        with self._changed:
            if key in self._running:
                return True
            if len(self._running) >= self._side_by_side:
                self._waiting[machine] = None
                return False
            job = Job(machine, change.item.key, epoch, self._clock())
            self._running[key] = job, change
        end = self._keep(machine)
        self._report(job, change, None)
        self._pool.submit(self._run, job, change, driver, end)
        return True

    def _run(self, job: Job, change: Change, driver: Driver, end: Callable[[], None]) -> None:
        try:
            error = _make(job, change, driver)
            self._report(replace(job, ended=self._clock(), error=str(error or "")), change, error)
        except Fenced as over:
            # Noted nowhere: whoever has the machine now sees what is missing there, and makes it.
            log(logging.WARNING, "a job was dropped", machine=job.machine, item=job.key, error=str(over))
        finally:
            end()
            with self._changed:
                del self._running[job.machine, job.key]
                concerned, self._waiting = {job.machine: None} | self._waiting, {}
                self._changed.notify_all()
            for machine in concerned:
                self._woken(machine)

    def under_way(self, machine: str) -> Mapping[str, tuple[str, str]]:
        """Item key → (reason, sentence), of the machine's jobs that run."""
        with self._changed:
            jobs = [job for job, _ in self._running.values() if job.machine == machine]
        return {job.key: ("JobRunning", f"a job makes {job.key} since {time_of_day(job.started)}") for job in jobs}

    def busy(self) -> bool:
        """Whether any job is under way."""
        with self._changed:
            return bool(self._running)

    def finish(self, interrupt: Callable[[str], None], tell: Callable[[str], None]) -> None:
        """Waits until no job is under way; each is given the time that it may need, see ``time_to_end``.

        After that ``interrupt`` is called with its machine, to cut the connections. ``tell`` hears what is waited for.
        """
        began = self._clock()
        cut: set[str] = set()
        told = False
        while left := self._left(self._clock() - began):
            for machine in {machine for machine, seconds in left.items() if seconds <= 0} - cut:
                cut.add(machine)
                interrupt(machine)
            if not told and (waited := left.keys() - cut):
                tell(f"waits up to {max(left.values()):.0f} s for {self._names(waited)}")
                told = True
            with self._changed:
                self._changed.wait(POLL)

    def _left(self, waited: float) -> Mapping[str, float]:
        """For how many seconds more each machine with jobs is waited for."""
        left: dict[str, float] = {}
        with self._changed:
            for job, change in self._running.values():
                left[job.machine] = max(left.get(job.machine, 0.0), time_to_end(change) - waited)
        return left

    def _names(self, machines: Collection[str]) -> str:
        with self._changed:
            return ", ".join(
                f"{job.key} on {job.machine}" for job, _ in self._running.values() if job.machine in machines
            )

    def close(self) -> None:
        """Waits for the end of those under way: their connections have been cut."""
        self._pool.shutdown(wait=True)


def _make(job: Job, change: Change, driver: Driver) -> DriverError | None:
    """How it went. Raises Fenced."""
    try:
        (applied,) = driver.apply((change,), job.epoch)
        return applied.error
    except Fenced:
        raise
    except DriverError as error:
        return error
    except Exception as defect:
        LOGGER.exception("a defect; please report it", extra={"salvus": {"machine": job.machine, "item": job.key}})
        return Failed(f"a defect of salvus: {defect!r}", machine=job.machine)


def time_to_end(change: Change) -> float:
    """Seconds that a job is given to end by itself when salvus stops.

    A push is given none: whoever makes it anew loses nothing. But a machine that is to start again is off in between,
    and stays so when nobody is there to start it.
    """
    match change.item:
        case ShellItem(payload=payload) if payload:
            return 0.0
        case Domain(grace=grace):
            return grace + WORK
        case _:
            return WORK
