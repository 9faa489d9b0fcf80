"""Following the log of changes in Cassandra: nothing is missed of whoever died, and nothing met that is not known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid1

from controller.store.base import Partition, Table
from controller.store.cassandra.changes import PENDING, Changes
from controller.store.cassandra.ring import Ring

ONE, TWO = (Table.META, "one"), (Table.META, "two")


class Log:
    """What a ring answers; ``now`` is the follower's clock."""

    def __init__(self) -> None:
        self.marks: list[Any] = []
        self.now = 1000.0
        self.changes = Changes(cast(Ring, self), lambda: frozenset({ONE, TWO}), lambda: self.now)

    def execute(self, _use: str, query: str, *_: object) -> list[Any]:
        return [SimpleNamespace(at=uuid1())] if "now()" in query else list(self.marks)

    def mark(self, table: str, part: str, stamp: int, *, done: bool) -> None:
        self.marks.append(SimpleNamespace(at=uuid1(), tbl=table, part=part, stamp=stamp, done=done))

    def since(self, cursor: int) -> tuple[int, frozenset[Partition]]:
        return self.changes.since(cursor)


def test_a_change_whose_end_is_not_told_is_named_again_whoever_else_has_its_stamp() -> None:
    log = Log()
    cursor, everything = log.since(0)
    assert everything == {ONE, TWO}
    for part in ("one", "two"):
        log.mark("meta", part, 7, done=False)
    log.mark("meta", "two", 7, done=True)
    cursor, changed = log.since(cursor)
    assert changed == {ONE, TWO}
    log.now += PENDING + 1
    cursor, changed = log.since(cursor)
    assert changed == {ONE}
    log.now += PENDING + 1
    assert log.since(cursor) == (cursor, frozenset())


def test_a_table_of_the_next_version_is_passed_over() -> None:
    log = Log()
    cursor, _ = log.since(0)
    log.mark("a table that we have not", "p", 7, done=True)
    log.mark("meta", "one", 8, done=True)
    assert log.since(cursor)[1] == {ONE}
