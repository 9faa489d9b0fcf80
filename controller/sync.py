"""Keeping the store equal to a source of manifests, with the guards of pruning and of disruption (DESIGN rule 6)."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Protocol

from controller.budget import Budget, Budgets
from controller.log import log
from controller.sources.base import Reading
from controller.store.source_records import Disturbed, Hold, SourceState
from drivers.base import SalvusError
from resources.load import Loaded

# Errors of a reading that are noted: one mistake in 10,000 files is no row of megabytes. ``validate`` shows all.
KEPT = 20


@dataclass(frozen=True, slots=True)
class Impact:
    """What bringing manifests into force would disturb, of ``total`` that run."""

    of: tuple[Disturbed, ...] = ()
    total: int = 0


class Target(Protocol):
    """Where a source's manifests go."""

    def put(self, loaded: Loaded, source: str) -> object:
        """Writes what is new or changed."""
        ...

    def delete(self, refs: Collection[str], source: str) -> object:
        """Marks for deletion what still came from the source."""
        ...

    def refs_from(self, source: str) -> frozenset[str]:
        """Resources that came from the source and are not being deleted."""
        ...

    def impact(self, loaded: Loaded) -> Impact:
        """What ``put`` would disturb that is not disturbed anyway."""
        ...

    def last(self, source: str) -> SourceState | None:
        """How the last reading went."""
        ...

    def report(self, state: SourceState, about: str) -> None:
        """Notes how the last reading went; since when is found out here, ``about`` is as in Reading."""
        ...

    def approvals(self, source: str) -> tuple[Hold, ...]:
        """What somebody lets through, once."""
        ...

    def end_approvals(self, ended: Collection[Hold]) -> None:
        """They are used up, or of no use any more."""
        ...


