"""Following a directory of manifests: a thread of its own that keeps the store equal to it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from controller.leases import Holder, Leases
from controller.log import LOGGER, log
from controller.pauses import explained
from controller.session import Session
from controller.sources.directory import Directory
from controller.store.base import Conflict, StoreError, StoreUnavailable, StoreUnusable
from controller.sync import Sync
from drivers.base import SalvusError

# Seconds between two readings when nothing tells of a change; also how long a lease of the source lasts.
RESYNC = 30.0
# Seconds: a deletion is believed when a second reading, after this time, lacks the resource too.
CONFIRM = 2.0
# Seconds: how often it looks whose turn it is.
TURN = 1.0
SHOWN = 20


class Intake:
    """One directory, read when it changes, and now and then, by one controller of those that follow it.

    ``taken`` is called after each reading with its number of errors and of what budgets hold, ``broken`` when the store
    is found to be damaged.
    """

    def __init__(
        self,
        session: Session,
        path: Path,
        taken: Callable[[int, int], None],
        broken: Callable[[StoreUnusable], None],
    ) -> None:
        self.path = path
        self._session = session
        self._directory = Directory(path)
        self._sync = Sync(session, self._directory.name, session.settings.budgets)
        self._taken = taken
        self._broken = broken
        self._lease = f"source/{self._directory.name}"
        self._leases = Leases(session.ledger.store, Holder.this_process(), names=[self._lease], ttl=RESYNC)
        self._turn = ""
        self._conflict = ""
        self._went = ("", "")
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="source")

    def start(self) -> None:
        """Begins. Raises SalvusError for what is no directory."""
        self._directory.watch(self._changed.set)
        self._thread.start()

    def poke(self) -> None:
        """Reads at once."""
        self._changed.set()

    def close(self) -> None:
        """Ends, and waits for it; another controller may go on."""
        self._stop.set()
        self._changed.set()
        self._directory.close()
        if self._thread.ident is not None:
            self._thread.join()
        self._leases.release_all()

    def _follow(self) -> None:
        due = 0.0
        while not self._stop.is_set():
            if not self.holds():
                due = 0.0
                self._changed.clear()
            elif self._changed.is_set() or time.monotonic() >= due or self._approved():
                self._changed.clear()
                due = time.monotonic() + (CONFIRM if self.once() else RESYNC)
            self._changed.wait(TURN)

    def holds(self) -> bool:
        """Whether this controller is the one that takes the manifests over; the others stand by."""
        try:
            self._leases.tick()
        except StoreUnavailable:  # the runner says so
            return False
        except StoreUnusable as error:
            self._broken(error)
            return False
        mine = self._leases.lease(self._lease).valid()
        turn = "this controller" if mine else self._leases.other_holder()
        if turn != self._turn:
            log(logging.INFO, "manifests are taken over", source=str(self.path), by=turn or "nobody at the moment")
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
        try:
            loaded = self._directory.read(self._session.others(self._directory.name))
            if (world := self._session.ledger.world()) is not None:
                self._note("the manifests are not taken over", explained(world)[1])
                return True
            again = self._sync.once(loaded)
        except Conflict as error:
            return self._met(error)
        except StoreUnusable as error:
            self._broken(error)
        except SalvusError as error:
            if not self._stop.is_set():
                self._note("the manifests were not taken over", str(error))
        except Exception:  # the next reading may be better
            LOGGER.exception("a defect in reading manifests; please report it")
        else:
            self._conflict = ""
            errors = "\n".join(map(str, loaded.errors[:SHOWN]))
            self._note("the manifests have errors; the last good state is kept" if errors else "", errors)
            self._taken(len(loaded.errors), sum(len(hold.of) for hold in self._sync.holds))
            return again
        return False

    def _met(self, error: Conflict) -> bool:
        """Somebody applied something at the same time: an ordinary thing, unless it is met again."""
        lasts = str(error) == self._conflict
        self._conflict = str(error)
        if lasts:
            self._note("the manifests were not taken over", str(error))
        return not lasts

    def _note(self, trouble: str, error: str) -> None:
        """Logs how a reading went, when the one before went otherwise."""
        if (trouble, error) == self._went:
            return
        self._went = (trouble, error)
        if trouble:
            log(logging.WARNING, trouble, source=str(self.path), error=error)
        else:
            log(logging.INFO, "the manifests are good again, and taken over", source=str(self.path))
