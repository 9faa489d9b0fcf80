"""One file with all that a store keeps, for any backend: JSON lines, a head first, a checksum last.

Leases, jobs under way and puts under way are of the moment, and left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.store.base import Partition, Row, Store, StoreError, Table
from controller.store.history import EVENT_TTL, RUN_TTL
from controller.store.ledger import PUTS
from controller.store.source_ledger import APPROVALS

FORMAT = 1
KEPT: tuple[Table, ...] = tuple(table for table in Table if table not in (Table.LEASE, Table.JOB))
# The time that rows of a table get when they are put back; how much they had left is not known.
LIVES: Mapping[Table, float] = {Table.EVENT: EVENT_TTL, Table.RUN: RUN_TTL}
# Topics of META that are of the moment.
PASSING = frozenset({PUTS, APPROVALS})
# So often what changed during the copying is read again; on a store that never rests the copy is of no one moment.
ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Part:
    """A partition of a copy."""

    table: Table
    partition: str
    rows: Mapping[str, str]


class NotACopy(StoreError):
    """The file is not what ``dump`` writes, or not all of it. Nothing was written."""


def dump(store: Store) -> Iterator[str]:
    """The lines. What others write meanwhile is followed until there is a moment of rest. Raises StoreError."""
    cursor, _ = store.changed_since(0)
    everything: dict[Partition, Mapping[str, str]] = {}
    for table in KEPT:
        everything |= {(table, name): _texts(rows) for name, rows in store.read_all(table).items()}
    for _ in range(ROUNDS):
        cursor, changed = store.changed_since(cursor)
        if not changed:
            break
        for table, name in changed:
            everything[table, name] = _texts(store.read(table, name))
    digest = hashlib.sha256()
    for line in _lines(everything):
        digest.update(line.encode())
        yield line
    yield json.dumps({"sha256": digest.hexdigest()}) + "\n"


def _texts(rows: Mapping[str, Row]) -> dict[str, str]:
    return {key: row.value for key, row in rows.items()}


def _lines(everything: Mapping[Partition, Mapping[str, str]]) -> Iterator[str]:
    yield json.dumps({"salvus": "store", "format": FORMAT}) + "\n"
    for (table, name), rows in sorted(everything.items()):
        if rows and table in KEPT and not (table is Table.META and name in PASSING):
            yield json.dumps({"table": table, "partition": name, "rows": rows}) + "\n"


def restore(store: Store, parts: Collection[Part]) -> int:
    """Writes a copy into an empty store; returns how many rows. Raises StoreError for one that is not empty."""
    if any(store.read_all(table) for table in KEPT if table is not Table.META):
        raise StoreError(
            "the store is not empty; nothing was written",
            hint="put the copy into a new one: another file, or another keyspace",
        )
    for part in parts:
        store.write(part.table, part.partition, part.rows, ttl=LIVES.get(part.table))
    return sum(len(part.rows) for part in parts)


def checked(lines: Iterable[str]) -> tuple[Part, ...]:
    """The partitions of a copy that is whole. Raises NotACopy."""
    digest, last = hashlib.sha256(), ""
    found: list[Any] = []
    try:
        for line in lines:
            digest.update(last.encode())
            last = line
            found.append(json.loads(line))
        whole = len(found) > 1 and found[-1].get("sha256") == digest.hexdigest()
    except (ValueError, AttributeError) as error:
        raise NotACopy(f"line {len(found) + 1} is not of a copy of a store", hint=_HINT) from error
    if not whole:
        raise NotACopy("the copy is not whole: its checksum is missing or another one", hint=_HINT)
    if (format_ := found[0].get("format")) != FORMAT:
        raise NotACopy(f"the copy has format {format_}, this salvus knows {FORMAT}", hint=_HINT)
    try:
        return tuple(Part(Table(part["table"]), part["partition"], part["rows"]) for part in found[1:-1])
    except (KeyError, TypeError, ValueError) as error:
        raise NotACopy(
            f"the copy has what this salvus does not know: {error}", hint="use the salvus that wrote it"
        ) from error


_HINT = "give a file that `salvusctl store dump` wrote"
