"""Leases one case at a time: who gets what, when it is given to another one, and that nobody waits without need."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import pytest

from controller.holder import Holder
from controller.leases import TTL, USABLE, Lease
from controller.members import ALL, FLEET, MEMBER, SOURCE, Member, Register, Role, epochs, holders, shard_of, wanted
from controller.store.base import StoreUnavailable, Table
from controller.store.guarded import Guarded
from controller.store.memory import MemoryStore
from drivers.base import Fenced
from tests.fast.leases_world import Process, World

MANIFESTS = f"{SOURCE}manifests"


def tick(world: World, *processes: Process, seconds: float = 0.0, times: int = 1) -> None:
    for _ in range(times):
        world.now += seconds
        for process in processes:
            process.leases.tick()


def shares(processes: Iterable[Process]) -> list[int]:
    return [len(process.leases.held()) for process in processes]


def test_the_first_takes_all_in_one_write_and_the_second_is_given_its_share() -> None:
    world = World()
    first, second = world.process(), world.process("there")
    first.leases.tick()
    assert first.leases.held() == dict.fromkeys(ALL, 1)
    assert (first.store.reads, first.store.writes) == (1, 1)
    assert first.leases.gained() == set(ALL)
    assert first.leases.gained() == frozenset(), "told once"
    tick(world, second)
    assert second.leases.held() == {}
    assert second.leases.about() == f"holds 0 of {len(ALL)} leases; the others: pid 1 on here ({len(ALL)})"
    assert second.leases.other_holder(FLEET) == "pid 1 on here"
    tick(world, first, second)
    assert (set(first.leases.held().values()), set(second.leases.held().values())) == ({1}, {2})
    assert first.leases.held().keys().isdisjoint(second.leases.held())
    assert all(shares([first, second]))
    assert second.leases.gained() == second.leases.held().keys()
    assert first.leases.controllers() == second.leases.controllers() == 2


def test_a_second_without_news_costs_one_read_and_a_third_of_the_time_one_write() -> None:
    world = World()
    processes = [world.process(host) for host in ("a", "b", "c")]
    tick(world, *processes, times=4)
    before = [(process.store.reads, process.store.writes) for process in processes]
    tick(world, *processes, seconds=1.0, times=30)
    for process, (reads, writes) in zip(processes, before, strict=True):
        assert process.store.reads - reads == 30
        assert process.store.writes - writes <= 30 / (TTL / 3)
    assert sum(shares(processes)) == len(ALL)


def test_a_holder_that_renews_keeps_it_for_ever_and_so_do_those_who_act_on_it() -> None:
    world = World()
    first, command = world.process(), world.process(role=Role.APPLY)
    tick(world, first, command)
    acting = first.leases.lease(FLEET)
    first.leases.gained()
    tick(world, first, command, seconds=TTL / 4, times=100)
    assert acting.valid(), "a long pass goes on under a lease that is renewed"
    assert world.register().grants[FLEET].epoch == 1
    assert first.leases.gained() == frozenset()


def test_a_silent_holder_is_succeeded_after_the_whole_time_and_not_before() -> None:
    world = World()
    first, second = world.process("here"), world.process("there")
    tick(world, first)
    world.now += 100 * TTL
    tick(world, second)
    assert second.leases.held() == {}, "how long it was silent before counts for nothing: it was not watched"
    tick(world, second, seconds=TTL / 4, times=4)
    assert second.leases.held() == {}
    tick(world, second, seconds=0.1)
    assert second.leases.held() == dict.fromkeys(ALL, 2)
    assert list(world.register().members) == ["2.1"]


def test_after_the_store_was_away_everybody_goes_on_with_what_it_had() -> None:
    world = World()
    processes = [world.process("here"), world.process("there")]
    tick(world, *processes, times=3)
    before = [dict(process.leases.held()) for process in processes]
    for process in processes:
        process.store.before = _fail
    for _ in range(3):
        world.now += TTL
        for process in processes:
            with pytest.raises(StoreUnavailable):
                process.leases.tick()
            assert process.leases.held() == {}
    for process in processes:
        process.store.before = str
    tick(world, *processes)
    assert [process.leases.held() for process in processes] == before, "under the same epochs"


def test_a_dead_process_is_succeeded_at_once_on_its_own_machine_only() -> None:
    world = World()
    first, near, far = world.process("here"), world.process("here"), world.process("there")
    tick(world, first)
    world.dead.add(first.me)
    tick(world, far)
    assert far.leases.held() == {}
    tick(world, near)
    tick(world, far)
    assert sum(shares([near, far])) == len(ALL), "whoever finds out gives the other its share at once"


def test_of_three_one_dies_and_only_what_it_had_moves() -> None:
    world = World()
    processes = [world.process("here") for _ in range(3)]
    tick(world, *processes, times=3)
    before = [set(process.leases.held()) for process in processes]
    assert sum(map(len, before)) == len(ALL)
    world.dead.add(processes[0].me)
    tick(world, *processes[1:])
    for process, had in zip(processes[1:], before[1:], strict=True):
        assert had <= process.leases.held().keys()
    assert sum(shares(processes[1:])) == len(ALL)


def test_what_is_given_back_is_taken_at_once_with_a_higher_epoch_and_is_not_valid_any_more() -> None:
    world = World()
    first, second = world.process(), world.process()
    tick(world, first)
    acting = first.leases.lease(FLEET)
    first.leases.release_all()
    assert not acting.valid()
    assert first.leases.held() == {}
    tick(world, second)
    assert second.leases.held() == dict.fromkeys(ALL, 2)


def test_who_ends_gives_the_others_what_they_are_to_have_without_any_time_in_between() -> None:
    world = World()
    first, second = world.process(), world.process("there")
    tick(world, first, second, first, second)
    first.leases.release_all()
    assert world.register().free() == ()
    tick(world, second)
    assert shares([second]) == [len(ALL)]


def test_who_wins_it_again_does_not_act_under_the_old_epoch() -> None:
    world = World()
    process = world.process()
    tick(world, process)
    acting = process.leases.lease(FLEET)
    process.leases.release_all()
    tick(world, process)
    assert process.valid(FLEET)
    assert not acting.valid()
    with pytest.raises(Fenced, match="our lease fleet is over"):
        acting.check()


def test_giving_back_without_a_store_is_no_error() -> None:
    world = World()
    process = world.process()
    tick(world, process)
    process.store.before = _fail
    process.leases.release_all()
    assert process.leases.held() == {}


def test_a_paused_holder_wakes_without_a_lease() -> None:
    world = World()
    process = world.process()
    tick(world, process)
    acting = process.leases.lease(FLEET)
    world.now += TTL * USABLE
    assert not acting.valid()
    assert process.leases.held() == {}
    assert not process.leases.member()


def test_a_holder_paused_in_the_middle_of_renewing_does_not_count_the_pause() -> None:
    world = World()
    process = world.process()
    tick(world, process)
    world.now += TTL / 2

    def sleeps() -> str:
        world.now += TTL
        return ""

    process.store.after = sleeps
    tick(world, process)
    assert process.leases.held() == {}


def test_whoever_was_taken_for_dead_comes_back_as_another_and_holds_nothing_of_before() -> None:
    world = World()
    first, second = world.process("here"), world.process("there")
    tick(world, first)
    acting = first.leases.lease(FLEET)
    tick(world, second, seconds=TTL / 2, times=4)
    assert second.leases.held().keys() == set(ALL)
    tick(world, first)
    assert list(world.register().members) == ["1.2", "2.1"]
    assert not acting.valid()
    tick(world, second, first)
    assert sum(shares([first, second])) == len(ALL)


def test_a_write_that_failed_and_took_effect_is_found_when_it_is_read() -> None:
    world = World()
    process = world.process()
    calls: list[int] = []

    def fail_after_writing() -> str:
        calls.append(1)
        return _fail() if len(calls) == 2 else ""

    process.store.after = fail_after_writing
    with pytest.raises(StoreUnavailable):
        process.leases.tick()
    assert world.register().grants[FLEET].epoch == 1, "it took effect"
    assert process.leases.held() == {}
    process.store.after = str
    tick(world, process)
    assert process.leases.held() == dict.fromkeys(ALL, 2), "as a new member: the old one never acted"
    assert list(world.register().members) == ["1.2"]


def test_a_lease_that_ran_out_and_is_renewed_is_news() -> None:
    world = World()
    process = world.process()
    tick(world, process)
    process.leases.gained()
    tick(world, process, seconds=TTL)
    assert process.leases.gained() == set(ALL), "what could not be acted on meanwhile is to be looked at now"
    assert process.leases.lease(FLEET).epoch == 1


def test_a_new_epoch_is_above_all_that_machines_may_have_seen() -> None:
    world = World(wall=1_000_000.9)
    first, second = world.process("here"), world.process("there")
    tick(world, first)
    assert first.leases.held() == dict.fromkeys(ALL, 1_000_000), "also those of a store that was lost"
    tick(world, second)
    world.wall -= 5000
    tick(world, first, second)
    assert set(second.leases.held().values()) == {1_000_001}, "the clock was put back"
    first.leases.release_all()
    tick(world, second)
    assert set(second.leases.held().values()) == {1_000_001, 1_000_002}, "above all: a machine may be in a new shard"


def given(world: World, *, second: Process, first: Process) -> str:
    """A lease of the first one's that the second is to have when it comes."""
    alone = world.register().members
    with_it = {**alone, "2.1": replace(alone["1.1"], who=second.me, number=2)}
    return next(name for name in ALL if wanted(name, with_it) == "2.1")


