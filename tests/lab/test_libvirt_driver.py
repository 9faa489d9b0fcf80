"""LibvirtDriver on a real host: real libvirtd, real qemu, over ssh and virt-ssh-helper as in production.

Most guests have no disk and sit in their firmware, which is up at once; one is a real Debian.
"""

from __future__ import annotations

import queue
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from drivers.base import Absent, Change, Failed, Grade, Present, Rejected, Unknown, Verb
from drivers.items.domain import MEBIBYTE, Disk
from drivers.items.hypervisor import Hypervisor
from drivers.libvirt import LibvirtDriver, Patience
from drivers.libvirt.session import PROBE
from lab import Lab, breakage, ssh_argv
from tests.lab.fleet import eventually
from tests.lab.libvirt_host import Hypervised, Tunnel, domain

pytestmark = pytest.mark.lab

FOLDER = "/srv/libvirt-driver"


@pytest.fixture
def hypervised(lab: Lab, tmp_path: Path) -> Iterator[Hypervised]:
    """The first host; domains that a test made are gone afterwards."""
    host = lab.hosts[0]
    tunnel = Tunnel(ssh_argv(lab, host.name), tmp_path / "socket")
    events: queue.SimpleQueue[str] = queue.SimpleQueue()
    patience = Patience(answer=5, work=60, farewell=1)
    driver = LibvirtDriver(host.name, lambda _: tunnel.uri, events.put, fence=lambda _: None, patience=patience)
    made = Hypervised(lab, host, tunnel, driver, events)
    try:
        yield made
    finally:
        for item in tuple(made.made):
            if isinstance(made.state(item), Present):
                made.change(item, Verb.DELETE)
        driver.close()
        tunnel.close()


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


def test_a_deleted_domain_leaves_its_disks_and_nothing_else(hypervised: Hypervised) -> None:
    disk = f"{FOLDER}/kept.qcow2"
    seed = f"{FOLDER}/seed.iso"
    hypervised.inside(f"mkdir -p {FOLDER}; qemu-img create -q -f qcow2 {disk} 16M; truncate --size 64K {seed}")
    disks = (Disk(disk, "vda", cache="writeback"), Disk(seed, "sda", device="cdrom", format="raw"))
    item = domain("drv-delete", disks=disks)
    hypervised.make(item)
    hypervised.virsh("managedsave", item.domain)
    assert hypervised.change(item, Verb.DELETE) is None
    assert isinstance(hypervised.state(item), Absent)
    hypervised.inside(
        f"test -f {disk}; test -f {seed}; rm -r {FOLDER}; ! ls /var/lib/libvirt/qemu/save | grep drv-delete"
    )


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
    assert PROBE not in hypervised.virsh("list", "--all", "--name")
    assert hypervised.events.empty(), "what salvus tries wakes nobody"


def logs(hypervised: Hypervised) -> set[str]:
    return set(hypervised.inside("ls /var/log/libvirt/qemu").split())


def test_however_often_and_by_however_many_it_is_tried_one_log_is_left(hypervised: Hypervised) -> None:
    before = logs(hypervised) - {f"{PROBE}.log"}
    drivers = [
        LibvirtDriver(str(n), lambda _: hypervised.tunnel.uri, lambda _: None, fence=lambda _: None) for n in range(3)
    ]
    told = set()
    for _ in range(3):
        with ThreadPoolExecutor() as at_once:
            seen = at_once.map(lambda driver: driver.observe([Hypervisor()])[Hypervisor().key].state, drivers)
            told |= {state.facts["domain_type"] if isinstance(state, Present) else str(state) for state in seen}
        for driver in drivers:
            driver.close()
    assert len(told) == 1, told
    assert told <= {"kvm", "qemu"}
    assert logs(hypervised) - before <= {f"{PROBE}.log"}


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
        cmdline=f"{lab.image.cmdline} cloud-init=disabled",
    )
    try:
        hypervised.make(item)
        smaller = replace(item, memory=400 * MEBIBYTE)
        hypervised.make(smaller)
        assert eventually(lambda: hypervised.xml(item).findtext("currentMemory") == str(400 * 1024), 240)
        patient = Patience(answer=5, work=60, farewell=1)
        driver = LibvirtDriver(
            hypervised.host.name,
            lambda _: hypervised.tunnel.uri,
            lambda _: None,
            fence=lambda _: None,
            patience=patient,
        )
        off = replace(smaller, running=False, grace=300)
        (done,) = driver.apply([Change(off, Verb.UPDATE, (), Grade.RESTART)], 1)
        driver.close()
        assert done.error is None
        assert "(shutdown)" in hypervised.virsh("domstate", "--reason", item.domain), "it heard its power button"
    finally:
        hypervised.change(item, Verb.DELETE)
        hypervised.inside(f"rm -r {FOLDER}")
