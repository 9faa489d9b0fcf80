"""Planning: from what is wanted and what was seen to ordered changes. Pure; its value is what ``diff`` prints."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from controller.lower import Lowered, Wanted
from drivers.base import Absent, Change, Drift, Fields, Grade, Item, Observation, Present, Unknown, Verb, drift


@dataclass(frozen=True, slots=True)
class Owned:
    """An item in the inventory: salvus has written it, or took over what was there.

    Attributes:
        owner: ``Kind/name`` of the resource it belonged to.
        created: it was not there before salvus; only then is it ever deleted (rule 6).
        after: keys of the items it needed, for deletion in reverse order.
        key: the item's key, worked out once.
    """

    item: Item
    owner: str
    created: bool
    after: tuple[str, ...] = ()
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.item.key)


@dataclass(frozen=True, slots=True)
class Held:
    """A change that is known and not made now, and why."""

    change: Change
    owner: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one machine needs. Empty ``changes`` and ``held`` mean that it is in sync as far as it could be seen.

    Attributes:
        changes: in the order in which they are made.
        held: changes that wait: above the ceiling, rejected before, behind a job or behind something unknown.
        unknown: item key → why nothing is known of it; nothing is planned on those (rule 1).
        forgotten: inventory keys that are no longer wanted, and gone or never ours.
        owners: item key → ``Kind/name``, of all items in this plan.
    """

    machine: str
    changes: tuple[Change, ...] = ()
    held: tuple[Held, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
    forgotten: tuple[str, ...] = ()
    owners: Mapping[str, str] = field(default_factory=dict)

    @property
    def grade(self) -> Grade:
        """The highest grade among the changes."""
        return max((change.grade for change in self.changes), default=Grade.LIVE)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the planner must know besides wishes and observations.

    Attributes:
        now: seconds since the epoch.
        max_age: seconds after which an observation counts as unknown.
        jobs: item key → (reason, sentence), of jobs that are under way or rest after a failure.
        rejected: item key → (fields, sentence) of what a machine refused for good, until other fields are wanted.
        living: ``Kind/name`` of the resources whose items stay on the machine, wanted or not.
    """

    now: float
    max_age: float = 300.0
    jobs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    rejected: Mapping[str, tuple[Fields, str]] = field(default_factory=dict)
    living: Collection[str] = ()


def plan(lowered: Lowered, seen: Mapping[str, Observation], inventory: Iterable[Owned], about: Circumstances) -> Plan:
    """The changes that make the machine equal to its items, and the deletions of what is no longer wanted."""
    changes: list[Change] = []
    held: list[Held] = []
    unknown: dict[str, str] = {}
    blocked: dict[str, str] = {}
    for wanted in lowered.wanted:
        state = _state(seen.get(wanted.key), about)
        if isinstance(state, Unknown):
            unknown[wanted.key] = state.reason
            blocked[wanted.key] = f"nothing is known of {wanted.key}: {state.reason}"
            continue
        change = _change(wanted, state)
        if change is None:
            continue
        hold = _hold(wanted, change, lowered, about, blocked)
        if hold is None:
            changes.append(change)
        else:
            held.append(hold)
            if change.verb is Verb.CREATE:
                blocked[wanted.key] = f"{wanted.key} is not there yet: {hold.message}"
    gone, forgotten = _gone(lowered, seen, tuple(inventory), about)
    owners = {o.key: o.owner for o in gone} | {w.key: w.owner for w in lowered.wanted}
    for owned, change in _deletions(gone):
        state = _state(seen.get(owned.key), about)
        before = next((blocked[key] for key in change.after if key in blocked), None)
        if isinstance(state, Unknown):
            unknown[owned.key] = state.reason
            blocked[owned.key] = f"nothing is known of {owned.key}: {state.reason}"
        elif owned.key in about.jobs or before is not None:
            hold = Held(change, owned.owner, *about.jobs.get(owned.key, ("WaitsForItem", before or "")))
            held.append(hold)
            blocked[owned.key] = f"{owned.key} is still there: {hold.message}"
        else:
            changes.append(change)
    return Plan(lowered.machine, tuple(changes), tuple(held), unknown, forgotten, owners)


def _state(observation: Observation | None, about: Circumstances) -> Present | Absent | Unknown:
    if observation is None:
        return Unknown("the machine's answer did not tell of it")
    if about.now - observation.at > about.max_age:
        return Unknown(f"it was last seen {about.now - observation.at:.0f} s ago")
    return observation.state


def _change(wanted: Wanted, state: Present | Absent) -> Change | None:
    if isinstance(state, Absent):
        missing = tuple(Drift(name, value, None) for name, value in wanted.fields.items())
        return Change(wanted.item, Verb.CREATE, missing, Grade.LIVE, wanted.after)
    # Nearly always they are the same, and comparing mappings whole is ten times faster than field by field.
    if wanted.fields == state.fields or not (found := drift(wanted.fields, state.fields)):
        return None
    return Change(wanted.item, Verb.UPDATE, found, wanted.item.grade(found), wanted.after)


def _hold(
    wanted: Wanted, change: Change, lowered: Lowered, about: Circumstances, blocked: Mapping[str, str]
) -> Held | None:
    ceiling = min((lowered.ceilings[ref] for ref in wanted.producers), default=Grade.RESTART)
    before = next((blocked[key] for key in wanted.after if key in blocked), None)
    refused = about.rejected.get(wanted.key)
    if wanted.key in about.jobs:
        return Held(change, wanted.owner, *about.jobs[wanted.key])
    if before is not None:
        return Held(change, wanted.owner, "WaitsForItem", before)
    if refused is not None and refused[0] == wanted.fields:
        return Held(change, wanted.owner, "Rejected", refused[1])
    if change.grade > ceiling:
        message = (
            f"{wanted.key} needs a {change.grade.word}, above the ceiling of {ceiling.word}; "
            f"set spec.disruption.ceiling: {change.grade.word} to allow it"
        )
        if change.grade is Grade.DATA_LOSS:
            message = f"{wanted.key} would lose data; salvus never does that by itself"
        return Held(change, wanted.owner, "HeldByCeiling", message)
    return None


def _gone(
    lowered: Lowered, seen: Mapping[str, Observation], inventory: tuple[Owned, ...], about: Circumstances
) -> tuple[tuple[Owned, ...], tuple[str, ...]]:
    """What is in the inventory and wanted no more: what is to be deleted, and the keys of what is only forgotten."""
    wanted = {w.key for w in lowered.wanted}
    gone = [o for o in inventory if o.key not in wanted and _may_go(o.owner, lowered, about.living)]
    forgotten = {o.key for o in gone if not o.created or isinstance(_state(seen.get(o.key), about), Absent)}
    return tuple(o for o in gone if o.key not in forgotten), tuple(o.key for o in gone if o.key in forgotten)


def _deletions(gone: Sequence[Owned]) -> Iterator[tuple[Owned, Change]]:
    """In reverse order of use: each comes after what needs it."""
    by_key = {o.key: o for o in gone}
    users = {key: tuple(o.key for o in gone if key in o.after) for key in by_key}
    for key in TopologicalSorter(users).static_order():
        yield by_key[key], Change(by_key[key].item, Verb.DELETE, (), Grade.LIVE, users[key])


def _may_go(owner: str, lowered: Lowered, living: Collection[str]) -> bool:
    """A resource that merely waits, or whose items others bring (an image), keeps them while it lives."""
    return owner in lowered.refs or owner not in living
