"""What salvus keeps, typed: the values in the store's rows. Frozen; times in seconds since the epoch (UTC)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredResource:
    """A manifest as it is in force.

    Attributes:
        uid: a UUID, the same for all the resource's life, renaming included.
        generation: grows by one when the manifest changes.
        document: the manifest.
        source: where it came from: ``apply``, ``directory:/path``, or ``git:URL#BRANCH:PATH``.
        revision: digest of the source's state it came with; of git, the commit.
        written_at: when the manifest last changed.
        deleting_since: when its deletion began; it stays until its items are gone.
        by: who wrote it, or began its deletion, as ``user@host``; empty for what an older version wrote.
    """

    ref: str
    uid: str
    generation: int
    document: Mapping[str, Any]
    source: str
    revision: str
    created_at: float
    written_at: float
    deleting_since: float | None = None
    by: str = ""

    @property
    def state(self) -> tuple[str, int]:
        """Another one whenever the manifest is another one."""
        return self.uid, self.generation


# The state of what is not there.
ABSENT = ("", 0)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, positive.

    Attributes:
        status: ``True``, ``False`` or ``Unknown``.
        since: its last transition.
        plan: of ``RolledBack``, what the machine put back, in lines.
    """

    type: str
    status: str
    reason: str
    message: str
    since: float
    generation: int
    plan: tuple[str, ...] = ()


# What the fleet pass says of a resource is kept under this name beside what machines say.
FLEET_PASS = ""


@dataclass(frozen=True, slots=True)
class Status:
    """What one machine says of a resource, or the fleet pass."""

    conditions: tuple[Condition, ...] = ()
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InventoryRow:
    """An item that salvus has on a machine, as ``drivers.items.codec`` writes it."""

    type: str
    item: str
    owner: str
    created: bool
    after: tuple[str, ...] = ()
    producers: tuple[str, ...] = ()

    @property
    def users(self) -> tuple[str, ...]:
        """All that it is kept for."""
        return (self.owner, *self.producers)


# The reason of the last event of a resource: its deletion has ended.
GONE = "Gone"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a resource; repeats are counted, not listed.

    ``type`` is Normal or Warning; ``plan`` as of a Condition.
    """

    ref: str
    machine: str
    type: str
    reason: str
    message: str
    first: float
    last: float
    count: int = 1
    plan: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The same for repeats."""
        said = (self.ref, self.machine, self.type, self.reason, self.message)
        return hashlib.sha256(repr(said).encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class Run:
    """One machine pass that did or found something; ``result`` as in ``reconcile.Result``.

    Attributes:
        made: what was changed, a sentence each.
        next_at: when the machine is looked at again, at the latest.
    """

    machine: str
    at: float
    duration: float
    result: str
    made: tuple[str, ...] = ()
    next_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """A long change under way, or its end."""

    machine: str
    key: str
    epoch: int
    started: float
    ended: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """How an item was last seen: ``present``, ``absent`` or ``unknown`` with the reason. Secrets are left out."""

    state: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is written to machines for ``what``, until it ends by itself or somebody ends it.

    Attributes:
        what: ``world`` or ``all``: everything; ``machine/NAME``: all that is on a machine, and what it is itself;
            else a ``Kind/name``, on all its machines.
        by: ``user@host``.
        until: when it ends by itself; None: never.
    """

    what: str
    by: str
    reason: str
    since: float
    until: float | None = None


def pause_key(ref: str, *, machine: bool) -> str:
    """What a pause of a resource, or of a machine, is kept under."""
    return f"{MACHINE}{ref.partition('/')[2]}" if machine else ref


# No kind has such a name: kinds begin with a capital letter.
MACHINE = "machine/"
WORLD = "world"
ALL = "all"


# As many characters of a revision are shown.
SHORT = 12


class _Adapters(dict[type, TypeAdapter[Any]]):
    """A type's way to JSON and back, made once."""

    def __missing__(self, type_: type) -> TypeAdapter[Any]:
        made = self[type_] = TypeAdapter(type_)
        return made


_ADAPTERS = _Adapters()


def dump(value: object) -> str:
    """The value as JSON; equal values give equal text."""
    return _ADAPTERS[type(value)].dump_json(value).decode()


def parse(type_: type[T], text: str) -> T:
    """The value that ``dump`` wrote; fields that this version does not know are passed over."""
    value: T = _ADAPTERS[type_].validate_json(text)
    return value
