"""The tables, and how they are made and brought to newer versions: safe when two processes do it at once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cassandra import AlreadyExists

from controller.store.base import StoreMissing, StoreUnavailable, StoreUnusable, Table
from controller.store.cassandra.ring import READ, SERIAL, SWAP, Ring, errors
from controller.store.versions import refuse_newer, refuse_older

# Replicas: the least with which one node may die.
USUAL = 3
# Seconds that a mark of a change stays; who has not looked for longer reads everything.
MARK_TTL = 900
# Seconds: as long as Cassandra keeps hints for a node that is away (max_hint_window).
HINT_WINDOW = 3 * 3600
# Seconds for one definition, and until all nodes have heard of all of them.
PATIENCE = 30.0
# After so long, whoever coordinates a read asks another replica: by default a table that nobody read yet waits seconds.
RETRY = "speculative_retry = '100ms'"

# ``{id[NAME]}`` in it becomes the identifier of the table.
Definition = str


def _rows(name: str, more: str = "") -> Definition:
    # part: the partition with a slash before it, as a key must not be empty.
    # stamp: of the partition's last change; stamps: of the last ones; a row's version is the stamp of its own.
    return (
        f"CREATE TABLE IF NOT EXISTS salvus.{name} (part text, key text, stamp bigint static, "
        "stamps frozen<list<bigint>> static, value text, version bigint, PRIMARY KEY ((part), key)) "
        f"WITH id = {{id[{name}]}} AND {RETRY}{more}"
    )


# What only expires needs no long memory of deletions; the rest keeps Cassandra's ten days: one must repair within them.
_EXPIRING = f" AND gc_grace_seconds = {HINT_WINDOW}"
_CHANGES = f"""CREATE TABLE IF NOT EXISTS salvus.changes (
    slot int, at timeuuid, tbl text, part text, stamp bigint, done boolean, PRIMARY KEY ((slot), at)
) WITH id = {{id[changes]}} AND {RETRY} AND CLUSTERING ORDER BY (at ASC) AND default_time_to_live = {MARK_TTL}
  AND gc_grace_seconds = {HINT_WINDOW} AND compaction = {{{{'class': 'TimeWindowCompactionStrategy',
  'compaction_window_unit': 'MINUTES', 'compaction_window_size': '15'}}}}"""
_VERSIONS = f"""CREATE TABLE IF NOT EXISTS salvus.versions (what text PRIMARY KEY, version int)
 WITH id = {{id[versions]}} AND {RETRY}"""

# Each entry brings the schema from its index to the next version. It only adds (see versions.py), and each definition
# says IF NOT EXISTS: a second one that makes it too, or one that goes on after a kill, does no harm.
STEPS: tuple[tuple[Definition, ...], ...] = (
    (
        *(_rows(name) for name in ("resource", "status", "inventory", "fact", "allocation", "observation")),
        *(_rows(name, _EXPIRING) for name in ("event", "run", "job")),
        *(_rows(name) for name in ("lease", "meta")),
        _CHANGES,
    ),
)

_HINT = "run: salvusctl store init"
_VERSION = "SELECT version FROM salvus.versions WHERE what = 'rows'"
_NEXT = "UPDATE salvus.versions SET version = ? WHERE what = 'rows' IF version = ?"


@dataclass(frozen=True, slots=True)
class _Ids:
    """Table → identifier, the same for everybody: two that make a table at once make one, not two that fight."""

    keyspace: str

    def __getitem__(self, table: str) -> uuid.UUID:
        return uuid.uuid5(uuid.NAMESPACE_URL, f"salvus:{self.keyspace}/{table}")


def make(ring: Ring, replication: dict[str, int], steps: Sequence[Sequence[Definition]] = STEPS) -> None:
    """Makes the keyspace and the tables, or what is missing of them. An existing keyspace keeps its replication.

    Raises StoreUnusable for one with a schema that is too new.
    """
    # Once after each step is enough: all is defined by one node.
    ring.cluster.max_schema_agreement_wait = 0
    if ring.replication() is None:
        factors = ", ".join(f"'{name}': {number}" for name, number in sorted(replication.items()))
        _define(
            ring,
            f'CREATE KEYSPACE IF NOT EXISTS "{ring.settings.keyspace}" '
            f"WITH replication = {{{{'class': 'NetworkTopologyStrategy', {factors}}}}}",
        )
    _define(ring, _VERSIONS)
    _agree(ring)
    refuse_newer(f"the store {ring.settings}", _version(ring, SERIAL), len(steps))
    _bring(ring, steps, 0)


def migrate(ring: Ring, steps: Sequence[Sequence[Definition]] = STEPS) -> tuple[int, int]:
    """Brings the schema to the version of the steps; the one before and after. Raises StoreMissing, StoreUnusable."""
    ring.cluster.max_schema_agreement_wait = 0
    before = _found(ring, SERIAL)
    refuse_newer(f"the store {ring.settings}", before, len(steps))
    _bring(ring, steps, before)
    return before, max(before, len(steps))


def _bring(ring: Ring, steps: Sequence[Sequence[Definition]], before: int) -> None:
    """The version grows only when all nodes have heard of what is in it."""
    for number, step in enumerate(steps[before:], before):
        for definition in step:
            _define(ring, definition)
        _agree(ring)
        # Not done where somebody else was faster.
        ring.execute(SWAP, _NEXT, number + 1, number or None)


def _agree(ring: Ring) -> None:
    """Waits until all nodes have heard of everything; asked again where the connection that asks them ended."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with errors(ring.settings):
                ring.cluster.refresh_schema_metadata(max_schema_agreement_wait=PATIENCE)
            return
        except StoreUnavailable:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def _define(ring: Ring, definition: Definition) -> None:
    statement = ring.ours(definition).format(id=_Ids(ring.settings.keyspace))

    def ask() -> None:
        # All by one node: another may not have heard of the keyspace yet.
        ring.session.execute(statement, timeout=PATIENCE, host=ring.cluster.get_control_connection_host())

    with suppress(AlreadyExists):  # somebody else was faster
        ring.patiently(ask)


def check(ring: Ring) -> None:
    """Raises StoreUnusable where there is no schema, or one that this program cannot work with."""
    found = _found(ring, READ)
    refuse_newer(f"the store {ring.settings}", found, len(STEPS))
    refuse_older(f"the store {ring.settings}", found, len(STEPS))
    if {table.value for table in Table} - _tables(ring):
        raise StoreUnusable(f"the store {ring.settings} has not all tables of salvus", hint=_HINT)


def _found(ring: Ring, use: str) -> int:
    if ring.replication() is None:
        raise StoreMissing(f"the store {ring.settings} does not exist: there is no such keyspace", hint=_HINT)
    found = _version(ring, use) if "versions" in _tables(ring) else 0
    if not found:
        raise StoreUnusable(f"the store {ring.settings} was not made to its end", hint=_HINT)
    return found


def _version(ring: Ring, use: str) -> int:
    """0 for a schema that was not made to its end."""
    rows = ring.execute(use, _VERSION)
    return rows[0].version if rows else 0


def _tables(ring: Ring) -> set[str]:
    keyspace: Any = ring.cluster.metadata.keyspaces[ring.settings.keyspace]
    return set(keyspace.tables)
