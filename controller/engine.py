"""The controller without its threads: one fleet pass, one machine pass. Safe to call from several threads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from controller.announce import Announced
from controller.jobs import Jobs
from controller.journal import made
from controller.knowledge import Knowledge
from controller.leases import Lease, Leases
from controller.log import log
from controller.lower import Lowered, Wait
from controller.machines import Connect, Machines
from controller.members import FLEET, shard_of
from controller.pauses import concerned
from controller.pausing import Pausing
from controller.plan import Circumstances
from controller.reconcile import Outcome, reconcile
from controller.record import Recorder
from controller.rests import Rest, Rests
from controller.rollout import everything, touched, turns
from controller.rulings import fleet_pass
from controller.store.base import Conflict, StoreError
from controller.store.ledger import Ledger
from controller.store.mirror import Mirror
from controller.store.records import Job
from controller.view import View
from controller.vpn_keys import keep_young, note_keys
from drivers.base import Applied, Change, DriverError, Fenced, Fencing, Observation
from drivers.items.shell import Question
from resources.world import CONTROLLER_KEYS

NO_WAY = Wait("NoWay", "the machine to jump over cannot be reached yet")


class Engine:
    """What one controller knows and can do. It starts no work by itself: that is the runner's.

    ``keys`` are its public ssh keys, a line each: virtual machines are to let in whoever works on the fleet.
    """

    def __init__(self, ledger: Ledger, leases: Leases, connect: Connect, keys: str = "") -> None:
        self.leases = leases
        self.knowledge = Knowledge()
        self.outcomes: dict[str, Outcome] = {}
        self._mirror = Mirror(ledger.store)
        self.recorder = Recorder(ledger, written=self._mirror.written)
        self.woken: Callable[[str], None] = lambda _: None
        self.moved: Callable[[], None] = lambda: None
        self.job_ended: Callable[[str, Change, DriverError | None], None] = lambda *_: None
        self.machines = Machines(connect, lambda machine: self.woken(machine))
        self.rests = Rests()
        self.jobs = Jobs(
            self._job_moved, lambda machine: self.woken(machine), keep=lambda machine: leases.keep(shard_of(machine))
        )
        self._ledger = ledger
        self._keys = keys
        self.pausing = Pausing(ledger, self._mirror)
        self._view = View()
        self._lock = threading.RLock()
        self._undecided = True
        self._keys_due = 0.0
        self._unturned = True
        # The groups in which somebody may have its turn; None: all are to be looked at.
        self._turning: set[str] | None = None
        self._behind = False
        self._inventories = 0
        self._told: dict[str, Announced] = {}

    def refresh(self) -> frozenset[str]:
        """Takes over what changed in the store; returns the machines that it may concern."""
        with self._lock:
            self._behind |= self._mirror.refresh()
            self._recount()
            if not self._behind or self._in_between():
                return frozenset()
            self._behind = False
            self.knowledge = self.knowledge.after(self._mirror)
            self._unturned = True
            names = self.knowledge.touched
            self._undecided |= any(not name.startswith("condition/") for name in names)
            affected = self._view.update(self.knowledge.fleet, self.knowledge.known, names)
            if self._turning is not None:
                self._turning.update(touched(names, self._view.moved))
            return affected

    def _in_between(self) -> bool:
        """Whether what the mirror has may be one half of what somebody brings into force: as long as that is being
        written, or resources changed while this was asked. It is read once and not until they rest, which may be long.
        """
        before = self._mirror.resources
        if self._ledger.being_put():
            return True
        self._mirror.refresh()
        return self._mirror.resources is not before

    def turned(self) -> frozenset[str]:
        """The machines on which something was paused, or is not any more, since the last call."""
        with self._lock:
            what = self.pausing.turned(self.knowledge, first=self.leases.lease(FLEET).valid())
            self._undecided |= bool(what)
            return concerned(what, self.knowledge)

    def wishes(self, source: str) -> object:
        """The last call to read a source, and its pin, as far as the store has told: another value when one is new."""
        return self._mirror.calls.get(source), self._mirror.pins.get(source)

    def pins(self) -> Collection[str]:
        """The sources that are pinned."""
        return self._mirror.pins.keys()

    def _recount(self) -> None:
        """A deletion may have ended when an inventory changed."""
        if self._inventories != self._mirror.inventories and len(self.knowledge.living) < len(self.knowledge.rows):
            self._undecided = True
        self._inventories = self._mirror.inventories

    def _lowered(self, machine: str) -> Lowered:
        with self._lock:
            return self._view.lowered(machine)

    def fleet_pass(self) -> bool:
        """Decides what is open and writes it, ends deletions, gives turns. Returns whether anything was written.

        Only the holder of the fleet lease may. Touches no machine. Conditions decide nothing here but whose turn it is:
        when only they changed, nothing else is looked at. Of many resources it may take minutes: ``moved`` hears of
        each write.
        """
        with self.leases.using(FLEET) as lease, self._lock:
            if lease is None:
                self._undecided = self._unturned = True
                self._turning = None
            self._undecided |= time.time() >= self._keys_due
            if lease is None or not (self._undecided or self._unturned) or self.pausing.world_stopped():
                return False

            def check() -> None:
                self.moved()
                lease.check()

            ledger = self._ledger.under(check)
            try:
                wrote = self._undecided and self._decide(ledger)
                wrote |= self._give_turns(ledger)
            except (Fenced, Conflict) as error:
                log(logging.WARNING, "a fleet pass was dropped", error=str(error))
                return False
            self._undecided = self._unturned = False
            return wrote

    def _give_turns(self, ledger: Ledger) -> bool:
        groups = everything(self.knowledge) if self._turning is None else self._turning
        found = turns(self.knowledge, self._view, groups, self.pausing.in_force(), time.time())
        wrote = False
        for ref, facts in found.told.items():
            wrote |= ledger.put_facts(ref, facts)
        self._turning = set(found.unfinished)
        return wrote

    def _decide(self, ledger: Ledger) -> bool:
        wrote = self._tell_keys(ledger)
        wrote |= fleet_pass(ledger, self.knowledge, self._view, self.pausing.in_force())
        world, now = self.knowledge.world(), time.time()
        wrote |= note_keys(ledger, world, now)
        rotated, self._keys_due = keep_young(ledger, world, now)
        return wrote or rotated

    def _tell_keys(self, ledger: Ledger) -> bool:
        """Of whom holds the fleet lease, never of one that only follows (a ``salvusctl apply`` beside a daemon)."""
        ref, what = CONTROLLER_KEYS
        return bool(self._keys) and ledger.put_facts(ref, {what: self._keys})

    def machine_pass(self, machine: str, stop: Callable[[], bool]) -> Outcome | None:
        """One pass over one machine, its result written to the store. None when it could not be tried.

        Raises Fenced, StoreError.
        """
        with self.leases.using(shard_of(machine)) as lease:
            return self._pass(machine, lease, stop) if lease is not None else None

    def _pass(self, machine: str, lease: Lease, stop: Callable[[], bool]) -> Outcome | None:
        with self._lock:
            at, lowered = self.knowledge, self._view.lowered(machine)
        driver = self.machines.driver(machine, self._lowered)
        if driver is None:
            wait = lowered.target if isinstance(lowered.target, Wait) else NO_WAY
            self.recorder.waiting(machine, lease, lowered, wait, at)
            return None

        inventory = self.recorder.inventory(machine, lease, at.moved)
        with self._lock:
            living = self._view.keepers(machine, {ref for owned in inventory for ref in owned.users}, at.living)
        about = Circumstances(
            now=time.time(),
            jobs=self.jobs.under_way(machine),
            rests=self.rests.of(machine),
            living=living,
            pauses=self.pausing.pauses(),
        )
        refs = {*lowered.refs, *lowered.waiting, *(ref for owned in inventory for ref in owned.users)}

        def over() -> bool:
            if stop() or not lease.valid() or self.pausing.came(about.pauses, machine, refs):
                return True
            return self.pausing.world_stopped()

        outcome = reconcile(
            lowered,
            inventory,
            self._announced(machine, driver, lease.epoch),
            about,
            lease.epoch,
            remember=lambda rows: self.recorder.remember(machine, rows),
            learn=lambda applied: self._learn(machine, applied),
            stop=over,
        )
        self.rests.keep(machine, outcome.left.open)
        lease.check()
        self.recorder.outcome(outcome, at)
        self.outcomes[machine] = outcome
        for change in outcome.jobs:
            if over() or not self.leases.open(lease.name):
                break
            self.jobs.start(machine, change, driver, lease.epoch)
        return outcome

    def _announced(self, machine: str, driver: Fencing, epoch: int) -> Announced:
        kept = self._told.get(machine)
        if kept is None or (kept.driver, kept.epoch) != (driver, epoch):
            kept = self._told[machine] = Announced(driver, epoch)
        return kept

    def _learn(self, machine: str, applied: Sequence[Applied]) -> Mapping[str, Rest]:
        """How changes went; returns what rests on the machine now."""
        for one in applied:
            self._went(machine, one.change, one.error)
        return self.rests.of(machine)

    def _went(self, machine: str, change: Change, error: DriverError | None, reason: str = "Failed") -> None:
        if error is None:
            self.rests.made(machine, change)
        else:
            self.rests.failed(machine, change, error, reason)

    def _job_moved(self, job: Job, change: Change, error: DriverError | None) -> None:
        lease = self.leases.under(shard_of(job.machine), job.epoch)
        if job.ended is not None:
            lease.check()
            self._went(job.machine, change, error, "JobFailed")
            self.job_ended(job.machine, change, error)
        try:
            self.recorder.job(job, lease, change)
        except (StoreError, Fenced) as failure:
            log(logging.WARNING, "a job was not noted", machine=job.machine, item=job.key, error=str(failure))
        if error is not None:
            log(logging.WARNING, "a job failed", machine=job.machine, item=job.key, error=str(error))
        elif job.ended is not None:
            made(job.machine, change, self.recorder.owner(job.machine, job.key))

    def machine_names(self) -> Sequence[str]:
        """All machines in the fleet."""
        return [machine.name for machine in self.knowledge.fleet.machines()]

    def store_nodes(self) -> Mapping[str, bool]:
        """The servers of the store, and whether each is up; asks nobody."""
        return self._ledger.store.nodes()

    def forget(self, machine: str) -> None:
        """The machine left the fleet."""
        self.machines.forget(machine)
        self.recorder.forget(machine)
        self.outcomes.pop(machine, None)
        self._told.pop(machine, None)
        self.rests.forget(machine)

    def ask(self, machine: str, questions: Sequence[Question]) -> Mapping[str, Observation]:
        """What a machine says to questions, beside its passes, which do not wait for that. Nothing where we make no
        passes, or could not ask it the last time.
        """
        outcome = self.outcomes.get(machine)
        if outcome is None or outcome.unreachable or shard_of(machine) not in self.leases.held():
            return {}
        driver = self.machines.driver(machine, self._lowered)
        return driver.observe(questions) if driver is not None else {}

    def finish_jobs(self, tell: Callable[[str], None]) -> None:
        """Waits for the jobs that are not to be cut; ``tell`` hears which these are. No pass may be under way."""
        self.jobs.finish(self.machines.forget, tell)

    def close(self) -> None:
        """Ends connections, and the jobs with them."""
        self.machines.close()
        self.jobs.close()
