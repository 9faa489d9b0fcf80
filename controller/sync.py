"""Keeping the store equal to a source of manifests, with the guards of pruning (DESIGN rule 6)."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from controller.log import log
from resources.load import Loaded

MAX_DELETES = 5
MAX_DELETE_PERCENT = 25


class Target(Protocol):
    """Where a source's manifests go."""

    def put(self, loaded: Loaded, source: str) -> object:
        """Writes what is new or changed."""
        ...

    def delete(self, refs: Collection[str]) -> object:
        """Marks for deletion."""
        ...

    def refs_from(self, source: str) -> frozenset[str]:
        """Resources that came from the source and are not being deleted."""
        ...

    def report(self, source: str, revision: str, errors: Collection[str], held: Collection[str]) -> None:
        """Notes how the last reading went."""
        ...


@dataclass(frozen=True, slots=True)
class Budget:
    """How many resources one sync may delete: the larger of a number and a percentage of what the source has."""

    deletes: int = MAX_DELETES
    percent: int = MAX_DELETE_PERCENT

    def allows(self, doomed: int, total: int) -> bool:
        """Whether ``doomed`` of ``total`` resources may go."""
        return doomed <= max(self.deletes, math.floor(total * self.percent / 100))


class Sync:
    """One source. A resource is deleted when two successive good readings lack it, and never all of them."""

    def __init__(self, target: Target, source: str, budget: Budget | None = None) -> None:
        self._target = target
        self._source = source
        self._budget = budget or Budget()
        self._missing: frozenset[str] = frozenset()

    def once(self, loaded: Loaded) -> bool:
        """Takes a reading over; with any error in it nothing is, and the last good state stays.

        Returns whether another reading is wanted soon, to confirm a deletion.
        """
        errors = [str(error) for error in loaded.errors]
        if errors:
            log(logging.WARNING, "the manifests have errors; the last good state is kept", errors=errors[:20])
            self._target.report(self._source, loaded.revision, errors, ())
            self._missing = frozenset()
            return False
        self._target.put(loaded, self._source)
        present = self._target.refs_from(self._source)
        missing = present - loaded.documents.keys()
        doomed = missing & self._missing
        self._missing = missing
        held: Collection[str] = ()
        if doomed and (loaded.empty or not self._budget.allows(len(doomed), len(present))):
            log(
                logging.WARNING,
                "deletions are held back: too many at once; if they are meant, use salvusctl delete",
                held=sorted(doomed)[:20],
            )
            held = doomed
        elif doomed:
            self._target.delete(doomed)
            self._missing = missing - doomed
        self._target.report(self._source, loaded.revision, (), held)
        return bool(self._missing - set(held))
