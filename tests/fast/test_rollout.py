"""Perilous changes come to a fleet one machine first, then some at once: simulated machines, whole passes."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import controller.view
from controller.lower import Lowered, lower
from controller.present import conditions
from drivers.items.rules import RuleSet
from drivers.items.ufw_rules import UfwRules
from resources.quantity import share_of
from resources.rollouts import IN_FORCE, TURN, revision
from tests.fast.manifests import refused
from tests.fast.walls import HOSTS, NAMES, TABLE, UFW, Walls, host, wall, walls

__all__ = ["walls"]

SERVICE = """
apiVersion: salv.us/v1
kind: Service
metadata: {name: db}
spec: {machines: {selector: {}}, ports: [{name: cql, port: 9042}], clients: CLIENTS}
"""


def test_one_machine_tries_first_and_the_others_say_for_whom_they_wait(walls: Walls) -> None:
    walls.put(*HOSTS, wall(2))
    walls.settle()
    walls.visit(*NAMES)
    assert not walls.with_port(2, *NAMES), "nobody has its turn yet"
    walls.settle()
    walls.visit(*NAMES[1:])
    assert walls.with_port(1, *NAMES) == list(NAMES), "who waits keeps its table"
    said = walls.said(*NAMES)["web5"]
    assert (said.reason, said.message) == ("WaitsForCanary", "waits for the canary web1 of Firewall/base")
    walls.visit("web1")
    assert walls.with_port(2, *NAMES) == ["web1"]


def test_it_is_the_first_by_name_also_when_others_ask_before_it(walls: Walls) -> None:
    walls.put(*HOSTS, wall(2))
    walls.settle()
    walls.visit(*NAMES[2:])
    walls.settle()
    walls.visit(*NAMES)
    assert not walls.with_port(2, *NAMES)
    walls.settle()
    walls.visit(*NAMES)
    assert walls.with_port(2, *NAMES) == ["web1"]


def test_a_turn_is_for_all_that_is_written_then(walls: Walls) -> None:
    other = wall(5, "left", "{names: [web1]}")
    walls.put(*HOSTS, wall(2))
    walls.settle()
    walls.visit(*NAMES)
    walls.settle()
    walls.put(*HOSTS, wall(2), other)
    walls.settle()
    walls.visit("web1")
    assert not walls.with_port(2, *NAMES), "nobody gave it a turn for both"
    walls.rounds(*NAMES)
    assert (walls.with_port(2, *NAMES), walls.with_port(5, *NAMES)) == (list(NAMES), ["web1"])


def test_after_it_so_many_at_once_as_is_written(walls: Walls) -> None:
    walls.put(*HOSTS, wall(2, most="3"))
    seen = []
    for _ in range(12):
        walls.settle()
        walls.visit(*NAMES)
        seen.append(len(walls.with_port(2, *NAMES)))
    assert sorted(set(seen)) == [0, 1, 4, 7, 8]
    assert conditions(walls.session.knowledge(), "Firewall/base")[0].status == "True"
    before = walls.fleet.writes
    walls.rounds(*NAMES)
    assert walls.fleet.writes == before


def test_of_a_wave_those_who_wait_say_how_many_may(walls: Walls) -> None:
    walls.put(*HOSTS, wall(2))
    for _ in range(3):
        walls.settle()
        walls.visit(*NAMES)
    walls.settle()
    walls.visit("web8")
    assert walls.said("web8")["web8"].message == (
        "waits for its turn: of Firewall/base at most 2 machines change at once"
    )


@pytest.mark.parametrize("bad", ["web1", "web3"])
def test_where_one_puts_it_back_no_other_tries_until_it_is_corrected(walls: Walls, bad: str) -> None:
    walls.put_back(bad)
    walls.put(*HOSTS, wall(2, most="1"))
    walls.rounds(*NAMES)
    tried = list(NAMES[: NAMES.index(bad)])
    assert walls.with_port(2, *NAMES) == tried
    said = walls.said(*NAMES)
    assert said[bad].reason == "RolledBack"
    assert said["web8"].reason == "HeldByRollout"
    assert f"was put back on {bad}, so no other machine tries it" in said["web8"].message
    assert walls.with_port(1, *NAMES) == [name for name in NAMES if name not in tried]
    walls.silent(bad, True)
    walls.rounds(*NAMES)
    assert walls.with_port(2, *NAMES) == tried, "that it cannot be asked now makes the rules no better"
    walls.silent(bad, False)
    walls.mended(bad)
    walls.put(*HOSTS, wall(3))
    walls.settle()
    walls.visit(*NAMES)
    walls.settle()
    walls.visit(*NAMES)
    assert walls.with_port(3, *NAMES) == ["web1"], "what is new begins with the canary"
    walls.rounds(*NAMES)
    assert walls.with_port(3, *NAMES) == list(NAMES)


def test_who_removes_the_note_has_it_tried_again_and_it_goes_on(walls: Walls) -> None:
    walls.put_back("web1")
    walls.put(*HOSTS, wall(2))
    walls.rounds(*NAMES)
    walls.mended("web1")
    walls.rounds(*NAMES)
    assert walls.with_port(2, *NAMES) == list(NAMES)


def test_a_canary_that_leaves_the_fleet_is_followed_by_another(walls: Walls) -> None:
    walls.put(*HOSTS, wall(2))
    walls.settle()
    walls.visit(*NAMES)
    walls.settle()
    walls.put(*HOSTS[1:], wall(2))
    walls.session.delete(["Host/web1"])
    walls.rounds(*NAMES[1:])
    assert walls.with_port(2, *NAMES) == list(NAMES[1:])


def test_what_only_lets_more_in_and_what_others_changed_waits_for_nobody(walls: Walls) -> None:
    def clients(*cidrs: str) -> str:
        return SERVICE.replace("CLIENTS", "[" + ", ".join(f"{{cidr: {cidr}}}" for cidr in cidrs) + "]")

    def members(name: str) -> object:
        return walls.fleet.machine(name).items[TABLE]["members"]

    walls.put(*HOSTS, wall(1), clients("192.0.2.1", "192.0.2.2"))
    walls.settle()
    walls.visit(*NAMES)
    assert walls.with_port(9042, *NAMES) == list(NAMES), "rules that are new because of a Service"
    walls.put(*HOSTS, wall(1), clients("192.0.2.2"))
    walls.settle()
    walls.visit(*NAMES)
    assert all("192.0.2.1/32" not in str(members(name)) for name in NAMES)
    ssh = ", ssh: [{cidr: 192.0.2.9}]"
    walls.put(*HOSTS, wall(1, more=ssh), clients("192.0.2.2"))
    walls.rounds(*NAMES)
    walls.put(*HOSTS, wall(1, more=ssh.replace("]", ", {cidr: 192.0.2.10}]")), clients("192.0.2.2"))
    walls.settle()
    walls.visit(*NAMES)
    assert all("192.0.2.10/32" in str(members(name)) for name in NAMES), "of the Firewall itself, and yet an opening"


def test_another_backend_takes_nothing_away_before_a_machine_has_its_turn(walls: Walls) -> None:
    walls.fleet.machine("web5").put(UfwRules(RuleSet()))
    walls.fleet.machine("web5").alter(UFW, by_hand="+ufw allow 22")
    walls.put(*HOSTS, wall(1, more=", backend: ufw"))
    for _ in range(2):
        walls.settle()
        walls.visit(*NAMES[1:])
    assert walls.with_port(1, *NAMES) == list(NAMES)
    walls.rounds(*NAMES)
    assert not walls.with_port(1, *NAMES)
    assert all(walls.fleet.machine(name).items[UFW]["rules"] for name in NAMES)


PLAN = (
    "update NftTable:salvus",
    "  rules:",
    '     tcp dport { 22 } accept comment "Host/web1 spec.ssh"',
    '    -tcp dport { 1 } accept comment "Firewall/base spec.ingress[x]"',
    '    +tcp dport { 2 } accept comment "Firewall/base spec.ingress[x]"',
    '     drop comment "default of ingress"',
)


def test_what_was_put_back_is_said_with_from_what_to_what_also_by_who_only_finds_the_note(walls: Walls) -> None:
    walls.put_back("web1")
    walls.put(*HOSTS, wall(2))
    walls.rounds(*NAMES)
    said = walls.said("web1")["web1"]
    assert (said.reason, said.plan) == ("RolledBack", PLAN)
    walls.note("web1")
    walls.mended("web1")
    # Who tried it was killed before anything of it was in the store: the next one has the machine's note alone.
    walls.session.ledger.put_statuses("web1", {"Firewall/base": None})
    walls.another_controller()
    walls.rounds(*NAMES)
    said = walls.said("web1")["web1"]
    assert (said.reason, said.plan) == ("RolledBack", PLAN)
    assert "with these rules nobody could log in anew" in said.message
    assert walls.with_port(2, "web1") == []
    assert walls.session.ledger.events("Firewall/base")[-1].plan == PLAN
    walls.put(*HOSTS, wall(3))
    walls.rounds(*NAMES)
    assert walls.said("web1")["web1"].plan == ()


def test_what_another_backend_was_to_replace_stays_where_that_was_put_back(walls: Walls) -> None:
    web1 = walls.fleet.machine("web1")
    walls.put_back("web1", item=UFW)
    walls.put(*HOSTS, wall(1, more=", backend: ufw"))
    walls.rounds(*NAMES)
    assert walls.with_port(1, "web1") == ["web1"]
    web1.put(UfwRules(RuleSet()))
    web1.alter(UFW, enabled=False)
    walls.note("web1", item=UFW)
    walls.mended("web1")
    walls.rounds(*NAMES)
    assert walls.said("web1")["web1"].reason == "RolledBack"
    assert walls.with_port(1, *NAMES) == list(NAMES), "no machine is without rules"


def test_a_machine_that_comes_later_needs_no_canary(walls: Walls) -> None:
    walls.put(*HOSTS, wall(2))
    walls.rounds(*NAMES)
    walls.put(*HOSTS, host("aaa"), wall(2))
    walls.rounds("aaa")
    assert walls.with_port(2, "aaa") == ["aaa"]


def test_one_that_waits_for_a_corrected_firewall_holds_up_no_other_firewall(walls: Walls) -> None:
    left, right = "{names: [web1, web2]}", "{names: [web2, web3, web4]}"
    walls.put_back("web1")
    walls.put(*HOSTS, wall(1), wall(5, "left", left))
    walls.rounds(*NAMES)
    walls.put(*HOSTS, wall(1), wall(5, "left", left), wall(6, "right", right))
    walls.rounds(*NAMES)
    assert walls.with_port(6, *NAMES) == ["web3", "web4"]


def test_two_controllers_together_let_one_machine_try_first(tmp_path: Path) -> None:
    walls = Walls(tmp_path, controllers=2)
    walls.put(*HOSTS, wall(1))
    walls.rounds(*NAMES)
    assert all(engine.leases.held() for engine in walls.engines)
    walls.put(*HOSTS, wall(2))
    walls.settle()
    walls.visit(*NAMES)
    walls.settle()
    walls.visit(*NAMES)
    assert walls.with_port(2, *NAMES) == ["web1"]
    walls.rounds(*NAMES)
    assert walls.with_port(2, *NAMES) == list(NAMES)


def test_work_does_not_grow_with_how_many_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def counted(*about: Any) -> Lowered:
        nonlocal count
        count += 1
        return lower(*about)

    monkeypatch.setattr(controller.view, "lower", counted)
    names = [f"h{number:03}" for number in range(60)]
    walls = Walls(tmp_path)
    walls.put(*map(host, names), wall(1, most="2"))
    walls.rounds(*names, most=100)
    assert walls.with_port(1, *names) == names
    # New, who tries first, how many at once, its turn, in force.
    assert count <= 5 * len(names) + 10


@pytest.mark.parametrize("wrong", [0, "0%", "101%", "-1", "a few", 1.5])
def test_what_is_no_number_and_no_percentage_is_refused(wrong: object) -> None:
    assert "maxParallel" in refused("Firewall", {"machines": {"selector": {}}, "rollout": {"maxParallel": wrong}})


@pytest.mark.parametrize(("text", "total", "count"), [("25%", 8, 2), ("25%", 3, 1), ("100%", 7, 7), ("5", 2, 5)])
def test_a_percentage_is_of_all_machines(text: str, total: int, count: int) -> None:
    assert share_of(text, total) == count


FEW = NAMES[:5]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("visit"), st.sampled_from(FEW)),
        st.tuples(st.just("settle"), st.just("")),
        st.tuples(st.sampled_from(["silent", "heard", "bad", "good"]), st.sampled_from(FEW)),
        st.tuples(st.sampled_from(["base", "left"]), st.just("")),
    ),
    min_size=25,
    max_size=60,
)


class Two:
    """Two Firewalls that share machines; each revision has another port."""

    def __init__(self, walls: Walls, left: set[str], most: int) -> None:
        self.walls, self.most = walls, most
        self.on = {"base": list(FEW), "left": sorted(left)}
        self.ports = {"base": 100, "left": 200}
        self.put()

    def put(self) -> None:
        texts = (
            wall(port, name, f"{{names: [{', '.join(self.on[name])}]}}", str(self.most))
            for name, port in self.ports.items()
        )
        self.walls.put(*HOSTS[: len(FEW)], *texts)

    def changed(self, name: str) -> None:
        self.ports[name] += 1
        self.put()

    def have(self, name: str) -> set[str]:
        return set(self.walls.with_port(self.ports[name], *FEW))

    def trying(self, name: str) -> set[str]:
        """Who has a turn for it and does not have it in force; never more than may."""
        at = self.walls.session.knowledge()
        wanted = at.fleet.get("Firewall", name)
        assert wanted is not None
        turn, in_force = (
            {one for one in FEW if revision(wanted) in at.known.facts.get((f"Host/{one}", what), "").split()}
            for what in (f"{TURN}/Firewall", f"{IN_FORCE}/Firewall")
        )
        assert len(turn - in_force) <= (self.most if turn & in_force else 1)
        return turn - in_force

    def visited(self, one: str) -> None:
        before = {name: (self.have(name), self.trying(name)) for name in self.on}
        self.walls.visit(one)
        for name, (had, may) in before.items():
            assert self.have(name) - had <= may, "nobody tries without its turn"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, left=st.sets(st.sampled_from(FEW), min_size=1), most=st.integers(1, 2))
def test_in_any_order_never_more_than_may_try_and_in_the_end_all_have_it(
    steps: list[tuple[str, str]], left: set[str], most: int
) -> None:
    with TemporaryDirectory() as folder:
        walls = Walls(Path(folder))
        two = Two(walls, left, most)
        walls.rounds(*FEW)
        for what, name in steps:
            match what:
                case "visit":
                    two.visited(name)
                case "settle":
                    walls.settle()
                case "silent" | "heard":
                    walls.silent(name, what == "silent")
                case "bad":
                    walls.put_back(name)
                case "good":
                    walls.mended(name)
                case _:
                    two.changed(what)
            assert all(two.trying(one) <= set(FEW) for one in two.on)
            assert all(walls.rules(one) for one in FEW), "who waits keeps its table"
        for name in FEW:
            walls.silent(name, False)
            walls.mended(name)
        walls.rounds(*FEW)
        assert two.have("base") == set(FEW)
        assert two.have("left") == left
