"""The fleet pass: when a deletion has ended, what happens to hosts that leave, and who stays where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.present import machines
from controller.store.base import StoreUnavailable, Table
from controller.store.ledger import Ledger
from controller.store.records import FLEET_PASS, Condition, InventoryRow, Status
from drivers.items import codec
from drivers.items.file import File
from tests.fast.desk import Desk
from tests.fast.manifests import KEY
from tests.fast.things import statuses

HOST = f"""
apiVersion: salv.us/v1
kind: Host
metadata: {{name: NAME, labels: {{role: web}}}}
spec:
  address: ADDRESS
  ssh: {{hostKeys: ["{KEY}"]}}
"""
ALPHA = HOST.replace("NAME", "alpha").replace("ADDRESS", "192.0.2.1")
BETA = HOST.replace("NAME", "beta").replace("ADDRESS", "192.0.2.2")
SERVICE = """
apiVersion: salv.us/v1
kind: Service
metadata: {name: hello}
spec:
  machines: {selector: {matchLabels: {role: web}}}
  files: [{path: /etc/hello.conf, content: "hello\\n"}]
"""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.engine.close()


def refs(desk: Desk) -> set[str]:
    return set(desk.session.knowledge().rows)


def test_a_deletion_ends_when_nothing_is_left_anywhere(desk: Desk) -> None:
    desk.put(ALPHA, BETA, SERVICE)
    desk.settle()
    desk.visit("alpha", "beta")
    assert desk.ready("Service/hello") == ("True", "InSync")
    desk.session.delete(["Service/hello"])
    desk.settle()
    desk.visit("alpha")
    assert desk.ready("Service/hello") == ("False", "Deleting")
    desk.fleet.machine("beta").faults.unreachable = True
    desk.visit("beta", "beta")
    assert "Service/hello" in refs(desk), "nobody knows what is on beta"
    desk.fleet.machine("beta").faults.unreachable = False
    desk.visit("beta")
    assert "Service/hello" not in refs(desk)
    assert not any(desk.session.ledger.inventories().values())
    desk.visit("alpha", "beta")
    assert statuses(desk.session.ledger, "Service/hello") == {}


def test_a_host_that_leaves_is_released_and_it_is_said_what_stays_there(desk: Desk) -> None:
    desk.put(ALPHA, BETA, SERVICE)
    desk.settle()
    desk.visit("alpha", "beta")
    writes = desk.fleet.machine("beta").writes
    desk.session.delete(["Host/beta", "Service/hello"])
    desk.settle()
    desk.visit("alpha")
    assert refs(desk) == {"Host/alpha"}
    assert "File:/etc/hello.conf" in desk.fleet.machine("beta").items
    assert desk.fleet.machine("beta").writes == writes, "nothing was touched there"
    assert not desk.session.ledger.inventory("beta")
    assert not desk.session.ledger.seen("beta")
    assert not desk.session.ledger.store.read(Table.STATUS, "beta")


@pytest.mark.parametrize("place", ["beta", "Service/hello"])
def test_what_a_machine_that_is_gone_says_late_is_taken_away(desk: Desk, place: str) -> None:
    """Also what a version that kept it by resource wrote, of whose rows a resource looks like a machine."""
    desk.put(ALPHA, SERVICE)
    desk.settle()
    desk.visit("alpha")
    ref = "Service/hello" if place == "beta" else "beta"
    late = Condition("Synced", "Unknown", "Unreachable", "late", 1.0, 1)
    desk.session.ledger.put_statuses(place, {ref: Status((late,))})
    desk.settle()
    desk.visit("alpha")
    assert desk.ready("Service/hello") == ("True", "InSync")
    assert desk.session.ledger.store.read(Table.STATUS, place).keys() <= {FLEET_PASS}


def test_what_ends_together_with_its_host_is_told_of(desk: Desk) -> None:
    desk.put(BETA, SERVICE)
    desk.settle()
    desk.visit("beta")
    desk.session.delete(["Host/beta", "Service/hello"])
    desk.settle()
    assert refs(desk) == set()
    (event,) = [event for event in desk.session.ledger.events("Service/hello") if event.reason == "Released"]
    assert event.machine == "beta"
    assert "File:/etc/hello.conf" in event.message


def test_a_machine_that_is_gone_no_longer_speaks_for_those_that_stay(desk: Desk) -> None:
    desk.put(ALPHA, BETA, SERVICE)
    desk.settle()
    desk.fleet.machine("beta").faults.unreachable = True
    desk.visit("alpha", "beta")
    assert desk.ready("Service/hello") == ("Unknown", "Unreachable")
    desk.session.delete(["Host/beta"])
    desk.settle()
    assert desk.ready("Service/hello") == ("True", "InSync")
    assert statuses(desk.session.ledger, "Service/hello").keys() == {"", "alpha"}


def test_what_a_service_left_behind_is_taken_away(desk: Desk) -> None:
    desk.put(ALPHA, BETA, SERVICE)
    desk.settle()
    desk.visit("alpha", "beta")
    desk.put(ALPHA, BETA.replace("role: web", "role: none"), SERVICE)
    desk.settle()
    desk.visit("alpha", "beta")
    assert "File:/etc/hello.conf" not in desk.fleet.machine("beta").items
    assert "File:/etc/hello.conf" in desk.fleet.machine("alpha").items
    desk.visit("alpha", "beta")
    assert statuses(desk.session.ledger, "Service/hello").keys() == {"", "alpha"}
    assert machines(desk.session.knowledge(), "Service/hello") == ("alpha",)


def test_what_merely_waits_is_not_taken_away(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.put(ALPHA, SERVICE)
    desk.settle()
    desk.visit("alpha")
    for broken in ("items", "machines"):
        with monkeypatch.context() as patch:
            patch.setattr(f"resources.service.KIND.{broken}", lambda *_: 1 // 0, raising=True)
            desk.put(ALPHA, SERVICE.replace("hello\\n", f"{broken}\\n"))
            desk.settle()
            desk.visit("alpha")
            assert "File:/etc/hello.conf" in desk.fleet.machine("alpha").items
            assert desk.ready("Service/hello")[1] in {"Stalled", "Defect"}
            assert desk.ready("Host/alpha") == ("True", "InSync")
    desk.settle()


def test_a_kill_in_the_middle_of_ending_leaves_no_inventory_for_a_later_machine_of_that_name(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.put(BETA, SERVICE)
    desk.settle()
    desk.visit("beta")
    desk.session.delete(["Host/beta"])

    def killed(*_: object) -> None:
        raise StoreUnavailable("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "remove_resource", killed)
        with pytest.raises(StoreUnavailable):
            desk.settle()
    assert "Host/beta" in refs(desk)
    assert not desk.session.ledger.inventory("beta")
    desk.settle()
    assert "Host/beta" not in refs(desk)


def test_a_fleet_pass_that_failed_is_made_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.put(ALPHA, SERVICE)

    def down(*_: object) -> None:
        raise StoreUnavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "put_placement", down)
        with pytest.raises(StoreUnavailable):
            desk.settle()
    desk.settle()
    assert machines(desk.session.knowledge(), "Service/hello") == ("alpha",)


def test_what_a_failing_store_did_not_tell_is_asked_for_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.settle()
    desk.put(ALPHA, SERVICE)

    def down(*_: object) -> None:
        raise StoreUnavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(desk.store, "read", down)
        with pytest.raises(StoreUnavailable):
            desk.engine.refresh()
    assert desk.engine.refresh() == {"alpha"}


def test_an_inventory_of_who_is_no_resource_holds_nothing_up(desk: Desk) -> None:
    desk.put(ALPHA, SERVICE)
    row = InventoryRow("File", codec.dump(File("/x", "")), "Service/hello", created=True)
    desk.session.ledger.put_inventory("long-gone", {"File:/x": row})
    desk.settle()
    desk.session.delete(["Service/hello"])
    desk.settle()
    assert "Service/hello" not in refs(desk)


def test_without_the_fleet_lease_nothing_is_decided(desk: Desk) -> None:
    desk.put(ALPHA, SERVICE)
    desk.engine.refresh()
    before = desk.store.changed_since(0)[0]
    assert not desk.engine.fleet_pass()
    assert desk.store.changed_since(0)[0] == before
    assert desk.engine.machine_pass("alpha", lambda: False) is None
    assert desk.fleet.writes == 0
