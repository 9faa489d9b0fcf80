"""The store that a configuration names: opened, made, looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controller.store.base import Access, Store
from controller.store.cassandra.settings import CassandraSettings
from controller.store.sqlite import SqliteStore, migrate

# A file of SQLite, or a ring.
Where = Path | CassandraSettings


# Told that what is read may be old, and how old.
Old = Callable[[str], None]


def open_store(where: Where, access: Access, old: Old | None = None) -> Store:
    """The store. A keyspace is never made by the way: that is for ``salvusctl store init``. Raises StoreError.

    ``old`` of who only reads: what may be old is read, too, when there is nothing better, and told; without it, it
    is an error.
    """
    if isinstance(where, Path):
        return SqliteStore(where, access=access)
    from controller.store.cassandra.store import CassandraStore  # the driver takes a while to load

    return CassandraStore(where, old if access is Access.READ else None)


def make_store(where: Where, replicas: int | None = None) -> None:
    """Makes the store, or what is missing of it; once more does no harm. ``replicas`` of a ring's data centre.

    Raises StoreError.
    """
    if isinstance(where, Path):
        SqliteStore(where, access=Access.MAKE).close()
        return
    from controller.store.cassandra.store import CassandraStore

    CassandraStore.make(where, replicas)


def migrate_store(where: Where) -> tuple[int, int]:
    """Brings a store that is there to the schema of this program; its version before and after.

    Safe when two do it at once, and while programs of the version before use it. Raises StoreError.
    """
    if isinstance(where, Path):
        return migrate(where)
    from controller.store.cassandra.store import CassandraStore

    return CassandraStore.migrate(where)


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a ring."""

    address: str
    datacenter: str
    up: bool


@dataclass(frozen=True, slots=True)
class Health:
    """How a store is: its nodes, how many replicas each data centre has, and what a human must do, a sentence each."""

    nodes: tuple[Node, ...] = ()
    replicas: tuple[tuple[str, int], ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def writable(self) -> bool:
        """Whether a quorum of the replicas is up, as far as is seen."""
        up = Counter(node.datacenter for node in self.nodes if node.up)
        there = sum(up[name] for name, _ in self.replicas)
        return not self.replicas or there > sum(factor for _, factor in self.replicas) // 2


def health(where: Where) -> Health:
    """Looks, and changes nothing. Raises StoreError where it cannot be used at all."""
    if isinstance(where, Path):
        SqliteStore(where, access=Access.READ).close()
        return Health()
    from controller.store.cassandra.health import look

    return look(where)
