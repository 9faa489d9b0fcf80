"""The whole controller on simulated machines, without threads: from manifests in the store to machines, and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.difference import difference
from controller.metrics import Metrics
from controller.present import conditions, document, pending, settled
from controller.runner import Runner
from controller.session import Session, Settings
from controller.store.memory import MemoryStore
from drivers.base import Failed, Grade, Verb
from drivers.items.seed import Seed
from drivers.simulated import SimulatedFleet
from resources.load import load
from tests.fast.manifests import DIGEST, KEY

HOSTS = f"""
apiVersion: salv.us/v1
kind: Host
metadata: {{name: alpha}}
spec:
  address: 192.0.2.1
  ssh: {{hostKeys: ["{KEY}"]}}
  hypervisor: {{}}
---
apiVersion: salv.us/v1
kind: Image
metadata: {{name: debian12}}
spec: {{source: /srv/debian12.qcow2, sha256: {DIGEST}}}
"""
VM = """
apiVersion: salv.us/v1
kind: VirtualMachine
metadata: {name: web01}
spec:
  image: debian12
  cpu: 1
  memory: 512Mi
  rootDisk: {size: 2Gi}
  interfaces: [{name: eth0, address: 192.0.2.100/24}]
"""
SERVICE = """
apiVersion: salv.us/v1
kind: Service
metadata: {name: hello}
spec:
  machines: {names: [alpha, web01]}
  packages: [nginx]
  files: [{path: /etc/hello.conf, content: "hello\\n"}]
  unitName: nginx.service
"""


class World:
    """A store, simulated machines and one controller that is driven by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machines = SimulatedFleet()
        self.session = Session(MemoryStore(), Settings(store=folder / "unused"), self.machines.connect)
        self.runner = self.start()

    def start(self) -> Runner:
        return self.session.runner(Metrics("test"))

    def apply(self, *texts: str, source: str = "apply") -> None:
        path = self.folder / "manifests.yaml"
        path.write_text("\n---\n".join(texts))
        loaded = load([path])
        assert loaded.ok, loaded.errors
        self.session.put(loaded, source)

    def converge(self, rounds: int = 12) -> None:
        """Steps and passes until nothing is due; every machine is looked at at least once more."""
        for _ in range(rounds):
            self.runner.step()
            self.runner.look_at_all()
            while (name_ := self.runner.queue.take(0.15)) is not None:
                self.runner.work(name_)
            if not self.runner.engine.jobs.busy() and not self.unready():
                return

    def unready(self) -> dict[str, str]:
        knowledge = self.session.knowledge()
        return {ref: f"{c.reason}: {c.message}" for ref, c in pending(knowledge, knowledge.rows).items()}

    def items(self, machine: str) -> set[str]:
        return set(self.machines.machine(machine).items)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.runner.stop()


def test_a_fleet_is_made_and_then_nothing_is_written(world: World) -> None:
    world.apply(HOSTS, VM, SERVICE)
    world.converge()
    assert world.unready() == {}
    assert {"Domain:web01", "File:/etc/hello.conf", "SystemdUnit:nginx.service"} <= world.items("alpha")
    assert "File:/etc/hello.conf" in world.items("web01")
    writes = world.machines.writes
    stored = world.session.ledger.store.changed_since(0)[0]
    world.converge()
    assert world.machines.writes == writes
    assert world.session.ledger.store.changed_since(0)[0] == stored, "a pass in sync writes nothing to the store"


def test_diff_shows_what_apply_then_does(world: World, tmp_path: Path) -> None:
    world.apply(HOSTS)
    world.converge()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "all.yaml").write_text(f"{HOSTS}\n---\n{VM}")
    loaded = load([tmp_path / "new"])
    before = world.machines.writes
    (found,) = [one for one in difference(world.session, loaded) if one.machine == "alpha"]
    assert world.machines.writes == before
    planned = {(change.verb, change.item.key): change.item.fields() for change in found.plan.changes}
    assert (Verb.CREATE, "Domain:web01") in planned
    world.apply(HOSTS, VM)
    world.converge()
    assert planned.keys() <= {(made.verb, made.key) for made in world.machines.machine("alpha").log}
    now = world.machines.machine("alpha").items
    assert {key: now[key] for _, key in planned} == {key: fields for (_, key), fields in planned.items()}


def test_what_leaves_the_manifests_is_deleted_and_its_neighbour_is_not(world: World) -> None:
    world.apply(HOSTS, VM, VM.replace("web01", "web02").replace(".100/", ".101/"))
    world.converge()
    owner = world.machines.machine("alpha").items["Domain:web02"]["owner"]
    world.session.delete(["VirtualMachine/web01"])
    assert conditions(world.session.knowledge(), "VirtualMachine/web01")[0].reason == "Deleting"
    world.converge()
    world.converge()
    assert "VirtualMachine/web01" not in world.session.knowledge().rows
    left = world.items("alpha")
    assert not [key for key in left if "web01" in key]
    assert {"Domain:web02", "HostKey:/var/lib/salvus/seeds/web02.ssh_host_ed25519_key"} <= left
    assert world.machines.machine("alpha").items["Domain:web02"]["owner"] == owner
    assert any(key.startswith("ImageFile:") for key in left), "images stay until their resource goes"


