"""What failed or falls over again and again waits, says so, and holds nobody else up; and how the controller stops."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.members import shard_of
from controller.plan import Circumstances, Owned, Plan, plan
from controller.present import conditions, settled
from controller.rests import FIRST, STARTS, WITHIN, Rest, Rests
from controller.runner import silent
from controller.store.records import Job
from drivers.base import Change, Drift, Failed, Fenced, Grade, Present, Rejected, State, Unreachable, Verb
from tests.fast.test_controller import HOSTS, SERVICE, VM, World
from tests.fast.things import Thing, lowered, seen, wanted

PATIENCE = 20.0
HERE = SERVICE.replace("[alpha, web01]", "[alpha]")
X = Thing("x")


def resting(change: Change) -> Circumstances:
    return Circumstances(1000.0, rests={change.item.key: Rest(change, "Failed", "it failed", 1005.0)})


def update(found: str) -> Change:
    return Change(X, Verb.UPDATE, (Drift("value", "a", found),), Grade.LIVE)


def planned(about: Circumstances, **states: State) -> Plan:
    wants = lowered(wanted(X), wanted(Thing("y"), X.key), wanted(Thing("z")))
    return plan(wants, seen(**states), (), about)


def keys(found: Plan) -> list[str]:
    return [change.item.name for change in found.changes]


def test_just_what_failed_is_held_and_what_comes_after_it() -> None:
    off = Present({"value": "b"})
    found = planned(resting(update("b")), x=off, y=off, z=off)
    assert keys(found) == ["z"]
    assert [(held.change.item.name, held.reason) for held in found.held] == [("x", "Failed"), ("y", "WaitsForItem")]
    assert found.open == {"Thing:x", "Thing:y", "Thing:z"}


def test_another_drift_is_tried_at_once() -> None:
    off = Present({"value": "b"})
    assert keys(planned(resting(update("c")), x=off, y=off, z=off)) == ["x", "y", "z"]


def test_a_deletion_that_failed_rests_too() -> None:
    gone = Owned(X, "Service/gone", created=True)
    about = resting(Change(X, Verb.DELETE, (), Grade.LIVE))
    found = plan(lowered(), seen(x=Present({"value": "a"})), [gone], about)
    assert [(held.change.item.name, held.reason) for held in found.held] == [("x", "Failed")]


class Hours(World):
    """A world whose rests have a clock of their own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.now = 1000.0
        self.runner.engine.rests = Rests(lambda: self.now)

    def visit(self, machine: str = "alpha") -> None:
        self.runner.step()
        self.runner.queue.hurry(machine)
        while (taken := self.runner.queue.take(0.12)) is not None:
            self.runner.work(taken)

    def reason(self, ref: str) -> str:
        return conditions(self.session.knowledge(), ref)[0].reason


@pytest.fixture
def hours(tmp_path: Path) -> Iterator[Hours]:
    made = Hours(tmp_path)
    yield made
    made.runner.stop()


def test_what_failed_is_not_tried_again_at_once_and_says_when(hours: Hours) -> None:
    alpha = hours.machines.machine("alpha")
    alpha.faults.refuses["Package:nginx"] = Failed("no such package")
    hours.apply(HOSTS, HERE)
    hours.visit()
    ready = conditions(hours.session.knowledge(), "Service/hello")[0]
    assert (ready.reason, settled(ready)) == ("Failed", False)
    assert ready.message == "Package:nginx: no such package; it is tried again at 00:16:45Z"
    alpha.faults.refuses.clear()
    hours.visit()
    assert "Package:nginx" not in hours.items("alpha")
    assert conditions(hours.session.knowledge(), "Service/hello")[0] == ready, "nothing new is written while it rests"
    hours.now += FIRST
    hours.visit()
    assert hours.reason("Service/hello") == "InSync"
    assert hours.runner.engine.rests.until("alpha") is None


def test_the_machine_goes_on_meanwhile_and_the_fix_is_tried_at_once(hours: Hours) -> None:
    alpha = hours.machines.machine("alpha")
    alpha.faults.refuses["Package:ngnix"] = Failed("no such package")
    hours.apply(HOSTS, HERE.replace("[nginx]", "[ngnix]"))
    hours.visit()
    hours.apply(HOSTS, HERE.replace("[nginx]", "[ngnix]"), VM)
    hours.visit()
    assert hours.reason("Service/hello") == "Failed"
    assert any(key.startswith("HostKey:") for key in hours.items("alpha"))
    hours.apply(HOSTS, HERE)
    hours.visit()
    assert hours.reason("Service/hello") == "InSync"
    assert hours.runner.engine.rests.of("alpha") == {}, "of what nobody wants any more nothing is kept"


