"""Leases: never two holders at one time, whatever is delayed, fails or dies; and nobody waits without need."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.leases import FLEET, PARTITION, TTL, USABLE, Holder, Leases, _Entry, holders, shard_of
from controller.store.base import Partition, Row, StoreUnavailable, Table
from controller.store.memory import MemoryStore

NAMES = (FLEET, "shard/00")


class Flaky(MemoryStore):
    """A store with something going on before and after each call of one client; shared through ``behind``."""

    def __init__(self, behind: MemoryStore) -> None:
        super().__init__()
        self._behind = behind
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    @contextmanager
    def _call(self) -> Iterator[None]:
        self.before()
        yield
        self.after()

    def read(self, table: Table, partition: str) -> Mapping[str, Row]:
        with self._call():
            return self._behind.read(table, partition)

    def compare_and_set(
        self,
        table: Table,
        partition: str,
        expected: Mapping[str, int | None],
        puts: Mapping[str, str],
        deletes: Collection[str] = (),
    ) -> bool:
        with self._call():
            return self._behind.compare_and_set(table, partition, expected, puts, deletes)

    def write(
        self,
        table: Table,
        partition: str,
        puts: Mapping[str, str],
        deletes: Collection[str] = (),
        *,
        ttl: float | None = None,
    ) -> bool:
        raise AssertionError("leases are only ever compared and set")

    def changed_since(self, cursor: int) -> tuple[int, frozenset[Partition]]:
        raise AssertionError("leases do not follow changes")


@dataclass
class World:
    """Processes on one machine or on several, their clocks, and the store between them."""

    now: float = 0.0
    wall: float = 0.0
    behind: MemoryStore = field(default_factory=MemoryStore)
    dead: set[Holder] = field(default_factory=set)
    started: int = 0

    def process(self, host: str = "here", rate: float = 1.0) -> Process:
        self.started += 1
        return Process(
            self, Holder(host, host, "pid:[1]", self.started, str(self.started)), rate, 1000.0 * self.started
        )

    def entries(self) -> dict[str, _Entry]:
        return {name: _Entry.of(row) for name, row in self.behind.read(Table.LEASE, PARTITION).items()}


class Process:
    """A controller: its own clock, which runs at its own rate, and its own way to the store."""

    def __init__(self, world: World, me: Holder, rate: float, offset: float) -> None:
        self.world = world
        self.me = me
        self.store = Flaky(world.behind)
        self.leases = Leases(
            self.store,
            me,
            names=NAMES,
            clock=lambda: offset + rate * world.now,
            wall=lambda: world.wall,
            dead=self._knows_dead,
        )

    def _knows_dead(self, holder: Holder) -> bool:
        """As ``Holder.dead``: only processes of the same machine can be known to be dead."""
        return holder in self.world.dead and holder.host == self.me.host

    @property
    def alive(self) -> bool:
        return self.me not in self.world.dead


# What happens around one call to the store.
Happening = st.sampled_from(["nothing", "delay", "long delay", "others", "fails", "dies"])
DELAYS = {"delay": TTL / 3, "long delay": TTL * 2}


class AnyInterleaving(RuleBasedStateMachine):
    """Three processes on two machines, in any order of ticks, delays inside of them, failures, deaths and releases."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.processes = [self.world.process("here", 0.9), self.world.process("here"), self.world.process("there", 1.1)]
        self.busy: set[Holder] = set()
        self.owners: dict[tuple[str, int], Holder] = {}
        self.epochs: dict[str, int] = {}

    def living(self, number: int) -> Process:
        living = [process for process in self.processes if process.alive]
        return living[number % len(living)]

    def tick(self, process: Process, script: list[str]) -> None:
        """One tick, with something of the script before and after each call to the store; never two of one process."""
        if process.me in self.busy or not process.alive:
            return
        left = iter(script)

        def happens() -> None:
            self.check()
            match next(left, "nothing"):
                case "fails":
                    raise StoreUnavailable("no answer")
                case "dies" if self.world.started < 8:
                    self.bury(process)
                    raise StoreUnavailable("it is dead, and calls nobody any more")
                case "others":
                    for other in tuple(self.processes):
                        self.tick(other, [])
                case what:
                    self.world.now += DELAYS.get(what, 0.0)
            self.check()

        process.store.before = process.store.after = happens
        self.busy.add(process.me)
        try:
            process.leases.tick()
        except StoreUnavailable:
            assert {"fails", "dies"}.intersection(script)
        finally:
            self.busy.discard(process.me)
            process.store.before = process.store.after = lambda: None

    @rule(number=st.integers(0, 2), script=st.lists(Happening, max_size=8))
    def any_tick(self, number: int, script: list[str]) -> None:
        self.tick(self.living(number), script)

    @rule(seconds=st.sampled_from([0.1, TTL / 10, TTL / 3, TTL * USABLE, TTL, TTL * 3]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds

    @rule(number=st.integers(0, 2))
    def releases(self, number: int) -> None:
        self.living(number).leases.release_all()

    @precondition(lambda self: self.world.started < 8)
    @rule(number=st.integers(0, 2))
    def dies_and_is_started_again(self, number: int) -> None:
        self.bury(self.living(number))

    def bury(self, dead: Process) -> None:
        self.world.dead.add(dead.me)
        self.processes.remove(dead)
        self.processes.append(self.world.process(dead.me.host))

    @invariant()
    def check(self) -> None:
        for name in NAMES:
            holding = [process for process in self.processes if process.leases.lease(name).valid()]
            assert len(holding) <= 1, f"{name} is held by {[str(one.me) for one in holding]}"
            for process in holding:
                owner = self.owners.setdefault((name, process.leases.lease(name).epoch), process.me)
                assert owner == process.me, "an epoch belongs to one process for ever"
        for name, entry in self.world.entries().items():
            assert entry.epoch >= self.epochs.get(name, 0), "epochs only grow"
            self.epochs[name] = entry.epoch

    def teardown(self) -> None:
        """Whatever happened before: with a store that works, somebody holds everything within two terms."""
        self.check()
        for _ in range(30):
            self.world.now += TTL / 10
            for process in self.processes:
                self.tick(process, [])
        held = [name for process in self.processes for name in process.leases.held()]
        assert sorted(held) == sorted(NAMES)


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_the_first_takes_all_and_the_second_waits_and_says_for_whom() -> None:
    world = World()
    first, second = world.process(), world.process()
    assert first.leases.tick()
    assert not second.leases.tick()
    assert first.leases.held() == dict.fromkeys(NAMES, 1)
    assert second.leases.held() == {}
    assert second.leases.other_holder() == "pid 1 on here"
    assert first.leases.other_holder() == ""
    assert not first.leases.tick(), "nothing new"


def test_a_holder_that_renews_keeps_it_for_ever_and_so_do_those_who_act_on_it() -> None:
    world = World()
    first, second = world.process(), world.process()
    first.leases.tick()
    acting = first.leases.lease(FLEET)
    for _ in range(100):
        world.now += TTL / 4
        assert not first.leases.tick()
        assert not second.leases.tick()
        assert acting.valid(), "a long pass goes on under a lease that is renewed"
    assert world.entries()[FLEET].epoch == 1


def test_renewing_is_written_only_when_due() -> None:
    world = World()
    process = world.process()
    process.leases.tick()
    beat = world.entries()[FLEET].beat
    for _ in range(10):
        world.now += TTL / 100
        process.leases.tick()
    assert world.entries()[FLEET].beat == beat
    world.now += TTL / 3
    process.leases.tick()
    assert world.entries()[FLEET].beat == beat + 1


def test_a_silent_holder_is_succeeded_after_the_whole_time_and_not_before() -> None:
    world = World()
    first, second = world.process("here"), world.process("there")
    first.leases.tick()
    world.now += 100 * TTL
    assert not second.leases.tick(), "how long it was silent before counts for nothing: it was not watched"
    world.now += TTL
    assert not second.leases.tick()
    world.now += 0.1
    assert second.leases.tick()
    assert second.leases.lease(FLEET).epoch == 2


def test_a_dead_process_is_succeeded_at_once_on_its_own_machine_only() -> None:
    world = World()
    first, near, far = world.process("here"), world.process("here"), world.process("there")
    first.leases.tick()
    world.dead.add(first.me)
    assert not far.leases.tick()
    assert near.leases.tick()


def test_what_is_given_back_is_taken_at_once_with_a_higher_epoch_and_is_not_valid_any_more() -> None:
    world = World()
    first, second = world.process(), world.process()
    first.leases.tick()
    acting = first.leases.lease(FLEET)
    first.leases.release_all()
    assert not acting.valid()
    assert first.leases.held() == {}
    assert second.leases.tick()
    assert second.leases.held() == dict.fromkeys(NAMES, 2)


def test_who_wins_it_again_does_not_act_under_the_old_epoch() -> None:
    world = World()
    process = world.process()
    process.leases.tick()
    acting = process.leases.lease(FLEET)
    process.leases.release_all()
    process.leases.tick()
    assert process.leases.lease(FLEET).valid()
    assert not acting.valid()


def test_giving_back_without_a_store_is_no_error() -> None:
    world = World()
    process = world.process()
    process.leases.tick()
    process.store.before = _fail
    process.leases.release_all()
    assert process.leases.held() == {}


def test_a_paused_holder_wakes_without_a_lease() -> None:
    world = World()
    process = world.process()
    process.leases.tick()
    acting = process.leases.lease(FLEET)
    world.now += TTL * USABLE
    assert not acting.valid()
    assert process.leases.held() == {}


def test_a_holder_paused_in_the_middle_of_renewing_does_not_count_the_pause() -> None:
    world = World()
    process = world.process()
    process.leases.tick()
    world.now += TTL / 2
    process.store.after = lambda: setattr(world, "now", world.now + TTL)
    process.leases.tick()
    assert process.leases.held() == {}


def test_a_write_that_failed_and_took_effect_is_not_believed_but_taken_anew() -> None:
    world = World()
    process = world.process()
    calls: list[int] = []

    def fail_after_writing() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise StoreUnavailable("no answer")

    process.store.after = fail_after_writing
    with pytest.raises(StoreUnavailable):
        process.leases.tick()
    assert world.entries()[FLEET].epoch == 1, "it took effect"
    assert process.leases.held() == {}
    process.store.after = lambda: None
    assert process.leases.tick()
    assert process.leases.lease(FLEET).epoch == 2


def test_what_a_failed_tick_won_is_told_by_the_next() -> None:
    world = World()
    process = world.process()
    calls: list[int] = []

    def fail_at_the_second_lease() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise StoreUnavailable("no answer")

    process.store.before = fail_at_the_second_lease
    with pytest.raises(StoreUnavailable):
        process.leases.tick()
    assert process.leases.held() == {FLEET: 1}
    process.leases._names = (FLEET,)
    assert process.leases.tick()
    assert not process.leases.tick()


def test_a_lease_that_ran_out_and_is_renewed_is_news() -> None:
    world = World()
    process = world.process()
    process.leases.tick()
    world.now += TTL
    assert process.leases.tick(), "what could not be acted on meanwhile is to be looked at now"
    assert process.leases.lease(FLEET).epoch == 1


def test_a_new_epoch_is_above_all_that_machines_may_have_seen() -> None:
    world = World(wall=1_000_000.9)
    first = world.process()
    first.leases.tick()
    assert first.leases.held() == dict.fromkeys(NAMES, 1_000_000), "also those of a store that was lost"
    first.leases.release_all()
    world.wall -= 5000
    first.leases._names = NAMES[:1]
    first.leases.tick()
    first.leases.release_all()
    second = world.process()
    second.leases.tick()
    assert second.leases.held() == dict.fromkeys(NAMES, 1_000_002), "the clock was put back; a machine in a new shard"


def _fail() -> None:
    raise StoreUnavailable("no answer")


def test_machines_are_spread_over_the_shards_and_stay() -> None:
    assert shard_of("web01") == shard_of("web01")
    assert len({shard_of(f"host{n}") for n in range(500)}) == 16


def test_who_lives_and_who_is_dead() -> None:
    me = Holder.this_process()
    assert not me.dead(me)
    with subprocess.Popen(["sleep", "60"]) as child:
        theirs = replace(me, pid=child.pid, started="0")
        assert theirs.dead(me), "the pid is another's now"
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert replace(me, pid=child.pid).dead(me), "a zombie"
    assert replace(me, pid=child.pid).dead(me), "gone"
    assert not replace(me, pid=child.pid, boot="another").dead(me), "nobody knows of other machines"
    assert not replace(me, pid=child.pid, namespace="another").dead(me)


def test_a_process_that_proc_hides_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    me = Holder.this_process()
    monkeypatch.setattr("controller.leases._start_time", lambda pid: None)
    assert not me.dead(me)
    assert replace(me, pid=(1 << 22) + 1).dead(me)


def test_holders_are_those_that_live() -> None:
    store = MemoryStore()
    leases = Leases(store, Holder.this_process())
    leases.tick()
    assert holders(store) == f"pid {os.getpid()} on {Holder.this_process().host}"
    leases.release_all()
    assert holders(store) == ""


def test_who_asks_what_is_held_is_not_disturbed_by_another_thread() -> None:
    """Its work is done in the middle of the look, at the one place where a look calls something."""
    meanwhile: list[Callable[[], None]] = []

    def clock() -> float:
        while meanwhile:
            meanwhile.pop()()
        return 0.0

    leases = Leases(MemoryStore(), Holder.this_process(), clock=clock)
    leases.tick()
    meanwhile.append(leases.release_all)
    assert set(leases.held()) == {FLEET}, "looked at before they were given back"
    assert leases.held() == {}


def test_who_asks_for_the_others_is_not_disturbed_by_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    store, me = MemoryStore(), Holder.this_process()
    mine, theirs = Leases(store, me, dead=lambda _: False), Leases(store, replace(me, pid=1))
    theirs.tick()
    mine.tick()
    theirs.release_all()

    def text(holder: Holder) -> str:
        mine.tick()
        return f"pid {holder.pid}"

    monkeypatch.setattr(Holder, "__str__", text)
    assert mine.other_holder() == "pid 1"
    assert mine.other_holder() == ""
