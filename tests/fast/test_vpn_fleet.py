"""A VPN of many simulated machines through whole passes: from nothing to all keys, and then nothing to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.present import conditions
from controller.rulings import fleet_pass
from controller.session import Session
from controller.store.ledger import Ledger
from controller.view import View
from tests.fast.desk import Desk
from tests.fast.manifests import KEY

VPN = """
apiVersion: salv.us/v1
kind: VPN
metadata: {name: net}
spec: {driver: tinc, cidr: 10.0.0.0/16, members: {selector: {}}, hubs: {names: [h001]}}
"""


def host(number: int, name: str = "", before: str = "") -> str:
    moved = f", annotations: {{salv.us/moved-from: {before}}}" if before else ""
    return f"""
apiVersion: salv.us/v1
kind: Host
metadata: {{name: {name or f"h{number:03}"}{moved}}}
spec: {{address: 198.51.100.{number % 250}, ssh: {{hostKeys: ["{KEY}"]}}}}
"""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_two_fleet_passes_that_know_nothing_of_each_other_give_no_address_twice(desk: Desk) -> None:
    desk.put(VPN, *map(host, range(1, 51)))
    old = desk.session.knowledge()
    desk.put(VPN, host(0), *map(host, range(1, 101)))
    new = Session(desk.store, desk.session.settings).knowledge()
    for knowledge in (old, new, old):
        view = View()
        view.update(knowledge.fleet, knowledge.known, [f"resource/{ref}" for ref in knowledge.rows])
        fleet_pass(Ledger(desk.store), knowledge, view, {})
    assert len(set(desk.given().values())) == len(desk.given())
    desk.settle()
    assert len(desk.given()) == 101
    assert len(set(desk.given().values())) == 101


def test_it_grows_by_itself_and_then_there_is_nothing_to_do(desk: Desk) -> None:
    names = [f"h{number:03}" for number in range(1, 9)]
    desk.put(VPN, *map(host, range(1, 9)))
    desk.settle()
    desk.fleet.machine("h005").faults.unreachable = True
    desk.visit(*names)
    desk.visit(*names)
    trusted = desk.fleet.machine("h001").items["FileSet:/etc/tinc/net/hosts"]["files"]
    assert isinstance(trusted, tuple)
    assert [str(line).split()[0] for line in trusted] == [name for name in names if name not in ("h001", "h005")]
    desk.fleet.machine("h005").faults.unreachable = False
    desk.visit("h005")
    desk.visit(*names)
    before = desk.fleet.writes
    desk.visit(*names)
    assert desk.fleet.writes == before, "a pass in sync writes nothing"
    assert conditions(desk.session.knowledge(), "VPN/net")[0].status == "True"


def test_a_renamed_machine_keeps_its_address_and_its_key_is_known_on(desk: Desk) -> None:
    desk.put(VPN, *map(host, range(1, 4)))
    desk.settle()
    desk.visit("h001", "h002", "h003")
    before, key = desk.given()["h002"], desk.session.knowledge().known.facts["VPN/net", "public_key/h002"]
    desk.put(host(2, "deux", "h002"))
    desk.settle()
    assert desk.given()["deux"] == before
    assert "h002" not in desk.given()
    facts = desk.session.knowledge().known.facts
    assert facts["VPN/net", "public_key/deux"] == key
    assert ("VPN/net", "public_key/h002") not in facts
