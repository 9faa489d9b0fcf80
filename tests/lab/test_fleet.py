"""A real fleet is made from manifests, and kept so: what a user sees when things go wrong, on real hosts and guests.

The fleet is made once and shared; every test leaves it in sync.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator

import pytest

from lab import Lab, breakage, hosts, pin, ssh_argv
from tests.lab.fleet import Fleet, blank_image, blank_vm, eventually, resource
from tests.lab.test_lab_machines import ssh

pytestmark = pytest.mark.lab

GUEST = "198.18.1.21"
HAND_MADE = (
    "<domain type='qemu'><name>byhand</name><memory unit='MiB'>64</memory>"
    "<os><type arch='x86_64'>hvm</type></os></domain>"
)
BEACON = resource(
    "Service",
    "beacon",
    {
        "machines": {"names": ["host2"]},
        "files": [{"path": "/etc/beacon.conf", "content": "lit\n"}],
        "command": "/bin/sleep infinity",
    },
)
PAGE = resource(
    "Service",
    "page",
    {
        "machines": {"names": ["guest"]},
        "packages": ["hello"],
        "files": [{"path": "/etc/page.conf", "template": "{% for m in members('') %}{{ m.name }}\n{% endfor %}"}],
        "command": "/bin/sleep infinity",
        "needs": [{"virtualMachine": "guest"}],
    },
)


def guest(**spec: object) -> dict[str, object]:
    """The one machine that boots a whole Debian."""
    base = {
        "image": "debian12",
        "cpu": 1,
        "cpuMax": 2,
        "memory": "512Mi",
        "memoryMax": "768Mi",
        "rootDisk": {"size": "2Gi"},
        "interfaces": [{"name": "eth0", "address": f"{GUEST}/15"}],
        "placement": {"host": "host1"},
    }
    return resource("VirtualMachine", "guest", base | spec)


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts, a whole guest with a service, two blank machines, a service on a host, and somebody else's machine."""
    made = Fleet(lab, tmp_path_factory.mktemp("fleet"))
    try:
        made.inside(
            "host1", f"cat >/root/byhand.xml <<'X'\n{HAND_MADE}\nX\nvirsh define /root/byhand.xml; virsh start byhand"
        )
        made.write_lab()
        made.write("blank", blank_image(made.folder))
        made.write("one", blank_vm("one", "host1"))
        made.write("two", blank_vm("two", "host2"))
        made.write("guest", guest())
        made.write("services", BEACON, PAGE)
        made.start()
        assert eventually(lambda: "VirtualMachine/guest" in made.knowledge().rows), made.log()
        made.settle(timeout=300)
        host_key = made.knowledge().known.facts["VirtualMachine/guest", "ssh_host_key"]
        pin(lab, GUEST, host_key)
        yield made
    finally:
        made.raze("host1", "host2")
        made.inside("host1", "rm -f /root/byhand.xml")


@pytest.fixture(autouse=True)
def in_sync(fleet: Fleet) -> Iterator[None]:
    """Every test begins and ends with a fleet that is as it is written."""
    fleet.settle()
    yield
    if fleet.process is None:
        fleet.start()
    fleet.settle(timeout=120)


def beacon(fleet: Fleet) -> str:
    """What the service's file on host2 says."""
    return fleet.inside("host2", "cat /etc/beacon.conf")


def beacon_runs(fleet: Fleet) -> bool:
    return fleet.inside("host2", "systemctl is-active salvus-beacon || true") == "active\n"