def test_what_something_is_under_way_under_is_kept_until_its_end_and_nothing_new_begins() -> None:
    world = World()
    first, second = world.process(), world.process("there")
    tick(world, first)
    name = given(world, first=first, second=second)
    with first.leases.using(name) as lease:
        assert lease is not None
        tick(world, second, first, second)
        assert lease.valid(), "what is under way may go on"
        assert not first.leases.open(name)
        with first.leases.using(name) as another:
            assert another is None
        assert second.leases.held(), "the others are given at once"
        assert not second.valid(name)
        end = first.leases.keep(name)
    tick(world, first, second, seconds=1.0)
    assert lease.valid(), "a job goes on after its pass"
    assert first.leases.open(name), "and the other machines of the shard do not wait for it"
    assert name in first.leases.gained()
    end()
    tick(world, first, second, seconds=1.0)
    assert not lease.valid()
    assert second.valid(name)


def test_what_was_to_be_given_to_one_that_is_gone_stays_and_is_news() -> None:
    world = World()
    first, second = world.process(), world.process()
    tick(world, first)
    name = given(world, first=first, second=second)
    with first.leases.using(name):
        tick(world, second, first)
        assert not first.leases.open(name)
        first.leases.gained()
        world.dead.add(second.me)
        tick(world, first)
        assert first.leases.open(name)
        assert name in first.leases.gained()


