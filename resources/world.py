"""The fleet as a kind may see it while lowering: resources, facts, allocations and conditions; every read is noted.

A change to something that was read queues the reader's machine. There is no other list of dependencies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

from resources.base import AnyResource, NotYet, Selector, pool_of
from resources.fleet import Fleet

T = TypeVar("T")

# The fact by which the controller tells its own public keys, a line each.
CONTROLLER_KEYS = ("Controller/self", "ssh_public_keys")
# The facts of a service that it was started, with a slash and a machine's name behind.
STARTED = "started"
# Every label.
ALL = Selector()


def over(machine: str) -> str:
    """The name of what is read by ``World.over``."""
    return f"over/{machine}"


@lru_cache(maxsize=4096)
def selected(read: str) -> tuple[str, Selector] | None:
    """The kind and the selector of a read of labels; None for any other one."""
    what, _, rest = read.partition("/")
    if what != "labels":
        return None
    kind, _, selector = rest.partition("/")
    return kind, Selector.model_validate_json(selector)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known besides the manifests.

    Attributes:
        allocations: (``Kind/name``, what) → value, decided once by the controller.
        facts: (``Kind/name``, what) → value, told by machines.
        conditions: (``Kind/name``, type) → ``True``, ``False`` or ``Unknown``.
        uids: ``Kind/name`` → the resource's UUID, the same for all its life.
        foreseen: asked is what there will be in the end: that each machine has its turn first, is not waited for.
    """

    allocations: Mapping[tuple[str, str], str] = field(default_factory=dict)
    facts: Mapping[tuple[str, str], str] = field(default_factory=dict)
    conditions: Mapping[tuple[str, str], str] = field(default_factory=dict)
    uids: Mapping[str, str] = field(default_factory=dict)
    foreseen: bool = False


@dataclass(slots=True)
class World:
    """A recording view of one fleet. Made anew for each machine that is lowered.

    ``reads`` holds what was looked at: ``resource/Kind/name``, ``kind/Kind`` for all of them, ``labels/Kind/selector``
    for those that match it, ``over/machine``, ``fact/Kind/name/what``, ``allocation/Kind/name/what``,
    ``condition/Kind/name/type``.
    """

    fleet: Fleet
    known: Known
    reads: set[str] = field(default_factory=set)
    _kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: str, make: Callable[[], T]) -> T:
        """What was worked out under the key before, else what is made now: who asks again reads nothing else."""
        if key not in self._kept:
            self._kept[key] = make()
        found: T = self._kept[key]
        return found

    def get(self, kind: str, name: str) -> AnyResource | None:
        """The resource, or None."""
        self.reads.add(f"resource/{kind}/{name}")
        return self.fleet.get(kind, name)

    def machine(self, name: str) -> AnyResource | None:
        """The Host or VirtualMachine of that name, or None: then whoever asked is asked again when it comes."""
        self.reads |= {f"resource/{kind}/{name}" for kind in self.fleet.machine_kinds}
        return self.fleet.machine(name)

    def select(self, kind: str, selector: Selector) -> tuple[AnyResource, ...]:
        """Resources of a kind whose labels match, by name."""
        self.reads.add(
            f"kind/{kind}" if selector == ALL else f"labels/{kind}/{selector.model_dump_json(by_alias=True)}"
        )
        return self.fleet.select(kind, selector)

    def over(self, machine: str) -> tuple[AnyResource, ...]:
        """The machines that are reached over this one (``spec.ssh.via``)."""
        self.reads.add(over(machine))
        return self.fleet.over.get(machine, ())

    def select_machines(self, selector: Selector) -> tuple[AnyResource, ...]:
        """Hosts and virtual machines whose labels match."""
        return tuple(r for kind in self.fleet.machine_kinds for r in self.select(kind, selector))

    def fact(self, ref: str, what: str) -> str:
        """What a machine told. Raises NotYet until it has."""
        self.reads.add(f"fact/{ref}/{what}")
        value = self.known.facts.get((ref, what))
        if value is None:
            raise NotYet("FactUnknown", f"waits for {what} of {ref}; it is read when {ref} is made")
        return value

    def known_fact(self, ref: str, what: str) -> str | None:
        """What a machine told, or None: then whoever asked is asked again when it does."""
        self.reads.add(f"fact/{ref}/{what}")
        return self.known.facts.get((ref, what))

    def controller_keys(self) -> tuple[str, ...]:
        """Public keys that the controller logs in with: machines that it makes let them in."""
        ref, what = CONTROLLER_KEYS
        self.reads.add(f"fact/{ref}/{what}")
        return tuple(self.known.facts.get(CONTROLLER_KEYS, "").splitlines())

    def allocation(self, ref: str, what: str) -> str:
        """What the controller decided. Raises NotYet until it has."""
        self.reads.add(f"allocation/{ref}/{what}")
        value = self.known.allocations.get((ref, what))
        if value is None:
            raise NotYet("NotAllocated", f"waits for the {what} of {ref} to be decided")
        return value

    def known_allocation(self, ref: str, what: str) -> str | None:
        """What the controller decided, or None: then whoever asked is asked again when it does."""
        self.reads.add(f"allocation/{ref}/{what}")
        return self.known.allocations.get((ref, what))

    def pool(self, ref: str, pool: str) -> Mapping[str, str]:
        """All that was ever given out of a pool of a resource: for whom → value. Read again after each gift."""
        self.reads.add(f"allocation/{ref}/{pool}")
        given = self.known.allocations.items()
        return {what.partition("/")[2]: value for (r, what), value in given if r == ref and pool_of(what) == pool}

    def condition(self, ref: str, type_: str) -> str:
        """``True``, ``False`` or ``Unknown`` (also when nothing is known)."""
        self.reads.add(f"condition/{ref}/{type_}")
        return self.known.conditions.get((ref, type_), "Unknown")

    def require(self, ref: str, type_: str) -> None:
        """A gate: raises NotYet unless the condition is True."""
        if self.condition(ref, type_) != "True":
            raise NotYet("WaitsForDependency", f"waits for {ref} to be {type_}")

    def uid(self, ref: str) -> str:
        """The resource's UUID. Raises NotYet until it was given one."""
        value = self.known.uids.get(ref)
        if value is None:
            raise NotYet("NotAllocated", f"waits for {ref} to be registered")
        return value
