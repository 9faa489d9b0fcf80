"""What it costs a controller to ask machines whom they reach in a VPN, and to tell Prometheus of it.

``python -m tools.bench.probes [NODES…]``. All nodes of a VPN are machines in memory and reach each other, so ssh and
pings are not in it. Seconds are CPU of this process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import generate_latest

from controller.metrics import Metrics
from controller.session import Session, Settings
from controller.snapshot import snapshot
from controller.store.memory import MemoryStore
from controller.vpn_probes import VpnProbes
from drivers.simulated import SimulatedFleet
from tools.bench.fleet import Document, host, manifest, stored

NODES = (32, 64)


def documents(nodes: int) -> Iterator[Document]:
    """The manifests."""
    yield from (host(number, "node") for number in range(nodes))
    spec = {
        "driver": "wireguard",
        "cidr": "10.64.0.0/16",
        "members": {"selector": {}},
        "hubs": {"names": ["host0000"]},
    }
    yield manifest("VPN", "net", spec)


class Bench:
    """A controller with its fleet in memory; its leases last as long as this takes."""

    def __init__(self, nodes: int) -> None:
        fleet, store, self.metrics = SimulatedFleet(), MemoryStore(), Metrics("bench")
        session = Session(store, Settings(Path("unused")), fleet.connect)
        for document in documents(nodes):
            session.ledger.put_resource(stored(document))
        self.runner = session.runner(self.metrics)
        self.probes = VpnProbes(self.runner.engine, 0)
        self.metrics.watch(lambda: snapshot(self.runner, self.probes.found()))
        for _ in range(3):
            self.pass_all()
        given = session.knowledge().known.allocations
        for name in self.runner.engine.machine_names():
            fleet.machine(name).hears = {value for (_, what), value in given.items() if what.startswith("address/")}

    def pass_all(self) -> None:
        """A pass over every machine."""
        self.runner.step()
        for name in self.runner.engine.machine_names():
            self.runner.work(name)
        self.runner.try_renew()

    def ask_all(self) -> None:
        """A round."""
        for name in self.runner.engine.machine_names():
            self.probes.probe(name)

    def close(self) -> None:
        """Ends the controller."""
        self.probes.stop()
        self.runner.stop(lambda _: None)


def seconds(work: Callable[[], object]) -> float:
    """What the work cost."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def measured(nodes: int) -> tuple[float, float, float, float, int]:
    """Seconds of passes with nothing to do before and after a round, of the round, and of a scrape; and its bytes."""
    bench = Bench(nodes)
    before = seconds(bench.pass_all)
    bench.ask_all()
    asked = seconds(bench.ask_all)
    after = seconds(bench.pass_all)
    page = b""

    def scrape() -> None:
        nonlocal page
        page = generate_latest(bench.metrics.registry)

    told = seconds(scrape)
    bench.close()
    return before, after, asked, told, len(page)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.probes")
    parser.add_argument("nodes", nargs="*", type=int, default=NODES)
    print(f"{'CPU seconds':12} {'passes':>8} {'after':>8} {'round':>8} {'scrape':>8} {'bytes':>8}")
    for nodes in parser.parse_args().nodes:
        *took, size = measured(nodes)
        print(f"{f'{nodes} nodes':12}", *(f"{one:8.3f}" for one in took), f"{size:8}")


if __name__ == "__main__":
    main()
