"""LibvirtDriver on a real host: real libvirtd, real qemu, over ssh and virt-ssh-helper as in production.

Most guests have no disk and sit in their firmware, which is up at once; one is a real Debian.
"""

from __future__ import annotations

import contextlib
import queue
import shlex
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from drivers.base import (
    Absent,
    Change,
    DriverError,
    Failed,
    Grade,
    Item,
    Present,
    Rejected,
    State,
    Unknown,
    Verb,
    drift,
)
from drivers.items.domain import MEBIBYTE, Disk, Domain, Interface
from drivers.items.hypervisor import Hypervisor
from drivers.libvirt import LibvirtDriver, Patience
from lab import Lab, LabHost, breakage, exec_in, ssh_argv

pytestmark = pytest.mark.lab

FOLDER = "/srv/libvirt-driver"
HELPER = "virt-ssh-helper qemu:///system"


class Tunnel:
    """A unix socket; each connection to it is joined to a libvirt on the host, by the lab's ssh."""

    def __init__(self, argv: list[str], path: Path) -> None:
        self.uri = f"qemu+unix:///system?socket={path}"
        self._argv = argv
        self._processes: list[subprocess.Popen[bytes]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                local, _ = self._listener.accept()
                with local:
                    end = local.fileno()
                    self._processes.append(subprocess.Popen([*self._argv, HELPER], stdin=end, stdout=end))

    def cut(self) -> None:
        """Ends the connections that there are."""
        while self._processes:
            process = self._processes.pop()
            process.kill()
            process.wait()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.cut()


@dataclass
class Hypervised:
    """The driver of a host, what its events told, and a way past it."""

    lab: Lab
    host: LabHost
    tunnel: Tunnel
    driver: LibvirtDriver
    events: queue.SimpleQueue[str]
    made: list[Domain] = field(default_factory=list)

    def state(self, item: Item) -> State:
        return self.driver.observe([item])[item.key].state

    def drift(self, item: Domain) -> set[str]:
        state = self.state(item)
        assert isinstance(state, Present), state
        return {one.field for one in drift(item.fields(), state.fields)}

    def change(self, item: Domain, verb: Verb | None = None) -> DriverError | None:
        """What the planner would plan."""
        self.made.append(item)
        state = self.state(item)
        found = drift(item.fields(), state.fields) if isinstance(state, Present) else ()
        planned = Verb.CREATE if isinstance(state, Absent) else Verb.UPDATE
        (result,) = self.driver.apply([Change(item, verb or planned, found, item.grade(found))], 1)
        return result.error

    def make(self, item: Domain) -> None:
        assert self.change(item) is None
        assert self.drift(item) == set()

    def inside(self, command: str, stdin: bytes | None = None) -> str:
        done = exec_in(self.lab, self.host, ["sh", "-euc", command], stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def virsh(self, *words: str) -> str:
        return self.inside(shlex.join(["virsh", "--quiet", *words])).strip()

    def xml(self, item: Domain, *flags: str) -> ElementTree.Element:
        return ElementTree.fromstring(self.virsh("dumpxml", item.domain, *flags))

    def pid(self, item: Domain) -> str:
        """Of the qemu that runs it."""
        return self.inside(f"cat /run/libvirt/qemu/{item.domain}.pid").strip()


@pytest.fixture
def hypervised(lab: Lab, tmp_path: Path) -> Iterator[Hypervised]:
    """The first host; domains that a test made are gone afterwards."""
    host = lab.hosts[0]
    tunnel = Tunnel(ssh_argv(lab, host.name), tmp_path / "socket")
    events: queue.SimpleQueue[str] = queue.SimpleQueue()
    patience = Patience(answer=5, work=60, shutdown=1, farewell=1)
    driver = LibvirtDriver(host.name, lambda: tunnel.uri, events.put, patience=patience)
    made = Hypervised(lab, host, tunnel, driver, events)
    try:
        yield made
    finally:
        for item in made.made:
            if isinstance(made.state(item), Present):
                made.change(replace(item), Verb.DELETE)
        driver.close()
        tunnel.close()


def domain(name: str, **changed: Any) -> Domain:
    uid = str(uuid.uuid4())
    fields: dict[str, Any] = {
        "domain": name,
        "uuid": uid,
        "owner_uid": uid,
        "running": True,
        "vcpus": 1,
        "vcpus_max": 2,
        "memory": 64 * MEBIBYTE,
        "memory_max": 96 * MEBIBYTE,
        "domain_type": "qemu",
        "interfaces": (Interface("br0", "52:54:00:00:0d:01"),),
    }
    return Domain(**{**fields, **changed})


def eventually(true: Callable[[], bool], timeout: float = 60) -> bool:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.2)
    return False


def test_a_killed_domain_is_told_of_and_starts_again(hypervised: Hypervised) -> None:
    item = domain("drv-kill")
    hypervised.make(item)
    before = hypervised.pid(item)
    while not hypervised.events.empty():
        hypervised.events.get()
    breakage.kill_vm(hypervised.lab, hypervised.host, item.domain)
    assert hypervised.events.get(timeout=30) == item.domain
    assert eventually(lambda: hypervised.drift(item) == {"running"})
    hypervised.make(item)
    assert hypervised.pid(item) != before


def test_a_cpu_is_plugged_while_it_runs(hypervised: Hypervised) -> None:
    item = domain("drv-live")
    hypervised.make(item)
    before = hypervised.pid(item)
    hypervised.make(replace(item, vcpus=2, memory=80 * MEBIBYTE))
    assert hypervised.pid(item) == before
    assert hypervised.virsh("vcpucount", item.domain, "--active", "--live") == "2"
    assert hypervised.virsh("vcpucount", item.domain, "--active", "--config") == "2"


def test_a_restart_changes_what_was_asked_for_and_nothing_else(hypervised: Hypervised) -> None:
    item = domain("drv-update")
    hypervised.make(item)
    before, process = hypervised.xml(item, "--inactive"), hypervised.pid(item)
    hypervised.make(replace(item, memory_max=128 * MEBIBYTE, uuid=str(uuid.uuid4())))
    after = hypervised.xml(item, "--inactive")
    assert hypervised.pid(item) != process
    assert after.findtext("memory") == str(128 * 1024)
    for root in (before, after):
        for changed in root.findall("memory"):
            root.remove(changed)
    assert ElementTree.tostring(after) == ElementTree.tostring(before), "UUID, MAC, addresses, machine stay"


def test_a_domain_that_is_to_be_off_is_destroyed_when_it_hears_no_button(hypervised: Hypervised) -> None:
    item = domain("drv-off")
    hypervised.make(item)
    hypervised.make(replace(item, running=False))
    assert hypervised.virsh("domstate", item.domain) == "shut off"


def test_a_paused_domain_goes_on(hypervised: Hypervised) -> None:
    item = domain("drv-pause")
    hypervised.make(item)
    before = hypervised.pid(item)
    hypervised.virsh("suspend", item.domain)
    assert hypervised.drift(item) == {"running"}
    hypervised.make(item)
    assert hypervised.pid(item) == before


def test_a_saved_domain_goes_on_where_it_was(hypervised: Hypervised) -> None:
    item = domain("drv-saved")
    hypervised.make(item)
    hypervised.virsh("managedsave", item.domain)
    hypervised.make(item)
    assert "restored" in hypervised.virsh("domstate", "--reason", item.domain)


def test_a_deleted_domain_leaves_its_disk_and_nothing_else(hypervised: Hypervised) -> None:
    disk = f"{FOLDER}/kept.qcow2"
    hypervised.inside(f"mkdir -p {FOLDER}; qemu-img create -q -f qcow2 {disk} 16M")
    item = domain("drv-delete", disks=(Disk(disk, "vda"),))
    hypervised.make(item)
    hypervised.virsh("managedsave", item.domain)
    assert hypervised.change(item, Verb.DELETE) is None
    assert isinstance(hypervised.state(item), Absent)
    hypervised.inside(f"test -f {disk}; rm -r {FOLDER}; ! ls /var/lib/libvirt/qemu/save | grep drv-delete")


def test_a_hand_made_domain_of_the_same_name_is_untouched(hypervised: Hypervised) -> None:
    item = domain("drv-theirs")
    theirs = "<domain type='qemu'><name>drv-theirs</name><memory>65536</memory><os><type>hvm</type></os></domain>"
    hypervised.inside("cat >/run/theirs.xml; virsh define /run/theirs.xml; virsh start drv-theirs", theirs.encode())
    try:
        before = hypervised.virsh("dumpxml", item.domain), hypervised.pid(item)
        for verb in Verb:
            assert isinstance(hypervised.change(item, verb), Rejected)
        assert (hypervised.virsh("dumpxml", item.domain), hypervised.pid(item)) == before
    finally:
        hypervised.inside("virsh destroy drv-theirs; virsh undefine drv-theirs; rm /run/theirs.xml")


def test_whether_kvm_works_is_found_out_by_trying(hypervised: Hypervised) -> None:
    state = hypervised.state(Hypervisor())
    assert isinstance(state, Present)
    guest = (
        "<domain type='kvm'><name>drv-kvm</name><memory>65536</memory><os><type>hvm</type></os>"
        "<cpu mode='host-passthrough'/></domain>"
    )
    command = "cat >/run/kvm.xml; virsh create --autodestroy /run/kvm.xml >&2 && echo kvm || echo qemu; rm /run/kvm.xml"
    assert state.facts["domain_type"] == hypervised.inside(command, guest.encode()).strip()
    assert state.facts["emulator"] == "/usr/bin/qemu-system-x86_64"
    assert state.facts["arch"] == "x86_64"
    assert "probe" not in hypervised.virsh("list", "--all", "--name")
    assert hypervised.events.empty(), "what salvus tries wakes nobody"


def test_a_frozen_host_costs_its_deadline_and_is_known_again_afterwards(hypervised: Hypervised) -> None:
    item = domain("drv-frozen")
    hypervised.make(item)
    breakage.freeze(hypervised.lab, hypervised.host)
    try:
        state = hypervised.state(item)
        assert isinstance(state, Unknown)
        assert "does not answer" in state.reason
    finally:
        breakage.thaw(hypervised.lab, hypervised.host)
    hypervised.tunnel.cut()
    assert eventually(lambda: isinstance(hypervised.state(item), Present))
    assert hypervised.drift(item) == set()


def test_a_lost_connection_is_told_of_and_opened_again(hypervised: Hypervised) -> None:
    item = domain("drv-lost")
    hypervised.make(item)
    while not hypervised.events.empty():
        hypervised.events.get()
    hypervised.tunnel.cut()
    assert hypervised.events.get(timeout=30) == ""
    assert hypervised.drift(item) == set()


def test_a_restarted_libvirtd_is_asked_again_and_the_guests_ran_on(hypervised: Hypervised) -> None:
    item = domain("drv-daemon")
    hypervised.make(item)
    before = hypervised.pid(item)
    hypervised.inside("systemctl restart libvirtd")
    assert eventually(lambda: isinstance(hypervised.state(item), Present))
    assert hypervised.drift(item) == set()
    assert hypervised.pid(item) == before


def test_a_missing_disk_is_the_domains_fault_not_the_machines(hypervised: Hypervised) -> None:
    item = domain("drv-nodisk", disks=(Disk("/nowhere/disk.qcow2", "vda"),))
    error = hypervised.change(item)
    assert type(error) is Failed
    assert "/nowhere/disk.qcow2" in str(error)
    assert hypervised.drift(item) == {"running"}


# A boot sector that writes 32 KiB after 32 KiB to its disk (BIOS interrupt 13h, function 43h), without end.
FILLER = bytes.fromhex("31c0 8ed8 be207c b80043 b280 cd13 668106287c40000000 ebee").ljust(0x20, b"\0")
FILLER += bytes.fromhex("1000 4000 007c0000 4000000000000000")
FILLER = FILLER.ljust(510, b"\0") + b"\x55\xaa"


@pytest.fixture
def small(hypervised: Hypervised) -> Iterator[str]:
    """A disk with the filler on a file system of 2 MiB."""
    hypervised.inside(f"mkdir -p {FOLDER}; mount -t tmpfs -o size=2M,mode=0755 none {FOLDER}")
    try:
        make = "cat >raw; qemu-img convert -O qcow2 raw disk; qemu-img resize disk 64M"
        hypervised.inside(f"cd {FOLDER}; {make}", FILLER)
        yield f"{FOLDER}/disk"
        hypervised.change(hypervised.made[-1], Verb.DELETE)
    finally:
        hypervised.inside(f"umount -l {FOLDER}; rmdir {FOLDER}")


def test_a_domain_that_fills_the_disk_says_so_and_goes_on_when_there_is_room(
    hypervised: Hypervised, small: str
) -> None:
    item = domain("drv-full", disks=(Disk(small, "vda"),))
    assert hypervised.change(item) is None
    assert eventually(lambda: hypervised.drift(item) == {"running"})
    state = hypervised.state(item)
    assert isinstance(state, Present)
    assert state.fields["running"] == "paused by an I/O error"
    before = hypervised.pid(item)
    error = hypervised.change(item)
    assert isinstance(error, Failed)
    assert "no space is left for vda" in str(error)
    hypervised.inside(f"mount -o remount,size=100M {FOLDER}")
    hypervised.make(item)
    assert hypervised.pid(item) == before


# --- a real guest


def test_a_debian_guest_gives_memory_back_and_shuts_down_when_told(hypervised: Hypervised, lab: Lab) -> None:
    hypervised.inside(f"mkdir -p {FOLDER}")
    for path, name in ((lab.image.path, "base"), (lab.image.kernel, "kernel"), (lab.image.initrd, "initrd")):
        with Path(path).open("rb") as file:
            copy = [*ssh_argv(lab, hypervised.host.name), f"cat >{FOLDER}/{name}"]
            subprocess.run(copy, stdin=file, timeout=120, check=True)
    hypervised.inside(f"qemu-img create -q -f qcow2 -b {FOLDER}/base -F qcow2 {FOLDER}/root.qcow2")
    item = domain(
        "drv-debian",
        memory=512 * MEBIBYTE,
        memory_max=512 * MEBIBYTE,
        vcpus=2,
        disks=(Disk(f"{FOLDER}/root.qcow2", "vda"),),
        kernel=f"{FOLDER}/kernel",
        initrd=f"{FOLDER}/initrd",
        cmdline=lab.image.cmdline,
    )
    try:
        hypervised.make(item)
        smaller = replace(item, memory=400 * MEBIBYTE)
        hypervised.make(smaller)
        assert eventually(lambda: hypervised.xml(item).findtext("currentMemory") == str(400 * 1024), 180)
        patient = Patience(answer=5, work=60, shutdown=120, farewell=1)
        driver = LibvirtDriver(hypervised.host.name, lambda: hypervised.tunnel.uri, lambda _: None, patience=patient)
        off = replace(smaller, running=False)
        (done,) = driver.apply([Change(off, Verb.UPDATE, (), Grade.RESTART)], 1)
        driver.close()
        assert done.error is None
        assert "(shutdown)" in hypervised.virsh("domstate", "--reason", item.domain), "it heard its power button"
    finally:
        hypervised.change(item, Verb.DELETE)
        hypervised.inside(f"rm -r {FOLDER}")
