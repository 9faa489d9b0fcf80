"""Leases: who may act. One for the fleet pass, one for each shard of machines, one for each source of manifests.

A controller keeps one row alive, its member row, and with it everything that it holds (see members.py). Time is only
ever compared on one's own clock: a member counts from before its write, and stops well before the end; another one
takes its leases when it has *watched* the row stay the same for the whole time, or at once when it was a process of
this very machine and is dead. A lease alone fences nothing: the machine compares the epoch (rule 10).

Why that is safe: while a member may act by its own clock, its row is there; while it is there, nobody but itself
changes a lease's row that names it; and what it has given up it never believes in again, whatever it reads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from uuid import uuid4

from controller.clock import uptime
from controller.holder import Holder
from controller.log import log
from controller.members import MEMBER, PARTITION, Grant, Member, Register, Role, names, settle, text_of, to_give
from controller.store.base import Store, StoreError, Table
from drivers.base import Fenced

TTL = 10.0
# The holder stops this much before the end of the time, for clocks that do not run quite alike, and so that a write to
# the store that it began just before is over (cassandra/store.py).
USABLE = 0.7
# Of two that write at once one is to look again: how often in one tick.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Lease:
    """One lease as this process got it. Once lost or given back it never is valid again."""

    name: str
    epoch: int
    holds: Callable[[str, int], bool]

    def valid(self) -> bool:
        """Whether what was begun under it may go on."""
        return self.holds(self.name, self.epoch)

    def check(self) -> None:
        """Raises Fenced unless it is valid."""
        if not self.valid():
            raise Fenced(f"our lease {self.name} is over (epoch {self.epoch}): another controller may have it")


@dataclass(frozen=True, slots=True)
class _Term:
    """Under which ID this process is a member, until when it may act by its clock, and the epochs of what it holds."""

    me: str = ""
    until: float = 0.0
    held: Mapping[str, int] = field(default_factory=dict)


class Leases:
    """The leases that one process holds or wants. Safe for threads; ``tick`` is to be called about once a second.

    ``lag`` is asked at each renewal, and told to whoever lists the controllers.
    """

    def __init__(
        self,
        store: Store,
        me: Holder,
        role: Role = Role.DAEMON,
        *,
        ttl: float = TTL,
        clock: Callable[[], float] = uptime,
        wall: Callable[[], float] = time.time,
        dead: Callable[[Holder], bool] | None = None,
        ids: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self._store = store
        self._me = me
        self._role = role
        self._ttl = ttl
        self._clock = clock
        self._wall = wall
        self._dead = dead or (lambda holder: holder.dead(me))
        self._ids = ids
        self.lag: Callable[[], float] = lambda: 0.0
        self._follows: tuple[str, ...] = ()
        self._leaving = False
        self._turn = threading.Lock()  # one tick at a time; held while the store is asked
        self._lock = threading.Lock()  # what follows; never held while anything else is waited for
        self._term = _Term()
        self._renounced: dict[str, int] = {}
        self._giving: frozenset[str] = frozenset()
        self._uses: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()
        self._gained: frozenset[str] = frozenset()
        self._watched: dict[str, tuple[int, float]] = {}
        self._looked = 0.0
        self._register = Register()

    # What is held

    def lease(self, name: str) -> Lease:
        """The lease as it is held now; one that is not held is never valid."""
        return self.under(name, self._term.held.get(name, 0))

    def under(self, name: str, epoch: int) -> Lease:
        """A lease of the past, or of now."""
        return Lease(name, epoch, self._holds)

    def _holds(self, name: str, epoch: int) -> bool:
        term = self._term
        return term.held.get(name) == epoch and self._clock() < term.until

    def member(self) -> bool:
        """Whether this process may act on what it holds: its member row was renewed in time."""
        return self._clock() < self._term.until

    def held(self) -> Mapping[str, int]:
        """The epochs of the leases that are held and valid, by name."""
        term = self._term
        return term.held if self._clock() < term.until else {}

    def open(self, name: str) -> bool:
        """Whether anything new may begin under the lease: it is valid, and is not being given to another one."""
        return name not in self._giving and self.lease(name).valid()

    @contextmanager
    def using(self, name: str) -> Iterator[Lease | None]:
        """The lease for something that begins now; it is not given to another one before the end. None: not open."""
        with self._lock:
            lease = self.lease(name) if self.open(name) else None
            self._uses[name] += lease is not None
        try:
            yield lease
        finally:
            if lease is not None:
                self._end(name)

    def keep(self, name: str) -> Callable[[], None]:
        """Something lasts that was begun under the lease (a job): the lease is not given to another one until what this
        gives back is called. Until then it stays open: its other machines are not to wait for that.
        """
        with self._lock:
            self._uses[name] += 1
            self._kept[name] += 1
        return lambda: self._end(name, kept=1)

    def _end(self, name: str, kept: int = 0) -> None:
        with self._lock:
            self._uses[name] -= 1
            self._kept[name] -= kept

    def gained(self) -> frozenset[str]:
        """What may be acted on and could not be before, since this was asked last."""
        with self._lock:
            gained, self._gained = self._gained, frozenset()
        return gained & self.held().keys()

    # The others

    def follow(self, leases: Collection[str]) -> None:
        """Which leases of sources are wanted, too; from the next tick on."""
        self._follows = tuple(sorted(leases))

    def controllers(self) -> int:
        """How many members there are, as last seen."""
        return len(self._register.members)

    def other_holder(self, name: str) -> str:
        """Which other process has a lease, as last seen; empty for none."""
        register = self._register
        holder = register.holder(name)
        return str(register.members[holder].who) if holder not in ("", self._term.me) else ""

    def about(self) -> str:
        """What is held, and who has the others, as a sentence."""
        register, mine = self._register, len(self.held())
        theirs = {one: len(register.held_by(one)) for one in register.members if one != self._term.me}
        rest = ", ".join(f"{names([register.members[one]])} ({n})" for one, n in sorted(theirs.items()) if n)
        more = f"; the others: {rest}" if rest else ""
        return f"holds {mine} of {len(register.leases())} leases{more}"

    # Keeping it so

    def tick(self) -> None:
        """Renews what is due, takes what is free, gives what another one is to have. An idle one costs one read.

        Raises StoreError; what is held then simply runs out.
        """
        with self._turn:
            for _ in range(TRIES):
                if self._try():
                    return

    def _try(self) -> bool:
        """Whether nobody came in between."""
        register = Register.read(self._store)
        me = self._term.me
        if me not in register.members:
            self._lose()
            me = self._ids()
        gone = self._gone(register, me)
        known = register.members.get(me)
        mine = self._renewed(known, register)
        members = {one: member for one, member in register.members.items() if one not in gone} | {me: mine}
        then = replace(register, members=members)
        grants = settle(then, self._given(then, me), self._wall())
        if known is not None and not (grants or gone or self._due(known, mine)):
            self._adopt(me, register, self._term.until)
            return True
        before = self._clock()
        if not self._write(register, me, mine, grants, gone):
            return False
        self._adopt(me, replace(then, grants={**then.grants, **grants}), before + self._ttl * USABLE)
        return True

    def _renewed(self, known: Member | None, register: Register) -> Member:
        now = self._wall()
        number = 1 + max((member.number for member in register.members.values()), default=0)
        before = known or Member(self._me, self._role, number, now, now)
        return replace(before, seen=now, follows=self._follows, lag=self.lag(), leaving=self._leaving)

    def _due(self, known: Member, mine: Member) -> bool:
        told = (known.follows, known.leaving) == (mine.follows, mine.leaving)
        return not told or self._term.until - self._clock() < self._ttl * (USABLE - 1 / 3)

    def _gone(self, register: Register, me: str) -> list[str]:
        """Members that act no more: dead on this machine, silent for the whole time, or ourselves under an older ID."""
        now = self._clock()
        # Who could not look does not know: while the store was away, nobody could renew anything.
        before = self._watched if now - self._looked <= self._ttl / 2 else {}
        self._watched, self._looked = {}, now
        for one in register.members:
            version = register.versions[MEMBER + one]
            seen, since = before.get(one, (None, now))
            self._watched[one] = (version, since if seen == version else now)
        return [
            one
            for one, member in register.members.items()
            if one != me
            and (member.who == self._me or self._dead(member.who) or now - self._watched[one][1] > self._ttl)
        ]

    def _given(self, register: Register, me: str) -> list[str]:
        """What is ours in the register, but not acted on any more. Of what another one is to have nothing new begins,
        and it is given up where nothing is under way.
        """
        with self._lock:
            to = {name for name in to_give(register, me) if self._leaving or not self._kept[name]}
            self._gained |= self._giving - to
            self._giving = frozenset(to)
            idle = {name for name in to if not self._uses[name]}
            self._renounced |= {name: register.grants[name].epoch for name in idle}
            self._term = replace(self._term, held={n: e for n, e in self._term.held.items() if n not in idle})
        return [name for name, epoch in register.held_by(me).items() if not self._believed(name, epoch)]

    def _believed(self, name: str, epoch: int) -> bool:
        return epoch > self._renounced.get(name, 0)

    def _write(
        self, register: Register, me: str, mine: Member, grants: Mapping[str, Grant], gone: Collection[str]
    ) -> bool:
        """One transaction, our own renewal with it; only if those who had the leases are as they were."""
        puts = {MEMBER + me: text_of(mine)} | {name: text_of(grant) for name, grant in grants.items()}
        deletes = [MEMBER + one for one in gone]
        before = [MEMBER + register.grants[name].holder for name in grants if name in register.grants]
        expected = {key: register.versions.get(key) for key in (*puts, *deletes, *before)}
        if not self._store.compare_and_set(Table.LEASE, PARTITION, expected, puts, deletes):
            return False
        for one in gone:
            log(logging.INFO, "a controller is gone", controller=str(register.members[one].who))
        return True

    def _adopt(self, me: str, register: Register, until: float) -> None:
        """What the register says is believed, except of what was given up."""
        held = {name: epoch for name, epoch in register.held_by(me).items() if self._believed(name, epoch)}
        with self._lock:
            self._gained |= held.keys() - self.held().keys()
            self._term, self._register = _Term(me, until, held), register

    def _lose(self) -> None:
        """Nothing is held any more, and never again under this ID."""
        with self._lock:
            self._term = _Term()

    def leave(self) -> None:
        """The process is about to end: from the next tick on, others are given what nothing is under way under."""
        self._leaving = True

    def release_all(self) -> None:
        """Gives everything back at once; the epochs stay."""
        with self._turn:
            me = self._term.me
            self._lose()
            try:
                for _ in range(TRIES):
                    if self._left(me):
                        return
            except StoreError:
                return  # it runs out by itself

    def _left(self, me: str) -> bool:
        """Whether the store knows of us no more: what we had is for the others."""
        register = Register.read(self._store)
        if me not in register.members:
            return True
        others = replace(register, members={one: who for one, who in register.members.items() if one != me})
        puts = {name: text_of(grant) for name, grant in settle(others, (), self._wall()).items()}
        expected = {key: register.versions.get(key) for key in (*puts, MEMBER + me)}
        return self._store.compare_and_set(Table.LEASE, PARTITION, expected, puts, [MEMBER + me])
