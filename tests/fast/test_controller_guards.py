"""What must not happen to machines when manifests change in unlucky ways or at unlucky moments."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from controller import rulings
from controller.allocate import allocate
from controller.present import conditions
from controller.store import ledger
from controller.store.base import Conflict, Table
from controller.store.ledger import PUT_TTL, Ledger
from controller.store.memory import MemoryStore
from controller.store.records import StoredResource
from drivers.base import Failed, Verb
from drivers.simulated import SimulatedMachine
from resources.fleet import Fleet
from resources.world import Known
from tests.fast.test_controller import HOSTS, SERVICE, VM, World, world

__all__ = ["world"]


def service(name: str, package: str = "nginx", *, before: str = "", needs: str = "", role: str = "") -> str:
    annotations = f", annotations: {{salv.us/moved-from: {before}}}" if before else ""
    machines = f"selector: {{matchLabels: {{role: {role}}}}}" if role else "names: [alpha]"
    return f"""
apiVersion: salv.us/v1
kind: Service
metadata: {{name: {name}{annotations}}}
spec:
  machines: {{{machines}}}
  packages: [{package}]
  files: [{{path: /etc/{name}, content: x}}]
  {f"needs: [{{service: {needs}}}]" if needs else ""}
"""


def labelled(role: str) -> str:
    return HOSTS.replace("{name: alpha}", f"{{name: alpha, labels: {{role: {role}}}}}")


def made(machine: SimulatedMachine, verb: Verb) -> list[str]:
    return [one.key for one in machine.log if one.verb is verb]


def interrupt(world: World, monkeypatch: pytest.MonkeyPatch, between: Callable[[], None]) -> None:
    """A controller that looks after every single write of a put."""
    put = world.session.ledger.put_resource

    def slowly(new: StoredResource, seen: tuple[str, int]) -> str:
        verb = put(new, seen)
        between()
        return verb

    monkeypatch.setattr(world.session.ledger, "put_resource", slowly)


def pass_over(world: World) -> None:
    world.runner.step()
    while (name := world.runner.queue.take(0.12)) is not None:
        world.runner.work(name)


def test_a_service_written_before_its_machines_is_put_on_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(world, monkeypatch, world.runner.step)
    world.apply(SERVICE, HOSTS, VM)
    world.converge()
    assert world.unready() == {}
    for machine in ("alpha", "web01"):
        assert "SystemdUnit:nginx.service" in world.items(machine)


def test_a_service_is_asked_again_when_its_machine_comes_back(world: World) -> None:
    world.apply(HOSTS, VM, SERVICE)
    world.converge()
    world.session.delete(["VirtualMachine/web01"])
    world.runner.step()
    world.apply(HOSTS, VM, SERVICE)
    world.machines.machine("web01").log.clear()
    world.converge()
    assert made(world.machines.machine("web01"), Verb.DELETE) == []
    assert "Package:nginx" in world.items("web01")


def test_a_put_is_acted_on_whole_or_not_at_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.apply(labelled("web"), service("hello", role="web"))
    world.converge()
    world.machines.machine("alpha").log.clear()
    interrupt(world, monkeypatch, lambda: pass_over(world))
    world.apply(labelled("front"), service("hello", role="front"))
    world.converge()
    assert world.unready() == {}
    assert world.machines.machine("alpha").log == []


def test_a_put_that_was_killed_half_way_is_acted_on_after_a_while(world: World) -> None:
    with world.session.ledger.putting():
        world.apply(HOSTS)
        world.runner.step()
        assert world.runner.engine.knowledge.rows == {}
    world.runner.step()
    assert "Host/alpha" in world.runner.engine.knowledge.rows


def test_a_put_that_takes_long_is_waited_for_to_its_end_and_nobody_hangs_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(ledger, "uptime", lambda: now)
    store = world.session.ledger.store
    assert isinstance(store, MemoryStore)
    monkeypatch.setattr(store, "_clock", lambda: now)
    asked, looks, seen = store.changed_since, 0, []

    def changed_since(cursor: int) -> tuple[int, frozenset[tuple[Table, str]]]:
        """Another one is written, and so on for as long as anybody looks."""
        nonlocal looks
        looks += 1
        assert looks < 100, "it looks without end"
        put(f"Host/while-{looks}")
        return asked(cursor)

    def put(ref: str) -> None:
        world.session.ledger.put_resource(StoredResource(ref, "", 1, {}, "s", "r", now, now))

    with world.session.ledger.putting() as going_on:
        for number in range(3):
            going_on()
            put(f"Host/{number}")
            now += PUT_TTL - 1
            with monkeypatch.context() as patch:
                patch.setattr(store, "changed_since", changed_since)
                world.runner.step()
            seen.append(len(world.runner.engine.knowledge.rows))
    assert seen == [0, 0, 0]
    world.runner.step()
    assert {"Host/0", "Host/1", "Host/2"} < world.runner.engine.knowledge.rows.keys()


def test_resources_that_change_while_it_is_asked_whether_they_do_are_not_believed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.apply(HOSTS)
    asked = world.session.ledger.being_put

    def between() -> bool:
        monkeypatch.undo()
        world.apply(HOSTS, VM, SERVICE)
        return asked()

    monkeypatch.setattr(Ledger, "being_put", lambda _: between())
    world.runner.step()
    assert world.runner.engine.knowledge.rows == {}
    world.runner.step()
    assert world.runner.engine.knowledge.rows.keys() > {"Host/alpha", "VirtualMachine/web01"}


def test_nobody_acts_on_both_names_of_what_is_renamed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.apply(HOSTS, VM)
    world.converge()
    both: list[set[str]] = []
    drop = world.session.ledger.drop_machine

    def dropped(machine: str) -> None:
        drop(machine)
        world.runner.step()
        both.append({ref for ref in world.runner.engine.knowledge.rows if ref.startswith("VirtualMachine/")})

    monkeypatch.setattr(world.session.ledger, "drop_machine", dropped)
    world.apply(HOSTS, VM.replace("{name: web01}", "{name: www, annotations: {salv.us/moved-from: web01}}"))
    assert both == [{"VirtualMachine/web01"}]
    world.runner.step()
    assert "VirtualMachine/www" in world.runner.engine.knowledge.rows


def test_renamed_services_keep_what_they_have_while_they_wait(world: World) -> None:
    world.apply(HOSTS, service("a"), service("b", "haproxy", needs="a"))
    world.converge()
    world.machines.machine("alpha").log.clear()
    world.apply(HOSTS, service("a2", before="a"), service("b2", "haproxy", before="b", needs="a2"))
    world.converge()
    assert world.unready() == {}
    assert sorted(made(world.machines.machine("alpha"), Verb.DELETE)) == ["File:/etc/a", "File:/etc/b"]
    assert {"File:/etc/a2", "File:/etc/b2", "Package:haproxy", "Package:nginx"} <= world.items("alpha")


def test_a_move_to_a_name_that_somebody_has_is_refused_before_anything_is_written(world: World) -> None:
    other = VM.replace("web01", "www").replace(".100/", ".101/")
    world.apply(HOSTS, VM, other)
    world.converge()
    before = {ref: row.uid for ref, row in world.session.knowledge().rows.items()}
    with pytest.raises(Conflict, match="there is another resource of this name") as caught:
        world.apply(HOSTS, other.replace("{name: www}", "{name: www, annotations: {salv.us/moved-from: web01}}"))
    assert "moved-from" in caught.value.hint
    world.converge()
    assert {ref: row.uid for ref, row in world.session.knowledge().rows.items()} == before
    assert made(world.machines.machine("alpha"), Verb.DELETE) == []


def test_a_renamed_host_keeps_its_machines(world: World) -> None:
    world.apply(HOSTS, VM)
    world.converge()
    world.machines._machines["beta"] = world.machines.machine("alpha")
    world.machines.machine("alpha").log.clear()
    world.apply(HOSTS.replace("{name: alpha}", "{name: beta, annotations: {salv.us/moved-from: alpha}}"), VM)
    world.converge()
    assert world.unready() == {}
    assert world.machines.machine("beta").log == []
    world.machines.machine("beta").die("Domain:web01")
    world.converge()
    assert world.machines.machine("beta").items["Domain:web01"]["running"] is True


def test_a_machine_whose_host_is_gone_says_so(world: World) -> None:
    world.apply(HOSTS, VM)
    world.converge()
    world.session.delete(["Host/alpha"])
    world.converge(4)
    ready = conditions(world.session.knowledge(), "VirtualMachine/web01")[0]
    assert (ready.reason, "alpha" in ready.message) == ("MachineGone", True)


IMAGE = """
apiVersion: salv.us/v1
kind: Image
metadata: {{name: {name}}}
spec:
  source: /srv/{name}.qcow2
  sha256: {digest}
  kernel: {{source: /srv/{name}.kernel, sha256: {digest}}}
  cmdline: {name}
