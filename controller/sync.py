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
        self._former = _former(present, self._former, before, known) if missing else frozenset()
        doomed, self._missing = missing & self._missing, missing
        held = _held(missing, self._former, doomed, len(present), self._budget)
        if held - before:
            log(logging.WARNING, "deletions are held back; if they are meant: salvusctl delete", held=sorted(held)[:20])
        if go := doomed - held:
            self._target.delete(go)
            self._missing -= go
        self._target.report(self._source, loaded.revision, (), held)
        return bool(self._missing - held)


@dataclass(frozen=True, slots=True)
class Leaving:
    """Resources that are gone from their source: what the next syncs delete, and what they hold back."""

    deleted: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()


def foresee(target: Target, source: str, loaded: Loaded) -> Leaving:
    """What syncs of the source will do to what is gone from it, if it stays as it is. Changes nothing."""
    before, known = target.held(source), target.refs_from(source)
    moved = {f"{resource.kind}/{resource.moved_from}" for resource in loaded.fleet if resource.moved_from}
    missing = known - moved - loaded.documents.keys()
    present = missing | loaded.documents.keys()
    held = _held(missing, _former(present, before, known), missing, len(present), Budget())
    return Leaving(missing - held, held) if missing else Leaving()


def _former(present: frozenset[str], *before: frozenset[str]) -> frozenset[str]:
    """What is still there of what the source had when it last was whole, the best guess first."""
    return next(filter(None, (had & present for had in before)), frozenset())


def _held(
    missing: frozenset[str], former: frozenset[str], doomed: frozenset[str], total: int, budget: Budget
) -> frozenset[str]:
    """What must not be deleted though it is missing."""
    if missing >= former:
        return missing
    return frozenset() if budget.allows(len(doomed), total) else doomed
