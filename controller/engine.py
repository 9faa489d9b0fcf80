"""The controller without its threads: one fleet pass, one machine pass, one look. Safe to call from several threads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from controller.allocate import allocate
from controller.jobs import Jobs, Progress
from controller.knowledge import Knowledge
from controller.leases import LeaseManager, shard_of
from controller.log import log
from controller.lower import Lowered, Wait
from controller.machines import Connect, Machines
from controller.plan import Circumstances
from controller.reconcile import Look, Outcome, look, reconcile
from controller.record import Recorder
from controller.store.records import Mirror, Records
from controller.view import Spot, View
from drivers.base import DriverError, Fenced, Fields, Rejected

FLEET = "fleet"


class Engine:
    """What one controller knows and can do. It starts no work by itself: that is the runner's."""

    def __init__(self, records: Records, leases: LeaseManager, connect: Connect) -> None:
        self.records = records
        self.leases = leases
        self.knowledge = Knowledge()
        self.woken: Callable[[str], None] = lambda machine: None
        self.machines = Machines(connect, lambda machine: self.woken(machine))
        self.jobs = Jobs(self._job_moved)
        self._mirror = Mirror(records)
        self._view = View()
        self._lock = threading.RLock()
        self._recorder = Recorder(records)
        self._rejected: dict[str, dict[str, tuple[Fields, str]]] = {}

    def refresh(self) -> frozenset[str]:
        """Takes over what changed in the store; returns the machines that it may concern."""
        with self._lock:
            if not self._mirror.refresh():
                return frozenset()
            self.knowledge = self.knowledge.after(self._mirror)
            return self._view.update(self.knowledge.fleet, self.knowledge.known, self.knowledge.touched)

    def lowered(self, machine: str) -> Lowered:
        """What is wanted on the machine now."""
        with self._lock:
            return self._view.lowered(machine)

    def spot(self, ref: str) -> Spot:
        """Where a resource has items now."""
        with self._lock:
            return self._view.spot(ref)

    def holds(self, machine: str) -> bool:
        """Whether this controller may write to the machine now."""
        return self.leases.lease(shard_of(machine)).valid()

    def fleet_pass(self) -> bool:
        """Decides what is open and writes it, and finishes deletions. Returns whether anything was written.

        Only the holder of the fleet lease may. Touches no machine.
        """
        if not self.leases.lease(FLEET).valid():
            return False
        with self._lock:
            decisions, waiting = allocate(self.knowledge.fleet, self.knowledge.known)
            spots = {ref: self._view.spot(ref) for ref in self.knowledge.rows}
            return self._recorder.fleet(self.knowledge, decisions, waiting, spots)

    def _circumstances(self, machine: str) -> Circumstances:
        with self._lock:
            return Circumstances(
                now=time.time(),
                jobs=self.jobs.under_way(machine),
                rejected=self._rejected.get(machine, {}),
                living=self.knowledge.fleet_refs,
            )

    def look(self, machine: str) -> Look | Wait:
        """Observes one machine and plans for it; changes nothing. A Wait when nobody knows how to reach it."""
        lowered = self.lowered(machine)
        driver = self.machines.driver(machine, self.lowered)
        if driver is None:
            return lowered.target if isinstance(lowered.target, Wait) else _NO_WAY
        return look(lowered, self._recorder.inventory(machine), driver, self._circumstances(machine))

    def machine_pass(self, machine: str, stop: Callable[[], bool]) -> Outcome | None:
        """One pass over one machine, its result written to the store. None when it could not be tried.

        Raises Fenced, StoreError.
        """
        lease = self.leases.lease(shard_of(machine))
        if not lease.valid():
            return None
        lowered = self.lowered(machine)
        driver = self.machines.driver(machine, self.lowered)
        if driver is None:
            self._recorder.waiting(machine, lowered, self.knowledge)
            return None
        outcome = reconcile(
            lowered,
            self._recorder.inventory(machine),
            driver,
            self._circumstances(machine),
            lease.epoch,
            remember=lambda rows: self._recorder.remember(machine, rows),
            stop=lambda: stop() or not lease.valid(),
        )
        self._note_rejected(outcome)
        self._recorder.outcome(outcome, self.knowledge)
        for change in outcome.jobs:
            self.jobs.start(machine, change, driver, lease.epoch)
        return outcome

    def _note_rejected(self, outcome: Outcome) -> None:
        refused = {
            one.change.item.key: (one.change.item.fields(), str(one.error))
            for one in outcome.executed.failed
            if isinstance(one.error, Rejected)
        }
        with self._lock:
            self._rejected.setdefault(outcome.machine, {}).update(refused)

    def _job_moved(self, job: Progress, error: DriverError | None) -> None:
        self._recorder.job(job)
        if job.ended is None:
            return
        if error is not None:
            log(logging.WARNING, "a job failed", machine=job.machine, item=job.key, error=str(error))
        self.woken(job.machine)

    def machine_names(self) -> Sequence[str]:
        """All machines in the fleet."""
        return [machine.name for machine in self.knowledge.fleet.machines()]

    def close(self) -> None:
        """Ends jobs and connections."""
        self.jobs.close()
        self.machines.close()


_NO_WAY = Wait("NoWay", "the machine to jump over cannot be reached yet")
