"""The store in memory: for tests and simulations. Everything is gone with the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from controller.store.base import Partition, Row, Table


@dataclass(frozen=True, slots=True)
class _Kept:
    row: Row
    expires: float | None


def _same(kept: _Kept | None, value: str) -> bool:
    return kept is not None and kept.expires is None and kept.row.value == value


class MemoryStore:
    """See Store."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._partitions: dict[Partition, dict[str, _Kept]] = {}
        self._changes: dict[Partition, int] = {}
        self._cursor = 0

    def _live(self, partition: Partition) -> dict[str, _Kept]:
        rows = self._partitions.get(partition, {})
        now = self._clock()
        return {key: kept for key, kept in rows.items() if kept.expires is None or kept.expires > now}

    def get(self, table: Table, partition: str, key: str) -> Row | None:
        """See Store."""
        with self._lock:
            kept = self._partitions.get((table, partition), {}).get(key)
            if kept is None or (kept.expires is not None and kept.expires <= self._clock()):
                return None
            return kept.row

    def read(self, table: Table, partition: str) -> Mapping[str, Row]:
        """See Store."""
        with self._lock:
            return {key: kept.row for key, kept in sorted(self._live((table, partition)).items())}

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
            rows = self._live((table, partition))
            expires = None if ttl is None else self._clock() + ttl
            new = {key: value for key, value in puts.items() if ttl is not None or not _same(rows.get(key), value)}
            gone = {key for key in deletes if key in rows}
            if not new and not gone:
                return False
            stamp = self._stamp((table, partition))
            rows |= {key: _Kept(Row(value, stamp), expires) for key, value in new.items()}
            self._partitions[table, partition] = {key: kept for key, kept in rows.items() if key not in gone}
            return True

    def _stamp(self, partition: Partition) -> int:
        self._cursor += 1
        self._changes[partition] = self._cursor
        return self._cursor

    def compare_and_set(self, table: Table, partition: str, key: str, expected: int | None, value: str | None) -> bool:
        """See Store."""
        with self._lock:
            row = self.get(table, partition, key)
            if (row.version if row else None) != expected:
                return False
            if value is None:
                self.write(table, partition, {}, [key])
            else:
                rows = self._live((table, partition))
                rows[key] = _Kept(Row(value, self._stamp((table, partition))), None)
                self._partitions[table, partition] = rows
            return True

    def changed_since(self, cursor: int) -> tuple[int, frozenset[Partition]]:
        """See Store."""
        with self._lock:
            if cursor == self._cursor:
                return cursor, frozenset()
            since = cursor if cursor < self._cursor else 0
            return self._cursor, frozenset(where for where, at in self._changes.items() if at > since)

    def close(self) -> None:
        """See Store."""
