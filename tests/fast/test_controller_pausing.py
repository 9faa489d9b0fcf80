"""Controllers that obey pauses, and the switch that stops everything, on simulated machines that count each write."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.budget import Budgets
from controller.engine import Engine
from controller.holder import Holder
from controller.intake import Intake
from controller.leases import Leases
from controller.members import Member, Role, shard_of, wanted
from controller.metrics import Metrics
from controller.present import conditions
from controller.runner import Rhythm, Runner
from controller.sources.directory import Directory
from controller.store.base import StoreUnavailable, Table
from controller.store.records import ALL, WORLD, Pause
from drivers.base import Applied, Change, Verb
from drivers.simulated import SimulatedDriver
from tests.fast.test_controller import HOSTS, SERVICE, VM, World, world

__all__ = ["world"]
CONF = "File:/etc/hello.conf"
DOMAIN = "Domain:web01"
WAIT = 60.0


def pause(world: World, what: str, seconds: float | None = 3600.0) -> None:
    now = time.time()
    world.session.ledger.put_pause(Pause(what, "ann@desk", "disk swap", now, now + seconds if seconds else None))


def passes(world: World, rounds: int = 3) -> None:
    """Steps and passes as they come, and nothing asked for beside."""
    for _ in range(rounds):
        world.runner.step()
        while (name := world.runner.queue.take(0.15)) is not None:
            world.runner.work(name)


def eventually(world: World, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < deadline
        passes(world, 1)


def reason(world: World, ref: str) -> str:
    return conditions(world.session.knowledge(), ref)[0].reason


@pytest.fixture
def settled(world: World) -> World:
    world.apply(HOSTS, VM, SERVICE)
    world.converge()
    assert world.unready() == {}
    return world


def test_what_is_paused_is_not_mended_until_it_is_resumed(settled: World) -> None:
    alpha, web01 = settled.machines.machine("alpha"), settled.machines.machine("web01")
    pause(settled, "machine/alpha")
    alpha.alter(CONF, sha256="0" * 64)
    alpha.alter(DOMAIN, running=False)
    web01.alter(CONF, sha256="0" * 64)
    before = alpha.writes
    settled.runner.look_at_all()
    passes(settled)
    assert alpha.writes == before, "neither a file is written nor a guest started"
    assert web01.log[-1].key == CONF, "other machines go on"
    assert reason(settled, "Service/hello") == reason(settled, "VirtualMachine/web01") == "Paused"
    settled.session.ledger.end_pause("machine/alpha")
    eventually(settled, lambda: not settled.unready())
    assert {made.key for made in alpha.log[before:]} == {CONF, DOMAIN}


def test_a_pause_that_holds_nothing_changes_no_condition_and_writes_nothing(settled: World) -> None:
    pause(settled, ALL)
    writes = settled.machines.writes
    stored = settled.session.ledger.store.changed_since(0)[0]
    passes(settled)
    assert settled.unready() == {}
    assert settled.machines.writes == writes
    assert settled.session.ledger.store.changed_since(0)[0] == stored


def test_a_pause_ends_by_itself_and_the_machine_is_looked_at_then(settled: World) -> None:
    alpha = settled.machines.machine("alpha")
    pause(settled, "Service/hello", 2.0)
    alpha.alter(CONF, sha256="0" * 64)
    before = alpha.writes
    passes(settled, 1)
    assert alpha.writes == before
    eventually(settled, lambda: alpha.writes > before)
    eventually(settled, lambda: not settled.unready())
    assert [event.reason for event in settled.session.ledger.events("Service/hello")].count("PauseOver") == 1


def test_a_deletion_waits_until_the_resource_is_resumed(settled: World) -> None:
    pause(settled, "Service/hello")
    settled.session.delete(["Service/hello"])
    settled.converge(2)
    assert CONF in settled.items("alpha")
    assert CONF in settled.items("web01")
    ready = conditions(settled.session.knowledge(), "Service/hello")[0]
    assert (ready.reason, "salvusctl resume Service/hello" in ready.message) == ("Paused", True)
    settled.session.ledger.end_pause("Service/hello")
    eventually(settled, lambda: "Service/hello" not in settled.session.knowledge().rows)
    assert CONF not in settled.items("alpha")


def test_a_deletion_does_not_end_while_it_is_paused_though_nothing_is_left(settled: World) -> None:
    settled.machines.machine("alpha").remove(CONF)
    pause(settled, "Image/debian12")
    settled.session.delete(["Service/hello", "VirtualMachine/web01", "Image/debian12"])
    settled.converge(3)
    assert settled.session.knowledge().rows.keys() == {"Host/alpha", "Image/debian12"}
    settled.session.ledger.end_pause("Image/debian12")
    eventually(settled, lambda: settled.session.knowledge().rows.keys() == {"Host/alpha"})


def test_a_pause_goes_with_a_machine_that_gets_another_name(world: World) -> None:
    world.apply(HOSTS)
    pause(world, "machine/alpha")
    (before,) = world.session.ledger.pauses().values()
    world.apply(HOSTS.replace("{name: alpha}", "{name: beta, annotations: {salv.us/moved-from: alpha}}"))
    assert world.session.ledger.pauses() == {"machine/beta": replace(before, what="machine/beta")}


def test_manifests_are_not_taken_over_while_the_world_is_stopped(world: World) -> None:
    folder = world.folder / "followed"
    folder.mkdir()
    (folder / "hosts.yaml").write_text(HOSTS)
    pause(world, WORLD, None)
    leases = world.runner.engine.leases
    intake = Intake(world.session, leases, Directory(folder), Budgets(), lambda *_: None, lambda _: None)
    leases.follow([intake._lease])
    leases.tick()
    assert intake.once(), "it is tried again soon"
    assert not world.session.knowledge().rows
    world.session.ledger.end_pause(WORLD)
    intake.once()
    assert "Host/alpha" in world.session.knowledge().rows


def at_write(monkeypatch: pytest.MonkeyPatch, act: Callable[[Change], None]) -> None:
    """``act`` hears of each batch that reaches a machine, by its first change, just after it was made."""
    really = SimulatedDriver.apply

    def apply(driver: SimulatedDriver, changes: tuple[Change, ...], epoch: int) -> tuple[Applied, ...]:
        applied = really(driver, changes, epoch)
        act(changes[0])
        return applied

    monkeypatch.setattr(SimulatedDriver, "apply", apply)


@pytest.mark.parametrize("what", [WORLD, ALL, "machine/alpha", "VirtualMachine/web01"])
def test_a_pass_under_way_ends_at_the_next_safe_point(world: World, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    what = what.replace("VirtualMachine", "machine")
    batches: list[Change] = []

    def first(change: Change) -> None:
        batches.append(change)
        if len(batches) == 1:
            pause(world, what, None if what == WORLD else 3600.0)
            if what != WORLD:  # the switch is read from the store itself; the others come with its news
                world.runner.engine.refresh()

    world.apply(HOSTS, VM)
    at_write(monkeypatch, first)
    world.converge(3)
    assert len(batches) == 1
    assert DOMAIN not in world.items("alpha")
    assert reason(world, "VirtualMachine/web01") == ("WorldStopped" if what == WORLD else "Paused")
    world.session.ledger.end_pause(what)
    eventually(world, lambda: not world.unready())


def test_no_job_begins_while_the_world_is_stopped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.apply(HOSTS)
    world.runner.step()
    really = world.runner.engine.recorder.outcome

    def stop_then(*arguments: object) -> None:
        really(*arguments)  # type: ignore[arg-type]
        pause(world, WORLD, None)

    monkeypatch.setattr(world.runner.engine.recorder, "outcome", stop_then)
    while (name := world.runner.queue.take(0.15)) is not None:
        world.runner.work(name)
    assert not any(key.startswith("ImageFile:") for key in world.items("alpha"))
    assert world.session.ledger.jobs("alpha") == []


def test_nothing_is_decided_while_the_world_is_stopped_and_all_goes_on_at_its_end(world: World) -> None:
    pause(world, WORLD, None)
    world.apply(HOSTS, VM, SERVICE)
    world.converge(3)
    assert world.machines.writes == 0
    assert world.session.ledger.store.read_all(Table.ALLOCATION) == {}
    world.session.ledger.end_pause(WORLD)
    eventually(world, lambda: not world.unready())


def test_a_store_that_does_not_tell_whether_the_world_is_stopped_has_nothing_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise StoreUnavailable("it does not answer")

    world.apply(HOSTS, VM)
    with monkeypatch.context() as broken:
        broken.setattr(world.session.ledger, "world", away)
        world.converge(2)
        assert world.machines.writes == 0
    eventually(world, lambda: not world.unready())


def test_a_pass_in_sync_does_not_ask_for_the_switch(settled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    passes(settled, 1)
    asked: list[int] = []
    monkeypatch.setattr(settled.session.ledger, "world", lambda: asked.append(1))
    settled.runner.look_at_all()
    passes(settled)
    assert asked == []


def test_two_controllers_both_obey_a_switch_that_neither_was_told_of(world: World) -> None:
    """Each works on its own share; the switch is thrown when both have plans, and no news of it has come to them."""
    store = world.session.ledger.store
    runners = []
    for number, one in enumerate(_share("alpha", "web01")):
        me = Holder("desk", f"boot {number}", "", number, "")
        leases = Leases(store, me, dead=lambda _: False, ids=iter([one]).__next__)
        runners.append(Runner(Engine(world.session.ledger, leases, world.machines.connect), Rhythm(), Metrics("test")))
    for runner in (*runners, *runners):
        runner.engine.leases.tick()
    try:
        _both_obey(world, runners)
    finally:
        for runner in runners:
            runner.stop()


def _share(*machines: str) -> tuple[str, ...]:
    """IDs of controllers that share the machines out, in their order."""
    member = Member(Holder.this_process(), Role.DAEMON, 1, 0.0, 0.0)
    for salt in itertools.count():
        ids = tuple(f"{machine} {salt}" for machine in machines)
        members = dict.fromkeys(ids, member)
        if ids == tuple(wanted(shard_of(machine), members) for machine in machines):
            return ids
    raise AssertionError


def _both_obey(world: World, runners: list[Runner]) -> None:
    world.apply(HOSTS, VM, SERVICE)

    def round_() -> None:
        for runner in runners:
            runner.step()
            while (name := runner.queue.take(0.15)) is not None:
                runner.work(name)

    deadline = time.monotonic() + WAIT
    while world.unready():
        assert time.monotonic() < deadline
        round_()
    alpha, web01 = world.machines.machine("alpha"), world.machines.machine("web01")
    for machine in (alpha, web01):
        machine.alter(CONF, sha256="0" * 64)
    writes = world.machines.writes
    pause(world, WORLD, None)
    outcomes = [runners[0].engine.machine_pass("alpha", bool), runners[1].engine.machine_pass("web01", bool)]
    assert [outcome and len(outcome.planned.changes) for outcome in outcomes] == [1, 1]
    assert world.machines.writes == writes, "obeyed before the news of it came"
    round_()
    assert world.machines.writes == writes
    assert reason(world, "Service/hello") == "WorldStopped"
    world.session.ledger.end_pause(WORLD)
    while world.unready():
        assert time.monotonic() < deadline
        round_()
    made = [(machine.name, one.key) for machine in (alpha, web01) for one in machine.log if one.verb is Verb.UPDATE]
    assert sorted(made) == [("alpha", CONF), ("web01", CONF)], "and each change was made once"
