"""What is never done: to delete on old or half knowledge, or what others need, or what somebody still works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from controller.plan import Circumstances, Owned, Plan, plan
from controller.reconcile import reconcile
from drivers.base import Absent, Applied, Change, Item, Observation, Present, State, Unknown
from tests.fast.things import Thing, lowered, seen, wanted

NOW = Circumstances(now=1000.0)
VOLUME = Owned(Thing("volume"), "Service/gone", created=True)
DOMAIN = Owned(Thing("domain"), "Service/gone", created=True, after=("Thing:volume",))
THERE = Present({"value": "a"})


def going(about: Circumstances = NOW, at: float = 1000.0, **states: State) -> Plan:
    return plan(lowered(), seen(at, **{"volume": THERE, "domain": THERE} | states), [VOLUME, DOMAIN], about)


def changed(found: Plan) -> list[str]:
    return [f"{change.verb} {change.item.name}" for change in found.changes]


def test_what_uses_it_goes_first() -> None:
    assert changed(going()) == ["delete domain", "delete volume"]


def test_nothing_goes_while_what_uses_it_is_unknown() -> None:
    found = going(domain=Unknown("libvirt does not answer"))
    assert changed(found) == []
    assert found.unknown == {"Thing:domain": "libvirt does not answer"}
    (held,) = found.held
    assert (held.change.item.name, held.reason) == ("volume", "WaitsForItem")
    assert "libvirt does not answer" in held.message
    assert found.owners == {"Thing:domain": "Service/gone", "Thing:volume": "Service/gone"}


def test_nothing_goes_on_an_old_observation() -> None:
    assert changed(going(at=1000.0 - NOW.max_age)) == ["delete domain", "delete volume"]
    found = going(at=999.0 - NOW.max_age)
    assert changed(found) == []
    assert found.unknown.keys() == {"Thing:domain", "Thing:volume"}


def test_a_job_holds_what_it_works_on_and_what_comes_after() -> None:
    found = going(Circumstances(now=1000.0, jobs={"Thing:domain": ("JobFailed", "it does not shut down")}))
    assert changed(found) == []
    assert [(held.change.item.name, held.reason) for held in found.held] == [
        ("domain", "JobFailed"),
        ("volume", "WaitsForItem"),
    ]
    assert "it does not shut down" in found.held[1].message


def test_a_job_for_something_else_holds_nothing() -> None:
    assert changed(going(Circumstances(now=1000.0, jobs={"Thing:other": ("JobRunning", "")}))) == [
        "delete domain",
        "delete volume",
    ]


def test_what_is_absent_is_forgotten_and_holds_nothing() -> None:
    found = going(domain=Absent())
    assert changed(found) == ["delete volume"]
    assert found.forgotten == ("Thing:domain",)


class Old:
    """A driver that answers with what it saw long ago."""

    def __init__(self) -> None:
        self.given: list[Change] = []

    def observe(self, items: Sequence[Item]) -> Mapping[str, Observation]:
        return {item.key: Observation(Present({"value": "b"}), 1000.0, "cache") for item in items}

    def apply(self, changes: Sequence[Change], epoch: int) -> tuple[Applied, ...]:
        self.given += changes
        return tuple(map(Applied, changes))

    def close(self) -> None:
        raise AssertionError


@pytest.mark.parametrize("age", [10.0, 400.0])
def test_a_pass_knows_what_time_it_is_when_it_plans(age: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0 + age)
    driver = Old()
    reconcile(lowered(wanted(Thing("x"))), [VOLUME], driver, Circumstances(0.0), 1, remember=lambda rows: None)
    assert len(driver.given) == (2 if age < NOW.max_age else 0)
