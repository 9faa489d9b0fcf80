"""A world in which leases are tried: processes with clocks of their own, and a store at which anything may happen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from controller.holder import Holder
from controller.leases import Leases
from controller.members import Register, Role
from controller.store.base import Partition, Row, StoreUnavailable, Table
from controller.store.memory import MemoryStore

# What happens around one call: nothing, or a word that the store itself obeys.
Happens = Callable[[], str]


class Flaky(MemoryStore):
    """One process's way to the store ``behind``. ``before`` and ``after`` each call something may happen.

    ``stale``: a read gives what was there some time ago. ``late``: a write is told to have failed, and may be made at
    any time later.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.before: Happens = lambda: ""
        self.after: Happens = lambda: ""
        self.reads = self.writes = 0

    def read(self, table: Table, partition: str) -> Mapping[str, Row]:
        self.reads += 1
        happens = self.before()
        rows = self._world.behind.read(table, partition)
        if happens == "stale" and self._world.history:
            rows = self._world.history[-len(self._world.history) // 2]
        self.after()
        return rows

    def compare_and_set(
        self,
        table: Table,
        partition: str,
        expected: Mapping[str, int | None],
        puts: Mapping[str, str],
        deletes: Collection[str] = (),
    ) -> bool:
        self.writes += 1

        def really() -> bool:
            self._world.history.append(self._world.behind.read(table, partition))
            return self._world.behind.compare_and_set(table, partition, expected, puts, deletes)

        if self.before() == "late":
            self._world.late.append(really)
            raise StoreUnavailable("no answer")
        done = really()
        self.after()
        return done

    def write(
        self,
        table: Table,
        partition: str,
        puts: Mapping[str, str],
        deletes: Collection[str] = (),
        *,
        ttl: float | None = None,
    ) -> bool:
        raise AssertionError("leases are only ever compared and set")

    def changed_since(self, cursor: int) -> tuple[int, frozenset[Partition]]:
        raise AssertionError("leases do not follow changes")


@dataclass
class World:
    """Processes on one machine or on several, their clocks, and the store between them."""

    now: float = 0.0
    wall: float = 0.0
    behind: MemoryStore = field(default_factory=MemoryStore)
    dead: set[Holder] = field(default_factory=set)
    started: int = 0
    history: list[Mapping[str, Row]] = field(default_factory=list)
    late: list[Callable[[], bool]] = field(default_factory=list)

    def process(self, host: str = "here", rate: float = 1.0, role: Role = Role.DAEMON, wrong: float = 0.0) -> Process:
        """A new one: ``rate`` of its clock, ``wrong`` seconds of its wall clock."""
        self.started += 1
        return Process(self, Holder(host, host, "pid:[1]", self.started, str(self.started)), rate, role, wrong)

    def register(self) -> Register:
        return Register.read(self.behind)


class Process:
    """A controller: its own clock, which runs at its own rate, and its own way to the store."""

    def __init__(self, world: World, me: Holder, rate: float, role: Role, wrong: float) -> None:
        self.world = world
        self.me = me
        self.store = Flaky(world)
        self.memberships = 0
        self.leases = Leases(
            self.store,
            me,
            role,
            clock=lambda: 1000.0 * me.pid + rate * world.now,
            wall=lambda: world.wall + wrong,
            dead=lambda holder: holder in world.dead and holder.host == me.host,
            ids=self._id,
        )

    def _id(self) -> str:
        self.memberships += 1
        return f"{self.me.pid}.{self.memberships}"

    @property
    def alive(self) -> bool:
        return self.me not in self.world.dead

    def valid(self, name: str) -> bool:
        """Whether it would act under the lease now."""
        return self.leases.lease(name).valid()
