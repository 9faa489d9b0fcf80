"""Lowering: conflicts, circles, items that serve several, and who waits."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.lower import NO_MACHINE, Lowered, Wait, lower
from controller.plan import Circumstances
from controller.reconcile import reconcile
from controller.status import verdicts
from drivers.base import Grade, SshTarget
from drivers.simulated import SimulatedDriver, SimulatedFleet
from resources.base import AnyResource, Invalid, NotYet, Partly, Placed
from resources.fleet import Fleet, machine_named
from resources.world import Known, World
from tests.fast.manifests import host
from tests.fast.things import Thing
from tests.fast.toys import Toys, toy, toys

__all__ = ["toys"]


def on(machine: str, *resources: AnyResource) -> Lowered:
    return lower(machine, resources, Fleet.of_resources([host("alpha"), *resources]), Known())


def keys(lowered: Lowered) -> list[str]:
    return [wanted.key for wanted in lowered.wanted]


def test_of_two_that_disagree_neither_gets_it_and_both_are_told_of_the_other(toys: Toys) -> None:
    first, second = toys.make("a", Thing("x", "1"), Thing("y")), toys.make("b", Thing("x", "2"))
    found = on("alpha", first, second, toys.make("c", Thing("z")))
    assert keys(found) == ["Thing:z"]
    assert found.refs == {"Toy/c"}
    assert found.waiting["Toy/a"] == Wait(
        "Conflict", "wants Thing:x in another way than Toy/b; only one of them may describe it", final=True
    )
    assert "than Toy/a" in found.waiting["Toy/b"].message


def test_an_item_that_several_want_is_one_with_the_needs_of_all(toys: Toys) -> None:
    first = toys.make("a", Thing("p"), Placed(Thing("x"), ("Thing:p",)))
    second = toys.make("b", Thing("q"), Placed(Thing("x"), ("Thing:q",)))
    found = on("alpha", first, second)
    (shared,) = [wanted for wanted in found.wanted if wanted.key == "Thing:x"]
    assert shared.after == ("Thing:p", "Thing:q")
    assert shared.producers == ("Toy/a", "Toy/b")
    assert shared.owner == "Toy/a"
    assert found.wanted[-1] == shared
    assert found.refs == {"Toy/a", "Toy/b"}


def test_what_is_said_before_waiting_for_the_rest_is_made(toys: Toys) -> None:
    def some(world: World, error: NotYet) -> Iterable[Placed]:
        yield Placed(Thing("x"))
        raise error

    toys.what["a"] = lambda world: some(world, Partly("FactUnknown", "waits for the rest"))
    toys.what["b"] = lambda world: some(world, NotYet("FactUnknown", "waits for all"))
    found = on("alpha", toy("a"), toy("b"))
    assert [(wanted.key, wanted.producers) for wanted in found.wanted] == [("Thing:x", ("Toy/a",))]
    assert found.refs == frozenset(), "nothing of what it has is taken away meanwhile"
    assert found.waiting["Toy/a"] == Wait("FactUnknown", "waits for the rest", partly=True)
    driver = SimulatedDriver(SimulatedFleet().machine("alpha"))
    outcome = reconcile(found, (), driver, Circumstances(time.time()), 1, remember=lambda _: None)
    (said,) = verdicts(outcome)["Toy/a"]
    assert (said.status, said.reason, said.message) == ("False", "FactUnknown", "waits for the rest")
    assert "Thing:x" in driver.machine.items


def test_what_has_all_its_items_though_not_as_they_will_be_loses_those_of_before(toys: Toys) -> None:
    def all_of_it(world: World) -> Iterable[Placed]:
        yield Placed(Thing("x"))
        raise Partly("FactUnknown", "waits for the rest", whole=True)

    toys.what["a"] = all_of_it
    found = on("alpha", toy("a"))
    assert found.refs == {"Toy/a"}
    assert found.waiting["Toy/a"] == Wait("FactUnknown", "waits for the rest", partly=True, whole=True)


def test_an_item_may_belong_to_another_resource(toys: Toys) -> None:
    (wanted,) = on("alpha", toys.make("a", Placed(Thing("x"), owner="Image/i"))).wanted
    assert (wanted.owner, wanted.producers) == ("Image/i", ("Toy/a",))


def test_a_circle_takes_out_those_in_it(toys: Toys) -> None:
    first = toys.make("a", Placed(Thing("x"), ("Thing:y",)), Thing("more"))
    second = toys.make("b", Placed(Thing("y"), ("Thing:x",)))
    found = on("alpha", first, second, toys.make("c", Placed(Thing("z"), ("Thing:elsewhere",))))
    assert keys(found) == ["Thing:z"]
    assert found.refs == {"Toy/c"}
    assert {ref: (wait.reason, wait.final) for ref, wait in found.waiting.items()} == {
        "Toy/a": ("Cycle", True),
        "Toy/b": ("Cycle", True),
    }
    assert (
        "Thing:x → Thing:y" in found.waiting["Toy/a"].message or "Thing:y → Thing:x" in found.waiting["Toy/a"].message
    )


def test_each_has_its_ceiling(toys: Toys) -> None:
    toys.ceilings = {"a": Grade.LIVE}
    found = on("alpha", toys.make("a", Thing("x")), toys.make("b", Thing("x")))
    assert found.ceilings == {"Toy/a": Grade.LIVE, "Toy/b": Grade.RESTART}


@pytest.mark.parametrize(
    ("raised", "wait"),
    [
        (NotYet("FactUnknown", "not told yet"), Wait("FactUnknown", "not told yet")),
        (Invalid("never"), Wait("Invalid", "never", final=True)),
        (
            KeyError("spec"),
            Wait("Defect", "a defect of salvus (KeyError); see the controller's log", final=True),
        ),
    ],
)
def test_one_that_is_not_lowered_holds_nobody_up(toys: Toys, raised: Exception, wait: Wait) -> None:
    def half(world: World) -> Iterable[Placed]:
        yield Placed(Thing("x"))
        raise raised

    toys.what["a"] = half
    found = on("alpha", toy("a"), toys.make("b", Thing("y")))
    assert keys(found) == ["Thing:y"]
    assert found.waiting == {"Toy/a": wait}


def test_the_way_to_a_machine(toys: Toys) -> None:
    found = on("alpha")
    assert isinstance(found.target, SshTarget)
    assert found.hypervisor
    assert "resource/Host/alpha" in found.reads
    assert on("nowhere").target == NO_MACHINE


def test_a_defect_in_the_way_to_a_machine_is_its_own(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.host.KIND.target", lambda *_: 1 // 0, raising=True)
    found = on("alpha", toys.make("a", Thing("x")))
    assert isinstance(found.target, Wait)
    assert found.target.reason == "Defect"
    assert keys(found) == ["Thing:x"]


def test_which_names_are_machines() -> None:
    assert machine_named("Host/alpha") == "alpha"
    assert machine_named("Service/s") == ""
    assert machine_named("OfALaterVersion/x") == ""
    assert machine_named("") == ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.sets(st.integers(0, 7), max_size=3), min_size=1, max_size=8))
def test_everything_comes_after_what_it_needs_whatever_the_order_it_was_said_in(
    toys: Toys, needs: list[set[int]]
) -> None:
    placed = [
        Placed(Thing(f"t{number}"), tuple(f"Thing:t{n}" for n in after if n < number))
        for number, after in enumerate(needs)
    ]
    found = on("alpha", toys.make("a", *reversed(placed)))
    assert len(found.wanted) == len(needs)
    before: set[str] = set()
    for wanted in found.wanted:
        assert before.issuperset(wanted.after)
        before.add(wanted.key)
