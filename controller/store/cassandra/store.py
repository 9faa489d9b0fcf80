"""The row store in Cassandra. Every change is a lightweight transaction on its partition (Paxos), and none goes by a
clock: a partition's ``stamp`` is compared and set together with the rows, so that nothing is lost between two writers,
however wrong their clocks are, and rows that are written at once are there at once.
"""

from __future__ import annotations

import math
import random
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from cassandra.query import BatchStatement, BatchType

from controller.clock import uptime
from controller.store.base import Partition, Row, StoreUnavailable, StoreUnusable, Table
from controller.store.cassandra import schema
from controller.store.cassandra.changes import Changes
from controller.store.cassandra.fallback import ForgivingRing
from controller.store.cassandra.ring import AWAY_HINT, READ, SERIAL, Ring
from controller.store.cassandra.settings import CassandraSettings

# Seconds after its beginning in which a write may be sent, also by a process that was stopped meanwhile. With the time
# that a node may take for it, it is over before anybody else can hold a lease that was valid when it began (leases.py).
PERSISTENCE = 2.0
# Seconds in which nodes that were just started hear of each other.
SETTLING = 10.0
# The low bits of a stamp are random: who knows the stamp that it wanted to set finds out whether it did,
# also when so many others came after.
NONCE_BITS = 20
REMEMBERED = 16
# Locks that partitions share.
TURNS = 256

_GET = "SELECT value, version FROM salvus.{} WHERE part = ? AND key = ?"
_READ = "SELECT stamp, stamps, key, value, version, TTL(value) AS left FROM salvus.{} WHERE part = ?"
_ALL = "SELECT part, key, value, version FROM salvus.{}"
_NAMES = "SELECT DISTINCT part FROM salvus.{}"
_STAMP = "UPDATE salvus.{} SET stamp = ?, stamps = ? WHERE part = ? IF stamp = ?"
_PUT = "INSERT INTO salvus.{} (part, key, value, version) VALUES (?, ?, ?, ?) USING TTL ?"
_DROP = "DELETE FROM salvus.{} WHERE part = ? AND key = ?"


@dataclass(frozen=True, slots=True)
class _Kept:
    """A row as it is; ``expires`` tells whether it goes by itself."""

    row: Row
    expires: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """A partition as it is; None is the stamp of one that nobody wrote to. ``stamps`` are its last, newest first."""

    stamp: int | None
    stamps: tuple[int, ...]
    rows: Mapping[str, _Kept]

    def version(self, key: str) -> int | None:
        """The row's version; None where there is no row."""
        kept = self.rows.get(key)
        return kept.row.version if kept else None


@dataclass(frozen=True, slots=True)
class _Change:
    """What one transaction does to a partition's rows; ``ttl`` in whole seconds, 0 for ever."""

    puts: Mapping[str, str]
    drops: Collection[str] = ()
    ttl: int = 0


