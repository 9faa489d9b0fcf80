"""A new machine's services start when the others let it in: simulated machines, whole passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import controller.view
from controller.lower import Lowered, lower
from controller.view import View
from resources.openings import LETS_IN
from resources.world import STARTED
from tests.fast.walls import TABLE, Walls, host, wall

OLD = ("db1", "db2", "db3")
UNIT = "SystemdUnit:cassandra.service"
FIREWALL = wall(22, machines="{selector: {matchLabels: {role: db}}}")
EVERYBODY = (*OLD, "db4", "web")


def cassandra(clients: str = "{service: cassandra}", role: str = "db") -> str:
    return f"""
apiVersion: salv.us/v1
kind: Service
metadata: {{name: cassandra}}
spec:
  machines: {{selector: {{matchLabels: {{role: {role}}}}}}}
  unit: "[Service]\\nExecStart=/usr/bin/sleep infinity\\n"
  ports: [{{name: storage, port: 7000}}]
  clients: [{clients}]
"""


def fleet(*more: str) -> list[str]:
    return [*(host(name, "db") for name in OLD), host("web", "web"), *more]


@pytest.fixture
def walls(tmp_path: Path) -> Walls:
    """Three nodes of a ring, and one machine that is none."""
    made = Walls(tmp_path)
    made.put(*fleet(cassandra(), FIREWALL))
    made.rounds(*EVERYBODY[:3], "web")
    assert all(runs(made, name) for name in OLD)
    return made


def runs(walls: Walls, name: str) -> bool:
    return walls.fleet.machine(name).items.get(UNIT, {}).get("running") is True


def knows(walls: Walls, name: str, other: str) -> bool:
    address = f"198.51.100.{sum(other.encode()) % 250 + 1}/32"
    return address in str(walls.fleet.machine(name).items[TABLE]["members"])


def test_it_is_started_when_all_others_let_it_in(walls: Walls) -> None:
    walls.put(*fleet(host("db4", "db"), cassandra(), FIREWALL))
    walls.settle()
    walls.visit("db4", "db1", "db2")
    walls.settle()
    walls.visit("db4")
    assert not runs(walls, "db4")
    said = walls.said("db4", ref="Service/cassandra")["db4"]
    assert (said.reason, said.message) == (
        "WaitsForFirewall",
        "waits until the rules of db3, which are to let db4 in, are in force: salvusctl describe Host/db3",
    )
    walls.visit("db3")
    walls.settle()
    walls.visit("db4")
    assert runs(walls, "db4")


def test_who_cannot_be_reached_holds_up_nobody(walls: Walls) -> None:
    walls.silent("db2", True)
    walls.visit("db2")
    walls.put(*fleet(host("db4", "db"), cassandra(), FIREWALL))
    walls.rounds("db4", "db1", "db3")
    assert runs(walls, "db4")
    assert not knows(walls, "db2", "db4")


@pytest.mark.parametrize("clients", ["{machines: {selector: {matchLabels: {role: db}}}}", "{cidr: 198.51.100.0/24}"])
def test_what_counts_is_who_is_named(walls: Walls, clients: str) -> None:
    walls.put(*fleet(cassandra(clients), FIREWALL))
    walls.rounds(*OLD)
    walls.put(*fleet(host("db4", "db"), cassandra(clients), FIREWALL))
    walls.settle()
    for _ in range(2):
        walls.visit("db4")
        walls.settle()
    assert runs(walls, "db4") is ("cidr" in clients), "of a network all are in already"
    walls.rounds(*OLD, "db4")
    assert runs(walls, "db4")


def test_rules_that_are_written_count_as_those_that_are_derived(walls: Walls) -> None:
    def rule(service: str) -> str:
        return FIREWALL.replace("ports: [22]", f"ports: [22]}}, {{name: y, from: [{{service: {service}}}], ports: [7]")

    closed = cassandra("{cidr: 192.0.2.1}")
    walls.put(*fleet(closed, rule("cassandra")))
    walls.rounds(*OLD)
    walls.put(*fleet(host("db4", "db"), closed, rule("cassandra")))
    walls.settle()
    walls.visit("db4")
    assert not runs(walls, "db4")
    walls.rounds(*OLD, "db4")
    assert runs(walls, "db4")
    assert all(knows(walls, name, "db4") for name in OLD)


def test_who_has_no_firewall_lets_everybody_in_and_holds_up_nobody(walls: Walls) -> None:
    some = wall(22, machines="{names: [db1]}")
    walls.put(*fleet(cassandra(), some))
    walls.rounds(*OLD)
    walls.put(*fleet(host("db4", "db"), cassandra(), some))
    walls.settle()
    walls.visit("db1")
    walls.settle()
    walls.visit("db4")
    assert runs(walls, "db4")


def test_who_was_started_asks_nobody_any_more(walls: Walls) -> None:
    at = walls.session.knowledge()
    view = View()
    view.update(at.fleet, at.known, [f"resource/{ref}" for ref in at.rows])
    assert f"fact/Service/cassandra/{STARTED}/db1" in view.lowered("db1").reads
    assert not [read for read in view.lowered("db1").reads if read.endswith(LETS_IN)]


def test_what_runs_is_neither_stopped_nor_kept_from_a_restart(walls: Walls) -> None:
    walls.put(*fleet(host("db4", "db"), cassandra(), FIREWALL))
    walls.settle()
    before = dict(walls.fleet.machine("db1").items[UNIT])
    walls.put(*fleet(host("db4", "db"), cassandra().replace("infinity", "9"), FIREWALL))
    walls.settle()
    walls.visit("db1")
    assert runs(walls, "db1")
    assert walls.fleet.machine("db1").items[UNIT]["restart_on"] != before["restart_on"]
    walls.fleet.machine("db1").alter(UNIT, running=False)
    walls.visit("db1")
    assert runs(walls, "db1"), "it was started before, and is not new"


def test_one_that_left_and_comes_back_is_new_again(walls: Walls) -> None:
    walls.put(*fleet(host("db4", "db"), cassandra(), FIREWALL))
    walls.rounds(*OLD, "db4")
    walls.put(*fleet(host("db4", "none"), cassandra(), FIREWALL))
    walls.rounds(*OLD, "db4")
    assert not runs(walls, "db4")
    assert not knows(walls, "db1", "db4")
    walls.put(*fleet(host("db4", "db"), cassandra(), FIREWALL))
    walls.settle()
    walls.visit("db4")
    assert not runs(walls, "db4")
    walls.rounds(*OLD, "db4")
    assert runs(walls, "db4")


def test_without_a_firewall_it_is_not_known_whom_a_machine_let_in(walls: Walls) -> None:
    def told() -> list[str]:
        facts = walls.session.knowledge().known.facts
        return [name for name in OLD if facts.get((f"Host/{name}", LETS_IN))]

    assert told() == list(OLD)
    walls.session.delete(["Firewall/base"])
    walls.rounds(*OLD)
    assert told() == []


def test_a_machine_more_is_work_for_those_who_know_it(walls: Walls, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(machine: str, *about: Any) -> Lowered:
        asked.append(machine)
        return lower(machine, *about)

    walls.put(*fleet(host("db4", "db"), cassandra(), FIREWALL))
    monkeypatch.setattr(controller.view, "lower", counted)
    walls.rounds(*OLD, "db4")
    assert {name: asked.count(name) for name in OLD} == dict.fromkeys(OLD, 1)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    order=st.lists(st.sampled_from([*OLD, "db4", "db5", "settle"]), min_size=10, max_size=40),
    silent=st.sets(st.sampled_from(OLD), max_size=1),
)
def test_in_any_order_nobody_runs_whom_one_that_answers_does_not_know(
    tmp_path_factory: pytest.TempPathFactory, order: list[str], silent: set[str]
) -> None:
    walls = Walls(tmp_path_factory.mktemp("walls"))
    walls.put(*fleet(cassandra(), FIREWALL))
    walls.rounds(*OLD)
    for name in silent:
        walls.silent(name, True)
        walls.visit(name)
    walls.put(*fleet(host("db4", "db"), host("db5", "db"), cassandra(), FIREWALL))
    new = ("db4", "db5")
    for step in (*order, "end"):
        if step == "settle":
            walls.settle()
        elif step == "end":
            walls.rounds(*OLD, *new)
            assert all(runs(walls, one) for one in new)
        else:
            walls.visit(step)
        for one in new:
            assert not runs(walls, one) or all(knows(walls, name, one) for name in OLD if name not in silent)
