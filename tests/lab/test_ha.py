"""No single point of failure: three controllers, three Cassandra nodes, three hosts; any of them dies at any moment.

After each case everything is as it is in git, nothing was done twice, and nothing is left over (``HaFleet.whole``).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from lab import Lab, breakage, hosts
from tests.lab.chaos import Chaos
from tests.lab.fleet import blank_vm, eventually, resource
from tests.lab.ha import FAILOVER, HOSTS, MARK, TALLY, Controller, HaFleet

pytestmark = [pytest.mark.lab, pytest.mark.cassandra]

# Seconds for which a lease lasts (controller/leases.py): after it nobody acts whom the store does not know of.
TTL = 10
KILLS = 20


@pytest.fixture(scope="module")
def fleet(ha_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HaFleet]:
    """Three controllers over three hosts, on each the service that counts, and a machine on the first."""
    made = HaFleet(ha_lab, tmp_path_factory.mktemp("ha"))
    try:
        made.prepare()
        made.write("first", blank_vm("first", "host1"))
        made.push()
        for _ in range(3):
            made.launch()
        made.all_members()
        made.whole(300)
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def three(fleet: HaFleet) -> Iterator[None]:
    """Every case begins with three controllers, and ends with a fleet that is whole."""
    complete(fleet)
    yield
    complete(fleet)
    fleet.whole()


def complete(fleet: HaFleet) -> None:
    while len(fleet.controllers) < 3:
        fleet.launch()
    fleet.all_members()


def holding(fleet: HaFleet, host: str) -> Controller:
    return fleet.controllers[fleet.holder(host)]


def applied(fleet: HaFleet, version: str, host: str) -> bool:
    return version in fleet.inside(host, f"cat {TALLY}")


def starts(fleet: HaFleet, host: str, name: str) -> int:
    """How often libvirt has started the machine: a file that it only appends to."""
    log = f"/var/log/libvirt/qemu/{name}.log"
    return int(fleet.inside(host, f"grep -c 'starting up libvirt' {log} 2>/dev/null || :").strip() or 0)


def files(fleet: HaFleet) -> dict[str, list[str]]:
    """Every file that salvus makes on the hosts, and when its name, content or attributes were changed last.

    Not those of the fence: whoever wakes up may be given the host again, under a newer epoch.
    """
    listing = "find /var/lib/salvus /etc/libvirt/qemu /etc/systemd/system /usr/local/bin -type f -not -name epoch"
    listing += " -not -path '/var/lib/salvus/sessions/*'"
    return {
        host: sorted(fleet.inside(host, f"{listing} -printf '%p %i %s %C@\\n'; cat {TALLY}").splitlines())
        for host in HOSTS
    }


@pytest.mark.parametrize("pause", [0.3, 1.2])
def test_kill_9_of_who_makes_a_machine(fleet: HaFleet, pause: float) -> None:
    name = f"killed{int(pause * 10)}"
    holder = holding(fleet, "host1")
    fleet.write("made", blank_vm(name, "host1"))
    fleet.push()
    assert eventually(lambda: f"VirtualMachine/{name}" in fleet.knowledge().rows), fleet.said()
    time.sleep(pause)
    fleet.end(holder)
    assert eventually(lambda: fleet.holder("host1") in fleet.controllers, FAILOVER), fleet.said()
    fleet.settle(f"VirtualMachine/{name}")
    assert starts(fleet, "host1", name) == 1
    assert len([file for file in files(fleet)["host1"] if f"/volumes/{name}" in file]) == 1


def test_who_sleeps_for_half_a_minute_in_its_work_is_fenced_and_writes_nothing(fleet: HaFleet) -> None:
    unit = "[Service]\nExecStartPre=/bin/sleep 3\nExecStart=/bin/sleep infinity\n"
    fleet.write("slow", resource("Service", "slow", {"machines": {"names": ["host1"]}, "unit": unit}))
    fleet.push()
    starting = "systemctl is-active slow || :"
    assert eventually(lambda: fleet.inside("host1", starting) == "activating\n"), fleet.said()
    holder = holding(fleet, "host1")
    holder.signal(signal.SIGSTOP)
    begin = time.monotonic()
    try:
        assert eventually(lambda: fleet.holder("host1") not in ("", holder.name), 2 * FAILOVER), fleet.said()
        fleet.whole()
        time.sleep(max(0.0, begin + 30 - time.monotonic()))
        before, known = files(fleet), stored(fleet)
    finally:
        holder.signal(signal.SIGCONT)
    # It becomes a member again, and is given its share back, under new epochs.
    fleet.all_members()
    assert eventually(lambda: "fenced" in holder.said()), holder.said()
    assert files(fleet) == before
    assert stored(fleet) == known
    (fleet.manifests / "slow.yaml").unlink()
    fleet.push()


def stored(fleet: HaFleet) -> dict[str, object]:
    """All that the store says of resources and machines."""
    knowledge = fleet.knowledge()
    return {"rows": knowledge.rows, "statuses": knowledge.statuses, "known": knowledge.known}


def test_a_node_is_killed_while_200_resources_are_pushed(fleet: HaFleet) -> None:
    numbers = range(200)
    for number in numbers:
        file = {"path": f"/etc/many-{number:03}", "content": f"{number}\n"}
        spec = {"machines": {"names": [HOSTS[number % 3]]}, "files": [file]}
        fleet.write(f"many{number:03}", resource("Service", f"many{number:03}", spec))
    fleet.push()
    assert eventually(lambda: len(fleet.knowledge().rows) > 20)
    _, node = fleet.lab.node("cassandra2")
    breakage.kill_node(fleet.lab, node)
    try:
        fleet.whole(300)
        for number in (0, 1, 2, 197, 198, 199):
            assert fleet.inside(HOSTS[number % 3], f"cat /etc/many-{number:03}") == f"{number}\n"
        seen = (one.metric("salvus_store_node_up", node=node.address) for one in fleet.controllers.values())
        assert set(seen) == {0}, "a metric tells of it"
    finally:
        breakage.start_node(fleet.lab, node)
    for number in numbers:
        (fleet.manifests / f"many{number:03}.yaml").unlink()
    fleet.push()
    fleet.whole(300)


def test_two_of_three_nodes_are_dead(fleet: HaFleet) -> None:
    """Who reads is answered, and told how old it may be; nobody writes to machines; then all goes on by itself."""
    nodes = [fleet.lab.node(name)[1] for name in ("cassandra1", "cassandra3")]
    for node in nodes:
        breakage.kill_node(fleet.lab, node)
    try:
        time.sleep(TTL)
        fleet.inside("host2", f"rm {MARK}")
        fleet.tally("unheard")
        fleet.push()
        begin = {one.name: one.cpu() for one in fleet.controllers.values()}
        time.sleep(10)
        for one in fleet.controllers.values():
            assert one.cpu() - begin[one.name] < 5, "it is busy with waiting"
            assert one.outer.poll() is None, one.said()
        got = fleet.run("get", "all")
        assert got.returncode == 0, got.stderr
        assert "tally" in got.stdout
        assert "may be old" in got.stderr, got.stderr
        assert fleet.inside("host2", f"ls {MARK} 2>/dev/null || echo gone") == "gone\n"
        assert not applied(fleet, "unheard", "host1")
    finally:
        for node in nodes:
            breakage.start_node(fleet.lab, node)
    assert eventually(lambda: applied(fleet, "unheard", "host2"), 120), fleet.said()


def launch_dated(fleet: HaFleet, clock: float) -> None:
    """A controller whose wall clock is so many seconds off, as the first line of its log shows."""
    made = fleet.launch(clock)
    assert eventually(lambda: "Z INFO" in made.said()), made.said()
    said = datetime.fromisoformat(made.said().split()[0]).timestamp()
    assert abs(said - time.time() - clock) < 300


def test_the_clock_of_a_controller_is_an_hour_off(fleet: HaFleet) -> None:
    for clock in (3600.0, -3600.0):
        fleet.end(next(iter(fleet.controllers.values())), signal.SIGTERM)
        launch_dated(fleet, clock)
    fleet.all_members()
    fleet.tally("shifted")
    fleet.push()
    fleet.whole()
    right = next(one for one in fleet.controllers.values())
    fleet.end(right)
    assert eventually(lambda: all(fleet.holder(host) in fleet.controllers for host in HOSTS), FAILOVER), fleet.said()
    fleet.tally("shifted-more")
    fleet.push()
    fleet.whole()
    for one in tuple(fleet.controllers.values()):
        fleet.end(one, signal.SIGTERM)


def test_without_any_controller_a_host_comes_back_with_all_that_runs_on_it(fleet: HaFleet) -> None:
    for one in tuple(fleet.controllers.values()):
        fleet.end(one)
    breakage.reboot(fleet.lab, fleet.host("host1"))
    hosts.wait(fleet.lab, fleet.host("host1"))
    assert eventually(lambda: fleet.dominfo("host1", "first")["State"] == "running"), "rule 9"
    assert eventually(lambda: "active" in fleet.inside("host1", "systemctl is-active salvus-tally || :").split())
    got = fleet.run("get", "all")
    assert got.returncode == 0
    assert "first" in got.stdout


def test_twenty_random_kills_while_the_manifests_keep_changing(fleet: HaFleet) -> None:
    """In the end, what is in git is what runs. SALVUS_TEST_SEED repeats a run."""
    seed = int(os.environ.get("SALVUS_TEST_SEED") or random.SystemRandom().randrange(2**32))
    chaos = Chaos(fleet, seed)
    try:
        chaos.run(KILLS)
    finally:
        chaos.end()
    try:
        fleet.whole(300)
    except AssertionError as error:
        raise AssertionError(f"SALVUS_TEST_SEED={seed}, after {chaos.story()}:\n{error}") from error
