"""A directory of manifests as the source: watched, and believed only when two readings are equal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from controller.sources.base import Reading, Unreadable
from controller.sources.watch import Watch
from controller.store.source_records import DIRECTORY
from drivers.base import SalvusError
from resources.fleet import Fleet
from resources.load import LoadCache, load

# Seconds between two readings when nothing tells of a change.
RESYNC = 30.0


class Directory:
    """Manifests under one path. ``settle`` is the time in seconds between the two readings that must agree."""

    def __init__(self, path: Path, *, settle: float = 0.2, tries: int = 25) -> None:
        self.path = path
        self.interval = RESYNC
        self._settle = settle
        self._tries = tries
        self._cache = LoadCache()
        self._watch: Watch | None = None
        self._stopped = threading.Event()

    @property
    def name(self) -> str:
        """How resources name their source."""
        return f"{DIRECTORY}{self.path}"

    def watch(self, changed: Callable[[], None]) -> None:
        """Calls ``changed`` (from another thread) soon after anything under the path was written, or took its place.

        Each reading looks whether the watch is still on what is there. Raises SalvusError for what is no directory.
        """
        if not self.path.is_dir():
            raise SalvusError(
                f"{self.path} is not a directory of manifests",
                hint="give an existing one as --manifests, or as manifests in the configuration",
            )
        self._watch = Watch(self.path, changed)
        self._watch.renew()

    def read(self, others: Fleet, revision: str = "") -> Reading:
        """The manifests, once two successive readings gave the same; ``others`` come from elsewhere and may be named.

        Older revisions are not kept: there is only what is there. Raises Unreadable while they keep changing.
        """
        if self._watch is not None:
            self._watch.renew()
        before = load([self.path], self._cache, others)
        for _ in range(self._tries):
            if self._stopped.wait(self._settle):
                break
            now = load([self.path], self._cache, others)
            if now.revision == before.revision:
                return Reading(now)
            before = now
        raise Unreadable("it keeps changing while it is read", hint="it is read again in a while")

    def close(self) -> None:
        """Ends the watching and any reading that waits."""
        self._stopped.set()
        if self._watch is not None:
            self._watch.close()
