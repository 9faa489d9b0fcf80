"""The words between planner and machines: items, observations, drift, changes, and the driver protocol.

Everything here is a frozen value or a protocol; nothing does I/O.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self

# A comparable field of an item: what JSON can say, with tuples for lists, so that values are hashable.
Value = str | int | bool | None | tuple["Value", ...]
Fields = Mapping[str, Value]


class Grade(enum.IntEnum):
    """How much a change disturbs what runs, least first. ``spec.disruption.ceiling`` is one of these."""

    LIVE = 0
    RELOAD = 1
    RESTART = 2
    REBOOT = 3
    REPLACE = 4
    DATA_LOSS = 5

    @property
    def word(self) -> str:
        """The grade as users write it: ``live``, ``data-loss``."""
        return self.name.lower().replace("_", "-")


class Verb(enum.StrEnum):
    """What a change does to its item."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class Transport(enum.StrEnum):
    """By which way an item is probed and changed."""

    SHELL = "shell"
    LIBVIRT = "libvirt"


@dataclass(frozen=True, slots=True)
class Absent:
    """The machine answered, and the item is not there."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The machine could not be asked, or its answer could not be read. Nothing may be planned on this (rule 1)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Present:
    """The item as it is: its comparable fields, and facts that only the machine knows (a public key)."""

    fields: Fields
    facts: Mapping[str, str] = field(default_factory=dict)


State = Present | Absent | Unknown


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of one item.

    Attributes:
        state: the item's fields, or that it is absent, or that it is unknown.
        at: seconds since the epoch (UTC) when the machine was asked.
        source: by which way it was asked (``shell``, ``libvirt``, ``simulated``).
    """

    state: State
    at: float
    source: str


@dataclass(frozen=True, slots=True)
class Drift:
    """One field that differs; ``observed`` is None where the item is absent."""

    field: str
    desired: Value
    observed: Value


class Item:
    """One thing on one machine, in machine words. Subclasses are frozen dataclasses in ``drivers/items``.

    Class attributes:
        transport: by which way the item is probed and changed.
        secret_fields: fields whose values are shown as ``***`` (rule 13).
        forgets: attributes left empty when the item is noted in the inventory: content and secrets are not kept.
        protects: what takes its place comes first: it is deleted when all is right that its resource wants now.
    """

    transport: ClassVar[Transport]
    secret_fields: ClassVar[frozenset[str]] = frozenset()
    forgets: ClassVar[frozenset[str]] = frozenset()
    protects: ClassVar[bool] = False

    @classmethod
    def type(cls) -> str:
        """The item type's name: ``File``, ``SystemdUnit``."""
        return cls.__name__

    @property
    def name(self) -> str:
        """What tells this item from others of its type on the machine: a path, a unit name."""
        raise NotImplementedError

    @property
    def key(self) -> str:
        """``Type:name``, unique on one machine."""
        return f"{self.type()}:{self.name}"

    def fields(self) -> Fields:
        """The fields to compare. Only what the user set or salvus owns (rule 4)."""
        raise NotImplementedError

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """The smallest grade by which these drifts can be mended (rule 5)."""
        raise NotImplementedError

    def refusal(self, observed: Fields) -> Rejected | None:
        """Why what is there is left alone, whatever is wanted: it is somebody else's (rule 6). None when it is not.

        RolledBack where just what is wanted was put back by the machine before.
        """
        return None

    def stays(self, observed: Fields) -> Rejected | None:
        """Why what is there is not taken away, though nobody wants it any more: it is somebody else's.

        RolledBack where the machine put it back when that was tried; that it put back another change is no reason.
        """
        error = self.refusal(observed)
        return None if isinstance(error, RolledBack) else error

    def ours(self, observed: Fields) -> bool:
        """Whether what is there has a mark that salvus made it, though it was there before (rule 6)."""
        return False

    @property
    def takes_over(self) -> frozenset[str]:
        """Keys of items that an older salvus had in its place: what is there of them stays, and is this item's now."""
        return frozenset()

    def as_it_was(self, observed: Fields) -> Self | None:
        """The item as observed, but running: what may be done while another change of it waits. None for nothing."""
        return None

    def gated(self, change: Change) -> bool:
        """Whether the change waits for the gate of who wants the item; deletions never do."""
        return True

    def lasts(self, verb: Verb, grade: Grade) -> bool:
        """Whether such a change takes long (an image push, a guest's shutdown): then it is a job, and no pass waits."""
        return False


def drift(fields: Fields, observed: Fields) -> tuple[Drift, ...]:
    """The generic difference: every wanted field that is not as observed."""
    return tuple(Drift(name, want, observed.get(name)) for name, want in fields.items() if observed.get(name) != want)


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a plan. This value is what ``diff`` prints and what ``apply`` carries out.

    Attributes:
        item: the wanted item; of a deletion, the item as last written.
        verb: create, update or delete.
        drift: the fields that differ; empty for deletions.
        grade: how much the change disturbs.
        after: keys of the items whose changes must have succeeded before.
    """

    item: Item
    verb: Verb
    drift: tuple[Drift, ...]
    grade: Grade
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """How one change went: ``error`` is None when it was made."""

    change: Change
    error: DriverError | None = None


@dataclass(frozen=True, slots=True)
class SshTarget:
    """How to reach a machine by ssh. Errors are the driver's.

    Attributes:
        addresses: tried in order.
        host_keys: public key lines that are accepted (``ssh-ed25519 AAAA…``), no others.
        via: name of the machine to jump over, or empty.
    """

    addresses: tuple[str, ...]
    port: int
    user: str
    host_keys: tuple[str, ...]
    identity_files: tuple[str, ...] = ()
    use_agent: bool = False
    via: str = ""
    connect_timeout: int = 10
    command_timeout: int = 60


class Driver(Protocol):
    """One machine. Made connected lazily; safe to use from several threads.

    ``observe`` does not raise for a machine that cannot be asked: it answers ``Unknown`` for every item concerned.
    """

    def observe(self, items: Sequence[Item]) -> Mapping[str, Observation]:
        """Asks for all items, in one round trip for everything that goes over ssh. Keys are item keys."""
        ...

    def apply(self, changes: Sequence[Change], epoch: int) -> tuple[Applied, ...]:
        """Carries out changes in order, in as few round trips as order allows.

        After the first failure the rest is not tried and not in the answer.
        Raises Fenced when the machine has seen a newer epoch.
        """
        ...

    def close(self) -> None:
        """Drops the connections. The driver can be used again; it connects anew."""
        ...


class Fencing(Driver, Protocol):
    """A driver that can tell the machine our epoch without changing anything else."""

    def fence(self, epoch: int) -> None:
        """Raises Fenced when the machine has seen a newer epoch; Unreachable or Failed when it could not be told."""
        ...


class SalvusError(Exception):
    """What happened; ``hint`` says what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class DriverError(SalvusError):
    """Something about one machine."""

    def __init__(self, message: str, *, machine: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.machine = machine


class Unreachable(DriverError):
    """The machine could not be asked or told. Back off; Reachable is Unknown."""


class Failed(DriverError):
    """The machine was told, and it said no. Back off, slower."""


class InUse(Failed):
    """Something else on the machine needs it, a disk in the trash for example. Back off; somebody has to decide."""


class Rejected(DriverError):
    """It will never work as written. Stalled until the generation changes."""


class RolledBack(Rejected):
    """It was made and cut us off, and the machine put back what was there before (rule 8). Not tried again as it is."""


class Fenced(DriverError):
    """The machine has seen a newer epoch: somebody else holds its lease. Drop the pass (rule 10)."""
