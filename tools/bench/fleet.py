"""What benchmarks of the controller share: a fleet in memory, and a controller whose steps are made by hand."""

from __future__ import annotations

import uuid
from typing import Any

from controller.engine import Engine
from controller.holder import Holder
from controller.leases import Leases
from controller.store.ledger import Ledger
from controller.store.records import StoredResource
from drivers.simulated import SimulatedFleet

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIeInEFTmoUWgk1dOxwFhze3zT6i3GERYjlBdjo5w4QE"
Document = dict[str, Any]
# After so many nothing must be left to do; rules come to some machines after others.
ROUNDS = 20


def manifest(kind: str, name: str, spec: Document) -> Document:
    """One manifest."""
    return {"apiVersion": "salv.us/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def host(number: int, role: str) -> Document:
    """The manifest of a machine with this role."""
    spec = {"address": f"198.18.{number // 250}.{number % 250 + 1}", "ssh": {"hostKeys": [KEY]}}
    document = manifest("Host", f"host{number:04}", spec)
    document["metadata"]["labels"] = {"role": role}
    return document


def stored(document: Document) -> StoredResource:
    """A manifest as it is in force."""
    ref = f"{document['kind']}/{document['metadata']['name']}"
    return StoredResource(ref, str(uuid.uuid4()), 1, document, "bench", "1", 0.0, 0.0)


def controller(ledger: Ledger, fleet: SimulatedFleet) -> Engine:
    """One that has all leases for as long as a benchmark takes."""
    leases = Leases(ledger.store, Holder.this_process(), ttl=3600.0)
    leases.tick()
    return Engine(ledger, leases, fleet.connect)


def decide(engine: Engine) -> set[str]:
    """Reads the store, and decides what is open until nothing is; the machines that this concerns."""
    concerned = set(engine.refresh())
    while engine.fleet_pass():
        concerned |= engine.refresh()
    return concerned


def settle(engine: Engine) -> list[tuple[str, bool]]:
    """Decides, and passes over the machines that this concerns, until there are none: each, and if it changed."""
    passes: list[tuple[str, bool]] = []
    for _ in range(ROUNDS):
        concerned = decide(engine)
        if not concerned:
            return passes
        for machine in sorted(concerned):
            outcome = engine.machine_pass(machine, lambda: False)
            assert outcome is not None
            passes.append((machine, outcome.result == "changed"))
    raise SystemExit(f"after {ROUNDS} rounds machines are still concerned")
