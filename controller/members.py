"""Who the controllers are, what each of them holds, and who of them is to have what. Pure.

One partition of the store has a row for each controller, its *member* row, which is all that it renews, and a row for
each lease: its epoch, and which member has it. A lease is held only while its holder's member row is there.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field

from pydantic import TypeAdapter

from controller.holder import Holder
from controller.store.base import Store, Table

PARTITION = "leases"
MEMBER = "member/"
FLEET = "fleet"
SHARDS = 16
ALL = (FLEET, *(f"shard/{number:02d}" for number in range(SHARDS)))
# A lease a source of manifests: source/NAME.
SOURCE = "source/"


def shard_of(machine: str) -> str:
    """The lease of a machine's shard; a machine's shard never changes, so its epochs only grow."""
    digest = hashlib.sha256(machine.encode()).digest()
    return f"shard/{digest[0] % SHARDS:02d}"


class Role(enum.StrEnum):
    """What a controller is."""

    DAEMON = "daemon"
    APPLY = "apply"  # a command that works only while no daemon does


@dataclass(frozen=True, slots=True)
class Member:
    """A controller, as it said last.

    Attributes:
        number: above those of all members that were there when it came.
        since: when it came, seconds since the epoch by its own clock, as all times here; nothing is decided by them.
        seen: when it renewed this.
        follows: the leases of the sources that it follows.
        lag: seconds for which its longest-waiting due machine has waited.
        leaving: it has been told to stop, and takes nothing more.
    """

    who: Holder
    role: Role
    number: int
    since: float
    seen: float
    follows: tuple[str, ...] = ()
    lag: float = 0.0
    leaving: bool = False

    def may(self, lease: str) -> bool:
        """Whether it takes such a lease at all."""
        return not self.leaving and (not lease.startswith(SOURCE) or lease in self.follows)


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease's row: ``holder`` is a member's ID, or empty; a free lease keeps its epoch."""

    epoch: int
    holder: str
    since: float


_MEMBER, _GRANT = TypeAdapter(Member), TypeAdapter(Grant)


def text_of(row: Member | Grant) -> str:
    """A row as it is stored. Fields that another version does not know are passed over there."""
    return json.dumps(asdict(row), sort_keys=True)


@dataclass(frozen=True, slots=True)
class Register:
    """The partition: members by ID, leases by name, and the rows' versions by key."""

    members: Mapping[str, Member] = field(default_factory=dict)
    grants: Mapping[str, Grant] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, store: Store) -> Register:
        """As it is now. Raises StoreUnavailable."""
        rows = store.read(Table.LEASE, PARTITION)
        return cls(
            {
                key.removeprefix(MEMBER): _MEMBER.validate_json(row.value)
                for key, row in rows.items()
                if key.startswith(MEMBER)
            },
            {key: _GRANT.validate_json(row.value) for key, row in rows.items() if not key.startswith(MEMBER)},
            {key: row.version for key, row in rows.items()},
        )

    def holder(self, lease: str) -> str:
        """The ID of the member that has it; empty for nobody."""
        grant = self.grants.get(lease)
        return grant.holder if grant is not None and grant.holder in self.members else ""

    def held_by(self, member: str) -> dict[str, int]:
        """The member's leases, with their epochs."""
        return {lease: self.grants[lease].epoch for lease in self.grants if member and self.holder(lease) == member}

    def leases(self) -> tuple[str, ...]:
        """All leases that somebody is to have, or has."""
        followed = {lease for member in self.members.values() for lease in member.follows}
        return (*ALL, *sorted(followed | {lease for lease in self.grants if self.holder(lease)} - {*ALL}))

    def free(self) -> tuple[str, ...]:
        """Those of them that nobody has."""
        return tuple(lease for lease in self.leases() if not self.holder(lease))

    def next_epoch(self, now: float) -> int:
        """Above every one that the store knows of, and at least the seconds since 1970: a machine has seen no newer
        one, also when the store was lost and made anew, or when the machine's new name is in another shard.
        """
        return max(int(now), 1, *(1 + grant.epoch for grant in self.grants.values()))

    def living(self, observer: Holder) -> Register:
        """Without the members that the observer knows to be dead."""
        living = {one: member for one, member in self.members.items() if not member.who.dead(observer)}
        return Register(living, self.grants, self.versions)


def wanted(lease: str, members: Mapping[str, Member]) -> str:
    """The ID of the member that is to have a lease; empty for nobody.

    Of daemons the one with the highest random weight (rendezvous hashing): where one comes or goes, only what it gets
    or had moves. Of commands the one that came first.
    """
    able = {one: member for one, member in members.items() if member.may(lease)}
    if daemons := [one for one, member in able.items() if member.role is Role.DAEMON]:
        return max(daemons, key=lambda one: hashlib.sha256(f"{one} {lease}".encode()).digest())
    return min(able, key=lambda one: (able[one].number, one), default="")


def to_give(register: Register, me: str) -> dict[str, str]:
    """What the member ``me`` has and another one is to have: lease → whose it is to be."""
    to = {lease: wanted(lease, register.members) for lease in register.held_by(me)}
    return {lease: other for lease, other in to.items() if other not in ("", me)}


def settle(register: Register, given: Collection[str], now: float) -> dict[str, Grant]:
    """Who gets what: the rows to be written. What is free goes to whom it is wanted for, as do the ``given``:
    what its holder, who writes this, does not act on any more.
    """
    epoch = register.next_epoch(now)
    open_ = [lease for lease in register.leases() if not register.holder(lease) or lease in given]
    return {lease: Grant(epoch, to, now) for lease in open_ if (to := wanted(lease, register.members))}


def names(members: Iterable[Member]) -> str:
    """The processes, as ``pid 7 on host, pid 9 on other``; empty for nobody."""
    return ", ".join(sorted({str(member.who) for member in members}))


def holders(store: Store) -> str:
    """Who holds leases and is not known to be dead; empty for nobody. Raises StoreUnavailable."""
    register = Register.read(store).living(Holder.this_process())
    return names(member for one, member in register.members.items() if register.held_by(one))


def epochs(store: Store) -> Mapping[str, int]:
    """The epochs of the leases whose holder is not known to be dead, by name. Raises StoreUnavailable."""
    register = Register.read(store).living(Holder.this_process())
    return {lease: grant.epoch for lease, grant in register.grants.items() if register.holder(lease)}
