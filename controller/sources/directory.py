"""A directory of manifests as the source: watched, and believed only when two readings are equal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from controller.log import log
from drivers.base import SalvusError
from resources.fleet import Fleet
from resources.load import LoadCache, Loaded, load

READ_EVENTS = frozenset({"opened", "closed_no_write"})


class Directory:
    """Manifests under one path. ``settle`` is the time in seconds between the two readings that must agree."""

    def __init__(self, path: Path, *, settle: float = 0.2, tries: int = 25) -> None:
        self.path = path
        self._settle = settle
        self._tries = tries
        self._cache = LoadCache()
        self._observer = Observer()
        self._stopped = threading.Event()

    @property
    def name(self) -> str:
        """How resources name their source."""
        return f"directory:{self.path}"

    def watch(self, changed: Callable[[], None]) -> None:
        """Calls ``changed`` (from another thread) soon after anything under the path was written.

        Where the kernel gives no watch, it is logged. Raises SalvusError for what is no directory.
        """

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                if event.event_type not in READ_EVENTS:
                    changed()

        if not self.path.is_dir():
            raise SalvusError(
                f"{self.path} is not a directory of manifests",
                hint="give an existing directory as --manifests, or as source.directory in the configuration",
            )
        try:
            self._observer.schedule(Handler(), str(self.path), recursive=True)
            self._observer.start()
        except OSError as error:  # inotify(7): limits of watches and instances
            log(logging.WARNING, "the manifests cannot be watched; they are read now and then", error=str(error))

    def read(self, others: Fleet) -> Loaded:
        """The manifests, once two successive readings gave the same; ``others`` come from elsewhere and may be named.

        Raises SalvusError while they keep changing.
        """
        before = load([self.path], self._cache, others)
        for _ in range(self._tries):
            if self._stopped.wait(self._settle):
                break
            now = load([self.path], self._cache, others)
            if now.revision == before.revision:
                return now
            before = now
        raise SalvusError(f"{self.path} keeps changing while it is read", hint="it is read again in a while")

    def close(self) -> None:
        """Ends the watching and any reading that waits."""
        self._stopped.set()
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