class CassandraStore:
    """See Store."""

    def __init__(self, settings: CassandraSettings, old: Callable[[str], None] | None = None) -> None:
        """With ``old``, what one replica knows is good enough for reading when more do not answer: ``old`` is told."""
        if old is None:
            self._ring = Ring.connect(settings)
        else:
            self._ring = ForgivingRing.connect(settings)
            self._ring.warn = old
        self._changes = Changes(self._ring, self._everything)
        self._turns = [threading.Lock() for _ in range(TURNS)]
        try:
            schema.check(self._ring)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def make(settings: CassandraSettings, replicas: int | None = None) -> None:
        """Makes the keyspace and the tables, or what is missing of them. Raises StoreError; also where fewer nodes than
        three are seen and nobody said how many replicas there are to be.
        """
        ring = Ring.connect(settings)
        try:
            schema.make(ring, {settings.datacenter: replicas or _usual(ring)})
        finally:
            ring.close()

    @staticmethod
    def migrate(settings: CassandraSettings) -> tuple[int, int]:
        """Brings the tables to what this program needs; the schema's version before and after. Raises StoreError."""
        ring = Ring.connect(settings)
        try:
            return schema.migrate(ring)
        finally:
            ring.close()

    def get(self, table: Table, partition: str, key: str) -> Row | None:
        """See Store."""
        rows = self._ring.execute(READ, _GET.format(table.value), _part(partition), key)
        return Row(rows[0].value, rows[0].version) if rows else None

    def read(self, table: Table, partition: str) -> Mapping[str, Row]:
        """See Store."""
        return {key: kept.row for key, kept in self._look(READ, table, partition).rows.items()}

    def read_all(self, table: Table) -> Mapping[str, Mapping[str, Row]]:
        """See Store."""
        partitions: dict[str, dict[str, Row]] = {}
        for row in self._ring.execute(READ, _ALL.format(table.value)):
            if row.key is not None:
                partitions.setdefault(row.part[1:], {})[row.key] = Row(row.value, row.version)
        return dict(sorted(partitions.items()))

    def write(
        self,
        table: Table,
        partition: str,
        puts: Mapping[str, str],
        deletes: Collection[str] = (),
        *,
        ttl: float | None = None,
    ) -> bool:
        """See Store."""
        seconds = 0 if ttl is None else max(1, math.ceil(ttl))

        def wanted(part: _Part) -> _Change | None:
            drops = [key for key in deletes if key in part.rows]
            new = {k: v for k, v in puts.items() if k not in drops and (seconds or not _same(part.rows.get(k), v))}
            return _Change(new, drops, seconds) if new or drops else None

        return self._change(table, partition, wanted)

    def compare_and_set(
        self,
        table: Table,
        partition: str,
        expected: Mapping[str, int | None],
        puts: Mapping[str, str],
        deletes: Collection[str] = (),
    ) -> bool:
        """See Store."""

        def wanted(part: _Part) -> _Change | None:
            same = all(part.version(key) == version for key, version in expected.items())
            return _Change(puts, [key for key in deletes if key in part.rows]) if same else None

        return self._change(table, partition, wanted, once=True)

    def changed_since(self, cursor: int) -> tuple[int, frozenset[Partition]]:
        """See Store."""
        return self._changes.since(cursor)

    def nodes(self) -> Mapping[str, bool]:
        """See Store."""
        return self._ring.nodes()

    def close(self) -> None:
        """See Store."""
        self._ring.close()

    def _everything(self) -> frozenset[Partition]:
        """All partitions that were ever written to."""
        return frozenset(
            (table, row.part[1:]) for table in Table for row in self._ring.execute(READ, _NAMES.format(table.value))
        )

    def _look(self, use: str, table: Table, partition: str) -> _Part:
        rows = self._ring.execute(use, _READ.format(table.value), _part(partition))
        kept = {
            row.key: _Kept(Row(row.value, row.version), row.left is not None) for row in rows if row.key is not None
        }
        return _Part(rows[0].stamp, tuple(rows[0].stamps or ()), kept) if rows else _Part(None, (), {})

    def _change(
        self, table: Table, partition: str, wanted: Callable[[_Part], _Change | None], *, once: bool = False
    ) -> bool:
        """Makes what is ``wanted`` of the partition as it is, until nobody comes in between; False where it is nothing.

        ``once``: what may have been done must not be done again. Raises StoreUnavailable: it is done, or not.
        """
        end = uptime() + PERSISTENCE
        with self._turn(table, partition):
            return self._change_until(end, table, partition, wanted, once)

    @contextmanager
    def _turn(self, table: Table, partition: str) -> Iterator[None]:
        """Threads of one process change a partition one after the other: they would only be in each other's way.

        Raises StoreUnavailable.
        """
        turn = self._turns[turn_of(table, partition)]
        if not turn.acquire(timeout=PERSISTENCE):
            raise self._given_up(table, partition, "came too late")
        try:
            yield
        finally:
            turn.release()

    def _change_until(
        self, end: float, table: Table, partition: str, wanted: Callable[[_Part], _Change | None], once: bool
    ) -> bool:
        if uptime() > end:
            raise self._given_up(table, partition, "came too late")
        part = self._look(READ, table, partition)
        if (change := wanted(part)) is None:
            return False
        name = mark = _next(part.stamp)
        self._changes.tell(table, partition, mark, done=False)
        unclear = False
        while change is not None:
            if uptime() > end:
                raise self._given_up(table, partition, "may be done, or not" if unclear else "came too late")
            done = self._swap(table, partition, part, name, change)
            if done:
                break
            unclear |= done is None
            if done is None and once:
                raise self._given_up(table, partition, "may be done, or not")
            time.sleep(random.uniform(0, 0.02))  # noqa: S311 - so that two do not meet again and again
            part = self._look(SERIAL, table, partition)
            change, name = wanted(part), _next(part.stamp)
        self._changes.tell(table, partition, mark, done=True)
        return change is not None or unclear

    def _given_up(self, table: Table, partition: str, what: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"the store {self._ring.settings} cannot be used now: a write to {table}/{partition} {what}",
            hint=AWAY_HINT,
        )

    def _swap(self, table: Table, partition: str, before: _Part, stamp: int, change: _Change) -> bool | None:
        """One transaction: whether it was made; None where nobody knows. Raises StoreUnavailable as well."""
        name, part = table.value, _part(partition)
        batch = BatchStatement(BatchType.UNLOGGED)
        stamps = (stamp, *before.stamps)[:REMEMBERED]
        batch.add(self._ring.prepare(_STAMP.format(name)), (stamp, stamps, part, before.stamp))
        for key, value in change.puts.items():
            batch.add(self._ring.prepare(_PUT.format(name)), (part, key, value, stamp, change.ttl))
        for key in change.drops:
            batch.add(self._ring.prepare(_DROP.format(name)), (part, key))
        try:
            return self._ring.swap(batch)
        except StoreUnavailable:
            return self._outcome(table, partition, before.stamp, stamp)

    def _outcome(self, table: Table, partition: str, before: int | None, stamp: int) -> bool | None:
        """Whether a transaction was made that gave no answer. Reading so ends what is under way, this way or that."""
        part = self._look(SERIAL, table, partition)
        if stamp in part.stamps:
            return True
        # As far back as the one that ours was to follow, everything is remembered: ours is not among it.
        return False if before in part.stamps or len(part.stamps) < REMEMBERED else None