def test_who_is_to_stop_is_given_nothing_more_and_keeps_only_what_lasts() -> None:
    world = World()
    first, second, third = (world.process(host) for host in ("a", "b", "c"))
    tick(world, first, second, first, second)
    name = next(iter(first.leases.held()))
    with first.leases.using(name):
        first.leases.leave()
        tick(world, first, second)
        assert first.leases.held().keys() == {name}
        tick(world, third, second, third, first)
        assert first.leases.held().keys() == {name}
        assert not first.leases.open(name)
    tick(world, first, second, third)
    assert shares([first]) == [0]
    assert sum(shares([second, third])) == len(ALL)


def test_who_stops_and_has_nobody_to_give_it_to_keeps_it_until_the_end() -> None:
    world = World()
    process = world.process()
    tick(world, process)
    process.leases.leave()
    tick(world, process)
    assert process.valid(FLEET)
    process.leases.release_all()
    assert world.register().members == {}
    assert len(world.register().free()) == len(ALL)


def test_a_command_holds_nothing_while_a_daemon_is_there_and_everything_when_none_is() -> None:
    world = World()
    command, later = world.process(role=Role.APPLY), world.process(role=Role.APPLY)
    tick(world, command, later)
    assert shares([command, later]) == [len(ALL), 0], "of several the one that came first"
    daemon = world.process()
    tick(world, daemon, command, later, daemon)
    assert shares([daemon, command, later]) == [len(ALL), 0, 0]
    world.dead.add(daemon.me)
    tick(world, later, command)
    assert shares([command, later]) == [len(ALL), 0]
    command.leases.release_all()
    tick(world, later)
    assert shares([later]) == [len(ALL)]