class Sync:
    """One source. A resource is deleted when two successive good readings lack it; never more than the budget at once.

    When nothing is left of what the source had, whatever is new in it, nothing is deleted: this looks like another
    directory, or another branch. A revision that would disturb more than its budget is not taken over at all. What is
    held back goes through once when it is approved, just as it was shown, or less of it. ``budgets`` may be replaced;
    they count from the next reading on.
    """

    def __init__(self, target: Target, source: str, budgets: Budgets | None = None) -> None:
        self._target = target
        self._source = source
        self.budgets = budgets or Budgets()
        self._missing: frozenset[str] | None = None
        self._former: frozenset[str] = frozenset()
        self.holds: tuple[Hold, ...] = ()

    def once(self, reading: Reading) -> bool:
        """Takes a reading over; with any error in it nothing is, and the last good state stays.

        Returns whether another reading is wanted soon, to confirm a deletion.
        """
        loaded = reading.loaded
        before = self._target.last(self._source) or SourceState(self._source, "", 0.0)
        if loaded.errors:
            self._report(reading, before.holds, [str(error) for error in loaded.errors])
            self._missing = frozenset()
            return False
        approvals = self._target.approvals(self._source)
        hold = _over(self._target.impact(loaded), self._source, loaded, self.budgets.disruption)
        if hold is not None and not _covered(hold, approvals):
            # What is gone is not judged, and who was held back stays so.
            gone = (replace(h, revision=loaded.revision) for h in before.holds if h.what == "deletions")
            self._report(reading, (hold, *gone))
            self._end([a for a in approvals if a.revision != loaded.revision])
            self._missing = frozenset()
            return False
        known = self._target.refs_from(self._source)
        self._target.put(loaded, self._source)
        present = self._target.refs_from(self._source)
        return self._prune(reading, present, known, before, approvals)

    def unreadable(self, error: SalvusError) -> None:
        """The source could not be read: nothing changes, and what is gone has to be seen so twice again."""
        before = self._target.last(self._source)
        why = f"{error}; {error.hint}" if error.hint else str(error)
        self._target.report(SourceState(self._source, "", 0.0, (why,), before.holds if before else ()), "")
        self._missing = frozenset()

    def let_through(self) -> bool:
        """Whether something that is held was approved meanwhile."""
        return bool(self.holds) and any(_covered(h, self._target.approvals(self._source)) for h in self.holds)

    def _prune(
        self,
        reading: Reading,
        present: frozenset[str],
        known: frozenset[str],
        before: SourceState,
        approvals: tuple[Hold, ...],
    ) -> bool:
        loaded = reading.loaded
        missing = present - loaded.documents.keys()
        # What was held at the last reading lacked then, too, though another controller may have made it.
        lacked = self._missing if self._missing is not None else frozenset() if before.errors else before.undeleted
        self._former = _former(present, self._former, before.former, known) if missing else frozenset()
        doomed, self._missing = missing & lacked, missing
        held = _held(missing, self._former, doomed, len(present), self.budgets.deletes)
        hold = _deletions(held, self._former, self._source, loaded.revision, len(present))
        if hold is not None and _covered(hold, approvals):
            doomed, hold = doomed | held, None
        if go := doomed - (hold.refs if hold else frozenset()):
            self._target.delete(go, self._source)
            self._missing -= go
        # One of deletions is kept while they have to be seen once more.
        kept = [a for a in approvals if self._missing and a.what == "deletions" and a.revision == loaded.revision]
        self._end([approval for approval in approvals if approval not in kept])
        self._report(reading, (hold,) if hold else ())
        return bool(self._missing - (hold.refs if hold else frozenset()))

    def _end(self, approvals: Collection[Hold]) -> None:
        if approvals:
            self._target.end_approvals(approvals)

    def _report(self, reading: Reading, holds: tuple[Hold, ...], errors: Collection[str] = ()) -> None:
        for hold in holds:
            if hold.id not in {one.id for one in self.holds}:
                log(logging.WARNING, "held by budget", what=hold.what, why=hold.message)
        self.holds = holds
        revision = reading.loaded.revision
        kept = tuple(errors)[:KEPT]
        state = SourceState(self._source, revision, 0.0, kept, holds, reading.newest, len(errors) - len(kept))
        self._target.report(state, reading.about)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What the next syncs do to what is gone from their source, and what they hold back."""

    deleted: frozenset[str] = frozenset()
    holds: tuple[Hold, ...] = ()


def foresee(target: Target, source: str, loaded: Loaded, budgets: Budgets) -> Foreseen:
    """What syncs of the source will do, if it stays as it is. Changes nothing."""
    before = target.last(source) or SourceState(source, "", 0.0)
    known = target.refs_from(source)
    moved = {f"{resource.kind}/{resource.moved_from}" for resource in loaded.fleet if resource.moved_from}
    missing = known - moved - loaded.documents.keys()
    present = missing | loaded.documents.keys()
    former = _former(present, before.former, known)
    held = _held(missing, former, missing, len(present), budgets.deletes) if missing else missing
    found = (
        _over(target.impact(loaded), source, loaded, budgets.disruption),
        _deletions(held, former, source, loaded.revision, len(present)),
    )
    holds = tuple(hold for hold in found if hold is not None and not _covered(hold, target.approvals(source)))
    # While the revision is held, nothing is deleted at all.
    stays = frozenset().union(*(missing if hold.what == "revision" else hold.refs for hold in holds))
    return Foreseen(missing - stays, holds)


def _over(impact: Impact, source: str, loaded: Loaded, budget: Budget) -> Hold | None:
    """The revision, when it would disturb more than the budget."""
    if budget.allows(len(impact.of), impact.total):
        return None
    return Hold(source, loaded.revision, "revision", impact.of, impact.total)


def _deletions(held: frozenset[str], former: frozenset[str], source: str, revision: str, total: int) -> Hold | None:
    if not held:
        return None
    return Hold(source, revision, "deletions", tuple(map(Disturbed, sorted(held))), total, tuple(sorted(former)))


def _covered(hold: Hold, approvals: Collection[Hold]) -> bool:
    return any(approval.covers(hold) for approval in approvals)


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
