"""A machine's pass: observe, plan, apply, observe again; its result is one frozen Outcome.

Only this and ``execute`` touch machines. Nothing here knows the store: what must be remembered before a machine is
written to goes through ``remember``, so that a kill at any point leaves nothing that salvus does not know of (rule 11).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from controller.execute import Executed, carry_out
from controller.lower import Lowered
from controller.plan import Circumstances, Owned, Plan, plan
from controller.rests import Rest
from drivers.base import Applied, Change, Driver, Item, Observation, Present, Unknown, Verb
from drivers.items.system import System

Result = Literal["synced", "changed", "held", "waiting", "failed", "unreachable"]
SYSTEM = System()
NOTHING: Mapping[str, Rest] = {}
# Reasons for which changes are held until somebody does something.
FOR_SOMEBODY = frozenset({"HeldByCeiling", "HeldByRollout", "InUse", "Stalled", "RolledBack", "Paused", "WorldStopped"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one pass over a machine found and did.

    Attributes:
        at: when it began, seconds since the epoch; ``duration`` in seconds.
        planned: what was to be done; ``left`` what is still to be done afterwards.
        jobs: the changes that are to be made as jobs, and that nothing has to go before any more.
        seen: the last observation of each item, the machine itself (``System:self``) included.
        unreachable: why the machine could not be asked; empty when it could.
    """

    machine: str
    at: float
    duration: float
    lowered: Lowered
    planned: Plan
    executed: Executed
    left: Plan
    jobs: tuple[Change, ...]
    seen: Mapping[str, Observation]
    unreachable: str

    @property
    def result(self) -> Result:
        """The pass in one word, for metrics and history: what is held is so until somebody does something."""
        if self.unreachable:
            return "unreachable"
        if self.executed.failed:
            return "failed"
        if any(held.reason in FOR_SOMEBODY for held in self.left.held):
            return "held"
        if self.left.held or self.left.unknown or self.lowered.waiting:
            return "waiting"
        return "changed" if self.executed.applied else "synced"

    @property
    def facts(self) -> Mapping[tuple[str, str], str]:
        """What the machine told, and what is so as items are as wanted: (owner, what) → value."""
        found = dict(told(self.lowered, self.seen))
        open_ = self.left.open
        early = {fact for wanted in self.lowered.wanted if wanted.key in open_ for fact in wanted.tells}
        for wanted in self.lowered.wanted:
            found |= {fact: value for fact, value in wanted.tells.items() if fact not in early}
        return found


def told(lowered: Lowered, seen: Mapping[str, Observation]) -> Mapping[tuple[str, str], str]:
    """The facts in observations of wanted items: (owner, what) → value."""
    return {
        (wanted.owner, what): value
        for wanted in lowered.wanted
        if (observation := seen.get(wanted.key)) is not None and isinstance(observation.state, Present)
        for what, value in observation.state.facts.items()
    }


@dataclass(frozen=True, slots=True)
class Look:
    """A machine observed and planned for, and nothing done: what ``diff`` shows."""

    seen: Mapping[str, Observation]
    plan: Plan
    unreachable: str


def look(lowered: Lowered, inventory: Sequence[Owned], driver: Driver, about: Circumstances) -> Look:
    """Observes and plans. Changes nothing."""
    wanted = {w.key: w.item for w in lowered.wanted}
    items: list[Item] = [SYSTEM, *wanted.values(), *(o.item for o in inventory if o.key not in wanted)]
    seen = driver.observe(items)
    system = seen.get(SYSTEM.key)
    state = system.state if system else Unknown("it did not answer")
    # Drivers name the machine, as their errors are read alone too; here everybody who reads this names it.
    reason = state.reason.removeprefix(f"{lowered.machine}: ") if isinstance(state, Unknown) else ""
    return Look(seen, plan(lowered, seen, inventory, replace(about, now=time.time())), reason)


def reconcile(
    lowered: Lowered,
    inventory: Sequence[Owned],
    driver: Driver,
    about: Circumstances,
    epoch: int,
    *,
    remember: Callable[[Sequence[Owned]], None],
    learn: Callable[[Sequence[Applied]], Mapping[str, Rest]] = lambda _: NOTHING,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """One pass; ``learn`` hears how the changes went, and says what rests now.

    Raises Fenced when another controller has taken the machine over; nothing was written then.
    """
    began, start = time.time(), time.perf_counter()
    first = look(lowered, inventory, driver, about)
    lasting = tuple(change for change in first.plan.changes if change.item.lasts(change.verb, change.grade))
    now = _without(first.plan.changes, lasting)
    rows = _inventory(lowered, first, inventory)
    if rows:
        remember(rows)
    executed = carry_out(driver, now, epoch, stop=stop) if now else Executed()
    last = first
    if executed.applied:
        known = {o.key: o for o in (*inventory, *rows)}
        last = look(lowered, tuple(known.values()), driver, replace(about, rests=learn(executed.applied)))
    made = {one.change.item.key for one in executed.applied if one.error is None}
    undone = {change.item.key for change in first.plan.changes} - made
    jobs = tuple(change for change in lasting if not undone.intersection(change.after))
    duration = time.perf_counter() - start
    return Outcome(
        lowered.machine, began, duration, lowered, first.plan, executed, last.plan, jobs, last.seen, last.unreachable
    )


def _without(changes: Iterable[Change], jobs: Sequence[Change]) -> tuple[Change, ...]:
    """The changes that need none of the jobs."""
    waiting = {change.item.key for change in jobs}
    now: list[Change] = []
    for change in changes:
        if change.item.key in waiting:
            continue
        if waiting.intersection(change.after):
            waiting.add(change.item.key)
        else:
            now.append(change)
    return tuple(now)


def _marked(item: Item, state: object) -> bool:
    return isinstance(state, Present) and item.ours(state.fields)


def _inventory(lowered: Lowered, first: Look, inventory: Sequence[Owned]) -> list[Owned]:
    """The inventory rows that are new or differ: written before the machine is."""
    rows = {o.key: o for o in inventory}
    creates = {change.item.key for change in first.plan.changes if change.verb is Verb.CREATE}
    found: list[Owned] = []
    for wanted in lowered.wanted:
        before = rows.get(wanted.key)
        state = first.seen[wanted.key].state if wanted.key in first.seen else None
        if wanted.key not in creates and not isinstance(state, Present):
            continue
        ours = [row for row in (before, *map(rows.get, wanted.item.takes_over)) if row is not None and row.created]
        created = wanted.key in creates or bool(ours) or _marked(wanted.item, state)
        # Who waits at the moment has not ceased to want it.
        waiting = tuple(ref for ref in before.producers if ref in lowered.waiting) if before is not None else ()
        producers = tuple(dict.fromkeys((*wanted.producers, *waiting)))
        now = (wanted.owner, created, wanted.after, producers)
        if before is None or (before.owner, before.created, before.after, before.producers) != now:
            found.append(Owned(wanted.item, *now))
    return found
