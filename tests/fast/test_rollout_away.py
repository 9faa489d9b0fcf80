"""A turn, and what came of it, are known as long as they hold: machines go away, rules come back. Simulated."""

from __future__ import annotations

import pytest

from tests.fast.walls import HOSTS, NAMES, TABLE, Walls, host, wall, walls

__all__ = ["walls"]
GUEST = """
apiVersion: salv.us/v1
kind: VirtualMachine
metadata: {name: guest}
spec: {image: debian12, rootDisk: {size: 2Gi}, runStrategy: ON, interfaces: [{name: eth0, address: 192.0.2.9/24}]}
"""
HYPERVISOR = host("hyper", "hyper").replace("spec: {", "spec: {hypervisor: {}, ")
IMAGE = f"""
apiVersion: salv.us/v1
kind: Image
metadata: {{name: debian12}}
spec: {{source: /srv/debian12.qcow2, sha256: {"a" * 64}}}
"""


def test_a_canary_that_cannot_be_reached_is_passed_over_and_comes_later(walls: Walls) -> None:
    walls.silent("web1", True)
    walls.put(*HOSTS, wall(2))
    walls.settle()
    walls.visit(*NAMES)
    walls.settle()
    walls.visit(*NAMES)
    assert walls.with_port(2, *NAMES) == ["web2"]
    walls.rounds(*NAMES)
    assert walls.with_port(2, *NAMES) == list(NAMES[1:])
    walls.silent("web1", False)
    walls.rounds(*NAMES)
    assert walls.with_port(2, *NAMES) == list(NAMES)


def test_a_canary_that_falls_silent_with_its_turn_loses_it(walls: Walls) -> None:
    walls.put(*HOSTS, wall(2))
    walls.settle()
    walls.visit(*NAMES)
    walls.settle()
    walls.silent("web1", True)
    walls.visit("web1")
    walls.settle()
    walls.visit(*NAMES[1:])
    assert walls.with_port(2, *NAMES) == ["web2"]
    walls.silent("web1", False)
    walls.visit("web1")
    assert walls.with_port(2, *NAMES) == ["web2"], "it has to ask anew"


@pytest.mark.parametrize(("canary", "reason"), [("guest", "Halted"), ("behind", "NoWay")])
def test_a_canary_to_which_there_is_no_way_any_more_loses_its_turn(walls: Walls, canary: str, reason: str) -> None:
    def put(on: str, port: int, via: str = "") -> None:
        behind = host("behind").replace("ssh: {", f"ssh: {{{via}")
        walls.put(*HOSTS, HYPERVISOR, IMAGE, behind, GUEST.replace("ON", on), wall(port, machines=chosen))

    chosen = f"{{names: [{', '.join([canary, *NAMES])}]}}"
    names = ("hyper", "guest", "behind", *NAMES)
    put("Always", 1)
    walls.rounds(*names)
    assert walls.with_port(1, canary) == [canary]
    put("Always", 2)
    walls.settle()
    walls.visit(*names)
    walls.settle()
    put("Halted", 2, via="via: guest, ")
    walls.rounds(*names)
    assert walls.said(canary)[canary].reason == reason
    assert walls.with_port(2, canary, *NAMES) == list(NAMES)
    put("Always", 2)
    walls.rounds(*names)
    assert walls.with_port(2, canary) == [canary]


@pytest.mark.parametrize("bad", ["web1", "web3"])
def test_it_stays_stopped_when_the_one_that_put_it_back_was_away_for_a_while(walls: Walls, bad: str) -> None:
    tried = list(NAMES[: NAMES.index(bad)])
    walls.put_back(bad)
    walls.put(*HOSTS, wall(2, most="1"))
    walls.rounds(*NAMES)
    walls.note(bad)
    walls.silent(bad, True)
    walls.rounds(*NAMES)
    walls.silent(bad, False)
    walls.rounds(*NAMES)
    assert walls.with_port(2, *NAMES) == tried
    said = walls.said(*NAMES)
    assert (said[bad].reason, said["web8"].reason) == ("RolledBack", "HeldByRollout")
    walls.fleet.machine(bad).alter(TABLE, refused="")
    walls.mended(bad)
    walls.rounds(*NAMES)
    assert walls.with_port(2, *NAMES) == list(NAMES), "who removes the note has it tried again"


def test_who_lost_its_rules_waits_for_nobody_and_has_them_again(walls: Walls) -> None:
    walls.put_back("web1")
    walls.put(*HOSTS, wall(2))
    walls.rounds(*NAMES)
    web3, web5 = (walls.fleet.machine(name) for name in ("web3", "web5"))
    web3.alter(TABLE, by_hand="-table inet salvus")
    web5.alter(TABLE, by_hand="-tcp dport { 1 } accept")
    walls.rounds(*NAMES)
    assert web3.items[TABLE]["by_hand"] == ""
    assert walls.with_port(2, *NAMES) == ["web3"], "on trial for itself; where there is a filter, it waits"
    assert walls.said("web8")["web8"].reason == "HeldByRollout"


@pytest.mark.parametrize("others", [[], [wall(5, "left")]])
def test_rules_that_went_and_come_back_are_tried_on_one_machine_first(walls: Walls, others: list[str]) -> None:
    walls.put(*HOSTS, *others, wall(1))
    walls.rounds(*NAMES)
    walls.session.delete(["Firewall/base"])
    walls.rounds(*NAMES)
    assert not walls.with_port(1, *NAMES)
    walls.put(*HOSTS, *others, wall(1))
    seen = set()
    for _ in range(8):
        walls.settle()
        walls.visit(*NAMES)
        seen.add(len(walls.with_port(1, *NAMES)))
    assert seen == {0, 1, 3, 5, 7, 8}


def test_back_from_what_only_let_more_in_is_tried_on_one_machine_first(walls: Walls) -> None:
    def may(*who: str) -> list[str]:
        found = {name: str(walls.fleet.machine(name).items[TABLE]["members"]) for name in NAMES}
        return [name for name in NAMES if all(f"{one}/32" in found[name] for one in who)]

    def put(*who: str) -> None:
        ssh = ", ".join(f"{{cidr: {one}}}" for one in who)
        walls.put(*HOSTS, wall(1, more=f", ssh: [{ssh}]"))

    one, two = "192.0.2.1", "192.0.2.2"
    put(one)
    walls.rounds(*NAMES)
    put(one, two)
    walls.settle()
    walls.visit(*NAMES)
    assert may(one, two) == list(NAMES)
    walls.settle()
    put(one)
    for _ in range(2):
        walls.settle()
        walls.visit(*NAMES)
    assert may(two) == list(NAMES[1:])
