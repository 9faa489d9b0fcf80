"""What a machine more costs: work is to follow from who is touched by it, and not from how large the fleet is.

``python -m tools.bench.joining [--machines N]``. Of a fleet of machines in memory (1,000 by default), all with a
derived Firewall, twenty run a database that thirty use, over a VPN of these fifty. Then a machine is added that nobody
has to do with, and one more for the database. Counted are machines that had a pass, how often one was lowered and
passed over, how many passes changed something, and writes to the store. Seconds are CPU of this process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from controller.lower import lower
from controller.store.ledger import Ledger
from controller.store.memory import MemoryStore
from drivers.simulated import SimulatedFleet
from tools.bench.fleet import Document, controller, host, manifest, settle, stored
from tools.bench.store import Counted

DATABASES, CLIENTS = 20, 30


@dataclass(frozen=True, slots=True)
class Joined:
    """What was done until all was as it is written."""

    what: str
    machines: int
    lowered: int
    passes: int
    changed: int
    stored: int
    seconds: float


def documents(machines: int) -> Iterator[Document]:
    """The manifests of the fleet before."""
    for number in range(machines):
        yield host(number, "db" if number < DATABASES else "web" if number < DATABASES + CLIENTS else "plain")
    yield manifest(
        "VPN",
        "net",
        {
            "driver": "wireguard",
            "cidr": "10.64.0.0/16",
            "members": {"selector": {"matchExpressions": [{"key": "role", "operator": "In", "values": ["db", "web"]}]}},
            "hubs": {"names": ["host0000"]},
        },
    )
    yield manifest(
        "Service",
        "cassandra",
        {
            "machines": _role("db"),
            "files": [{"path": "/etc/cassandra.conf", "content": "x"}],
            "ports": [{"name": "cql", "port": 9042}],
            "clients": [{"machines": _role("web")}, {"service": "cassandra"}],
        },
    )
    yield manifest("Firewall", "all", {"machines": {"selector": {}}, "ssh": [{"cidr": "198.18.0.0/15"}]})


def _role(role: str) -> dict[str, Any]:
    return {"selector": {"matchLabels": {"role": role}}}


class Bench:
    """A controller with its fleet in memory."""

    def __init__(self, machines: int) -> None:
        self.store = Counted(MemoryStore())
        self.ledger = Ledger(self.store)
        for document in documents(machines):
            self.ledger.put_resource(stored(document))
        self.engine = controller(self.ledger, SimulatedFleet())

    def join(self, what: str, document: Document) -> Joined:
        """Adds a machine."""
        with patch("controller.view.lower", side_effect=lower) as lowered:
            begin, writes = time.process_time(), self.store.writes
            self.ledger.put_resource(stored(document))
            passes = settle(self.engine)
            took = time.process_time() - begin
        machines, changed = len({name for name, _ in passes}), sum(wrote for _, wrote in passes)
        return Joined(what, machines, lowered.call_count, len(passes), changed, self.store.writes - writes, took)


def measured(machines: int) -> list[Joined]:
    """All measurements."""
    bench = Bench(machines)
    settle(bench.engine)
    rows = [
        bench.join("a machine that nobody has to do with", host(machines, "plain")),
        bench.join("one more for the database", host(machines + 1, "db")),
    ]
    bench.engine.close()
    return rows


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.joining")
    parser.add_argument("--machines", type=int, default=1000)
    machines = parser.parse_args().machines
    columns = ("machines", "lowered", "passes", "changed", "writes", "CPU s")
    print(f"{f'added to {machines} machines':40}", *(f"{column:>8}" for column in columns))
    for row in measured(machines):
        counts = (row.machines, row.lowered, row.passes, row.changed, row.stored)
        print(f"{row.what:40}", *(f"{count:8}" for count in counts), f"{row.seconds:8.2f}")


if __name__ == "__main__":
    main()
