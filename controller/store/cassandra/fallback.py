"""Reading when no quorum of the replicas is there: one replica's answer, and a sentence on how old it may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cassandra.util import unix_time_from_uuid1

from controller.clock import rfc3339, uptime
from controller.store.base import StoreUnavailable
from controller.store.cassandra.ring import GLOBAL, ONE, READ, Ring
from controller.store.cassandra.schema import MARK_TTL

# Seconds for which a quorum is asked for that nobody is known to be missing of.
PATIENCE = 2.0
# Seconds after which a quorum is asked for again.
AGAIN = 5.0
# The newest mark of a change (see changes.py); controllers make one with each renewal of a lease, every few seconds.
_NEWEST = "SELECT at FROM salvus.changes WHERE slot = 0 ORDER BY at DESC LIMIT 1"
_NOW = "SELECT now() AS at FROM system.local"


@dataclass
class ForgivingRing(Ring):
    """For who only reads, and rather has an old answer than none; ``warn`` is told each time that this begins."""

    warn: Callable[[str], None] = lambda _: None
    _weak: bool = False
    _until: float = float("-inf")

    def execute(self, use: str, query: str, *values: object) -> list[Any]:
        """See Ring. What is read is asked of one replica for a while when a quorum gives no answer."""
        if use != READ:
            return super().execute(use, query, *values)
        if uptime() >= self._until:
            if (found := self._by_quorum(query, *values)) is not None:
                self._weak = False
                return found
            self._until = uptime() + AGAIN
        found = self._by_one(query, *values)
        if not self._weak:
            self._weak = True
            self.warn(self._sentence())
        return found

    def _by_quorum(self, query: str, *values: object) -> list[Any] | None:
        """None where no quorum answers."""
        if self._known_to_lack():
            return None
        try:
            return self.patiently(lambda: self.ask(f"{READ}/{self.scope()}", query, *values), PATIENCE)
        except StoreUnavailable:
            return None

    def _by_one(self, query: str, *values: object) -> list[Any]:
        return self.patiently(lambda: self.ask(ONE, query, *values))

    def _known_to_lack(self) -> bool:
        """Whether fewer nodes answer than a quorum of the replicas is; a node that was not tried yet counts."""
        replicas = self.replication() or {}
        there = [host for host in self.cluster.metadata.all_hosts() if host.is_up is not False]
        if self.scope() != GLOBAL:
            there = [host for host in there if host.datacenter == self.settings.datacenter]
        return len(there) <= sum(replicas.values()) // 2

    def _sentence(self) -> str:
        newest, now = self._by_one(_NEWEST), unix_time_from_uuid1(self._by_one(_NOW)[0].at)
        return old(
            sum((self.replication() or {}).values()), unix_time_from_uuid1(newest[0].at) if newest else None, now
        )


def old(replicas: int, newest: float | None, now: float) -> str:
    """How old an answer may be: the newest known change was made ``newest``, by the nodes' clocks."""
    if newest is None:
        known = f"it knows of no change in the last {MARK_TTL // 60} minutes"
    else:
        seconds = max(0, round(now - newest))
        span = f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
        known = f"the newest change it knows of was made at {rfc3339(newest)}, {span} ago"
    return f"no quorum of the store's {replicas} replicas answers in time; this is from one, and may be old: {known}"
