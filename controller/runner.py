"""The machinery around the engine: a thread that keeps the view fresh, and workers that take machines off the queue."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from controller.engine import Engine
from controller.journal import Journal
from controller.log import LOGGER, log
from controller.members import shard_of
from controller.metrics import Metrics
from controller.queue import Pace, Queue
from controller.reconcile import Outcome
from controller.store.base import StoreError, StoreUnusable
from drivers.base import Change, DriverError, Fenced, SalvusError, Unreachable
from resources.fleet import machine_named

POLL = 0.5
# Seconds between two looks at the leases.
TICK = 1.0
STORE_RETRY = 2.0
# Seconds: each write of a step ends much sooner, also when the store is slow; a pass may wait for a package manager.
STEP_HANGS = 60.0
PASS_HANGS = 900.0
DOWN = "the store cannot be used: "
LATE = "its leases were not renewed in time"
UNANSWERED = "the store has not answered yet"


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often things are looked at again, in seconds, and by how many threads."""

    resync: float = 30.0
    workers: int = 16


class Runner:
    """Runs passes until stopped. ``ended`` is called after each machine pass, from a worker.

    ``made`` is called for each change that was made, by a pass or as a job, from any thread.
    A store that is away is waited for; ``broken`` is called, from any thread, when it is found to be damaged for good.
    """

    def __init__(
        self,
        engine: Engine,
        rhythm: Rhythm,
        metrics: Metrics,
        ended: Callable[[Outcome], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = engine
        self.queue = Queue(Pace(doubtful=max(1, rhythm.workers // 2)))
        self._rhythm = rhythm
        self._metrics = metrics
        self._journal = Journal()
        self._ended = ended
        self._clock = clock
        self._poke = threading.Event()
        self._stop = threading.Event()
        self._over = threading.Event()
        self._gained: frozenset[str] = frozenset()
        self._affected: frozenset[str] = frozenset()
        self._known: frozenset[str] = frozenset()
        self._trouble = "nothing was read from the store yet"
        self._moved = clock()
        self._renewed = clock()
        self._busy: dict[str, float] = {}
        self._hangs = False
        self._unrenewed = ""
        self._late = False
        self.broken: Callable[[StoreUnusable], None] = lambda _: None
        self._keeper = threading.Thread(target=self._keep_up, name="fleet")
        self._renewer = threading.Thread(target=self._renew, name="leases")
        self._workers = [threading.Thread(target=self._work, name=f"worker-{n}") for n in range(rhythm.workers)]
        self.made: Callable[[str, Change], None] = lambda *_: None
        engine.leases.lag = self.queue.oldest
        engine.woken = self.queue.add
        engine.moved = self._move
        engine.job_ended = self._changed

    def start(self) -> None:
        """Begins: a thread that keeps up with the store, one that keeps the leases, ``workers`` that make passes."""
        for thread in (self._renewer, self._keeper, *self._workers):
            thread.start()

    def idle(self) -> bool:
        """Whether nothing is due, worked on or made as a job."""
        return self.queue.idle() and not self.engine.jobs.busy()

    def look_at_all(self) -> None:
        """Every machine is looked at now, and everything is tried, also what rests after a failure."""
        self.engine.rests.end_all()
        for machine in self._known:
            self.queue.hurry(machine)
        self.poke()

    def poke(self) -> None:
        """Something changed in the store: look at once."""
        self._poke.set()

    def stop(self, tell: Callable[[str], None] = lambda what: log(logging.INFO, what)) -> None:
        """Ends at the next safe points, and waits for it. Leases under which something lasts are kept until then.

        ``tell`` hears which jobs are waited for. A KeyboardInterrupt cuts what is still under way.
        """
        self._stop.set()
        self.engine.leases.leave()
        self.queue.close()
        try:
            _join(*self._workers)
            self.engine.finish_jobs(tell)
        finally:
            self._over.set()
            self._poke.set()
            self.engine.close()
            _join(self._keeper, self._renewer)
            self.engine.leases.release_all()

    @property
    def stopping(self) -> bool:
        """Whether stop() was called."""
        return self._stop.is_set()

    def ready(self) -> str:
        """Empty when it acts, or stands by where others hold all leases; else a sentence that says why it does not."""
        if self.stopping:
            return "stopping"
        if trouble := self._trouble or self.healthy():
            return trouble
        return "" if self.engine.leases.member() else f"{LATE}: {self._unrenewed or UNANSWERED}"

    def healthy(self) -> str:
        """Empty while its threads move; else a sentence that says which hang: only a new start helps then."""
        if stuck := self._stuck():
            return stuck
        now = self._clock()
        since = tuple(self._busy.values())
        if len(since) >= self._rhythm.workers and now - max(since) > PASS_HANGS:
            return f"all {len(since)} workers have been busy with the same machines for {now - max(since):.0f} s"
        return ""

    def _stuck(self) -> str:
        now = self._clock()
        for what, moved in (("keeps up with the store", self._moved), ("renews the leases", self._renewed)):
            if now - moved > STEP_HANGS:
                return f"the thread that {what} has not moved for {now - moved:.0f} s"
        return ""

    def _renew(self) -> None:
        """Beside all else, so that a long fleet pass or a slow source does not lose the leases."""
        while not self._over.is_set():
            self.try_renew()
            self._over.wait(TICK)

    def try_renew(self) -> None:
        """One look at the leases; what it raises is logged."""
        leases = self.engine.leases
        before = leases.held().keys()
        try:
            self._tick()
            self._unrenewed = ""
        except StoreError as error:
            self._unrenewed = str(error)
            self._look_whether_broken(error)
        except Exception:  # the next one may be better
            LOGGER.exception("a defect in keeping the leases; please report it")
        self._renewed = self._clock()
        before_that, self._late = self._late, not leases.member()
        if self._late and not before_that:
            log(logging.ERROR, LATE, error=self._unrenewed or UNANSWERED)
        if leases.held().keys() != before:
            log(logging.INFO, "leases", holds=leases.about())
            self.poke()

    def _tick(self) -> None:
        """Who hangs lets its leases run out: another one is to go on."""
        if trouble := self.healthy():
            if not self._hangs:
                log(logging.ERROR, "hangs, and lets its leases run out", trouble=trouble)
            self._hangs = True
            return
        self._hangs = False
        self.engine.leases.tick()

    def _keep_up(self) -> None:
        while not self._over.is_set():
            self._poke.clear()
            if not self.try_step():
                self._over.wait(STORE_RETRY)
            self._poke.wait(POLL)

    def try_step(self) -> bool:
        """One step; what it raises is logged. Returns whether it went well."""
        before, trouble = self._trouble, ""
        try:
            self.step()
        except StoreError as error:
            trouble = f"{DOWN}{error}"
            if not before.startswith(DOWN):
                log(logging.ERROR, "the store cannot be used; nothing is written to machines", error=str(error))
            self._look_whether_broken(error)
        except Exception:  # a defect in one kind must not end the controller
            trouble = "a defect in the fleet pass; see the log"
            LOGGER.exception("a defect in the fleet pass; please report it")
        if before.startswith(DOWN) and not trouble:
            log(logging.INFO, "the store can be used again")
        self._trouble = trouble
        self._move()
        if trouble:
            self._metrics.fleet_passes.labels("failed").inc()
        return not trouble

    def _move(self) -> None:
        self._moved = self._clock()

    def _look_whether_broken(self, error: SalvusError) -> None:
        if isinstance(error, StoreUnusable):
            self.broken(error)

    def step(self) -> None:
        """The store's news, the fleet pass; queues what is concerned. Who is no member yet becomes one first."""
        if self.stopping:
            return
        if not self.engine.leases.member():
            self._tick()
        # Kept until they are queued, so that a store that fails in between makes nobody wait for the resync.
        self._gained |= self.engine.leases.gained()
        self._affected |= self.engine.refresh()
        self._affected |= self.engine.turned()
        while self.engine.fleet_pass():
            self._metrics.fleet_passes.labels("wrote").inc()
            self._affected |= self.engine.refresh()
        before, self._known = self._known, frozenset(self.engine.machine_names())
        for gone in before - self._known:
            self.queue.forget(gone)
            self.engine.forget(gone)
            self._metrics.forget_machine(gone)
            self._journal.forget(gone)
        gained = {machine for machine in self._known if shard_of(machine) in self._gained}
        for machine in gained | (self._affected & self._known) | (self._known - before):
            self.queue.add(machine)
        self._gained = self._affected = frozenset()

    def _work(self) -> None:
        # Not the machine: it may be worked on again, by another worker, while this one still notes what came of it.
        worker = threading.current_thread().name
        while (machine := self.queue.take()) is not None:
            self._busy[worker] = self._clock()
            try:
                self.work(machine)
            except Exception:  # the next machine needs this worker
                LOGGER.exception("a defect after a pass; please report it", extra={"salvus": {"machine": machine}})
            del self._busy[worker]

    def work(self, machine: str) -> None:
        """One pass over a machine that was taken off the queue, and what follows from it."""
        ours = self.engine.leases.open(shard_of(machine))
        outcome = self._pass(machine) if ours else None
        # What is another controller's is looked at again when it is ours.
        if not ours or machine not in self._known:  # it left the fleet meanwhile, or something late told of it
            self.queue.done(machine)
            return
        rest = self.engine.rests.until(machine)
        resync = self._rhythm.resync if rest is None else min(rest, self._rhythm.resync)
        again = self.queue.done(machine, failed=outcome is None or silent(outcome), again_in=resync)
        if outcome is not None:
            self._after(outcome, again)

    def _pass(self, machine: str) -> Outcome | None:
        try:
            return self.engine.machine_pass(machine, self._stop.is_set)
        except Fenced as error:
            self._metrics.passes.labels("fenced").observe(0)
            log(logging.WARNING, "fenced, and the pass dropped", machine=machine, error=str(error))
        except SalvusError as error:
            log(logging.ERROR, "a pass was dropped", machine=machine, error=str(error))
            self._look_whether_broken(error)
        except Exception:  # a defect in one kind or item must not end the controller
            LOGGER.exception("a defect; please report it", extra={"salvus": {"machine": machine}})
        return None

    def _after(self, outcome: Outcome, again: float | None) -> None:
        """What follows from a pass: numbers, log, history, and a look at the machines that live on this one."""
        self._measure(outcome)
        self._journal.passed(outcome)
        try:
            self.engine.recorder.run(outcome, again)
        except (StoreError, Fenced) as error:
            log(logging.ERROR, "a pass was not noted", machine=outcome.machine, error=str(error))
            self._look_whether_broken(error)
        for name in guests_changed(outcome):
            self.queue.hurry(name)
        self._ended(outcome)
        if outcome.result != "synced":
            self._poke.set()

    def _measure(self, outcome: Outcome) -> None:
        self._metrics.passes.labels(outcome.result).observe(outcome.duration)
        for one in outcome.executed.applied:
            self._changed(outcome.machine, one.change, one.error)
        self._metrics.writes.labels(outcome.machine).inc(len(outcome.executed.applied))

    def _changed(self, machine: str, change: Change, error: DriverError | None) -> None:
        self._metrics.changes.labels(change.verb, change.grade.word, "failed" if error else "made").inc()
        if error is None:
            self.made(machine, change)


def silent(outcome: Outcome) -> bool:
    """Whether the machine could not be asked, or not be told. What it refused rests by itself, and it goes on."""
    return bool(outcome.unreachable) or any(isinstance(one.error, Unreachable) for one in outcome.executed.failed)


def guests_changed(outcome: Outcome) -> frozenset[str]:
    """Virtual machines of which something was made or changed in this pass: they may answer now, or soon."""
    owners = (outcome.planned.owners.get(one.change.item.key, "") for one in outcome.executed.applied)
    return frozenset(map(machine_named, owners)) - {""}


def _join(*threads: threading.Thread) -> None:
    """Waits for the end of those that were started."""
    for thread in threads:
        if thread.ident is not None:
            thread.join()
