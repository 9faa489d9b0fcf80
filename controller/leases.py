"""Leases: who may act. One for the fleet pass, one for each shard of machines; each acquisition has a higher epoch.

Time is only ever compared on one's own clock: a holder counts from before its write, and stops well before the end; a
contender takes over when it has *watched* a row stay the same for the whole time, or at once when the holder was a
process of this very machine and is dead. A lease alone fences nothing: the machine compares the epoch (rule 10).

A new epoch is above every one that the store knows of, and at least the seconds since 1970: a machine has seen no newer
one, also when the store was lost and made anew, or when the machine's new name is in another shard.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from controller.clock import uptime
from controller.store.base import Row, Store, StoreError, Table

PARTITION = "leases"
FLEET = "fleet"
SHARDS = 16
TTL = 10.0
# The holder stops this much before the end of the time, for clocks that do not run quite alike.
USABLE = 0.7


def shard_of(machine: str) -> str:
    """The lease of a machine's shard; a machine's shard never changes, so its epochs only grow."""
    digest = hashlib.sha256(machine.encode()).digest()
    return f"shard/{digest[0] % SHARDS:02d}"


ALL = (FLEET, *(f"shard/{number:02d}" for number in range(SHARDS)))


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, told apart from all others: by host, boot, pid namespace, pid and its start time (proc(5))."""

    host: str
    boot: str
    namespace: str
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> Holder:
        """The running process."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
        return cls(socket.gethostname(), boot, namespace, os.getpid(), _start_time(os.getpid()) or "")

    def dead(self, observer: Holder) -> bool:
        """Whether it certainly runs no more: only known of processes of the same boot and pid namespace."""
        if (self.boot, self.namespace) != (observer.boot, observer.namespace):
            return False
        started = _start_time(self.pid)
        if started is None:
            # Where /proc hides other users' processes (hidepid), the kernel still says whether there is one.
            return not _exists(self.pid)
        return started != self.started

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"


def _start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat; None without such a process, empty for a zombie, which runs no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in {"Z", "X"} else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(frozen=True, slots=True)
class _Entry:
    """A lease's row. ``beat`` changes with every renewal; a free lease has no holder and keeps its epoch."""

    epoch: int
    beat: int
    holder: Holder | None

    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of(cls, row: Row) -> _Entry:
        value = json.loads(row.value)
        holder = Holder(**value["holder"]) if value["holder"] else None
        return cls(value["epoch"], value["beat"], holder)


def holders(store: Store) -> str:
    """Who holds leases and is not known to be dead, as ``pid 7 on host``; empty for nobody. Raises StoreUnavailable."""
    me = Holder.this_process()
    entries = [_Entry.of(row) for row in store.read(Table.LEASE, PARTITION).values()]
    return ", ".join(sorted({str(e.holder) for e in entries if e.holder is not None and not e.holder.dead(me)}))


def epochs(store: Store) -> Mapping[str, int]:
    """The epochs of the leases whose holder is not known to be dead, by name. Raises StoreUnavailable."""
    me = Holder.this_process()
    entries = {name: _Entry.of(row) for name, row in store.read(Table.LEASE, PARTITION).items()}
    return {name: e.epoch for name, e in entries.items() if e.holder is not None and not e.holder.dead(me)}


@dataclass(frozen=True, slots=True)
class Lease:
    """One lease as this process got it. Renewing keeps it valid; once lost or given back it never is again."""

    name: str
    epoch: int
    holds: Callable[[str, int], bool]

    def valid(self) -> bool:
        """Whether it may still be acted on."""
        return self.holds(self.name, self.epoch)


@dataclass(frozen=True, slots=True)
class _Term:
    """A held lease's epoch, and until when it may be acted on, by this process's clock."""

    epoch: int
    until: float


