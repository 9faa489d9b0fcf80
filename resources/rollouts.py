"""Gated changes of a resource on many machines: one tries first, then some at once. Pure.

It is agreed by facts. A machine tells which revisions are in force there; the holder of the fleet lease gives turns,
and tells how it stands with each resource (``controller/rollout.py``). So a machine that waits reads few facts, however
many others wait.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from resources.base import AnyResource, Gate
from resources.world import World

# Facts of a machine: the revisions that are in force there, and those that it may bring into force.
IN_FORCE = "revisions_in_force"
TURN = "revisions_to_try"
# The fact of a resource: how it stands with its rollout.
STATE = "rollout"

WAITS_FOR_CANARY, WAITS_FOR_TURN, HELD = "WaitsForCanary", "WaitsForTurn", "HeldByRollout"
WAITING = frozenset({WAITS_FOR_CANARY, WAITS_FOR_TURN, HELD})


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


def revision(resource: AnyResource) -> str:
    """``Kind/name@DIGEST``: another one when what is written is another."""
    written = json.dumps(resource.spec.model_dump(mode="json", exclude_unset=True), sort_keys=True)
    return f"{resource.ref}@{hashlib.sha256(written.encode()).hexdigest()[:16]}"


def revisions(resources: Iterable[AnyResource]) -> str:
    """Of all resources of the kind that are on one machine, as its facts have them."""
    return " ".join(sorted(map(revision, resources)))


def gate(machine: AnyResource, resources: Iterable[AnyResource], world: World) -> Gate | None:
    """What the machine waits for before it brings these into force, which all together make one item; None when it may:
    they were in force before, so that only what others changed is new, or it has its turn.
    """
    wanted = {revision(one): one for one in resources}
    in_force = (world.known_fact(machine.ref, IN_FORCE) or "").split()
    new = sorted(wanted.keys() - set(in_force))
    if not new or world.known_fact(machine.ref, TURN) == " ".join(sorted(wanted)):
        return None
    found = [Standing.of(wanted[one], world.known_fact(wanted[one].ref, STATE)) for one in new]
    gates = [standing.gate(wanted[one]) for one, standing in zip(new, found, strict=True) if standing is not None]
    first = Gate(WAITS_FOR_TURN, f"waits for its turn: {wanted[new[0]].ref} is tried on one machine first")
    return next((one for one in gates if one.reason == HELD), gates[0] if gates else first)
