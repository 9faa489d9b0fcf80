"""Following a source of manifests: a thread of its own that keeps the store equal to it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from controller.budget import Budgets
from controller.leases import Lease, Leases
from controller.log import LOGGER, log
from controller.members import SOURCE
from controller.pauses import explained
from controller.session import Session
from controller.sources.base import Source, Unreadable
from controller.store.base import Conflict, StoreError, StoreUnusable
from controller.store.records import SHORT
from controller.store.source_records import Pin, place_of
from controller.sync import Sync
from drivers.base import SalvusError

# Seconds: a deletion is believed when a second reading, after this time, lacks the resource too.
CONFIRM = 2.0
# Seconds: how often it looks whose turn it is.
TURN = 0.25
SHOWN = 20
# Whose turn it is, in the log.
OURS = "this controller"


class Intake:
    """One source, read when it changes, and now and then, by one controller of those that follow it.

    ``taken`` is called after each reading with its number of errors and of what budgets hold, with zeros when another
    controller reads it from now on, or nobody; ``broken`` when the store is found to be damaged. When ``wishes`` gives
    another value, it is read at once.
    """

    def __init__(
        self,
        session: Session,
        leases: Leases,
        source: Source,
        budgets: Budgets,
        taken: Callable[[int, int], None],
        broken: Callable[[StoreUnusable], None],
        wishes: Callable[[], object] = lambda: None,
    ) -> None:
        # Under the lease that this reading began with: whoever lost it writes nothing more.
        self._session = session.under(lambda: self._under.check())
        self._source = source
        self._place = place_of(source.name)
        self._budgets = budgets
        self._sync = Sync(self._session, source.name, budgets)
        self._taken = taken
        self._broken = broken
        self._wishes = wishes
        self._leases = leases
        self._lease = f"{SOURCE}{source.name}"
        self._under = leases.lease(self._lease)
        self._turn = ""
        self._conflict = ""
        self._went = ("", "")
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="source")

    def start(self) -> None:
        """Begins. Raises SalvusError for what can never be read."""
        self._source.watch(self._changed.set)
        self._leases.follow([self._lease])
        self._thread.start()

    def allow(self, budgets: Budgets) -> None:
        """From the next reading on, these count."""
        self._budgets = self._sync.budgets = budgets

    def poke(self) -> None:
        """Reads at once."""
        self._changed.set()

    def close(self) -> None:
        """Ends, and waits for it; another controller may go on."""
        self._stop.set()
        self._changed.set()
        self._source.close()
        if self._thread.ident is not None:
            self._thread.join()
        self._leases.follow([])
        self._taken(0, 0)

    def _follow(self) -> None:
        due, before = 0.0, self._wishes()
        while not self._stop.is_set():
            if (wishes := self._wishes()) != before:
                before = wishes
                self._changed.set()
            if not self.holds():
                due = 0.0
                self._changed.clear()
            elif self._changed.is_set() or time.monotonic() >= due or self._approved():
                self._changed.clear()
                due = time.monotonic() + (CONFIRM if self.once() else self._source.interval)
            self._changed.wait(TURN)

    def holds(self) -> bool:
        """Whether this controller is the one that takes the manifests over; the others stand by."""
        mine = self._leases.open(self._lease)
        turn = OURS if mine else self._leases.other_holder(self._lease)
        if turn != self._turn:
            log(logging.INFO, "manifests are taken over", source=self._place, by=turn or "nobody at the moment")
            if self._turn == OURS:
                self._taken(0, 0)
            self._turn = turn
        return mine

    def _approved(self) -> bool:
        """Whether something that is held may go on; that the store is away is told elsewhere."""
        try:
            return self._sync.let_through()
        except StoreError:
            return False

    def once(self) -> bool:
        """One reading, taken over; what it raises is logged. Returns whether another one is wanted soon."""
        with self._leases.using(self._lease) as lease:
            return lease is not None and self._once(lease)

    def _once(self, lease: Lease) -> bool:
        if lease != self._under:
            # What another controller read meanwhile counts: nothing that is gone was seen to be so before.
            self._under = lease
            self._sync = Sync(self._session, self._source.name, self._budgets)
        try:
            return self._taken_over()
        except Conflict as error:
            return self._met(error)
        except StoreUnusable as error:
            self._broken(error)
        except SalvusError as error:
            if not self._stop.is_set():
                self._note("the manifests were not taken over", str(error))
        except Exception:  # the next reading may be better
            LOGGER.exception("a defect in reading manifests; please report it")
        return False

    def _taken_over(self) -> bool:
        """See ``once``. Raises SalvusError."""
        if self._stopped():
            return True
        pin = self._pin()
        try:
            reading = self._source.read(self._session.others(self._source.name), pin.revision if pin else "")
        except Unreadable as error:
            return self._unreadable(error)
        if self._stopped() or self._pin() != pin:  # while it was read, which may take long
            return True
        loaded, again = reading.loaded, self._sync.once(reading)
        self._conflict = ""
        errors = "\n".join(map(str, loaded.errors[:SHOWN]))
        trouble = "the manifests have errors; the last good state is kept" if errors else ""
        self._note(trouble, errors, loaded.revision)
        self._taken(len(loaded.errors), sum(len(hold.of) for hold in self._sync.holds))
        return again

    def _pin(self) -> Pin | None:
        return self._session.ledger.sources.pins().get(self._source.name)

    def _stopped(self) -> bool:
        """Whether nobody is to write anything, asked of the store itself."""
        world = self._session.ledger.world()
        if world is not None:
            self._note("the manifests are not taken over", explained(world)[1])
        return world is not None

    def _unreadable(self, error: Unreadable) -> bool:
        """Known where one looks, and told once; that this controller ends is nothing to tell."""
        if not self._stop.is_set():
            self._note("the manifests cannot be read; the last good state is kept", f"{error}; {error.hint}")
            self._sync.unreadable(error)
            self._taken(1, sum(len(hold.of) for hold in self._sync.holds))
        return False

    def _met(self, error: Conflict) -> bool:
        """Somebody applied something at the same time: an ordinary thing, unless it is met again."""
        lasts = str(error) == self._conflict
        self._conflict = str(error)
        if lasts:
            self._note("the manifests were not taken over", str(error))
        return not lasts

    def _note(self, trouble: str, error: str, revision: str = "") -> None:
        """Logs how a reading went, when the one before went otherwise."""
        if (trouble, error) == self._went:
            return
        self._went = (trouble, error)
        if trouble:
            about = {"revision": revision[:SHORT]} if revision else {}
            log(logging.WARNING, trouble, source=self._place, **about, error=error)
        else:
            log(logging.INFO, "the manifests are good again, and taken over", source=self._place)
