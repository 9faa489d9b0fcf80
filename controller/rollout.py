"""Who may make a gated change now: the holder of the fleet lease gives turns. Pure.

Of a resource whose kind bounds that (``Kind.at_once``) one machine tries first, the first by name that can; when what
it tried is in force there, so many at once as the resource says. Where one put it back, nobody gets a turn until there
is another revision. A machine gets its turn at once for all resources of a group (``resources/rollouts.py``): no two
wait for each other. Only groups are looked at in which something is not in force yet, or that were touched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from controller.knowledge import Knowledge
from controller.pauses import Pauses, pause_of
from controller.store.records import Condition
from controller.view import View
from resources.base import AnyResource
from resources.fleet import kinds
from resources.rollouts import IN_FORCE, STATE, TURN, WAITING, Phase, Standing, group_of, revision

Facts = Mapping[str, Mapping[str, str]]
# Who cannot go on now is passed over, loses its turn, and asks again later.
_ABSENT = frozenset({"Unreachable", "Paused", "WorldStopped", "Halted", "NoAddress", "NoWay", "KeyRevoked"})


@dataclass(frozen=True, slots=True)
class Turns:
    """What is to be told now, as facts by ``Kind/name`` of machines and resources: only those that are new.

    ``unfinished`` are the groups in which a machine has something not in force yet: they are to be looked at again.
    """

    told: Facts
    unfinished: frozenset[str]


@dataclass(slots=True)
class _Machine:
    """What a machine has told of a group, and what it was told: revisions."""

    name: str
    ref: str
    in_force: frozenset[str]
    turn: str
    wanted: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The turn that it needs."""
        return " ".join(sorted(self.wanted))

    @property
    def new(self) -> list[str]:
        """What is not in force there yet."""
        return [one for one in self.wanted if one not in self.in_force]


@dataclass(slots=True)
class _Rollout:
    """How it stands with one revision of a resource, machine by machine.

    Attributes:
        asking: who has said that it waits; ``trying``: who has its turn, and has not come to its end.
        silent: who has said nothing of this generation yet.
        undone: who put it back.
        proven: it is in force where it was tried.
    """

    resource: AnyResource
    revision: str
    machines: list[_Machine]
    most: int
    asking: set[str] = field(default_factory=set)
    trying: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    undone: str = ""
    proven: bool = False

    def lets(self, name: str) -> bool:
        """Whether this machine may try it now."""
        if self.undone or name not in self.asking or len(self.trying) >= (self.most if self.proven else 1):
            return False
        return self.proven or name == self._first()

    def _first(self) -> str:
        """The canary: whoever is before it by name has said that it needs none."""
        return next((m.name for m in self.machines if m.name in self.asking or m.name in self.silent), "")

    @property
    def standing(self) -> Standing | None:
        """For those who wait."""
        if self.undone:
            return Standing(self.revision, Phase.STOPPED, self.undone)
        if self.proven:
            return Standing(self.revision, Phase.WAVES, str(self.most)) if self.asking else None
        trying = next((m.name for m in self.machines if m.name in self.trying), "")
        return Standing(self.revision, Phase.CANARY, trying) if self.asking and trying else None


def everything(knowledge: Knowledge) -> set[str]:
    """All groups of which machines have turns."""
    return {group_of(one.ref) for one in knowledge.fleet if bounded(one)}


def bounded(resource: AnyResource) -> bool:
    """Whether machines change one after the other, as far as the resource is concerned."""
    return kinds()[resource.kind].at_once(resource, 1) is not None


def touched(names: Iterable[str], moved: Iterable[str]) -> Iterator[str]:
    """The groups that may have something to be brought into force since ``names`` changed (see ``Knowledge.touched``),
    and resources ``moved`` to other machines.
    """
    yield from map(group_of, moved)
    for name in names:
        what, _, rest = name.partition("/")
        if what == "resource" and rest.partition("/")[0] in kinds():
            yield group_of(rest)
        elif what == "fact" and (group := rest.partition(f"/{IN_FORCE}/")[2]):
            yield group


def turns(knowledge: Knowledge, view: View, groups: Collection[str], pauses: Pauses, now: float) -> Turns:
    """Who may go on in these groups."""
    told: defaultdict[str, dict[str, str]] = defaultdict(dict)
    unfinished = set()
    for group in sorted(groups):
        rollouts, machines = _found(group, knowledge, view)
        for rollout in rollouts.values():
            for machine in rollout.machines:
                paused = pause_of(pauses, now, [rollout.resource.ref], machine.name) is not None
                _sort(machine, rollout, knowledge, paused)
        if any(machine.new for machine in machines.values()):
            unfinished.add(group)
        for ref, what, value in _told(group, rollouts, machines):
            told[ref][what] = value
    return Turns(dict(_new(told, knowledge)), frozenset(unfinished))


