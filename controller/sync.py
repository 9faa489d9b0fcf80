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

    def held(self, source: str) -> frozenset[str]:
        """What the last reading held back."""
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
    """One source. A resource is deleted when two successive good readings lack it; never more than the budget at once.

    When nothing is left of what the source had, whatever is new in it, nothing is deleted: this looks like another
    directory, or another branch. Then, too, it says what it held back.
    """

    def __init__(self, target: Target, source: str, budget: Budget | None = None) -> None:
        self._target = target
        self._source = source
        self._budget = budget or Budget()
        self._missing: frozenset[str] = frozenset()
        self._former: frozenset[str] = frozenset()

    def once(self, loaded: Loaded) -> bool:
        """Takes a reading over; with any error in it nothing is, and the last good state stays.

        Returns whether another reading is wanted soon, to confirm a deletion.
        """
        errors = [str(error) for error in loaded.errors]
        before = self._target.held(self._source)
        if errors:
            self._target.report(self._source, loaded.revision, errors, before)
            self._missing = frozenset()
            return False
        known = self._target.refs_from(self._source)
        self._target.put(loaded, self._source)
        present = self._target.refs_from(self._source)
        missing = present - loaded.documents.keys()
        former = (had & present for had in (self._former, before, known))
        self._former = next(filter(None, former)) if missing else frozenset()
        doomed, self._missing = missing & self._missing, missing
        held = self._held(missing, doomed, len(present))
        if held - before:
            log(logging.WARNING, "deletions are held back; if they are meant: salvusctl delete", held=sorted(held)[:20])
        if go := doomed - held:
            self._target.delete(go)
            self._missing -= go
        self._target.report(self._source, loaded.revision, (), held)
        return bool(self._missing - held)

    def _held(self, missing: frozenset[str], doomed: frozenset[str], total: int) -> frozenset[str]:
        """What must not be deleted though it is missing."""
        if missing >= self._former:
            return missing
        return frozenset() if self._budget.allows(len(doomed), total) else doomed
