"""The embedded default: one SQLite file in WAL mode, used by several processes at once."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from controller.store.base import (
    Access,
    Partition,
    Row,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
    Table,
    known,
)
from controller.store.sqlite_file import APPLICATION_ID, connect, hint_for, statements, unusable
from controller.store.versions import refuse_newer, refuse_older

# Each entry brings the schema from its index to the next version, and only adds to it (see versions.py);
# ``PRAGMA user_version`` holds the number.
MIGRATIONS: tuple[str, ...] = (
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
SWEEP_EVERY = 60.0


def migrate(path: Path) -> tuple[int, int]:
    """Brings the schema to ours, as every opening for writing does; its version before and after. Raises StoreError."""
    with closing(SqliteStore(path, access=Access.WRITE)) as store:
        return store.found, max(store.found, len(MIGRATIONS))


class SqliteStore:
    """See Store. Raises StoreUnusable for a file that is damaged, not ours, or of a newer version.

    Who asks what changed is also told when the file was removed, or another one put in its place: SQLite would go on
    with the one that nobody else sees any more.

    Raises StoreMissing for one that is not there, unless it is to be made.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.time,
        access: Access = Access.MAKE,
        steps: Sequence[str] = MIGRATIONS,
    ) -> None:
        """``steps`` make the schema; ``found`` is its version at the opening."""
        self._path = path
        self._steps = steps
        self.found = 0
        self._clock = clock
        self._lock = threading.RLock()
        self._swept = 0.0
        try:
            self._db = connect(path, access, steps)
        except (OSError, sqlite3.OperationalError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise StoreUnavailable(
                f"the store {path} cannot be opened: {why}", hint="check the path and its permissions"
            ) from error
        try:
            with self._errors():
                self._prepare(access)
            self._file = self._there()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, access: Access) -> None:
        """Writes only where the schema is older than ours: reading works on a full disk, too."""
        if self._db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise unusable(self._path, "it is empty, or of another program", "give another path, or remove it")
        self.found = self._version()
        refuse_newer(f"the store {self._path}", self.found, len(self._steps))
        if access is Access.READ:
            self._db.execute("PRAGMA query_only = ON")
            refuse_older(f"the store {self._path}", self.found, len(self._steps))
            return
        if self.found < len(self._steps):
            self._migrate()
        self._db.execute("PRAGMA synchronous = FULL")

    def _there(self) -> tuple[int, int] | None:
        """Which file has the store's name now. Raises StoreUnavailable when that cannot be told."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(f"the store {self._path} cannot be found now: {error.strerror}") from error
        return found.st_dev, found.st_ino

    def _version(self) -> int:
        version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        return version

    def _migrate(self) -> None:
        with self._transaction():
            # Another process may have been faster: the version is read again under the lock.
            for statement in statements(self._steps, self._version()):
                self._db.execute(statement)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The one table of SQLite's errors."""
        with self._lock:
            try:
                yield
            except (sqlite3.OperationalError, sqlite3.ProgrammingError) as error:
                raise StoreUnavailable(
                    f"the store {self._path} cannot be used now: {error}", hint=hint_for(str(error))
                ) from error
            except sqlite3.DatabaseError as error:
                hint = "put it aside and restore a copy, or begin with an empty one"
                raise unusable(self._path, str(error), hint) from error
            except sqlite3.Error as error:
                raise StoreError(f"the store {self._path}: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """A write transaction: nobody else writes while it lasts, and all of it is there or nothing."""
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _stamp(self, table: Table, partition: str) -> int:
        """The version of what is written to the partition in this transaction."""
        stamp: int = self._db.execute("UPDATE cursor SET at = at + 1 RETURNING at").fetchone()[0]
        # Partitions that are empty by now stay there, a line each: who asks late is to hear that they changed.
        self._db.execute("INSERT OR REPLACE INTO changes (tbl, part, at) VALUES (?,?,?)", (table, partition, stamp))
        return stamp

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
        keys = {*puts, *deletes}
        new, gone = self._difference(puts, deletes, ttl, self._kept(table, partition, keys))
        if not new and not gone:
            return False
        expires = None if ttl is None else self._clock() + ttl
        with self._transaction():
            # What somebody else wrote since the first look counts: what is there afterwards is all of ``puts``.
            new, gone = self._difference(puts, deletes, ttl, self._kept(table, partition, keys))
            if new or gone:
                self._put(table, partition, new, expires, self._stamp(table, partition))
                self._drop(table, partition, gone)
                self._sweep()
        return bool(new or gone)

    def _kept(self, table: Table, partition: str, keys: Collection[str]) -> Mapping[str, tuple[str, float | None]]:
        """Key → (value, when it expires), at least of those among ``keys`` that are there."""
        query = "SELECT key, value, expires FROM rows WHERE tbl=? AND part=? AND (expires IS NULL OR expires>?)"
        where: tuple[str | float, ...] = (table, partition, self._clock())
        if len(keys) == 1:
            query, where = query + " AND key=?", (*where, *keys)
        with self._errors():
            return {key: (value, expires) for key, value, expires in self._db.execute(query, where)}

    @staticmethod
    def _difference(
        puts: Mapping[str, str],
        deletes: Collection[str],
        ttl: float | None,
        kept: Mapping[str, tuple[str, float | None]],
    ) -> tuple[Mapping[str, str], list[str]]:
        """What is not so yet. A row that expires is never as wanted: its time is set anew, or taken away."""
        new = {key: value for key, value in puts.items() if ttl is not None or kept.get(key) != (value, None)}
        return new, [key for key in deletes if key in kept]

    def _put(self, table: Table, partition: str, puts: Mapping[str, str], expires: float | None, stamp: int) -> None:
        rows = [(table, partition, key, value, stamp, expires) for key, value in puts.items()]
        statement = "INSERT OR REPLACE INTO rows (tbl, part, key, value, version, expires) VALUES (?,?,?,?,?,?)"
        self._db.executemany(statement, rows)

    def _drop(self, table: Table, partition: str, keys: Collection[str]) -> None:
        rows = [(table, partition, key) for key in keys]
        self._db.executemany("DELETE FROM rows WHERE tbl=? AND part=? AND key=?", rows)

    def _sweep(self) -> None:
        """Now and then, what has expired is thrown away."""
        now = self._clock()
        if now - self._swept > SWEEP_EVERY:
            self._db.execute("DELETE FROM rows WHERE expires <= ?", (now,))
            self._swept = now

    def compare_and_set(
        self,
        table: Table,
        partition: str,
        expected: Mapping[str, int | None],
        puts: Mapping[str, str],
        deletes: Collection[str] = (),
    ) -> bool:
        """See Store."""
        if not self._as_expected(table, partition, expected):
            return False
        with self._transaction():
            if not self._as_expected(table, partition, expected):
                return False
            self._put(table, partition, puts, None, self._stamp(table, partition))
            self._drop(table, partition, deletes)
        return True

    def _as_expected(self, table: Table, partition: str, expected: Mapping[str, int | None]) -> bool:
        rows = ((self.get(table, partition, key), version) for key, version in expected.items())
        return all((row.version if row else None) == version for row, version in rows)

    def changed_since(self, cursor: int) -> tuple[int, frozenset[Partition]]:
        """See Store."""
        if self._there() != self._file:
            raise StoreUnusable(
                f"the store {self._path} was removed, or another file put in its place, while it was in use",
                hint="what was in it is gone: when nobody uses it any more, remove what is left beside it (-wal, "
                "-shm), then put a copy in its place, or begin with an empty one",
            )
        with self._errors():
            now: int = self._db.execute("SELECT at FROM cursor").fetchone()[0]
            if now == cursor:
                return cursor, frozenset()
            # A cursor from the future is that of another store (an older copy was put back): everything is new.
            since = cursor if cursor < now else 0
            found = self._db.execute("SELECT tbl, part FROM changes WHERE at > ? AND at <= ?", (since, now)).fetchall()
        return now, frozenset((Table(table), partition) for table, partition in found if known(table))

    def nodes(self) -> Mapping[str, bool]:
        """See Store."""
        return {}

    def close(self) -> None:
        """See Store."""
        with self._lock:
            self._db.close()
