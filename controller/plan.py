"""Planning: from what is wanted and what was seen to ordered changes. Pure; its value is what ``diff`` prints."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter

from controller.execute import explain, reason
from controller.lower import Lowered, Wanted
from controller.pauses import Pauses, explained, pause_of
from controller.rests import Rest
from drivers.base import (
    Absent,
    Change,
    Drift,
    Grade,
    Item,
    Observation,
    Present,
    Rejected,
    Unknown,
    Verb,
    drift,
)
from resources.base import Gate


@dataclass(frozen=True, slots=True)
class Owned:
    """An item in the inventory: salvus has written it, or took over what was there.

    Attributes:
        owner: ``Kind/name`` of the resource it belonged to.
        created: it was not there before salvus; only then is it ever deleted (rule 6).
        after: keys of the items it needed, for deletion in reverse order.
        producers: all resources that wanted it; it goes when none of them may keep it.
        key: the item's key, worked out once.
    """

    item: Item
    owner: str
    created: bool
    after: tuple[str, ...] = ()
    producers: tuple[str, ...] = ()
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.item.key)

    @property
    def users(self) -> tuple[str, ...]:
        """All that it is kept for."""
        return (self.owner, *self.producers)


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
        held: changes that wait: above the ceiling, behind a gate, paused, failed before, behind a job or behind
            something unknown; and all of a resource of which something would be refused, as what is there is somebody
            else's (``Stalled``) or as the machine put it back before (``RolledBack``).
        unknown: item key → why nothing is known of it; nothing is planned on those (rule 1).
        forgotten: inventory keys that are no longer wanted, and gone, never ours, or taken over by another item.
        owners: item key → ``Kind/name``, of all items in this plan.
    """

    machine: str
    changes: tuple[Change, ...] = ()
    held: tuple[Held, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
    forgotten: tuple[str, ...] = ()
    owners: Mapping[str, str] = field(default_factory=dict)

    @property
    def open(self) -> frozenset[str]:
        """Keys of the items of which something is to be done, or nothing is known."""
        changes = (*self.changes, *(held.change for held in self.held))
        return frozenset(self.unknown) | {change.item.key for change in changes}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the planner must know besides wishes and observations.

    Attributes:
        now: seconds since the epoch.
        max_age: seconds after which an observation counts as unknown.
        jobs: item key → (reason, sentence), of jobs that are under way.
        rests: item key → what failed lately or was refused: just this change is not made now, nor what comes after it.
        living: ``Kind/name`` of the resources whose items stay on the machine, wanted or not.
        pauses: what is not to be worked on for a while, anywhere.
    """

    now: float
    max_age: float = 300.0
    jobs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    rests: Mapping[str, Rest] = field(default_factory=dict)
    living: Collection[str] = ()
    pauses: Pauses = field(default_factory=dict)


@dataclass(slots=True)
class _Sheet:
    """A plan in the making.

    Attributes:
        refused: ``Kind/name`` → reason and sentence why nothing of it is made.
        paused: item key → reason and sentence, of what is not to be touched for a while.
        blocked: item key → why what comes after it has to wait.
    """

    refused: Mapping[str, tuple[str, str]]
    paused: Mapping[str, tuple[str, str]]

    changes: list[Change] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)

    def not_known(self, key: str, reason: str) -> None:
        """Nothing is planned on the item, nor on what needs it (rule 1)."""
        self.unknown[key] = reason
        self.blocked[key] = f"nothing is known of {key}: {reason}"


def plan(lowered: Lowered, seen: Mapping[str, Observation], inventory: Iterable[Owned], about: Circumstances) -> Plan:
    """The changes that make the machine equal to its items, and the deletions of what is no longer wanted."""
    inventory = tuple(inventory)
    sheet = _Sheet(dict(_refusals(lowered, seen)), _paused(lowered, inventory, about))
    for wanted in lowered.wanted:
        _want(wanted, _state(seen.get(wanted.key), about), lowered, about, sheet)
    gone, forgotten = _gone(lowered, seen, inventory, about)
    for owned, change in _deletions(gone, lowered):
        _unwant(owned, change, _state(seen.get(owned.key), about), about, sheet, _kept(owned, seen))
    owners = {o.key: o.owner for o in gone} | {w.key: w.owner for w in lowered.wanted}
    return Plan(lowered.machine, tuple(sheet.changes), tuple(sheet.held), sheet.unknown, forgotten, owners)


def _refusals(lowered: Lowered, seen: Mapping[str, Observation]) -> Iterator[tuple[str, tuple[str, str]]]:
    """The resources of which something is refused: to make the rest of them would be half."""
    for wanted in lowered.wanted:
        if (error := _refused(wanted.item, wanted.key, seen)) is not None:
            yield wanted.owner, (reason(error), f"{wanted.key}: {explain(error)}")


def _paused(lowered: Lowered, inventory: Sequence[Owned], about: Circumstances) -> Mapping[str, tuple[str, str]]:
    """The items that are paused: of what several want, a pause of any of them is enough."""
    if not about.pauses:
        return {}
    users = {owned.key: owned.users for owned in inventory}
    users |= {w.key: (w.owner, *w.producers, *users.get(w.key, ())) for w in lowered.wanted}
    found = {key: pause_of(about.pauses, about.now, refs, lowered.machine) for key, refs in users.items()}
    return {key: explained(pause) for key, pause in found.items() if pause is not None}


def _refused(item: Item, key: str, seen: Mapping[str, Observation]) -> Rejected | None:
    state = seen[key].state if key in seen else None
    return item.refusal(state.fields) if isinstance(state, Present) else None


def _kept(owned: Owned, seen: Mapping[str, Observation]) -> tuple[str, str] | None:
    """Reason and sentence why it is not deleted."""
    state = seen[owned.key].state if owned.key in seen else None
    error = owned.item.stays(state.fields) if isinstance(state, Present) else None
    return None if error is None else (reason(error), f"{owned.key}: {explain(error)}")


def _want(
    wanted: Wanted, state: Present | Absent | Unknown, lowered: Lowered, about: Circumstances, sheet: _Sheet
) -> None:
    if isinstance(state, Unknown):
        sheet.not_known(wanted.key, state.reason)
        return
    change = _change(wanted, state)
    if change is None:
        return
    hold = _hold(wanted, change, lowered, about, sheet)
    if hold is None:
        sheet.changes.append(change)
        return
    sheet.held.append(hold)
    if change.verb is Verb.CREATE:
        sheet.blocked[wanted.key] = f"{wanted.key} is not there yet: {hold.message}"
    elif change.grade >= Grade.REPLACE:
        sheet.blocked[wanted.key] = f"{wanted.key} is still the old one: {hold.message}"
    elif wanted.item.protects or _rest(change, about) is not None or _gate(wanted, change) is not None:
        sheet.blocked[wanted.key] = f"{wanted.key} is not as it is to be: {hold.message}"
    up = _brought_up(wanted, state) if hold.reason == "WaitsForItem" else None
    if up is not None and _rest(up, about) is None:
        sheet.changes.append(up)


def _unwant(
    owned: Owned,
    change: Change,
    state: Present | Absent | Unknown,
    about: Circumstances,
    sheet: _Sheet,
    kept: tuple[str, str] | None,
) -> None:
    before = next((sheet.blocked[key] for key in change.after if key in sheet.blocked), None)
    if isinstance(state, Unknown):
        sheet.not_known(owned.key, state.reason)
    elif (why := kept or _busy(change, about, sheet)) is not None or before is not None:
        hold = Held(change, owned.owner, *(why or ("WaitsForItem", before or "")))
        sheet.held.append(hold)
        sheet.blocked[owned.key] = f"{owned.key} is still there: {hold.message}"
    else:
        sheet.changes.append(change)


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


def _brought_up(wanted: Wanted, state: Present | Absent) -> Change | None:
    """What is to run runs, as it is, also while a change of it waits."""
    item = wanted.item.as_it_was(state.fields) if isinstance(state, Present) else None
    return _change(replace(wanted, item=item, fields=item.fields()), state) if item is not None else None


def _rest(change: Change, about: Circumstances) -> Rest | None:
    rest = about.rests.get(change.item.key)
    return rest if rest is not None and rest.change == change else None


def _busy(change: Change, about: Circumstances, sheet: _Sheet) -> tuple[str, str] | None:
    """Reason and sentence when a job makes it, when it is paused, or when just this failed before."""
    key, rest = change.item.key, _rest(change, about)
    resting = (rest.reason, rest.message) if rest is not None else None
    return about.jobs.get(key) or sheet.paused.get(key) or resting


def _hold(wanted: Wanted, change: Change, lowered: Lowered, about: Circumstances, sheet: _Sheet) -> Held | None:
    if (refused := sheet.refused.get(wanted.owner)) is not None:
        return Held(change, wanted.owner, *refused)
    ceiling = min((lowered.ceilings[ref] for ref in wanted.producers), default=Grade.RESTART)
    before = next((sheet.blocked[key] for key in wanted.after if key in sheet.blocked), None)
    if (why := _busy(change, about, sheet)) is not None:
        return Held(change, wanted.owner, *why)
    if before is not None:
        return Held(change, wanted.owner, "WaitsForItem", before)
    if (gate := _gate(wanted, change)) is not None:
        return Held(change, wanted.owner, gate.reason, gate.message)
    if change.grade > ceiling:
        message = (
            f"{wanted.key} needs a {change.grade.word}, above the ceiling of {ceiling.word}; "
            f"set spec.disruption.ceiling: {change.grade.word} to allow it"
        )
        if change.grade is Grade.DATA_LOSS:
            message = f"{wanted.key} would lose data; salvus never does that by itself"
        return Held(change, wanted.owner, "HeldByCeiling", message)
    return None


def _gate(wanted: Wanted, change: Change) -> Gate | None:
    return wanted.gate if wanted.gate is not None and wanted.item.gated(change) else None


def _gone(
    lowered: Lowered, seen: Mapping[str, Observation], inventory: tuple[Owned, ...], about: Circumstances
) -> tuple[tuple[Owned, ...], tuple[str, ...]]:
    """What is in the inventory and wanted no more: what is to be deleted, and the keys of what is only forgotten.

    What another item takes over is forgotten when that is in the inventory, and stays until then.
    """
    wanted = {w.key for w in lowered.wanted}
    mine = [o for o in inventory if o.key not in wanted and all(_may_go(ref, lowered, about.living) for ref in o.users)]
    if not mine:
        return (), ()
    # A job may be making what is not there yet: it is looked at again when the job has ended.
    gone = [o for o in mine if o.key not in about.jobs or isinstance(_state(seen.get(o.key), about), Present)]
    forgotten = {o.key for o in gone if not o.created or isinstance(_state(seen.get(o.key), about), Absent)}
    takers = {key: w.key for w in lowered.wanted for key in w.item.takes_over}
    there = {o.key for o in inventory}
    forgotten |= {o.key for o in gone if takers.get(o.key) in there}
    gone = [o for o in gone if o.key in forgotten or o.key not in takers]
    return tuple(o for o in gone if o.key not in forgotten), tuple(o.key for o in gone if o.key in forgotten)


def _deletions(gone: Sequence[Owned], lowered: Lowered) -> Iterator[tuple[Owned, Change]]:
    """In reverse order of use: each comes after what needs it, and what protects after what takes its place."""
    by_key = {o.key: o for o in gone}
    users = {key: tuple(o.key for o in gone if key in o.after) for key in by_key}
    for key in TopologicalSorter(users).static_order():
        owned = by_key[key]
        yield owned, Change(owned.item, Verb.DELETE, (), Grade.LIVE, (*users[key], *_instead(owned, lowered)))


def _instead(owned: Owned, lowered: Lowered) -> tuple[str, ...]:
    """Keys of what its resources want now, where that is to be right before it goes."""
    if not owned.item.protects:
        return ()
    return tuple(wanted.key for wanted in lowered.wanted if not set(owned.users).isdisjoint(wanted.producers))


def _may_go(owner: str, lowered: Lowered, living: Collection[str]) -> bool:
    """A resource that merely waits, or whose items others bring (an image), keeps them while it lives."""
    return owner in lowered.refs or owner not in living
