"""Gated changes of a resource on many machines: one tries first, then some at once. Pure.

It is agreed by facts. A machine tells which revisions are in force there; the holder of the fleet lease gives turns,
and tells how it stands with each resource (``controller/rollout.py``). So a machine that waits reads few facts, however
many others wait.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from resources.base import AnyResource, Gate, Model
from resources.fleet import kinds
from resources.quantity import Share
from resources.world import World

# Facts of a machine, with a slash and a group behind: the revisions that are in force there, and those that it may
# bring into force.
IN_FORCE = "revisions_in_force"
TURN = "revisions_to_try"
# The fact of a resource: how it stands with its rollout.
STATE = "rollout"

WAITS_FOR_CANARY, WAITS_FOR_TURN, HELD = "WaitsForCanary", "WaitsForTurn", "HeldByRollout"
WAITING = frozenset({WAITS_FOR_CANARY, WAITS_FOR_TURN, HELD})


class Rollout(Model):
    """How a change comes to many machines that could lock somebody out: one tries it first, the first by name."""

    max_parallel: Share = "25%"
    """How many machines make the change at once after that: a number, or a percentage of all of them."""


class Phase(StrEnum):
    """What those wait for who wait: one that tries first, their turn, or that somebody corrects the resource."""

    CANARY = "canary"
    WAVES = "waves"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with the rollout of one revision; ``what`` is the machine that tries or was put back, else how
    many may change at once.
    """

    revision: str
    phase: Phase
    what: str

    def __str__(self) -> str:
        """As the fact has it."""
        return f"{self.revision} {self.phase} {self.what}"

    @classmethod
    def of(cls, resource: AnyResource, told: str | None) -> Standing | None:
        """Out of the fact; None where it tells of another revision."""
        revised, phase, what = (told or "").split() if told else ("", "", "")
        return cls(revised, Phase(phase), what) if revised == revision(resource) else None

    def gate(self, resource: AnyResource) -> Gate:
        """What those who wait say."""
        match self.phase:
            case Phase.CANARY:
                return Gate(WAITS_FOR_CANARY, f"waits for the canary {self.what} of {resource.ref}")
            case Phase.WAVES:
                text = f"waits for its turn: of {resource.ref} at most {self.what} machines change at once"
                return Gate(WAITS_FOR_TURN, text)
            case Phase.STOPPED:
                text = f"{resource.ref} was put back on {self.what}, so no other machine tries it; correct it"
                return Gate(HELD, f"{text}: salvusctl why {resource.ref}")


def digest(written: object) -> str:
    """Of what JSON can say, for ``Kind.on_trial``."""
    return hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()[:16]


def group_of(ref: str) -> str:
    """The resources for which a machine has one turn, by one of them: a kind, or ``Kind/name`` alone."""
    kind = ref.partition("/")[0]
    return kind if kinds()[kind].as_one else ref


def revision(resource: AnyResource) -> str:
    """``Kind/name@WHAT``: another one when what is tried is another."""
    return f"{resource.ref}@{kinds()[resource.kind].on_trial(resource)}"


def in_force(machine: AnyResource, resources: Sequence[AnyResource]) -> Mapping[tuple[str, str], str]:
    """What a machine tells when the resources of a group that are on it are in force there: see ``Placed.tells``."""
    return {(machine.ref, f"{IN_FORCE}/{group_of(resources[0].ref)}"): " ".join(sorted(map(revision, resources)))}


def gate(machine: AnyResource, resources: Sequence[AnyResource], world: World) -> Gate | None:
    """What the machine waits for before it brings the resources of a group into force; None when it may: they were so
    before, and only what others changed is new, or it has its turn.
    """
    group, wanted = group_of(resources[0].ref), {revision(one): one for one in resources}
    before = (world.known_fact(machine.ref, f"{IN_FORCE}/{group}") or "").split()
    new = sorted(wanted.keys() - set(before))
    if not new or world.known_fact(machine.ref, f"{TURN}/{group}") == " ".join(sorted(wanted)):
        return None
    gates = [standing.gate(wanted[one]) for one in new if (standing := _standing(wanted[one], world)) is not None]
    stopped = next((one for one in gates if one.reason == HELD), None)
    if stopped is not None or world.known.foreseen:
        return stopped
    first = Gate(WAITS_FOR_TURN, f"waits for its turn: {wanted[new[0]].ref} is tried on one machine first")
    return gates[0] if gates else first


def held(resource: AnyResource, world: World) -> Gate | None:
    """What who has nothing of it in force waits for, where the first time needs no turn: that it is corrected, if it
    was put back somewhere.
    """
    standing = _standing(resource, world)
    return standing.gate(resource) if standing is not None and standing.phase is Phase.STOPPED else None


def _standing(resource: AnyResource, world: World) -> Standing | None:
    return Standing.of(resource, world.known_fact(resource.ref, STATE))