def _told(
    group: str, rollouts: Mapping[str, _Rollout], machines: Mapping[str, _Machine]
) -> Iterator[tuple[str, str, str]]:
    """Facts, of which a later one counts."""
    turn = f"{TURN}/{group}"
    for machine in machines.values():
        if (left := _left(machine, rollouts)) != machine.turn:
            yield machine.ref, turn, left
    _hold_back(rollouts, machines)
    asking = {name for rollout in rollouts.values() for name in rollout.asking}
    for name in sorted(asking):
        needed = [rollouts[one] for one in machines[name].new]
        if all(rollout.lets(name) for rollout in needed):
            yield machines[name].ref, turn, machines[name].text
            for rollout in needed:
                rollout.asking.discard(name)
                rollout.trying.add(name)
    for rollout in rollouts.values():
        if rollout.standing is not None:
            yield rollout.resource.ref, STATE, str(rollout.standing)


def _left(machine: _Machine, rollouts: Mapping[str, _Rollout]) -> str:
    """Of its turn, what is in force, what it tries, and what it put back, so that it says so when it was away. It is
    over for all else, so that nothing that comes back later finds a turn of then.
    """
    trying = {one for one in machine.wanted if machine.name in rollouts[one].trying | {rollouts[one].undone}}
    return " ".join(one for one in machine.turn.split() if one in machine.in_force | trying)


def _hold_back(rollouts: Mapping[str, _Rollout], machines: Mapping[str, _Machine]) -> None:
    """Whoever cannot go before one of its resources is corrected is not waited for by those of the others."""
    for rollout in rollouts.values():
        if not rollout.undone:
            stuck = {name for name in rollout.asking if any(rollouts[one].undone for one in machines[name].new)}
            rollout.asking -= stuck


def _new(told: Facts, knowledge: Knowledge) -> Iterator[tuple[str, Mapping[str, str]]]:
    for ref, facts in told.items():
        new = {what: value for what, value in facts.items() if knowledge.known.facts.get((ref, what)) != value}
        if new:
            yield ref, new


def members(group: str, knowledge: Knowledge) -> tuple[AnyResource, ...]:
    """The resources of a group of which machines have turns."""
    kind, _, name = group.partition("/")
    found = (knowledge.fleet.get(kind, name),) if name else knowledge.fleet.of(kind)
    return tuple(one for one in found if one is not None and bounded(one))


def _found(group: str, knowledge: Knowledge, view: View) -> tuple[Mapping[str, _Rollout], Mapping[str, _Machine]]:
    rollouts: dict[str, _Rollout] = {}
    machines: dict[str, _Machine] = {}
    for resource in members(group, knowledge):
        on = view.spot(resource.ref).machines
        here = [machines.setdefault(one.name, one) for one in _machines(group, on, knowledge)]
        revised = revision(resource)
        most = kinds()[resource.kind].at_once(resource, len(here)) or 1
        rollouts[revised] = _Rollout(resource, revised, here, most)
        for machine in here:
            machine.wanted.append(revised)
    return rollouts, machines


def _machines(group: str, names: Iterable[str], knowledge: Knowledge) -> Iterator[_Machine]:
    facts = knowledge.known.facts
    for name in sorted(names):
        if (resource := knowledge.fleet.machine(name)) is not None:
            in_force = frozenset(facts.get((resource.ref, f"{IN_FORCE}/{group}"), "").split())
            yield _Machine(name, resource.ref, in_force, facts.get((resource.ref, f"{TURN}/{group}"), ""))


def _sort(machine: _Machine, rollout: _Rollout, knowledge: Knowledge, paused: bool) -> None:
    name, has_turn = machine.name, rollout.revision in machine.turn.split()
    if rollout.revision in machine.in_force:
        rollout.proven |= has_turn
        return
    said = _said(knowledge, rollout.resource.ref, name)
    reason = said.reason if said is not None else ""
    if (has_turn and reason == "RolledBack") or (reason not in WAITING and _undone_before(name, rollout, knowledge)):
        rollout.undone = rollout.undone or name
    # Who only waits does not say that it is paused, where what it waits with needs no change.
    if paused or reason in _ABSENT:
        return
    if has_turn and (machine.turn == machine.text or reason not in WAITING):
        rollout.trying.add(name)
    elif reason in WAITING:
        rollout.asking.add(name)
    elif said is None and knowledge.known.conditions.get((machine.ref, "Reachable")) != "Unknown":
        rollout.silent.add(name)


def _undone_before(name: str, rollout: _Rollout, knowledge: Knowledge) -> bool:
    """It was told that this one put the revision back. That holds until it asks anew, also when it was away meanwhile
    and so has no turn any more.
    """
    told = Standing.of(rollout.resource, knowledge.known.facts.get((rollout.resource.ref, STATE)))
    return told == Standing(rollout.revision, Phase.STOPPED, name)


def _said(knowledge: Knowledge, ref: str, machine: str) -> Condition | None:
    """What the machine says of the resource as it is now."""
    status = knowledge.statuses.get(ref, {}).get(machine)
    generation = knowledge.rows[ref].generation
    said = status.conditions if status is not None else ()
    return next((one for one in said if one.type == "Synced" and one.generation == generation), None)
