"""How a decision is kept so that two who decide at the same time never give one thing out twice."""

from __future__ import annotations

from collections.abc import Mapping

from controller.store.base import Row, Store, Table
from resources.base import pool_of


def keep(store: Store, ref: str, what: str, value: str) -> str | None:
    """Keeps a decision; the first one wins. Returns the one that is in force.

    None: the value is out of a pool, and was given to somebody else there meanwhile; another one is to be tried.
    """
    return _keep_of_pool(store, ref, what, value) if pool_of(what) else _keep_one(store, ref, what, value)


def _keep_one(store: Store, ref: str, what: str, value: str) -> str:
    if store.compare_and_set(Table.ALLOCATION, ref, {what: None}, {what: value}):
        return value
    row = store.get(Table.ALLOCATION, ref, what)
    return row.value if row else value


def _keep_of_pool(store: Store, ref: str, what: str, value: str) -> str | None:
    """With each gift the row of the pool itself changes (what was given last): who read an older one starts anew."""
    pool = pool_of(what)
    while True:
        rows = store.read(Table.ALLOCATION, ref)
        if what in rows:
            return rows[what].value
        if value in _given(rows, pool):
            return None
        expected = {what: None, pool: rows[pool].version if pool in rows else None}
        if store.compare_and_set(Table.ALLOCATION, ref, expected, {what: value, pool: value}):
            return value


def decide_anew(store: Store, ref: str, before: Mapping[str, str | None], after: Mapping[str, str | None]) -> bool:
    """Replaces decisions (None: there is none) all at once, if they are as ``before``. Returns whether they were.

    With what is of a pool (``POOL/FOR``), the row of the pool itself changes, too: who read all of it reads it again.
    """
    rows = store.read(Table.ALLOCATION, ref)
    if any((rows[what].value if what in rows else None) != value for what, value in before.items()):
        return False
    pools = {pool_of(what): f"{what} {value}" for what, value in after.items() if pool_of(what)}
    puts = {what: value for what, value in after.items() if value is not None}
    expected = {what: rows[what].version if what in rows else None for what in (*before, *pools)}
    return store.compare_and_set(Table.ALLOCATION, ref, expected, {**puts, **pools}, after.keys() - puts.keys())


def rename_in_pools(store: Store, before: str, after: str) -> None:
    """Gives what resources have for a machine (``POOL/MACHINE``: addresses and facts of a VPN) to its new name."""
    for table in (Table.FACT, Table.ALLOCATION):
        for ref, rows in store.read_all(table).items():
            old = {what: row.value for what, row in rows.items() if pool_of(what) and what.partition("/")[2] == before}
            if old:
                new = {f"{pool_of(what)}/{after}": value for what, value in old.items()}
                store.write(table, ref, new, tuple(old))


def _given(rows: Mapping[str, Row], pool: str) -> frozenset[str]:
    return frozenset(row.value for what, row in rows.items() if pool_of(what) == pool)
