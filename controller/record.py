"""What passes leave in the store. Remembers what it wrote, so that an unchanged pass reads and writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.knowledge import Knowledge
from controller.leases import Lease
from controller.lower import Lowered, Wait
from controller.plan import Owned
from controller.reconcile import SYSTEM, Outcome
from controller.status import Verdict, conditions, reachable, unreached, verdicts
from controller.store.base import Conflict
from controller.store.ledger import Ledger
from controller.store.records import Event, InventoryRow, Job, Run, Seen, Status
from drivers.base import Absent, Applied, Change, Observation, Present, Verb
from drivers.items import codec

NOTHING: Mapping[str, str] = {}
ALARMING = frozenset({"Failed", "JobFailed", "CrashLooping", "Stalled", "RolledBack", "Unreachable", "HeldByCeiling"})
# Seconds: what stands still (a change that waits, a machine that is silent) is looked at much more often.
RUN_QUIET = 60.0
WELL = frozenset({"synced", "changed"})

Verdicts = Mapping[str, tuple[Verdict, ...]]


@dataclass(slots=True)
class _Said:
    """What a machine said of a resource: of which generation, the row that was written of it, and the one before."""

    generation: int
    verdicts: tuple[Verdict, ...]
    row: Status
    over: Status | None = None


@dataclass(slots=True)
class _Machine:
    """What is in the store of one machine, as this controller wrote or read it under one lease."""

    lease: Lease
    ledger: Ledger
    read: bool = False
    written: int = 0
    inventory: dict[str, Owned] = field(default_factory=dict)
    said: dict[str, _Said] = field(default_factory=dict)
    told: dict[tuple[str, str], str] = field(default_factory=dict)
    seen: Mapping[str, object] = field(default_factory=dict)
    run: Run | None = None


class Recorder:
    """The writing side of passes. One machine is never recorded by two threads at once: the queue sees to that.

    What is written of a machine is under the lease of the pass: all that writes raises Fenced when that is over. Of who
    lost the machine a write may still come late (it was paused just after it looked); the next pass mends that.
    ``written`` counts, by machine, the writes of anybody that were seen in the store of what is not in ``Knowledge``.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Callable[[], float] = time.time,
        written: Callable[[str], int] = lambda _: 0,
    ) -> None:
        self._ledger = ledger
        self._written = written
        self._clock = clock
        self._machines: dict[str, _Machine] = {}

    def _under(self, machine: str, lease: Lease) -> _Machine:
        kept = self._machines.get(machine)
        if kept is None or kept.lease != lease:
            kept = self._machines[machine] = _Machine(lease, self._ledger.under(lease.check))
        return kept

    def inventory(self, machine: str, lease: Lease, moved: Mapping[str, str] = NOTHING) -> tuple[Owned, ...]:
        """What salvus has on the machine: read once under a lease, and looked at again when somebody wrote.

        ``moved`` are new names by old ones: what a renamed resource has stays its own, also while it waits (rule 18).
        """
        kept, written = self._under(machine, lease), self._written(machine)
        if not kept.read:
            kept.run = max(self._ledger.runs(machine), key=lambda run: run.at, default=None)
            kept.inventory = read_inventory(self._ledger, machine)
            kept.read = True
        elif kept.written != written:
            self._mend(machine, kept)
        kept.written = written
        old = [owned for owned in kept.inventory.values() if not moved.keys().isdisjoint(owned.users)]
        if old:
            self.remember(machine, [_renamed(owned, moved) for owned in old])
        return tuple(kept.inventory.values())

    def _mend(self, machine: str, kept: _Machine) -> None:
        """Somebody wrote, most often ourselves: what we know to be so is so again, what we did not know is known."""
        kept.seen = {}
        ours, there = {key: _row(owned) for key, owned in kept.inventory.items()}, kept.ledger.inventory(machine)
        # Of a machine that left the fleet nothing is there, and nothing is to be.
        if there and there != ours:
            kept.inventory |= {key: _owned(row) for key, row in there.items() if key not in ours}
            kept.ledger.put_inventory(machine, ours)

    def remember(self, machine: str, rows: Sequence[Owned]) -> None:
        """Notes what the machine is about to have, before it has it (rule 11). Raises Conflict when it is forgotten."""
        kept = self._machines.get(machine)
        if kept is None:
            raise Conflict(f"{machine} left the fleet while it was looked at; nothing is written there")
        kept.ledger.put_inventory(machine, {row.key: _row(row) for row in rows})
        kept.inventory |= {row.key: row for row in rows}

    def forget(self, machine: str) -> None:
        """The machine left the fleet."""
        self._machines.pop(machine, None)

    def outcome(self, outcome: Outcome, at: Knowledge) -> None:
        """Writes what a pass found and did; ``at`` is the state of the store that it was made from."""
        machine, kept = outcome.machine, self._machines.get(outcome.machine)
        if kept is None:  # forgotten meanwhile
            return
        # What was deleted and is still there (a directory that others use) is let go, not deleted again and again.
        deleted = {a.change.item.key for a in outcome.executed.applied if _deleted(a)}
        if gone := [key for key in kept.inventory if key in deleted or key in outcome.left.forgotten]:
            kept.ledger.put_inventory(machine, {}, gone)
            for key in gone:
                del kept.inventory[key]
        self._facts(outcome, at, kept)
        self._seen(outcome, kept)
        found = dict(verdicts(outcome))
        if (itself := at.fleet.machine(machine)) is not None:
            found[itself.ref] = (*found.get(itself.ref, ()), reachable(outcome))
        turns = self._say(kept, machine, found, at)
        kept.ledger.tell((*turns, *_events(outcome, self._clock())))

    def waiting(self, machine: str, lease: Lease, lowered: Lowered, wait: Wait, at: Knowledge) -> None:
        """Writes that nobody knows yet how to reach the machine."""
        kept = self._under(machine, lease)
        kept.ledger.tell(self._say(kept, machine, unreached(lowered, wait), at))

    def run(self, outcome: Outcome, next_in: float | None) -> None:
        """Keeps a pass that did or found something, and the first that found all well again; ``next_in`` in seconds.

        One like the last is kept once a minute.
        """
        kept = self._machines.get(outcome.machine)
        if kept is None or (outcome.result == "synced" and (kept.run is None or kept.run.result in WELL)):
            return
        made = tuple(f"{a.change.verb} {a.change.item.key}" for a in outcome.executed.applied if a.error is None)
        next_at = self._clock() + next_in if next_in is not None else 0.0
        run, last = Run(outcome.machine, outcome.at, outcome.duration, outcome.result, made, next_at), kept.run
        if last is None or (last.result, last.made) != (run.result, made) or run.at - last.at >= RUN_QUIET:
            kept.ledger.put_run(run)
            kept.run = run

    def owner(self, machine: str, key: str) -> str:
        """The ``Kind/name`` that an item on the machine belongs to; empty when none is known."""
        kept = self._machines.get(machine)
        owned = kept.inventory.get(key) if kept is not None else None
        return owned.owner if owned is not None else ""

    def job(self, job: Job, lease: Lease, change: Change) -> None:
        """Notes that a job began, or how it ended. Unlike the others it may be called beside a pass.

        ``lease`` is the one under which it began.
        """
        ledger = self._ledger.under(lease.check)
        ledger.put_job(job)
        if job.ended is not None and not job.error:
            ledger.tell([_made(self.owner(job.machine, job.key), job.machine, change, job.ended)])

    def _facts(self, outcome: Outcome, at: Knowledge, kept: _Machine) -> None:
        """Writes what is new, also to what the last pass told: ``at`` may be of before that."""
        told: dict[str, dict[str, str]] = {}
        for (ref, what), value in outcome.facts.items():
            told.setdefault(ref, {})[what] = value
        system = outcome.seen.get(SYSTEM.key)
        itself = at.fleet.machine(outcome.machine)
        if itself is not None and system is not None and isinstance(system.state, Present):
            told.setdefault(itself.ref, {}).update(system.state.facts)
        for ref, facts in told.items():
            new = {
                what: value
                for what, value in facts.items()
                if at.known.facts.get((ref, what)) != value or kept.told.get((ref, what), value) != value
            }
            if new:
                kept.ledger.put_facts(ref, new)
                kept.told |= {(ref, what): value for what, value in new.items()}

    def _seen(self, outcome: Outcome, kept: _Machine) -> None:
        states = {key: observation.state for key, observation in outcome.seen.items()}
        if states != kept.seen:
            items = {key: owned.item for key, owned in kept.inventory.items()}
            items |= {wanted.key: wanted.item for wanted in outcome.lowered.wanted}
            secret = {key: item.secret_fields for key, item in items.items()}
            seen = {key: _seen(one, secret.get(key, ())) for key, one in outcome.seen.items()}
            kept.ledger.put_seen(outcome.machine, seen)
            kept.seen = states

    def _say(self, kept: _Machine, machine: str, found: Verdicts, at: Knowledge) -> list[Event]:
        """Writes the conditions that are not so in the store; takes away those of resources that are no longer on the
        machine.

        Returns an event for each that became worse or better, or has another reason.
        """
        turns: list[Event] = []
        now = {ref: said for ref, said in found.items() if ref in at.rows}
        written: dict[str, Status | None] = dict.fromkeys({*kept.said, *at.said.get(machine, ())} - now.keys())
        said_now: dict[str, _Said] = {}
        for ref, said in now.items():
            there = at.statuses.get(ref, {}).get(machine)
            before = _as_left(kept.said.get(ref), there)
            generation = at.rows[ref].generation
            if before is None or (before.generation, before.verdicts) != (generation, said):
                row = before.row if before else there
                new = written[ref] = Status(tuple(conditions(said, row, generation, self._clock())))
                turns += _turns(ref, machine, row, said, self._clock())
                said_now[ref] = _Said(generation, said, new, there)
        if written:
            kept.ledger.put_statuses(machine, written)
            kept.said = {ref: said for ref, said in (kept.said | said_now).items() if ref in now}
        return turns


