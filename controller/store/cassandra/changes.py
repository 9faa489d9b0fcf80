"""What changed, told by everybody who changes: a log of marks, of which only the new end is read.

No transaction spans a partition and the log, so a change is marked twice: before it is made, and when it is done. Who
follows names the partition at each mark; where the second one does not come (the writer died), once more when no write
that was begun then can still arrive. The marks' times are given by Cassandra's nodes, not by the controllers, whose
clocks may be wrong; as two marks need not become visible in the order of their times, the last seconds are always read
again, and what is known of them is passed over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from cassandra.util import max_uuid_from_time, unix_time_from_uuid1

from controller.clock import uptime
from controller.store.base import Partition, Table, known
from controller.store.cassandra.ring import MARK, READ, Ring
from controller.store.cassandra.schema import MARK_TTL

# Seconds: longer than after its first mark a write can still arrive (see store.PERSISTENCE, and the requests' times).
PENDING = 20.0
# Seconds of the log's end that are read again: a write's duration, and how far the nodes' clocks may be apart.
WINDOW = 2 * PENDING

_TELL = "INSERT INTO salvus.changes (slot, at, tbl, part, stamp, done) VALUES (0, now(), ?, ?, ?, ?)"
_READ = "SELECT at, tbl, part, stamp, done FROM salvus.changes WHERE slot = 0 AND at > ?"
_NOW = "SELECT now() AS at FROM system.local"


class Changes:
    """One follower of the log. ``everything`` names all partitions there are. Safe for threads."""

    def __init__(
        self, ring: Ring, everything: Callable[[], frozenset[Partition]], clock: Callable[[], float] = uptime
    ) -> None:
        self._ring = ring
        self._everything = everything
        self._clock = clock
        self._lock = threading.Lock()
        self._number = time.time_ns()
        self._floor = self._number + 1
        self._changed: dict[Partition, int] = {}
        self._known: dict[UUID, float] = {}
        # When a change was first seen that was marked before it was made; two partitions may have one stamp.
        self._begun: dict[tuple[Partition, int], float] = {}
        self._newest = 0.0
        self._polled = float("-inf")

    def tell(self, table: Table, part: str, stamp: int, *, done: bool) -> None:
        """Marks a change that will be made, or is done."""
        self._ring.execute(MARK, _TELL, table.value, part, stamp, done)

    def since(self, cursor: int) -> tuple[int, frozenset[Partition]]:
        """See ``Store.changed_since``."""
        with self._lock:
            self._poll()
            if self._floor <= cursor <= self._number:
                changed = (where for where, number in self._changed.items() if number > cursor)
                return self._number, frozenset(changed)
            number = self._number
        # Listed after the log was read: what comes in between is named now, and again by its mark.
        return number, self._everything()

    def _poll(self) -> None:
        now = self._clock()
        if now - self._polled > MARK_TTL / 2:
            self._begin()
        rows = self._ring.execute(READ, _READ, max_uuid_from_time(max(0.0, self._newest - WINDOW)))
        for row in rows:
            self._take(row, now)
        for (partition, stamp), seen in list(self._begun.items()):
            if now - seen > PENDING:
                del self._begun[partition, stamp]
                self._note(partition)
        self._known = {at: when for at, when in self._known.items() if when > self._newest - WINDOW}
        self._polled = now

    def _begin(self) -> None:
        """Marks were missed, or none was read yet: all cursors given so far are worth nothing."""
        self._newest = unix_time_from_uuid1(self._ring.execute(READ, _NOW)[0].at)
        self._number += 1
        self._floor = self._number
        self._known.clear()
        self._begun.clear()

    def _take(self, row: Any, now: float) -> None:
        if row.at in self._known or not known(row.tbl):
            return
        when = unix_time_from_uuid1(row.at)
        self._known[row.at] = when
        self._newest = max(self._newest, when)
        partition = (Table(row.tbl), row.part)
        if row.done:
            self._begun.pop((partition, row.stamp), None)
        else:
            self._begun[partition, row.stamp] = now
        self._note(partition)

    def _note(self, partition: Partition) -> None:
        self._number += 1
        self._changed[partition] = self._number
