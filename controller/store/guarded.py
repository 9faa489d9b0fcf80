"""A store that is written to only while its user may: what the holder of a lease writes goes through this."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from controller.store.base import Partition, Row, Store, Table


class Guarded:
    """See Store. ``check`` is asked just before each write, and raises what is to be raised instead of writing."""

    def __init__(self, store: Store, check: Callable[[], None]) -> None:
        self._store = store
        self._check = check

    def get(self, table: Table, partition: str, key: str) -> Row | None:
        """See Store."""
        return self._store.get(table, partition, key)

    def read(self, table: Table, partition: str) -> Mapping[str, Row]:
        """See Store."""
        return self._store.read(table, partition)

    def read_all(self, table: Table) -> Mapping[str, Mapping[str, Row]]:
        """See Store."""
        return self._store.read_all(table)

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
        self._check()
        return self._store.write(table, partition, puts, deletes, ttl=ttl)

    def compare_and_set(
        self,
        table: Table,
        partition: str,
        expected: Mapping[str, int | None],
        puts: Mapping[str, str],
        deletes: Collection[str] = (),
    ) -> bool:
        """See Store."""
        self._check()
        return self._store.compare_and_set(table, partition, expected, puts, deletes)

    def changed_since(self, cursor: int) -> tuple[int, frozenset[Partition]]:
        """See Store."""
        return self._store.changed_since(cursor)

    def nodes(self) -> Mapping[str, bool]:
        """See Store."""
        return self._store.nodes()

    def close(self) -> None:
        """See Store."""
        self._store.close()