def _as_left(said: _Said | None, there: Status | None) -> _Said | None:
    """What was said last, if the store still has it, or (as it was read before that) the row of before.

    It has not where the resource is new, though one of its name was there before; and where a controller that had the
    machine before us wrote late.
    """
    if said is None or there is None:
        return None
    if there == said.row:
        # Seen there: from now on, the row of before is a late one.
        said.over = None
        return said
    return said if there == said.over else None


def read_inventory(ledger: Ledger, machine: str) -> dict[str, Owned]:
    """What the store says that salvus has on a machine, by item key. Raises SalvusError for an unknown item type."""
    return {key: _owned(row) for key, row in ledger.inventory(machine).items()}


def _owned(row: InventoryRow) -> Owned:
    return Owned(codec.restore(row.type, row.item), row.owner, row.created, row.after, row.producers)


def _deleted(one: Applied) -> bool:
    return one.change.verb is Verb.DELETE and one.error is None


def _row(owned: Owned) -> InventoryRow:
    item = codec.dump(owned.item)
    return InventoryRow(owned.item.type(), item, owned.owner, owned.created, owned.after, owned.producers)


def _renamed(owned: Owned, moved: Mapping[str, str]) -> Owned:
    producers = tuple(moved.get(ref, ref) for ref in owned.producers)
    return replace(owned, owner=moved.get(owned.owner, owned.owner), producers=producers)


def _seen(observation: Observation, secret: Collection[str]) -> Seen:
    state = observation.state
    if isinstance(state, Present):
        return Seen("present", {name: value for name, value in state.fields.items() if name not in secret})
    return Seen("absent") if isinstance(state, Absent) else Seen("unknown", reason=state.reason)


def _turns(ref: str, machine: str, before: Status | None, said: Iterable[Verdict], now: float) -> Iterable[Event]:
    old = {one.type: (one.status, one.reason) for one in before.conditions} if before else {}
    for verdict in said:
        if old.get(verdict.type) != (verdict.status, verdict.reason):
            kind = "Warning" if verdict.reason in ALARMING else "Normal"
            yield Event(ref, machine, kind, verdict.reason, verdict.message, now, now, plan=verdict.plan)


def _events(outcome: Outcome, now: float) -> Iterable[Event]:
    for one in outcome.executed.applied:
        if one.error is None:
            owner = outcome.planned.owners.get(one.change.item.key, "")
            yield _made(owner, outcome.machine, one.change, now)


def _made(owner: str, machine: str, change: Change, at: float) -> Event:
    text = f"{change.item.key} ({change.grade.word})"
    return Event(owner, machine, "Normal", f"{change.verb.title()}d", text, at, at)
