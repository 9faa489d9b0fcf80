"""The store in memory: for tests and simulations. Everything is gone with the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from controller.store.base import Partition, Row, Table

SWEEP_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class _Kept:
    row: Row
    expires: float | None

    def live(self, now: float) -> bool:
        return self.expires is None or self.expires > now


class MemoryStore:
    """See Store."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._partitions: dict[Partition, dict[str, _Kept]] = {}
        self._changes: dict[Partition, int] = {}
        self._cursor = 0
        self._swept = 0.0

    def get(self, table: Table, partition: str, key: str) -> Row | None:
        """See Store."""
        with self._lock:
            kept = self._kept(table, partition, key)
            return kept.row if kept else None

    def _kept(self, table: Table, partition: str, key: str) -> _Kept | None:
        kept = self._partitions.get((table, partition), {}).get(key)
        return kept if kept is not None and kept.live(self._clock()) else None

    def read(self, table: Table, partition: str) -> Mapping[str, Row]:
        """See Store."""
        with self._lock:
            now = self._clock()
            rows = self._partitions.get((table, partition), {})
            return {key: kept.row for key, kept in sorted(rows.items()) if kept.live(now)}

    def read_all(self, table: Table) -> Mapping[str, Mapping[str, Row]]:
        """See Store."""
        with self._lock:
            names = sorted(name for where, name in self._partitions if where == table)
            return {name: rows for name in names if (rows := self.read(table, name))}

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
        with self._lock:
            now = self._clock()
            expires = None if ttl is None else now + ttl
            new = {
                key: value
                for key, value in puts.items()
                if ttl is not None or not _same(self._kept(table, partition, key), value)
            }
            gone = [key for key in deletes if self._kept(table, partition, key)]
            if not new and not gone:
                return False
            self._put((table, partition), new, expires, gone)
            self._sweep(now)
            return True

    def _sweep(self, now: float) -> None:
        """Now and then, what has expired is thrown away, and partitions that are empty."""
        if now - self._swept > SWEEP_EVERY:
            live = {
                partition: {key: kept for key, kept in rows.items() if kept.live(now)}
                for partition, rows in self._partitions.items()
            }
            self._partitions = {partition: rows for partition, rows in live.items() if rows}
            self._swept = now

    def _stamp(self, partition: Partition) -> int:
        self._cursor += 1
        # Partitions that are empty by now stay there: who asks late is to hear that they changed.
        self._changes[partition] = self._cursor
        return self._cursor

    def compare_and_set(
        self,
        table: Table,
        partition: str,
        expected: Mapping[str, int | None],
        puts: Mapping[str, str],
        deletes: Collection[str] = (),
    ) -> bool:
        """See Store."""
        with self._lock:
            now = {key: row.version for key, row in self.read(table, partition).items()}
            if any(now.get(key) != version for key, version in expected.items()):
                return False
            self._put((table, partition), puts, None, deletes)
            return True

    def _put(self, where: Partition, puts: Mapping[str, str], expires: float | None, gone: Collection[str]) -> None:
        stamp = self._stamp(where)
        rows = self._partitions.setdefault(where, {})
        rows |= {key: _Kept(Row(value, stamp), expires) for key, value in puts.items()}
        for key in gone:
            rows.pop(key, None)

    def changed_since(self, cursor: int) -> tuple[int, frozenset[Partition]]:
        """See Store."""
        with self._lock:
            if cursor == self._cursor:
                return cursor, frozenset()
            since = cursor if cursor < self._cursor else 0
            return self._cursor, frozenset(where for where, at in self._changes.items() if at > since)

    def nodes(self) -> Mapping[str, bool]:
        """See Store."""
        return {}

    def close(self) -> None:
        """See Store."""


def _same(kept: _Kept | None, value: str) -> bool:
    return kept is not None and kept.expires is None and kept.row.value == value
