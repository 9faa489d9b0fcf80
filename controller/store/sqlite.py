"""The embedded default: one SQLite file in WAL mode, used by several processes at once."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from controller.store.base import Partition, Row, StoreError, StoreUnavailable, StoreUnusable, Table

# Each entry brings the schema from its index to the next version; ``PRAGMA user_version`` holds the number.
MIGRATIONS = (
    """
    CREATE TABLE rows (
        tbl TEXT NOT NULL, part TEXT NOT NULL, key TEXT NOT NULL,
        value TEXT NOT NULL, version INTEGER NOT NULL, expires REAL,
        PRIMARY KEY (tbl, part, key)
    ) WITHOUT ROWID;
    CREATE INDEX rows_expires ON rows (expires) WHERE expires IS NOT NULL;
    CREATE TABLE changes (
        tbl TEXT NOT NULL, part TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (tbl, part)
    ) WITHOUT ROWID;
    CREATE INDEX changes_at ON changes (at);
    CREATE TABLE cursor (at INTEGER NOT NULL);
    INSERT INTO cursor VALUES (0);
    """,
)
APPLICATION_ID = 0x53414C56  # "SALV": tells our files from other SQLite files
SWEEP_EVERY = 60.0


def _unusable(path: Path, error: str, hint: str) -> StoreUnusable:
    return StoreUnusable(f"the store {path} cannot be used: {error}; nothing was changed", hint=hint)


class SqliteStore:
    """See Store. Raises StoreUnusable for a file that is damaged, not ours, or of a newer version."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.RLock()
        self._swept = 0.0
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.OperationalError) as error:
            raise StoreUnavailable(
                f"the store {path} cannot be opened: {error}", hint="check the path and its permissions"
            ) from error
        try:
            with self._errors():
                self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        ours = self._db.execute("PRAGMA application_id").fetchone()[0]
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and ours != APPLICATION_ID:
            raise _unusable(self._path, "it is an SQLite file of another program", "give another path")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise _unusable(
                    self._path,
                    f"its schema is version {version}, this salvus knows {len(MIGRATIONS)}",
                    "use the salvus that wrote it, or a newer one",
                )
            for number in range(version, len(MIGRATIONS)):
                for statement in MIGRATIONS[number].split(";"):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The one table of SQLite's errors."""
        with self._lock:
            try:
                yield
            except sqlite3.OperationalError as error:
                full = "full" in str(error)
                raise StoreUnavailable(
                    f"the store {self._path} cannot be used now: {error}",
                    hint="make room on its disk" if full else "it is tried again",
                ) from error
            except sqlite3.DatabaseError as error:
                hint = "put it aside and restore a copy, or begin with an empty one"
                raise _unusable(self._path, str(error), hint) from error
            except sqlite3.Error as error:
                raise StoreError(f"the store {self._path}: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[int]:
        """A write transaction; gives the stamp for what is written in it."""
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                stamp = self._db.execute("UPDATE cursor SET at = at + 1 RETURNING at").fetchone()[0]
                yield stamp
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def get(self, table: Table, partition: str, key: str) -> Row | None:
        """See Store."""
        query = "SELECT value, version FROM rows WHERE tbl=? AND part=? AND key=? AND (expires IS NULL OR expires>?)"
        with self._errors():
            found = self._db.execute(query, (table, partition, key, self._clock())).fetchone()
        return Row(*found) if found else None

    def read(self, table: Table, partition: str) -> Mapping[str, Row]:
        """See Store."""
        query = "SELECT key, value, version FROM rows WHERE tbl=? AND part=? AND (expires IS NULL OR expires>?)"
        with self._errors():
            found = self._db.execute(query + " ORDER BY key", (table, partition, self._clock())).fetchall()
        return {key: Row(value, version) for key, value, version in found}

    def read_all(self, table: Table) -> Mapping[str, Mapping[str, Row]]:
        """See Store."""
        query = "SELECT part, key, value, version FROM rows WHERE tbl=? AND (expires IS NULL OR expires>?)"
        with self._errors():
            found = self._db.execute(query + " ORDER BY part, key", (table, self._clock())).fetchall()
        partitions: dict[str, dict[str, Row]] = {}
        for partition, key, value, version in found:
            partitions.setdefault(partition, {})[key] = Row(value, version)
        return partitions

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
        rows = (
            self.read(table, partition) if len(puts) + len(deletes) > 1 else self._some(table, partition, puts, deletes)
        )
        new = puts if ttl is not None else {k: v for k, v in puts.items() if k not in rows or rows[k].value != v}
        gone = [key for key in deletes if key in rows]
        if not new and not gone:
            return False
        expires = None if ttl is None else self._clock() + ttl
        with self._transaction() as stamp:
            self._put(table, partition, new, stamp, expires)
            drop = "DELETE FROM rows WHERE tbl=? AND part=? AND key=?"
            self._db.executemany(drop, [(table, partition, key) for key in gone])
            self._sweep()
        return True

    def _some(self, table: Table, partition: str, *keys: Collection[str]) -> Mapping[str, Row]:
        found = {key: self.get(table, partition, key) for group in keys for key in group}
        return {key: row for key, row in found.items() if row is not None}

    def _put(self, table: Table, partition: str, puts: Mapping[str, str], stamp: int, expires: float | None) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO rows VALUES (?,?,?,?,?,?)",
            [(table, partition, key, value, stamp, expires) for key, value in puts.items()],
        )
        self._db.execute("INSERT OR REPLACE INTO changes VALUES (?,?,?)", (table, partition, stamp))

    def _sweep(self) -> None:
        """Now and then, what has expired is thrown away."""
        now = self._clock()
        if now - self._swept > SWEEP_EVERY:
            self._db.execute("DELETE FROM rows WHERE expires <= ?", (now,))
            self._swept = now

    def compare_and_set(self, table: Table, partition: str, key: str, expected: int | None, value: str | None) -> bool:
        """See Store."""
        if self._version(table, partition, key) != expected:
            return False
        with self._transaction() as stamp:
            if self._version(table, partition, key) != expected:
                return False
            self._put(table, partition, {} if value is None else {key: value}, stamp, None)
            if value is None:
                self._db.execute("DELETE FROM rows WHERE tbl=? AND part=? AND key=?", (table, partition, key))
        return True

    def _version(self, table: Table, partition: str, key: str) -> int | None:
        row = self.get(table, partition, key)
        return row.version if row else None

    def changed_since(self, cursor: int) -> tuple[int, frozenset[Partition]]:
        """See Store."""
        with self._errors():
            now: int = self._db.execute("SELECT at FROM cursor").fetchone()[0]
            if now == cursor:
                return cursor, frozenset()
            found = self._db.execute("SELECT tbl, part FROM changes WHERE at > ? AND at <= ?", (cursor, now)).fetchall()
        return now, frozenset((Table(table), partition) for table, partition in found)

    def close(self) -> None:
        """See Store."""
        with self._lock:
            self._db.close()