class Leases:
    """The leases that one process holds or wants. Safe for threads."""

    def __init__(
        self,
        store: Store,
        me: Holder,
        *,
        names: Sequence[str] = ALL,
        ttl: float = TTL,
        clock: Callable[[], float] = uptime,
        wall: Callable[[], float] = time.time,
        dead: Callable[[Holder], bool] | None = None,
    ) -> None:
        self._store = store
        self._me = me
        self._names = names
        self._ttl = ttl
        self._clock = clock
        self._wall = wall
        self._dead = dead or (lambda holder: holder.dead(me))
        self._held: dict[str, _Term] = {}
        self._watched: dict[str, tuple[int, float]] = {}
        self._others: dict[str, Holder] = {}
        self._won = False
        self._lock = threading.Lock()

    def lease(self, name: str) -> Lease:
        """The lease as it is held now; one that is not held is never valid."""
        term = self._held.get(name)
        return Lease(name, term.epoch if term else 0, self._holds)

    def _holds(self, name: str, epoch: int) -> bool:
        term = self._held.get(name)
        return term is not None and term.epoch == epoch and self._clock() < term.until

    def held(self) -> dict[str, int]:
        """The epochs of the leases that are held and valid, by name."""
        return {name: term.epoch for name, term in self._held.copy().items() if self._holds(name, term.epoch)}

    def other_holder(self) -> str:
        """Who else holds leases, as last seen; empty for nobody."""
        return ", ".join(sorted({str(holder) for holder in self._others.copy().values()}))

    def tick(self) -> bool:
        """Renews what is due, takes what is free. To be called more often than ttl/3.

        Returns whether anything may be acted on that could not be before; what a tick that failed had won is told by
        the next. Raises StoreUnavailable; what is held then simply runs out.
        """
        with self._lock:
            due = [name for name in self._names if self._due(name)]
            rows = self._store.read(Table.LEASE, PARTITION) if due else {}
            entries = {name: _Entry.of(row) for name, row in rows.items()}
            new = max(int(self._wall()), *(1 + entry.epoch for entry in entries.values()), 1)
            for name in due:
                self._try(name, rows.get(name), entries.get(name, _Entry(0, 0, None)), new)
            won, self._won = self._won, False
            return won

    def _due(self, name: str) -> bool:
        lease = self._held.get(name)
        return lease is None or lease.until - self._clock() < self._ttl * (USABLE - 1 / 3)

    def _try(self, name: str, row: Row | None, entry: _Entry, new: int) -> None:
        """Renews it, or takes it under the epoch ``new`` if it is free."""
        mine = self._held.get(name)
        if mine is not None and entry.holder == self._me and entry.epoch == mine.epoch:
            self._write(name, row, replace(entry, beat=entry.beat + 1))
            return
        self._held.pop(name, None)
        if self._free(name, row, entry):
            self._write(name, row, _Entry(new, entry.beat + 1, self._me))

    def _free(self, name: str, row: Row | None, entry: _Entry) -> bool:
        """Whether it may be taken. A row of ours that we do not know of, from an unclear write, is taken anew."""
        if row is None or entry.holder is None or entry.holder == self._me or self._dead(entry.holder):
            self._others.pop(name, None)
            return True
        self._others[name] = entry.holder
        version, since = self._watched.get(name, (None, 0.0))
        if version != row.version:
            self._watched[name] = (row.version, self._clock())
            return False
        return self._clock() - since > self._ttl

    def _write(self, name: str, row: Row | None, entry: _Entry) -> None:
        """One compare-and-set. The time counts from before it was sent."""
        before = self._clock()
        version = row.version if row else None
        if not self._store.compare_and_set(Table.LEASE, PARTITION, {name: version}, {name: entry.text()}):
            self._held.pop(name, None)
            return
        self._won |= not self._holds(name, entry.epoch)
        self._held[name] = _Term(entry.epoch, before + self._ttl * USABLE)
        self._others.pop(name, None)

    def release_all(self) -> None:
        """Gives everything back at once; the epochs stay."""
        with self._lock:
            held = dict(self._held)
            self._held.clear()
            try:
                rows = self._store.read(Table.LEASE, PARTITION)
                for name, term in held.items():
                    row = rows.get(name)
                    if row is None:
                        continue
                    entry = _Entry.of(row)
                    if entry.holder == self._me and entry.epoch == term.epoch:
                        free = replace(entry, holder=None).text()
                        self._store.compare_and_set(Table.LEASE, PARTITION, {name: row.version}, {name: free})
            except StoreError:
                return  # they run out by themselves
