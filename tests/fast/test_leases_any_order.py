"""Never two holders at one time, whatever is delayed, fails, is late, stops or dies; in the end all is shared out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.holder import Holder
from controller.leases import TTL, USABLE, Lease
from controller.members import ALL, FLEET, SOURCE, Grant, Role, wanted
from controller.store.base import StoreUnavailable
from tests.fast.leases_world import Process, World

MANIFESTS = f"{SOURCE}manifests"
NAMES = (*ALL, MANIFESTS)
# What happens around one call to the store; "stopped" is as SIGSTOP: the others live on, for longer than a lease.
Happening = st.sampled_from(["", "", "delay", "long delay", "others", "stopped", "fails", "stale", "late", "dies"])
DELAYS = {"delay": TTL / 3, "long delay": TTL * 2}
FAILING = {"fails", "late", "dies"}
MOST = 9
HOUR = 3600.0


class AnyOrder(RuleBasedStateMachine):
    """Daemons on three machines and a command beside them, in any order of ticks, work, failures, deaths and ends."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(wall=1000.0)
        self.processes = [
            self.world.process("here", 0.9, wrong=HOUR),
            self.world.process("there", 1.1),
            self.world.process("far", 1.0, wrong=-HOUR),
            self.world.process("here", 1.0, Role.APPLY),
        ]
        for process in self.processes[1:3]:
            process.leases.follow([MANIFESTS])
        self.busy: set[Holder] = set()
        self.work: list[tuple[Process, AbstractContextManager[Lease | None]]] = []
        self.owners: dict[tuple[str, int], str] = {}
        self.grants: dict[str, Grant] = {}

    def living(self, number: int) -> Process:
        return self.processes[number % len(self.processes)]

    def call(self, process: Process, act: str, script: list[str]) -> None:
        """A tick or a release, with something of the script before and after each call to the store."""
        if process.me in self.busy or not process.alive:
            return
        left = iter(script)

        def happens() -> str:
            self.check()
            what = self.happen(process, next(left, ""))
            self.check()
            return what

        process.store.before = process.store.after = happens
        self.busy.add(process.me)
        try:
            getattr(process.leases, act)()
        except StoreUnavailable:
            assert FAILING.intersection(script)
        finally:
            self.busy.discard(process.me)
            process.store.before = process.store.after = str

    def happen(self, process: Process, what: str) -> str:
        match what:
            case "fails":
                raise StoreUnavailable("no answer")
            case "dies" if self.world.started < MOST:
                self.bury(process)
                raise StoreUnavailable("it is dead, and calls nobody any more")
            case "others" | "stopped":
                for _ in range(1 if what == "others" else 5):
                    self.world.now += TTL / 2 if what == "stopped" else 0.0
                    for other in tuple(self.processes):
                        self.call(other, "tick", [])
                        self.check()
        self.world.now += DELAYS.get(what, 0.0)
        return what

    @rule(number=st.integers(0, 3), script=st.lists(Happening, max_size=8))
    def ticks(self, number: int, script: list[str]) -> None:
        self.call(self.living(number), "tick", script)

    @rule(number=st.integers(0, 3), script=st.lists(Happening, max_size=4))
    def releases(self, number: int, script: list[str]) -> None:
        self.call(self.living(number), "release_all", script)

    @rule(rounds=st.integers(1, 12))
    def all_is_well_for_a_while(self, rounds: int) -> None:
        for _ in range(rounds):
            self.world.now += 1.0
            for process in tuple(self.processes):
                self.call(process, "tick", [])
            self.check()

    @rule(seconds=st.sampled_from([0.1, TTL / 10, TTL / 3, TTL * USABLE, TTL, TTL * 3]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds

    @rule(seconds=st.sampled_from([-2 * HOUR, -1.0, 1.0, HOUR]))
    def the_wall_clocks_are_set(self, seconds: float) -> None:
        self.world.wall += seconds

    @precondition(lambda self: self.world.late)
    @rule(which=st.integers(0, 9))
    def what_is_late_arrives(self, which: int) -> None:
        self.world.late.pop(which % len(self.world.late))()

    @rule(number=st.integers(0, 3), name=st.sampled_from([FLEET, "shard/00", MANIFESTS]))
    def work_begins(self, number: int, name: str) -> None:
        process = self.living(number)
        using = process.leases.using(name)
        lease = using.__enter__()
        assert lease is None or lease.valid()
        self.work.append((process, using))

    @precondition(lambda self: self.work)
    @rule(which=st.integers(0, 9))
    def work_ends(self, which: int) -> None:
        self.work.pop(which % len(self.work))[1].__exit__(None, None, None)

    @precondition(lambda self: self.world.started < MOST)
    @rule(number=st.integers(0, 3))
    def dies_and_is_started_again(self, number: int) -> None:
        self.bury(self.living(number))

    def bury(self, dead: Process) -> None:
        self.world.dead.add(dead.me)
        self.processes.remove(dead)
        self.processes.append(self.world.process(dead.me.host))

    @invariant()
    def check(self) -> None:
        for name in NAMES:
            holding = [process for process in self.processes if process.valid(name)]
            assert len(holding) <= 1, f"{name} is held by {[str(one.me) for one in holding]}"
            for process in holding:
                owner = self.owners.setdefault((name, process.leases.lease(name).epoch), str(process.me))
                assert owner == str(process.me), "an epoch belongs to one process for ever"
        for name, grant in self.world.register().grants.items():
            before = self.grants.get(name, grant)
            assert grant.epoch >= before.epoch, "epochs only grow"
            assert grant.holder == before.holder or grant.epoch > before.epoch, "with each new holder"
            self.grants[name] = grant

    def teardown(self) -> None:
        """Whatever happened before: with a store that works, everything is soon with whom it is wanted for."""
        self.check()
        for _, using in self.work:
            using.__exit__(None, None, None)
        self.world.late.clear()
        self.all_is_well_for_a_while(30)
        register = self.world.register()
        assert {member.who for member in register.members.values()} == {process.me for process in self.processes}
        by_id = {one: self.find(member.who) for one, member in register.members.items()}
        for name in NAMES:
            whose = wanted(name, register.members)
            assert [process for process in self.processes if process.valid(name)] == [
                process for one, process in by_id.items() if one == whose
            ]

    def find(self, who: Holder) -> Process:
        return next(self.named(who))

    def named(self, who: Holder) -> Iterator[Process]:
        return (process for process in self.processes if process.me == who)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
