"""Whom machines reach in their VPNs, as the metrics tell: asked beside the passes, on simulated machines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from controller.metrics import Metrics
from controller.session import Session, Settings
from controller.snapshot import snapshot
from controller.store.memory import MemoryStore
from controller.store.records import WORLD, Pause
from controller.vpn_probes import VpnProbes
from controller.vpn_reach import Probed, Reach
from controller.vpn_state import PAIRS, vpn_peers
from drivers.base import Present, Unknown
from drivers.simulated import SimulatedFleet
from resources.load import load
from resources.world import Known, World
from tests.fast.desk import bring
from tests.fast.test_vpn_fleet import host

VPN = """
apiVersion: salv.us/v1
kind: VPN
metadata: {name: net}
spec: {driver: wireguard, cidr: 10.0.0.0/16, members: {selector: {}}, hubs: {names: [h001]}}
"""
LAPTOP = """
apiVersion: salv.us/v1
kind: VPNNode
metadata: {name: laptop}
spec: {vpn: net, publicKey: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=, address: 10.0.9.9}
"""
NAMES = ("h001", "h002", "h003")
TUNNEL = "Tunnel:vpn-net"
Labels = Mapping[str, str]


class Desk:
    """A controller that is driven by hand, and who asks beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryStore()
        self.fleet = SimulatedFleet()
        self.session = Session(self.store, Settings(store=folder / "unused"), self.fleet.connect)
        self.metrics = Metrics("test")
        self.runner = self.session.runner(self.metrics)
        self.probes = VpnProbes(self.runner.engine, 0.05)
        self.metrics.watch(lambda: snapshot(self.runner, self.probes.found()))

    def put(self, *texts: str) -> None:
        bring(self.session, self.folder, *texts)

    def settle(self) -> None:
        for _ in range(3):
            self.runner.step()
            for name in self.runner.engine.machine_names():
                self.runner.work(name)

    def probe(self) -> None:
        for name in NAMES:
            self.probes.probe(name)

    def hear(self, *who: str) -> None:
        """All machines are answered by these, and by nobody else."""
        given = self.session.knowledge().known.allocations
        for name in NAMES:
            self.fleet.machine(name).hears = {given["VPN/net", f"address/{one}"] for one in who}

    def series(self, name: str) -> dict[tuple[str, ...], float]:
        """The series of a metric of this VPN, by its other labels."""
        families = (family for family in self.metrics.registry.collect() if family.name == f"salvus_vpn_{name}")
        samples = [one for family in families for one in family.samples]
        assert all(one.labels["vpn"] == "net" for one in samples)
        return {tuple(v for k, v in one.labels.items() if k != "vpn"): one.value for one in samples}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Three hosts that reach each other, and a laptop that they do not reach."""
    made = Desk(tmp_path)
    made.put(VPN, LAPTOP, *map(host, (1, 2, 3)))
    made.settle()
    made.hear(*NAMES)
    yield made
    made.probes.stop()
    made.runner.stop()


def test_who_reaches_whom(desk: Desk) -> None:
    assert desk.series("peer_reachable") == desk.series("node_peers") == {}
    desk.hear("h001", "h002")
    desk.probe()
    heard = {("h001", "h002"), ("h002", "h001"), ("h003", "h001"), ("h003", "h002")}
    others = {("h001", "h003"), ("h002", "h003"), *((name, "laptop") for name in NAMES)}
    assert desk.series("peer_reachable") == dict.fromkeys(heard, 1.0) | dict.fromkeys(others, 0.0)
    assert desk.series("peer_round_trip_seconds") == dict.fromkeys(heard, 0.001)
    assert desk.series("node_peers") == {(name,): 2 for name in NAMES}, "machines, not the laptop"
    assert desk.series("node_peers_reached") == {("h001",): 1, ("h002",): 1, ("h003",): 2}


def test_when_they_last_shook_hands(desk: Desk) -> None:
    handshake = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg= 100"
    desk.fleet.machine("h002").faults.lies[TUNNEL] = Present({"reached": (), "handshakes": (handshake,)})
    desk.probe()
    ((pair, at),) = desk.series("peer_last_handshake_timestamp_seconds").items()
    assert pair == ("h002", "laptop")
    assert time.time() - 130 < at <= time.time() - 100


def test_one_round_trip_a_machine_and_nothing_is_changed(desk: Desk) -> None:
    also = VPN.replace("net}", "also}").replace("10.0.", "10.7.").replace("spec: {", "spec: {port: 999, ")
    desk.put(VPN, also, LAPTOP, *map(host, (1, 2, 3)))
    desk.settle()
    before = desk.fleet.writes, desk.fleet.machine("h002").round_trips, desk.store.changed_since(0)[0]
    desk.probes.probe("h002")
    assert desk.probes.found().keys() == {("net", "h002"), ("also", "h002")}
    assert (desk.fleet.writes, desk.fleet.machine("h002").round_trips - 1, desk.store.changed_since(0)[0]) == before


def test_what_is_paused_is_asked_as_passes_look_at_it(desk: Desk) -> None:
    desk.session.pause(Pause(WORLD, "op", "a reason", time.time(), None), "")
    desk.settle()
    desk.probe()
    assert len(desk.series("node_peers")) == 3


def test_who_cannot_be_asked_has_no_series_and_is_not_tried(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.probe()
    machine = desk.fleet.machine("h002")
    machine.faults.unreachable = True
    with caplog.at_level(logging.WARNING, "salvus"):
        desk.probe()
        desk.probe()
    assert [one.message for one in caplog.records] == ["it cannot be asked whom it reaches in its VPNs"], "once"
    assert desk.series("node_peers").keys() == {("h001",), ("h003",)}
    desk.settle()
    before = machine.round_trips
    desk.probe()
    assert machine.round_trips == before, "its last pass could not ask it either"
    assert ("h001", "h002") in desk.series("peer_reachable"), "others tell of it"


def test_an_answer_that_makes_no_sense_is_none(desk: Desk) -> None:
    desk.probe()
    desk.fleet.machine("h002").faults.lies[TUNNEL] = Unknown("no ping there")
    desk.probe()
    assert desk.series("node_peers").keys() == {("h001",), ("h003",)}


def test_of_what_is_gone_nothing_is_told(desk: Desk) -> None:
    desk.probe()
    desk.session.delete(["Host/h003", "VPNNode/laptop"])
    desk.settle()
    pairs = {("h001", "h002"), ("h002", "h001")}
    assert desk.series("peer_reachable").keys() == pairs, "at once, though nobody was asked since"
    assert desk.series("node_peers") == {("h001",): 1, ("h002",): 1}
    desk.session.delete(["VPN/net"])
    desk.settle()
    assert desk.series("peer_reachable") == desk.series("node_peers") == {}


def test_of_what_another_controller_has_taken_over_nothing_is_told_nor_asked(desk: Desk) -> None:
    desk.probe()
    desk.runner.engine.leases.release_all()
    assert desk.series("peer_reachable") == desk.series("node_peers") == {}
    before = desk.fleet.machine("h001").round_trips
    desk.probe()
    assert desk.fleet.machine("h001").round_trips == before


def eventually(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def test_all_are_asked_in_turn_until_it_stops(desk: Desk) -> None:
    desk.probes.start()
    assert eventually(lambda: len(desk.probes.found()) == 3)
    first = desk.probes.found()
    assert eventually(lambda: all(desk.probes.found()[key].at > one.at for key, one in first.items()))
    desk.session.delete(["Host/h003"])
    desk.settle()
    assert eventually(lambda: ("net", "h003") not in desk.probes.found())
    desk.probes.stop()
    last = desk.fleet.machine("h001").round_trips
    time.sleep(0.2)
    assert desk.fleet.machine("h001").round_trips == last


def test_one_that_hangs_holds_up_neither_the_others_nor_passes(desk: Desk) -> None:
    hanging = desk.fleet.machine("h002")
    hanging.faults.latency = 1.5
    desk.probes.start()
    assert eventually(lambda: {("net", "h001"), ("net", "h003")} <= desk.probes.found().keys())
    seen = desk.probes.found()["net", "h003"].at
    assert eventually(lambda: desk.probes.found()["net", "h003"].at > seen)
    assert ("net", "h002") not in desk.probes.found()
    began = time.monotonic()
    desk.runner.work("h003")
    assert time.monotonic() - began < 1


def test_a_defect_in_a_round_is_no_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.vpn_probes.IDLE", 0.01)
    ours, calls = desk.probes._ours, 0

    def broken_once() -> list[str]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyError("a defect")
        return ours()

    monkeypatch.setattr(desk.probes, "_ours", broken_once)
    desk.probes.start()
    assert eventually(lambda: len(desk.probes.found()) == 3)


def test_it_can_be_off(desk: Desk) -> None:
    off = VpnProbes(desk.runner.engine, 0)
    off.start()
    time.sleep(0.2)
    assert off.found() == {}
    off.stop()


@pytest.mark.parametrize("count", [PAIRS, PAIRS + 1])
def test_of_a_large_network_only_pairs_with_hubs_have_series(count: int, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("---".join((VPN, *map(host, range(1, count + 1)))))
    fleet = load([tmp_path / "all.yaml"]).fleet
    names = [f"h{number:03}" for number in range(1, count + 1)]
    given = {("VPN/net", f"address/{name}"): f"10.0.1.{number + 1}" for number, name in enumerate(names)}
    said = {
        ("net", name): Probed(1000.0, tuple(Reach(one, 2.0, 5, None) for one in names if one != name)) for name in names
    }
    found = vpn_peers(World(fleet, Known(given)), said, names)
    expected = count * (count - 1) if count <= PAIRS else count - 1
    assert len(found.reachable) == len(found.round_trips) == len(found.handshakes) == expected
    assert found.asked == found.reached == {("net", name): count - 1 for name in names}, "all are counted"
