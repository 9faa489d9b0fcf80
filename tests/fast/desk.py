"""A store, simulated machines and a controller whose steps are made by hand."""

from __future__ import annotations

from pathlib import Path

from controller.engine import Engine
from controller.holder import Holder
from controller.leases import Leases
from controller.present import conditions
from controller.session import Session, Settings
from controller.store.ledger import Ledger
from controller.store.memory import MemoryStore
from drivers.simulated import SimulatedFleet
from resources.load import load


def bring(session: Session, folder: Path, *texts: str) -> None:
    """These manifests come into force, and no others stay."""
    (folder / "all.yaml").write_text("---".join(texts))
    loaded = load([folder / "all.yaml"])
    assert loaded.ok, loaded.errors
    session.put(loaded)


class Desk:
    """``engine`` is the controller's; manifests are written into ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryStore()
        self.fleet = SimulatedFleet()
        self.session = Session(self.store, Settings(store=folder / "unused"))
        self.engine = self.controller()

    def controller(self) -> Engine:
        """One more."""
        return Engine(Ledger(self.store), Leases(self.store, Holder.this_process()), self.fleet.connect)

    def put(self, *texts: str) -> None:
        """These manifests come into force."""
        bring(self.session, self.folder, *texts)

    def settle(self) -> None:
        """The controller reads the store, and decides."""
        self.engine.leases.tick()
        self.engine.refresh()
        while self.engine.fleet_pass():
            self.engine.refresh()

    def visit(self, *names: str) -> None:
        """A pass over each machine."""
        for name in names:
            self.engine.machine_pass(name, lambda: False)
        self.settle()

    def ready(self, ref: str) -> tuple[str, str]:
        """Status and reason of whether the resource is Ready."""
        condition = conditions(self.session.knowledge(), ref)[0]
        return condition.status, condition.reason

    def given(self) -> dict[str, str]:
        """The addresses in VPNs, by machine."""
        allocations = self.session.knowledge().known.allocations.items()
        return {what.removeprefix("address/"): value for (_, what), value in allocations if what.startswith("address/")}