def in_guest(fleet: Fleet, command: str) -> str:
    done = ssh(fleet.lab, GUEST, command, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_in_sync_is_not_written_to(fleet: Fleet) -> None:
    passes, writes = fleet.metric("salvus_pass_seconds_count"), fleet.metric("salvus_driver_writes_total")
    stored = fleet.store.changed_since(0)[0]
    assert eventually(lambda: fleet.metric("salvus_pass_seconds_count") >= passes + 6)
    assert fleet.metric("salvus_driver_writes_total") == writes
    assert fleet.store.changed_since(0)[0] == stored or fleet.metric("salvus_lease_epoch") > 0
    difference = fleet.run("diff")
    assert difference.returncode == 0, difference.stdout
    assert "0 to create, 0 to update, 0 to delete" in difference.stdout


def test_services_run_where_they_are_to_run(fleet: Fleet) -> None:
    assert in_guest(fleet, "hello; systemctl is-active salvus-page; cat /etc/page.conf").split("\n") == [
        "Hello, world!",
        "active",
        *("guest", "host1", "host2", "one", "two"),
        "",
    ]
    assert fleet.inside("host2", "systemctl is-active salvus-beacon; cat /etc/beacon.conf") == "active\nlit\n"


def test_a_killed_machine_runs_again(fleet: Fleet) -> None:
    before = fleet.inside("host1", "cat /run/libvirt/qemu/one.pid")
    uuid = fleet.dominfo("host1", "one")["UUID"]
    breakage.kill_vm(fleet.lab, fleet.host("host1"), "one")
    assert eventually(lambda: fleet.dominfo("host1", "one")["State"] == "running")
    assert fleet.inside("host1", "cat /run/libvirt/qemu/one.pid") != before
    assert fleet.dominfo("host1", "one")["UUID"] == uuid


def test_files_and_units_that_somebody_changed_are_put_back(fleet: Fleet) -> None:
    pid = fleet.inside("host2", "systemctl show -P MainPID salvus-beacon")
    fleet.inside("host2", "echo dark >/etc/beacon.conf; chmod 0600 /etc/beacon.conf")
    assert eventually(
        lambda: fleet.inside("host2", "stat -c %a /etc/beacon.conf; cat /etc/beacon.conf") == "644\nlit\n"
    )
    assert eventually(lambda: fleet.inside("host2", "systemctl show -P MainPID salvus-beacon") not in {pid, "0\n"})
    fleet.inside("host2", "systemctl disable --now salvus-beacon")
    assert eventually(lambda: beacon_runs(fleet))
    assert fleet.inside("host2", "systemctl is-enabled salvus-beacon") == "enabled\n"
    in_guest(fleet, "rm /etc/page.conf; systemctl stop salvus-page")
    back = "test -s /etc/page.conf && systemctl is-active salvus-page"
    assert eventually(lambda: ssh(fleet.lab, GUEST, back).returncode == 0)


def test_memory_and_cpus_change_while_the_machine_runs(fleet: Fleet) -> None:
    pid = fleet.inside("host1", "cat /run/libvirt/qemu/guest.pid")
    before = int(in_guest(fleet, "awk '/MemTotal/ {print $2}' /proc/meminfo"))
    fleet.write("guest", guest(memory="640Mi", cpu=2))
    larger = "awk '/MemTotal/ {print $2}' /proc/meminfo; nproc"

    def grown() -> bool:
        memory, cpus = map(int, in_guest(fleet, larger).split())
        return memory > before + 100_000 and cpus == 2

    assert eventually(grown), in_guest(fleet, larger)
    fleet.settle("VirtualMachine/guest")
    assert fleet.inside("host1", "cat /run/libvirt/qemu/guest.pid") == pid, "it was not restarted"
    assert fleet.dominfo("host1", "guest")["Used memory"] == "655360 KiB"


def test_a_change_that_needs_a_restart_waits_below_its_ceiling(fleet: Fleet) -> None:
    pid = fleet.inside("host2", "cat /run/libvirt/qemu/two.pid")
    fleet.write("two", blank_vm("two", "host2", cpu=2, disruption={"ceiling": "live"}))
    assert eventually(lambda: fleet.ready("VirtualMachine/two").reason == "HeldByCeiling")
    shown = fleet.run("diff", "-o", "json")
    assert shown.returncode == 1
    assert "restart" in json.dumps(json.loads(shown.stdout))
    assert "ceiling" in fleet.run("why", "two").stdout
    assert fleet.inside("host2", "cat /run/libvirt/qemu/two.pid") == pid
    fleet.write("two", blank_vm("two", "host2", cpu=2))
    assert eventually(lambda: fleet.inside("host2", "cat /run/libvirt/qemu/two.pid || true") not in {pid, ""})
    fleet.settle("VirtualMachine/two")


def test_a_controller_that_is_stopped_while_a_machine_restarts_leaves_it_running(fleet: Fleet) -> None:
    pid = fleet.inside("host2", "cat /run/libvirt/qemu/two.pid")
    fleet.write("two", blank_vm("two", "host2", cpu=3, terminationGracePeriod="6s"))
    assert eventually(lambda: fleet.ready("VirtualMachine/two").reason == "JobRunning"), fleet.log()
    assert fleet.stop() == 0
    assert fleet.dominfo("host2", "two")["State"] == "running"
    assert fleet.inside("host2", "cat /run/libvirt/qemu/two.pid") != pid
    assert "for Domain:two on host2" in fleet.log()
    fleet.start()
    fleet.write("two", blank_vm("two", "host2"))


def test_a_bad_manifest_changes_nothing_and_says_where(fleet: Fleet) -> None:
    before = fleet.knowledge().rows["Service/beacon"]
    (fleet.manifests / "services.yaml").write_text(
        "apiVersion: salv.us/v1\nkind: Service\nmetadata: {name: beacon}\nspec: {machins: {}}\n"
    )
    assert eventually(lambda: fleet.metric("salvus_manifest_errors") > 0)
    assert fleet.knowledge().rows["Service/beacon"] == before
    (errors,) = [state.errors for state in fleet.session.ledger.sources.states().values()]
    assert any("services.yaml:4:8" in error and "machines" in error for error in errors), errors
    assert fleet.inside("host2", "systemctl is-active salvus-beacon") == "active\n"
    fleet.write("services", BEACON, PAGE)
    assert eventually(lambda: fleet.metric("salvus_manifest_errors") == 0)


def test_what_leaves_the_manifests_goes_and_its_neighbours_stay(fleet: Fleet) -> None:
    fleet.write("three", blank_vm("three", "host1"))
    fleet.settle("VirtualMachine/three")
    pids = fleet.inside("host1", "cat /run/libvirt/qemu/one.pid /run/libvirt/qemu/byhand.pid")
    (fleet.manifests / "three.yaml").unlink()
    assert eventually(lambda: "VirtualMachine/three" not in fleet.knowledge().rows), fleet.log()
    assert fleet.domains("host1") == {"one", "guest", "byhand"}
    assert fleet.inside("host1", "cat /run/libvirt/qemu/one.pid /run/libvirt/qemu/byhand.pid") == pids
    kept = fleet.inside("host1", "ls /var/lib/salvus/volumes /var/lib/salvus/seeds /var/lib/salvus/trash").split()
    assert "three-root.qcow2" not in kept
    assert any(name.endswith("-three-root.qcow2") for name in kept), "the disk is in the trash"
    assert "three.iso" not in kept


def test_a_hand_made_machine_of_the_same_name_is_not_touched(fleet: Fleet) -> None:
    before = fleet.inside("host1", "virsh dumpxml byhand --inactive")
    fleet.write("byhand", blank_vm("byhand", "host1"))
    assert eventually(lambda: "VirtualMachine/byhand" in fleet.knowledge().rows)
    assert eventually(lambda: fleet.ready("VirtualMachine/byhand").reason == "Stalled"), fleet.log()
    (fleet.manifests / "byhand.yaml").unlink()
    assert eventually(lambda: "VirtualMachine/byhand" not in fleet.knowledge().rows), fleet.log()
    assert fleet.inside("host1", "virsh dumpxml byhand --inactive") == before
    assert fleet.dominfo("host1", "byhand")["State"] == "running"


def test_a_renamed_machine_is_moved_and_not_made_anew(fleet: Fleet) -> None:
    identity = "virsh domuuid two; cat /run/libvirt/qemu/two.pid; virsh domiflist two"
    before = fleet.inside("host2", identity)
    moved = fleet.manifest("VirtualMachine/two")
    moved["metadata"]["name"] = "deux"
    moved["metadata"]["annotations"] = {"salv.us/moved-from": "two"}
    fleet.write("two", moved)
    fleet.settle("VirtualMachine/deux")
    assert "VirtualMachine/two" not in fleet.knowledge().rows
    assert fleet.inside("host2", identity) == before
    moved["metadata"] = {"name": "two", "annotations": {"salv.us/moved-from": "deux"}}
    fleet.write("two", moved)
    assert eventually(lambda: "VirtualMachine/two" in fleet.knowledge().rows)


def test_an_unreachable_host_is_unknown_and_the_others_go_on(fleet: Fleet) -> None:
    breakage.cut(fleet.lab, fleet.host("host1"))
    try:
        assert eventually(lambda: fleet.ready("Host/host1").status == "Unknown")
        assert fleet.ready("Host/host1").reason == "Unreachable"
        fleet.inside("host2", "echo dark >/etc/beacon.conf")
        assert eventually(lambda: beacon(fleet) == "lit\n")
        shown = fleet.run("diff", "-o", "json")
        (cut,) = [one for one in json.loads(shown.stdout)["machines"] if one["machine"] == "host1"]
        assert cut["unreachable"]
        assert cut["changes"] == []
        assert "Unreachable" in fleet.run("get", "hosts").stdout
    finally:
        breakage.mend(fleet.lab, fleet.host("host1"))


def test_a_frozen_host_costs_its_deadline_and_nobody_else_waits(fleet: Fleet) -> None:
    breakage.freeze(fleet.lab, fleet.host("host1"))
    try:
        assert eventually(lambda: fleet.ready("Host/host1").status == "Unknown")
        fleet.inside("host2", "systemctl stop salvus-beacon")
        assert eventually(
            lambda: "active" in fleet.inside("host2", "systemctl is-active salvus-beacon || true").split()
        )
    finally:
        breakage.thaw(fleet.lab, fleet.host("host1"))


def test_a_host_without_sshd_comes_back_by_itself(fleet: Fleet) -> None:
    breakage.stop_sshd(fleet.lab, fleet.host("host2"))
    try:
        assert eventually(lambda: fleet.ready("Host/host2").reason == "Unreachable")
    finally:
        breakage.start_sshd(fleet.lab, fleet.host("host2"))


def test_a_full_disk_fails_with_its_reason_and_breaks_no_file(fleet: Fleet) -> None:
    breakage.fill(fleet.lab, fleet.host("host2"))
    try:
        longer = json.loads(json.dumps(BEACON))
        longer["spec"]["files"][0]["content"] = "lit\n" * 20_000
        fleet.write("services", longer, PAGE)
        assert eventually(lambda: fleet.ready("Service/beacon").reason == "Failed"), fleet.log()
        assert "No space left" in fleet.ready("Service/beacon").message
        assert beacon(fleet) == "lit\n"
    finally:
        breakage.free(fleet.lab, fleet.host("host2"))
    fleet.settle("Service/beacon")
    assert fleet.inside("host2", "wc -l </etc/beacon.conf").strip() == "20000"
    fleet.write("services", BEACON, PAGE)
    assert eventually(lambda: beacon(fleet) == "lit\n")


def test_kill_9_while_a_machine_is_made_makes_no_second_one_and_leaves_nothing(fleet: Fleet) -> None:
    listing = "find /var/lib/salvus -not -path '*/salvus/trash*' -not -path '*/salvus/sessions/*' | sort"
    before = fleet.inside("host2", listing).split()
    for number, pause in enumerate((0.2, 0.5, 0.8, 1.2)):
        fleet.write("four", blank_vm("four", "host2"))
        assert eventually(lambda: "VirtualMachine/four" in fleet.knowledge().rows)
        time.sleep(pause)
        fleet.kill()
        assert len(fleet.domains("host2") & {"four", "four-2"}) <= 1
        fleet.start()
        fleet.settle("VirtualMachine/four")
        assert fleet.domains("host2") == {"two", "four"}, f"round {number}"
        made = set(fleet.inside("host2", listing).split()) - set(before)
        assert not [path for path in made if path.endswith(".new")], "nothing half-made is left"
        assert len(made) == 5, "disk, seed and its note, two halves of a key"
        (fleet.manifests / "four.yaml").unlink()
        assert eventually(lambda: "VirtualMachine/four" not in fleet.knowledge().rows), fleet.log()
        assert fleet.inside("host2", listing).split() == before


def test_a_second_controller_gets_its_share_and_has_everything_when_the_first_is_killed(fleet: Fleet) -> None:
    first = fleet.process
    assert first is not None
    second = fleet.start("--http", "127.0.0.1:0")
    both = {str(first.pid), str(second.pid)}
    try:
        assert eventually(lambda: set(re.findall(r"pid (\d+)", fleet.session.controller())) == both), fleet.log()
        fleet.kill()
        fleet.inside("host2", "echo dark >/etc/beacon.conf")
        assert eventually(lambda: beacon(fleet) == "lit\n"), fleet.log()
        assert eventually(lambda: fleet.session.controller().startswith(f"pid {second.pid} on ")), fleet.log()
        assert "," not in fleet.session.controller()
    finally:
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0


def test_machines_come_back_with_their_host_and_without_a_controller(fleet: Fleet) -> None:
    fleet.kill()
    breakage.reboot(fleet.lab, fleet.host("host2"))
    hosts.wait(fleet.lab, fleet.host("host2"))
    assert eventually(lambda: fleet.dominfo("host2", "two")["State"] == "running"), (
        "rule 9: the data plane is on its own"
    )
    assert eventually(lambda: beacon_runs(fleet))
    fleet.start()
    fleet.settle()
    breakage.reboot(fleet.lab, fleet.host("host2"))
    hosts.wait(fleet.lab, fleet.host("host2"))
    fleet.settle()
    assert fleet.dominfo("host2", "two")["State"] == "running"


def test_ssh_to_the_guest_is_strict_from_the_first_connection(fleet: Fleet) -> None:
    shown = in_guest(fleet, "cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
    assert " ".join(shown) == fleet.knowledge().known.facts["VirtualMachine/guest", "ssh_host_key"]
    assert ssh_argv(fleet.lab, GUEST)
