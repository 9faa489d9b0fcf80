"""The row store that every backend is: tables of partitions of rows, each row a key, a text and a version.

Shaped for Cassandra as for SQLite: no transaction spans two partitions, and rows may expire.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from drivers.base import SalvusError


class StoreError(SalvusError):
    """Something about the store."""


class Conflict(StoreError):
    """Somebody else wrote the row meanwhile: forget this pass, and try again now."""


class StoreUnavailable(StoreError):
    """The store cannot be used at the moment. Back off, stay up."""


class StoreUnusable(StoreError):
    """The store will not work without a human: damaged, or written by a newer version. Nothing was changed."""


class StoreMissing(StoreError):
    """There is no such store, and who opened it was not to make one."""


class Access(enum.Enum):
    """What an opening is for."""

    READ = "read"  # nothing is written, no store is made
    WRITE = "write"  # no store is made
    MAKE = "make"  # one that is not there is made


class Table(enum.StrEnum):
    """The tables, with what their partitions and keys are."""

    RESOURCE = "resource"  # Kind/name / "manifest"
    STATUS = "status"  # machine / Kind/name; of the fleet pass: Kind/name / empty
    INVENTORY = "inventory"  # machine / item key
    FACT = "fact"  # Kind/name / what
    ALLOCATION = "allocation"  # Kind/name / what
    OBSERVATION = "observation"  # machine / item key
    EVENT = "event"  # machine, or Kind/name where there is none / digest of what is said
    RUN = "run"  # machine / time
    JOB = "job"  # machine / item key
    LEASE = "lease"  # "leases" / lease name, or member/ID
    META = "meta"  # topic / key


_TABLES = frozenset(Table)


def known(table: str) -> bool:
    """Whether this program has such a table. One of the next version may work on the same store, and have more."""
    return table in _TABLES


@dataclass(frozen=True, slots=True)
class Row:
    """A row's text and its version, which grows with every write that changed it."""

    value: str
    version: int


Partition = tuple[Table, str]


class Store(Protocol):
    """A row store. Safe for threads and for several processes.

    Partitions, keys and values are any Unicode text, the empty one included. Raises StoreUnavailable when it cannot
    be used: what was being written may then be written, or not.
    """

    def get(self, table: Table, partition: str, key: str) -> Row | None:
        """One row."""
        ...

    def read(self, table: Table, partition: str) -> Mapping[str, Row]:
        """A partition's rows by key, sorted."""
        ...

    def read_all(self, table: Table) -> Mapping[str, Mapping[str, Row]]:
        """A whole table: partition → key → row."""
        ...

    def write(
        self,
        table: Table,
        partition: str,
        puts: Mapping[str, str],
        deletes: Collection[str] = (),
        *,
        ttl: float | None = None,
    ) -> bool:
        """Writes and deletes rows of one partition at once. Rows that are so already are not touched.

        ``ttl`` in seconds: after it the rows written now are gone, which is no change. A row that expires is written
        again also when its value is the same. Returns whether anything changed.
        """
        ...

    def compare_and_set(
        self,
        table: Table,
        partition: str,
        expected: Mapping[str, int | None],
        puts: Mapping[str, str],
        deletes: Collection[str] = (),
    ) -> bool:
        """Writes and deletes rows of one partition at once, or nothing: only while each row in ``expected`` has the
        version there (None: there is no such row).

        Also a row that is so already is written: its version grows. Returns whether it was done.
        """
        ...

    def changed_since(self, cursor: int) -> tuple[int, frozenset[Partition]]:
        """The partitions changed after the cursor, and the new cursor. Begin with 0; cheap when nothing is.

        A partition may be named again without need, but none is ever missed; for a cursor that this store did not
        give (it was put back from a copy), all are named.
        """
        ...

    def nodes(self) -> Mapping[str, bool]:
        """The servers that keep it by address, and whether each is up, as far as seen; none for a file. Asks nobody."""
        ...

    def close(self) -> None:
        """Ends the use of the store."""
        ...