def test_a_renamed_machine_is_the_same_machine(world: World) -> None:
    world.apply(HOSTS, VM, SERVICE.replace("[alpha, web01]", "[web01]"))
    world.converge()
    before = dict(world.machines.machine("alpha").items)
    renamed = VM.replace("{name: web01}", "{name: www, annotations: {salv.us/moved-from: web01}}")
    world.apply(HOSTS, renamed, SERVICE.replace("[alpha, web01]", "[www]"))
    world.converge()
    assert "VirtualMachine/web01" not in world.session.knowledge().rows
    after = world.machines.machine("alpha").items
    assert after["Domain:web01"]["owner"] == before["Domain:web01"]["owner"]
    assert after.keys() == before.keys()
    assert "VirtualMachine/www" not in world.unready()


def test_an_unreachable_machine_holds_nobody_up_and_nothing_is_planned_on_it(world: World) -> None:
    beta = HOSTS.split("---")[0].replace("alpha", "beta").replace("192.0.2.1", "192.0.2.2")
    world.apply(HOSTS, beta)
    world.machines.machine("beta").faults.unreachable = True
    world.converge(3)
    assert list(world.unready()) == ["Host/beta"]
    ready = conditions(world.session.knowledge(), "Host/beta")[0]
    assert (ready.status, ready.reason) == ("Unknown", "Unreachable")
    assert world.items("beta") == set()
    world.machines.machine("beta").faults.unreachable = False
    world.converge()
    assert world.unready() == {}


def test_a_failure_is_told_and_mended_by_itself(world: World) -> None:
    world.machines.machine("alpha").faults.refuses["Package:nginx"] = Failed("no such package")
    world.apply(HOSTS, SERVICE.replace("[alpha, web01]", "[alpha]"))
    world.converge(3)
    ready = conditions(world.session.knowledge(), "Service/hello")[0]
    assert (ready.status, ready.reason) == ("False", "Failed")
    assert "no such package" in ready.message
    assert not settled(ready)
    assert "SystemdUnit:nginx.service" not in world.items("alpha"), "what needs the package is not tried"
    world.machines.machine("alpha").faults.refuses.clear()
    world.converge()
    assert world.unready() == {}
    assert any(event.reason == "Failed" for event in world.session.ledger.events("Service/hello"))


def test_another_controller_takes_over_with_a_newer_epoch_and_makes_no_second_machine(world: World) -> None:
    world.apply(HOSTS, VM)
    world.converge(2)
    world.runner.stop()
    world.runner = world.start()
    world.converge()
    assert world.unready() == {}
    created = [made.key for made in world.machines.machine("alpha").log if made.verb is Verb.CREATE]
    assert len(set(created)) == len(created)


def test_a_change_above_the_ceiling_waits_and_says_so(world: World) -> None:
    world.apply(HOSTS, VM)
    world.converge()
    world.apply(HOSTS, VM.replace("cpu: 1", "cpu: 4") + "  disruption: {ceiling: live}\n")
    world.converge(3)
    ready = conditions(world.session.knowledge(), "VirtualMachine/web01")[0]
    assert ready.reason == "HeldByCeiling"
    assert Grade.RESTART.word in ready.message
    assert settled(ready)
    assert world.machines.machine("alpha").items["Domain:web01"]["vcpus"] == 1


def test_a_document_has_identity_and_status(world: World) -> None:
    world.apply(HOSTS, VM)
    world.converge()
    shown = document(world.session.knowledge(), "VirtualMachine/web01", {})
    assert shown["metadata"]["generation"] == 1  # type: ignore[index]
    status = shown["status"]
    assert status["machines"] == ["alpha", "web01"]  # type: ignore[index]
    assert status["conditions"][0]["type"] == "Ready"  # type: ignore[index]


def test_machines_let_the_controller_in(world: World) -> None:
    (world.folder / "key.pub").write_text(f"{KEY} somebody@somewhere\n")
    world.session.settings = Settings(store=world.folder / "unused", identity_files=(str(world.folder / "key"),))
    world.runner = world.start()
    world.apply(HOSTS, VM + "  domainType: qemu\n")
    world.runner.step()
    (found,) = [one for one in difference(world.session) if one.machine == "alpha"]
    (seed,) = [change.item for change in found.plan.changes if isinstance(change.item, Seed)]
    assert f"- {KEY}\n" in seed.user_data