def turn_of(table: Table, partition: str) -> int:
    """Which lock a partition has; leases have one that nobody else holds up: they are to be renewed in time."""
    return 0 if table is Table.LEASE else 1 + hash((table, partition)) % (TURNS - 1)


def _usual(ring: Ring) -> int:
    """The replicas of a keyspace of which nobody said how many. Raises StoreUnusable where there are fewer nodes."""
    name, end = ring.settings.datacenter, uptime() + SETTLING
    while (seen := ring.members(name)) < schema.USUAL and ring.replication() is None and uptime() < end:
        time.sleep(0.5)
        ring.look_again()
    if seen < schema.USUAL and ring.replication() is None:
        raise StoreUnusable(
            f"the store {ring.settings}: {seen} of the {schema.USUAL} nodes that are wanted at least are seen "
            f"in {name}",
            hint="start the others; or say how many replicas there are to be, with --replicas",
        )
    return schema.USUAL


def _part(partition: str) -> str:
    """The partition as a key of Cassandra's, which must not be empty."""
    return f"/{partition}"


def _next(stamp: int | None) -> int:
    """A stamp above the one before that nobody else makes."""
    return (((stamp or 0) >> NONCE_BITS) + 1) << NONCE_BITS | secrets.randbits(NONCE_BITS)


def _same(kept: _Kept | None, value: str) -> bool:
    return kept is not None and not kept.expires and kept.row.value == value
