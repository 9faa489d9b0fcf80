"""Following a directory of manifests: a thread of its own that keeps the store equal to it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from controller.log import LOGGER, log
from controller.session import Session
from controller.sources.directory import Directory
from controller.sync import Sync
from drivers.base import SalvusError

RESYNC = 30.0
# Seconds: a deletion is believed when a second reading, after this time, lacks the resource too.
CONFIRM = 2.0


class Intake:
    """One directory, read when it changes, and now and then. ``taken`` is called after each reading with its errors."""

    def __init__(self, session: Session, path: Path, taken: Callable[[int], None]) -> None:
        self.path = path
        self._session = session
        self._directory = Directory(path)
        self._sync = Sync(session, self._directory.name)
        self._taken = taken
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="source")

    def start(self) -> None:
        """Begins."""
        self._directory.watch(self._changed.set)
        self._thread.start()

    def poke(self) -> None:
        """Reads at once."""
        self._changed.set()

    def close(self) -> None:
        """Ends, and waits for it."""
        self._stop.set()
        self._changed.set()
        self._directory.close()
        if self._thread.ident is not None:
            self._thread.join()

    def _follow(self) -> None:
        while not self._stop.is_set():
            self._changed.clear()
            self._changed.wait(CONFIRM if self.once() else RESYNC)

    def once(self) -> bool:
        """One reading, taken over; what it raises is logged. Returns whether another one is wanted soon."""
        again = False
        try:
            loaded = self._directory.read(self._session.others(self._directory.name))
            again = self._sync.once(loaded)
            self._taken(len(loaded.errors))
        except SalvusError as error:
            if not self._stop.is_set():
                log(logging.WARNING, "the manifests were not taken over", source=str(self.path), error=str(error))
        except Exception:  # the next reading may be better
            LOGGER.exception("a defect in reading manifests; please report it")
        return again