"""


def test_a_new_kernel_waits_for_its_disk_and_a_killed_machine_runs_as_it_was(world: World) -> None:
    old, new = IMAGE.format(name="old", digest="a" * 64), IMAGE.format(name="new", digest="b" * 64)
    host = HOSTS.split("---")[0]
    world.apply(host, old, VM.replace("debian12", "old"))
    world.converge()
    alpha = world.machines.machine("alpha")
    before = dict(alpha.items["Domain:web01"])
    world.apply(host, old, new, VM.replace("debian12", "new"))
    world.converge(4)
    assert conditions(world.session.knowledge(), "VirtualMachine/web01")[0].reason == "HeldByCeiling"
    assert alpha.items["Domain:web01"] == before
    alpha.die("Domain:web01")
    world.converge(4)
    assert alpha.items["Domain:web01"]["running"] is True
    assert alpha.items["Domain:web01"]["cmdline"] == "old"


def test_what_several_want_stays_while_one_of_them_waits(world: World) -> None:
    world.apply(HOSTS, service("dep", "curl"), service("a"), service("b", needs="dep"))
    world.converge()
    alpha = world.machines.machine("alpha")
    alpha.faults.refuses["File:/etc/dep"] = Failed("disk full")
    alpha.alter("File:/etc/dep", mode="0777")
    world.converge(3)
    world.session.delete(["Service/a"])
    world.converge(4)
    assert "Service/a" not in world.session.knowledge().rows
    assert "Package:nginx" in world.items("alpha")
    assert "File:/etc/a" not in world.items("alpha")


def test_a_resource_that_is_applied_again_at_its_end_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.apply(HOSTS, VM)
    world.converge()
    world.session.delete(["VirtualMachine/web01"])
    inventories, again = Ledger.inventories, iter([True])

    def applied_meanwhile(ledger: Ledger) -> object:
        found = inventories(ledger)
        left = any(row.owner == "VirtualMachine/web01" for row in found.get("alpha", {}).values())
        if not left and next(again, False):
            world.apply(HOSTS, VM)
        return found

    monkeypatch.setattr(Ledger, "inventories", applied_meanwhile)
    world.converge()
    time.sleep(0.2)
    world.converge()
    assert "VirtualMachine/web01" in world.session.knowledge().rows
    assert world.unready() == {}
    assert "Domain:web01" in world.items("alpha")


def test_a_controller_that_lost_its_leases_while_it_looked_writes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.apply(HOSTS, VM)
    world.runner.step()
    store, alpha = world.session.ledger.store, world.machines.machine("alpha")
    answer = alpha.answer

    def lost_while_looking(deadline: float) -> None:
        world.runner.engine.leases.release_all()
        answer(deadline)

    monkeypatch.setattr(alpha, "answer", lost_while_looking)
    before = store.changed_since(0)[0]
    while (name := world.runner.queue.take(0.12)) is not None:
        world.runner.work(name)
    assert alpha.log == []
    assert {table for table, _ in store.changed_since(before)[1]} == {Table.LEASE}


def test_a_fleet_pass_that_lost_its_lease_is_dropped_and_made_when_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.apply(HOSTS, VM)
    engine, store = world.runner.engine, world.session.ledger.store
    engine.leases.tick()
    engine.refresh()

    def lost(fleet: Fleet, known: Known) -> object:
        engine.leases.release_all()
        return allocate(fleet, known)

    with monkeypatch.context() as patch:
        patch.setattr(rulings, "allocate", lost)
        before = store.changed_since(0)[0]
        assert not engine.fleet_pass()
    assert {table for table, _ in store.changed_since(before)[1]} == {Table.LEASE}
    assert not engine.fleet_pass(), "it is not ours"
    engine.leases.tick()
    assert engine.fleet_pass()