def test_a_source_is_for_those_that_follow_it() -> None:
    world = World()
    first, second, third = (world.process(host) for host in ("a", "b", "c"))
    second.leases.follow([MANIFESTS])
    tick(world, first, second, third)
    assert second.valid(MANIFESTS)
    third.leases.follow([MANIFESTS])
    second.leases.follow([])
    tick(world, third, second, third)
    assert third.valid(MANIFESTS)
    assert third.leases.lease(MANIFESTS).epoch > 1
    third.leases.release_all()
    assert not world.register().holder(MANIFESTS)


def test_the_lag_is_told_with_the_renewal() -> None:
    world = World()
    process = world.process()
    tick(world, process)
    process.leases.lag = lambda: 7.5
    tick(world, process)
    assert [member.lag for member in world.register().members.values()] == [0.0], "it costs no write of its own"
    tick(world, process, seconds=TTL / 2)
    assert [member.lag for member in world.register().members.values()] == [7.5]


def test_what_the_rows_say_is_read_as_it_was_written() -> None:
    world = World(wall=1000.0)
    process = world.process(wrong=5.0)
    process.leases.follow([MANIFESTS])
    tick(world, process)
    (member,) = world.register().members.values()
    assert member == Member(process.me, Role.DAEMON, 1, 1005.0, 1005.0, (MANIFESTS,), 0.0, False)


def test_the_guard_asks_before_each_write_and_a_write_that_hangs_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    process = world.process()
    tick(world, process)
    lease = process.leases.lease(FLEET)
    behind = MemoryStore()
    really = behind.write

    def hangs(table: Table, partition: str, puts: Mapping[str, str], deletes: Collection[str], **_: object) -> bool:
        world.now += TTL
        return really(table, partition, puts, deletes)

    monkeypatch.setattr(behind, "write", hangs)
    store = Guarded(behind, lease.check)
    assert store.write(Table.FACT, "p", {"a": "1"})
    with pytest.raises(Fenced):
        store.write(Table.FACT, "p", {"a": "2"})
    with pytest.raises(Fenced):
        store.compare_and_set(Table.FACT, "p", {}, {"a": "2"})
    assert store.read(Table.FACT, "p")["a"].value == "1", "reading is free"


def _fail() -> str:
    raise StoreUnavailable("no answer")


def test_machines_are_spread_over_the_shards_and_stay() -> None:
    assert shard_of("web01") == shard_of("web01")
    assert len({shard_of(f"host{n}") for n in range(500)}) == 16


def test_leases_are_spread_over_the_daemons() -> None:
    me = Holder.this_process()
    members = {f"m{n}": Member(me, Role.DAEMON, n, 0.0, 0.0) for n in range(4)}
    whose = {f"shard/{n}": wanted(f"shard/{n}", members) for n in range(400)}
    counts = [list(whose.values()).count(one) for one in members]
    assert min(counts) > 60
    fewer = {one: member for one, member in members.items() if one != "m0"}
    assert all(wanted(name, fewer) == one for name, one in whose.items() if one != "m0")


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
    monkeypatch.setattr("controller.holder._start_time", lambda pid: None)
    assert not me.dead(me)
    assert replace(me, pid=(1 << 22) + 1).dead(me)


def test_holders_are_those_that_live_and_hold_something() -> None:
    world = World()
    process = world.process()
    tick(world, process)
    tick(world, world.process("there", role=Role.APPLY))
    assert holders(world.behind) == "pid 1 on here"
    assert epochs(world.behind) == dict.fromkeys(ALL, 1)
    process.leases.release_all()
    assert holders(world.behind) == "pid 2 on there"


def test_a_lease_whose_holder_is_no_member_is_free() -> None:
    world = World()
    tick(world, world.process())
    register = world.register()
    assert register.free() == ()
    assert Register({}, register.grants, register.versions).free() == ALL
    assert MEMBER + "1.1" in register.versions


def test_a_lease_of_the_past_is_not_valid_though_the_name_is_held() -> None:
    world = World()
    process = world.process()
    tick(world, process)
    past = process.leases.under(FLEET, 0)
    assert isinstance(past, Lease)
    assert not past.valid()
    assert process.leases.under(FLEET, 1).valid()
