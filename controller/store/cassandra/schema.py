"""The tables, and how they are made: safe when two processes do it at once."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

from cassandra import AlreadyExists

from controller.store.base import StoreMissing, StoreUnusable, Table
from controller.store.cassandra.ring import READ, SWAP, Ring, errors

VERSION = 1
# Replicas: the least with which one node may die.
USUAL = 3
# Seconds that a mark of a change stays; who has not looked for longer reads everything.
MARK_TTL = 900
# Seconds: as long as Cassandra keeps hints for a node that is away (max_hint_window).
HINT_WINDOW = 3 * 3600
# Seconds for one definition, and until all nodes have heard of all of them.
PATIENCE = 30.0
# After so long, whoever coordinates a read asks another replica: by default a table that nobody read yet waits seconds.
RETRY = "100ms"

# What only expires needs no long memory of deletions; the rest keeps Cassandra's ten days: one must repair within them.
EXPIRING = frozenset({Table.EVENT, Table.RUN, Table.JOB})

# part: the partition with a slash before it, as a key must not be empty.
# stamp: of the partition's last change; stamps: of the last ones; a row's version is the stamp of its own.
ROWS = """CREATE TABLE IF NOT EXISTS salvus.{name} (
    part text, key text, stamp bigint static, stamps frozen<list<bigint>> static, value text, version bigint,
    PRIMARY KEY ((part), key)
) WITH id = {id} AND speculative_retry = '{retry}'{more}"""
CHANGES = f"""CREATE TABLE IF NOT EXISTS salvus.changes (
    slot int, at timeuuid, tbl text, part text, stamp bigint, done boolean, PRIMARY KEY ((slot), at)
) WITH id = {{id}} AND speculative_retry = '{RETRY}' AND CLUSTERING ORDER BY (at ASC)
  AND default_time_to_live = {MARK_TTL}
  AND gc_grace_seconds = {HINT_WINDOW} AND compaction = {{{{'class': 'TimeWindowCompactionStrategy',
  'compaction_window_unit': 'MINUTES', 'compaction_window_size': '15'}}}}"""
VERSIONS = f"""CREATE TABLE IF NOT EXISTS salvus.versions (what text PRIMARY KEY, version int)
 WITH id = {{id}} AND speculative_retry = '{RETRY}'"""

_HINT = "run: salvusctl store init"


def make(ring: Ring, replication: dict[str, int]) -> None:
    """Makes the keyspace and the tables, or what is missing of them. An existing keyspace keeps its replication."""
    # Once at the end is enough: all is defined by one node.
    ring.cluster.max_schema_agreement_wait = 0
    factors = ", ".join(f"'{name}': {number}" for name, number in sorted(replication.items()))
    name = ring.settings.keyspace
    if ring.replication() is None:
        _define(
            ring,
            f'CREATE KEYSPACE IF NOT EXISTS "{name}" '
            f"WITH replication = {{'class': 'NetworkTopologyStrategy', {factors}}}",
        )
    for table in Table:
        more = f" AND gc_grace_seconds = {HINT_WINDOW}" if table in EXPIRING else ""
        _define(ring, ROWS.format(name=table.value, id=_id(name, table.value), retry=RETRY, more=more))
    _define(ring, CHANGES.format(id=_id(name, "changes")))
    _define(ring, VERSIONS.format(id=_id(name, "versions")))
    with errors(ring.settings):
        ring.cluster.refresh_schema_metadata(max_schema_agreement_wait=PATIENCE)
    ring.execute(SWAP, "INSERT INTO salvus.versions (what, version) VALUES ('rows', ?) IF NOT EXISTS", VERSION)


def _id(keyspace: str, table: str) -> uuid.UUID:
    """A table's identifier, the same for everybody: two that make it at once make one, not two that fight."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"salvus:{keyspace}/{table}")


def _define(ring: Ring, statement: str) -> None:
    def ask() -> None:
        # All by one node: another may not have heard of the keyspace yet.
        ring.session.execute(ring.ours(statement), timeout=PATIENCE, host=ring.cluster.get_control_connection_host())

    with suppress(AlreadyExists):  # somebody else was faster
        ring.patiently(ask)


def check(ring: Ring) -> None:
    """Raises StoreUnusable where there is no schema, or another one than ours."""
    if ring.replication() is None:
        raise StoreMissing(f"the store {ring.settings} does not exist: there is no such keyspace", hint=_HINT)
    keyspace: Any = ring.cluster.metadata.keyspaces[ring.settings.keyspace]
    missing = {table.value for table in Table} | {"changes", "versions"}
    if missing - set(keyspace.tables):
        raise StoreUnusable(f"the store {ring.settings} has not all tables of salvus", hint=_HINT)
    rows = ring.execute(READ, "SELECT version FROM salvus.versions WHERE what = 'rows'")
    if not rows:
        raise StoreUnusable(f"the store {ring.settings} was not made to its end", hint=_HINT)
    if rows[0].version != VERSION:
        raise StoreUnusable(
            f"the store {ring.settings} has schema {rows[0].version}, this salvus knows {VERSION}",
            hint="use the salvus that wrote it, or a newer one",
        )