def test_what_was_refused_is_tried_again_when_something_else_is_found_or_somebody_asks(hours: Hours) -> None:
    conf, alpha = "File:/etc/hello.conf", hours.machines.machine("alpha")
    hours.apply(HOSTS, HERE)
    hours.visit()

    def refused(mode: str) -> None:
        alpha.alter(conf, mode=mode)
        alpha.faults.refuses[conf] = Rejected("a directory is in the way")
        hours.visit()
        assert hours.reason("Service/hello") == "Stalled"
        alpha.faults.refuses.clear()
        hours.now += 10**6
        hours.visit()
        assert alpha.items[conf]["mode"] == mode, "the same is not tried again"

    refused("0777")
    alpha.remove(conf)
    hours.visit()
    assert hours.reason("Service/hello") == "InSync"
    refused("0666")
    hours.runner.look_at_all()
    hours.visit()
    assert hours.reason("Service/hello") == "InSync"


def test_a_pass_comes_when_the_first_rest_ends(hours: Hours, monkeypatch: pytest.MonkeyPatch) -> None:
    hours.machines.machine("alpha").faults.refuses["Package:nginx"] = Failed("no such package")
    hours.apply(HOSTS, HERE)
    again: list[float | None] = []
    monkeypatch.setattr(hours.runner.engine.recorder, "run", lambda _, next_in: again.append(next_in))
    hours.visit()
    assert again[0] == pytest.approx(FIRST)


def test_only_silence_makes_a_machine_doubtful(hours: Hours) -> None:
    alpha = hours.machines.machine("alpha")
    alpha.faults.refuses["Package:nginx"] = Failed("no such package")
    hours.apply(HOSTS, HERE)
    hours.visit()
    assert not silent(hours.runner.engine.outcomes["alpha"])
    hours.runner.look_at_all()
    alpha.faults.refuses["Package:nginx"] = Unreachable("the connection broke")
    hours.visit()
    assert silent(hours.runner.engine.outcomes["alpha"])
    assert hours.runner.engine.rests.of("alpha") == {}, "what could not be told is told as soon as it can be"


def test_a_machine_that_powers_off_at_once_is_not_started_for_ever(hours: Hours) -> None:
    hours.apply(HOSTS, VM)
    hours.converge()
    hours.now += 1.0
    alpha = hours.machines.machine("alpha")
    for _ in range(STARTS):
        alpha.die("Domain:web01")
        hours.visit()
        assert alpha.items["Domain:web01"]["running"] is True
    alpha.die("Domain:web01")
    hours.visit()
    assert alpha.items["Domain:web01"]["running"] is False
    ready = conditions(hours.session.knowledge(), "VirtualMachine/web01")[0]
    assert (ready.reason, settled(ready)) == ("CrashLooping", True)
    hours.now += WITHIN
    hours.visit()
    assert alpha.items["Domain:web01"]["running"] is True


def test_leases_are_kept_while_a_job_is_waited_for_and_an_interrupt_cuts_it(
    hours: Hours, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours.apply(HOSTS)
    engine = hours.runner.engine
    asked: list[bool] = []
    cut = threading.Event()

    def finish(*_: object) -> None:
        hours.runner.step()
        asked.append(bool(engine.leases.held()))
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.jobs, "finish", finish)
    monkeypatch.setattr(engine.machines, "close", cut.set)
    hours.runner.step()
    with pytest.raises(KeyboardInterrupt):
        hours.runner.stop()
    assert asked == [True]
    assert cut.is_set()
    assert engine.leases.held() == {}
    monkeypatch.undo()


def test_what_a_job_failed_with_is_known_before_the_next_can_begin(hours: Hours) -> None:
    engine = hours.runner.engine
    change = update("b")
    engine.leases.tick()
    epoch = engine.leases.held()[shard_of("alpha")]
    ended = Job("alpha", X.key, epoch, 1.0, 2.0, "no room")
    with pytest.raises(Fenced):
        engine._job_moved(replace(ended, epoch=epoch - 1), change, Failed("no room"))
    assert engine.rests.of("alpha") == {}, "it is no more ours to note how it went"
    engine._job_moved(ended, change, Failed("no room"))
    assert engine.rests.of("alpha")[X.key].reason == "JobFailed"
    engine.forget("alpha")
    assert engine.rests.of("alpha") == {}
