"""The view: only what changed is worked out again, and the result is as if all had been."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.lower import Wanted
from controller.view import Spot, View
from resources.base import NotYet, Placed, pool_of
from resources.fleet import Fleet
from resources.vpn_nodes import presumed
from resources.world import Known, World
from tests.fast.firewalls import fleets
from tests.fast.manifests import host
from tests.fast.things import Thing
from tests.fast.toys import Toys, toy, toys

__all__ = ["toys"]

MACHINES = ("alpha", "beta")
HOSTS = tuple(host(name, hypervisor=None) for name in MACHINES)


def known(**facts: str) -> Known:
    return Known(facts={(f"Toy/{name}", "told"): value for name, value in facts.items()})


def fleet(*names: str) -> Fleet:
    return Fleet.of_resources([*HOSTS, *(toy(name) for name in names)])


def things(view: View, machine: str) -> list[Wanted]:
    return [wanted for wanted in view.lowered(machine).wanted if isinstance(wanted.item, Thing)]


def everything(at: Fleet) -> set[str]:
    return {f"resource/{resource.ref}" for resource in at}


def test_what_was_not_touched_is_not_asked_again(toys: Toys) -> None:
    toys.make("a", Thing("x"), on=["alpha"])
    toys.make("b", Thing("y"), on=["beta"])
    toys.what["a"] = lambda world: [Placed(Thing("x", world.fact("Toy/a", "told")))]
    view = View()
    at = fleet("a", "b")
    assert view.update(at, known(a="1"), everything(at)) == {"alpha", "beta"}
    before = {machine: view.lowered(machine) for machine in MACHINES}
    assert toys.asked == ["a@alpha", "b@beta"]
    assert view.update(at, known(a="2"), {"fact/Toy/a/told"}) == {"alpha"}
    assert view.lowered("beta") is before["beta"]
    assert [wanted.fields for wanted in things(view, "alpha")] == [{"value": "2"}]
    assert toys.asked == ["a@alpha", "b@beta", "a@alpha"]
    assert view.update(at, known(a="2", z="3"), {"fact/Toy/z/told"}) == frozenset()


def test_who_moves_concerns_the_machine_that_it_leaves_and_the_one_it_comes_to(toys: Toys) -> None:
    toys.where["a"] = lambda world: [world.fact("Toy/a", "told")]
    toys.what["a"] = lambda world: [Placed(Thing("x"))]
    view = View()
    at = fleet("a")
    view.update(at, known(a="alpha"), everything(at))
    assert view.spot("Toy/a").machines == ("alpha",)
    assert things(view, "alpha")
    assert view.update(at, known(a="beta"), {"fact/Toy/a/told"}) == {"alpha", "beta"}
    assert not things(view, "alpha")
    assert things(view, "beta")


def test_one_that_cannot_say_where_it_is_waits_and_is_nowhere(toys: Toys) -> None:
    def nowhere(world: World) -> Iterable[str]:
        raise NotYet("NotAllocated", "not decided yet")

    def broken(world: World) -> Iterable[str]:
        raise ZeroDivisionError

    toys.where = {"a": nowhere, "b": broken, "c": lambda world: ["alpha"]}
    view = View()
    at = fleet("a", "b", "c")
    view.update(at, Known(), everything(at))
    waits = {name: view.spot(f"Toy/{name}").wait for name in "abc"}
    assert waits["a"] is not None
    assert waits["a"].message == "not decided yet"
    assert waits["b"] is not None
    assert waits["b"].reason == "Defect"
    assert view.spot("Toy/c").machines == ("alpha",)
    assert view.spot("Toy/nobody") == Spot()


def test_a_kind_of_a_later_version_is_passed_over(toys: Toys) -> None:
    view = View()
    assert view.update(fleet(), Known(), {"resource/OfALaterVersion/x", "resource/Host/alpha"}) == {"alpha"}


Step = st.tuples(
    st.sets(st.sampled_from(["a", "b", "c"])),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(MACHINES), max_size=3),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(Step, min_size=1, max_size=6))
def test_step_by_step_gives_the_same_as_all_at_once(toys: Toys, steps: list[tuple[set[str], dict[str, str]]]) -> None:
    """Each toy is where its own fact says, and has what the fact of the next one says."""
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        toys.where[name] = lambda world, name=name: [world.fact(f"Toy/{name}", "told")]  # type: ignore[misc]
        toys.what[name] = lambda world, name=name, other=other: [  # type: ignore[misc]
            Placed(Thing(name, world.fact(f"Toy/{other}", "told") if world.get("Toy", other) else "alone"))
        ]
    view = View()
    before, told = fleet(), Known()
    view.update(before, told, everything(before))
    for names, facts in steps:
        at, new = fleet(*names), known(**facts)
        gone = {f"resource/{r.ref}" for r in (*at, *before) if (r in tuple(at)) != (r in tuple(before))}
        old = {machine: view.lowered(machine) for machine in MACHINES}
        affected = view.update(
            at, new, gone | {f"fact/{ref}/{what}" for (ref, what), _ in told.facts.items() ^ new.facts.items()}
        )
        before, told = at, new
        fresh = View()
        fresh.update(at, new, everything(at))
        for machine in MACHINES:
            assert view.lowered(machine) == fresh.lowered(machine)
            assert machine in affected or view.lowered(machine) is old[machine]
        assert all(view.spot(f"Toy/{name}") == fresh.spot(f"Toy/{name}") for name in "abc")


@settings(max_examples=40)
@given(first=fleets(), other=fleets(), data=st.data())
def test_firewalls_after_one_resource_changed_are_as_if_it_had_always_been_so(
    first: Fleet, other: Fleet, data: st.DataObject
) -> None:
    """All of them read much of each other: by labels, names, Services and VPNs."""
    view, before, was = View(), Fleet(), Known()
    steps = data.draw(st.lists(st.sampled_from([*other]), min_size=4, max_size=4, unique_by=lambda one: one.name))
    for one in [None, *steps]:
        # Also a machine that becomes one of another kind.
        after = Fleet.of_resources([*(r for r in before if r.name != one.name), one]) if one else first
        known = Known(allocations=presumed(World(after, Known())))
        refs = {r.ref for r in (*before, *after) if before.get(r.kind, r.name) != after.get(r.kind, r.name)}
        touched = {name for ref in refs for name in (f"resource/{ref}", f"kind/{ref.partition('/')[0]}")}
        gifts = {place for place, _ in known.allocations.items() ^ was.allocations.items()}
        touched |= {f"allocation/{ref}/{name}" for ref, what in gifts for name in (what, pool_of(what))}
        view.update(after, known, touched)
        fresh = View()
        fresh.update(after, known, everything(after))
        for machine in after.machines():
            assert view.lowered(machine.name) == fresh.lowered(machine.name)
        before, was = after, known
