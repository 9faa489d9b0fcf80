"""Allocation: what is decided once, how it spreads, what is exclusive, and what stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.allocate import Decision, allocate
from resources.base import Choice, NotYet
from resources.fleet import Fleet
from resources.world import Known, World
from tests.fast.toys import Toys, toy, toys

__all__ = ["toys"]


def fleet(*names: str) -> Fleet:
    return Fleet.of_resources(toy(name) for name in names)


def kept(**values: str) -> Known:
    return Known({(f"Toy/{name}", "host"): value for name, value in values.items()})


def may(*allowed: str, exclusive: bool = False, why: str = "") -> Iterable[Choice]:
    return [Choice("host", allowed, exclusive, why)]


def test_they_spread_over_what_is_allowed_counting_what_was_decided_before(toys: Toys) -> None:
    toys.open = {name: lambda world: may("x", "y") for name in ("a", "b", "c")}
    decisions, waiting = allocate(fleet("a", "b", "c", "old"), kept(old="x"))
    assert decisions == (Decision("Toy/a", "host", "y"), Decision("Toy/b", "host", "x"), Decision("Toy/c", "host", "y"))
    assert waiting == {}


def test_what_is_exclusive_is_given_once_also_while_its_owner_is_being_deleted(toys: Toys) -> None:
    toys.open = {name: lambda world: may("x", "y", "z", exclusive=True, why="all taken") for name in ("a", "b", "c")}
    decisions, waiting = allocate(fleet("a", "b", "c"), kept(leaving="y"))
    assert [decision.value for decision in decisions] == ["x", "z"]
    assert waiting.keys() == {"Toy/c"}
    assert (waiting["Toy/c"].reason, waiting["Toy/c"].message) == ("NotPlaced", "all taken")


def test_what_was_decided_stays_and_it_is_said_when_the_manifest_means_something_else(toys: Toys) -> None:
    toys.open = {"a": lambda world: may("y"), "b": lambda world: may("y", exclusive=True)}
    decisions, waiting = allocate(fleet("a", "b"), kept(a="x", b="x"))
    assert decisions == ()
    assert waiting.keys() == {"Toy/a"}
    assert waiting["Toy/a"].reason == "KeptElsewhere"
    assert waiting["Toy/a"].message == "its host stays x, although the manifest now allows: y"


def test_without_a_place_it_waits(toys: Toys) -> None:
    toys.open = {"a": lambda world: may()}
    decisions, waiting = allocate(fleet("a"), Known())
    assert decisions == ()
    assert waiting["Toy/a"].message == "there is no host for it"


def test_who_waits_or_is_a_defect_holds_nobody_up(toys: Toys) -> None:
    def waits(world: World) -> Iterable[Choice]:
        raise NotYet("FactUnknown", "waits for a fact")

    def broken(world: World) -> Iterable[Choice]:
        raise ZeroDivisionError

    toys.open = {"a": waits, "b": broken, "c": lambda world: may("x")}
    decisions, waiting = allocate(fleet("a", "b", "c"), Known())
    assert decisions == (Decision("Toy/c", "host", "x"),)
    assert waiting["Toy/a"].message == "waits for a fact"
    assert waiting["Toy/b"].reason == "Defect"
    assert "ZeroDivisionError" in waiting["Toy/b"].message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    allowed=st.lists(st.sets(st.sampled_from("wxyz"), max_size=4), min_size=1, max_size=6),
    exclusive=st.booleans(),
    before=st.dictionaries(st.integers(0, 5), st.sampled_from("wxyz"), max_size=2),
)
def test_any_choices_are_decided_at_once_and_for_good(
    toys: Toys, allowed: list[set[str]], exclusive: bool, before: dict[int, str]
) -> None:
    names = [f"t{number}" for number in range(len(allowed))]
    toys.open = {
        name: lambda world, values=values: may(*sorted(values), exclusive=exclusive)  # type: ignore[misc]
        for name, values in zip(names, allowed, strict=True)
    }
    known = kept(**{f"t{number}": value for number, value in before.items()})
    decisions, waiting = allocate(fleet(*names), known)
    new = {(one.ref, one.what): one.value for one in decisions}
    assert not new.keys() & known.allocations.keys(), "what was decided stays"
    assert all(one.value in allowed[int(one.ref[5:])] for one in decisions)
    if exclusive:
        assert not Counter(new.values()).keys() & set(known.allocations.values())
        assert len(set(new.values())) == len(new)
    after = replace(known, allocations={**known.allocations, **new})
    assert allocate(fleet(*names), after) == ((), waiting)


class Numbers:
    """All numbers, as no tuple can hold them; those that are asked for are counted."""

    def __init__(self) -> None:
        self.asked = 0

    def __iter__(self) -> Iterator[str]:
        for number in count():
            self.asked += 1
            yield str(number)

    def __contains__(self, value: object) -> bool:
        return str(value).isdigit()


def test_a_pool_gives_each_value_once_and_is_not_walked_through_anew_for_each(toys: Toys) -> None:
    numbers = Numbers()
    toys.open = {
        name: lambda world: [Choice(f"address/n{n}", numbers) for n in range(300)]  # its own pool each
        for name in ("a", "b")
    }
    before = Known({("Toy/a", "address/gone"): "1", ("Toy/a", "address/n7"): "0", ("Toy/a", "address"): "2"})
    decisions, waiting = allocate(fleet("a", "b"), before)
    mine = {one.what: one.value for one in decisions if one.ref == "Toy/a"}
    assert waiting == {}
    assert len(set(mine.values())) == len(mine) == 299
    assert not {"0", "1"} & set(mine.values()), "also what belongs to who is gone"
    assert [one.value for one in decisions if one.ref == "Toy/b"] == [str(n) for n in range(300)]
    assert numbers.asked < 700


def test_an_empty_pool_says_why(toys: Toys) -> None:
    toys.open = {"a": lambda world: [Choice(f"address/{n}", ("x",), why_none="all given") for n in "pq"]}
    decisions, waiting = allocate(fleet("a"), Known())
    assert decisions == (Decision("Toy/a", "address/p", "x"),)
    assert waiting["Toy/a"].message == "all given"


def test_what_was_given_out_of_a_pool_stays_also_outside_of_what_is_allowed_now(toys: Toys) -> None:
    toys.open = {"a": lambda world: [Choice("address/n", ("y",))]}
    assert allocate(fleet("a"), Known({("Toy/a", "address/n"): "x"})) == ((), {})
