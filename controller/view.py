"""The fleet in machine words, kept up to date by what changed: who is on which machine, and what each machine wants.

Nothing here is worked out twice: each answer remembers what it read (see ``World``), and is dropped when that changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial

from controller.lower import Lowered, Wait, answer, lower
from controller.readers import Readers
from resources.fleet import Fleet, kinds, machine_named
from resources.world import Known, World


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a resource has items: machine names, or why that is not known yet; and what was read to know it."""

    machines: tuple[str, ...] = ()
    wait: Wait | None = None
    reads: frozenset[str] = frozenset()


class View:
    """A fleet with what is known of it. Not safe for threads: its user locks."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.known = Known()
        self._spots: dict[str, Spot] = {}
        self._refs: defaultdict[str, set[str]] = defaultdict(set)
        self._lowered: dict[str, Lowered] = {}
        # The resources that the last update put on other machines.
        self.moved: frozenset[str] = frozenset()
        self._spot_readers = Readers()
        self._machine_readers = Readers()

    def update(self, fleet: Fleet, known: Known, touched: Collection[str]) -> frozenset[str]:
        """Takes over new values; ``touched`` names what differs, as ``World.reads`` does.

        Returns the machines on which something may have to be done.
        """
        before, self.fleet, self.known = self.fleet, fleet, known
        changed = {read.removeprefix("resource/") for read in touched if read.startswith("resource/")}
        affected = self._machine_readers.of(touched, before, fleet)
        moved = set()
        for ref in self._spot_readers.of(touched, before, fleet) - changed:
            was, now = self._respot(ref)
            if was != now:
                affected |= was ^ now
                moved.add(ref)
        self.moved = frozenset(moved)
        for ref in changed:
            was, now = self._respot(ref)
            affected |= was | now
            if itself := machine_named(ref):
                affected.add(itself)
        for machine in affected:
            self._drop(machine)
        return frozenset(affected)

    def _respot(self, ref: str) -> tuple[set[str], set[str]]:
        """Finds anew where a resource is; returns the machines it was on and those it is on."""
        before = self._spots.pop(ref, Spot())
        self._spot_readers.drop(ref, before.reads)
        for machine in before.machines:
            self._refs[machine].discard(ref)
        after = self._spot(ref)
        if after is not None:
            self._spots[ref] = after
            self._spot_readers.add(ref, after.reads)
            for machine in after.machines:
                self._refs[machine].add(ref)
        return set(before.machines), set(after.machines if after else ())

    def _spot(self, ref: str) -> Spot | None:
        kind, _, name = ref.partition("/")
        resource = self.fleet.get(kind, name)
        if resource is None:
            return None
        world = World(self.fleet, self.known)
        found = answer(resource, partial(kinds()[kind].machines, resource, world))
        if isinstance(found, Wait):
            return Spot((), found, frozenset(world.reads))
        return Spot(tuple(dict.fromkeys(found)), None, frozenset(world.reads))

    def _drop(self, machine: str) -> None:
        lowered = self._lowered.pop(machine, None)
        self._machine_readers.drop(machine, lowered.reads if lowered else ())

    def lowered(self, machine: str) -> Lowered:
        """What is wanted on the machine."""
        if (found := self._lowered.get(machine)) is not None:
            return found
        refs = sorted(self._refs.get(machine, ()))
        resources = [self.fleet.get(*ref.split("/", 1)) for ref in refs]
        found = lower(machine, [r for r in resources if r is not None], self.fleet, self.known)
        self._lowered[machine] = found
        self._machine_readers.add(machine, found.reads)
        return found

    def keepers(self, machine: str, owners: Iterable[str], living: Collection[str]) -> frozenset[str]:
        """The living owners whose items stay on the machine though nobody wants them there at the moment.

        Not those that know where they are, and are elsewhere. A machine keeps: moving it is an own step.
        """
        return frozenset(ref for ref in owners if ref in living and not self._elsewhere(ref, machine))

    def _elsewhere(self, ref: str, machine: str) -> bool:
        spot = self._spots.get(ref)
        if spot is None or spot.wait is not None or machine in spot.machines:
            return False
        kind = kinds()[ref.partition("/")[0]]
        return not (kind.is_machine or kind.stays)

    def spot(self, ref: str) -> Spot:
        """Where a resource has items."""
        return self._spots.get(ref, Spot())
