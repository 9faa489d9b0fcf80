"""The fence with real libvirtds and real controllers: one is paused or loses its way, the other goes on (rule 10)."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.base import Absent, Change, Fenced, Grade, Present, Verb
from drivers.items.domain import Domain
from drivers.libvirt import LibvirtDriver, Patience
from drivers.ssh.fence import session
from lab import Lab, ssh_argv
from tests.lab.fleet import Fleet, blank_image, blank_vm, eventually
from tests.lab.libvirt_host import HELPER, Tunnel, domain

pytestmark = pytest.mark.lab

STATE = "/var/lib/salvus-test-fence"


class Way:
    """To the libvirt of a host: for looking, or for changes under an epoch, as ``controller.connect`` makes them."""

    def __init__(self, lab: Lab, host: str, folder: Path) -> None:
        self._argv = ssh_argv(lab, host)
        self._folder = folder
        self._tunnels: dict[int | None, Tunnel] = {}

    def uri(self, epoch: int | None) -> str:
        if epoch not in self._tunnels:
            command = HELPER if epoch is None else session(HELPER, epoch, STATE, 20)
            self._tunnels[epoch] = Tunnel(self._argv, self._folder / f"socket-{epoch}", command)
        return self._tunnels[epoch].uri

    def fence(self, epoch: int) -> None:
        argv = [*self._argv, session("true", epoch, STATE, 20)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if "fenced" in done.stderr:
            raise Fenced(done.stderr)
        assert done.stderr == ""

    def close(self) -> None:
        for tunnel in self._tunnels.values():
            tunnel.close()


@pytest.fixture
def way(lab: Lab, tmp_path: Path) -> Iterator[Way]:
    with contextlib.closing(Way(lab, "host1", tmp_path)) as made:
        yield made
        subprocess.run([*ssh_argv(lab, "host1"), f"rm -rf {STATE}"], check=True)


def test_a_newer_epoch_ends_the_way_for_changes_and_not_the_one_for_looking(way: Way) -> None:
    lost: list[str] = []
    patience = Patience(answer=10, work=60, farewell=1)
    older, newer = (LibvirtDriver("host1", way.uri, lost.append, fence=way.fence, patience=patience) for _ in range(2))
    one, two = domain("fence-one"), domain("fence-two")

    def change(driver: LibvirtDriver, item: Domain, verb: Verb, epoch: int) -> None:
        way.fence(epoch)
        assert [done.error for done in driver.apply([Change(item, verb, (), Grade.LIVE)], epoch)] == [None]

    try:
        assert isinstance(older.observe([one])[one.key].state, Absent)
        change(older, one, Verb.CREATE, 1)
        change(newer, two, Verb.CREATE, 2)
        # Its fence was asked before it was paused: it is beyond that when it wakes up.
        for _ in range(2):
            with pytest.raises(Fenced):
                older.apply([Change(two, Verb.DELETE, (), Grade.LIVE)], 1)
        seen = older.observe([one, two])
        assert all(isinstance(seen[item.key].state, Present) for item in (one, two))
        assert "" not in lost, "the connection for looking was not ended"
    finally:
        for item in (one, two):
            change(newer, item, Verb.DELETE, 3)
        older.close()
        newer.close()


def stopped(process: subprocess.Popen[bytes]) -> bool:
    return Path("/proc", str(process.pid), "stat").read_text().rpartition(")")[2].split()[0] == "T"


def starts(fleet: Fleet, name: str) -> int:
    """How often libvirt has started the machine: a file that it only appends to."""
    return int(
        fleet.inside("host1", f"grep -c 'starting up libvirt' /var/log/libvirt/qemu/{name}.log || :").strip() or 0
    )


def made(fleet: Fleet) -> list[str]:
    """Every file of salvus on the host: which, and when its name, its content or its attributes were changed last.

    Not those of the fence: whoever wakes up may be given the host again, under a newer epoch.
    """
    fence = "-not -name epoch -not -path '/var/lib/salvus/sessions/*'"
    listing = f"find /var/lib/salvus /etc/libvirt/qemu -type f {fence} -printf '%p %i %s %C@\\n' | sort"
    return fleet.inside("host1", listing).splitlines()


@pytest.mark.parametrize("pause", [0.1, 0.6, 1.5])
def test_a_controller_that_is_paused_while_it_makes_a_machine_writes_nothing_when_it_wakes_up(
    lab: Lab, tmp_path: Path, pause: float
) -> None:
    """SIGSTOP; another one takes over when the leases have run out, and makes one machine, once; SIGCONT."""
    name = f"paused{int(pause * 10)}"
    fleet = Fleet(lab, tmp_path)
    try:
        fleet.write_lab()
        fleet.write("blank", blank_image(tmp_path))
        first = fleet.start()
        fleet.settle("Host/host1", timeout=120)
        before, before_epoch = starts(fleet, name), epoch(fleet)
        fleet.write("vm", blank_vm(name, "host1"))
        assert eventually(lambda: f"VirtualMachine/{name}" in fleet.knowledge().rows), fleet.log()
        time.sleep(pause)
        with contextlib.closing(sqlite3.connect(tmp_path / "store.db", timeout=30)) as store:
            # Not in the middle of writing to the store: on one machine nobody else could use it then.
            store.execute("BEGIN IMMEDIATE")
            first.send_signal(signal.SIGSTOP)
            assert eventually(lambda: stopped(first))
        second = fleet.start("--http", "127.0.0.1:0")
        try:
            assert eventually(lambda: str(second.pid) in fleet.session.controller()), fleet.log()
            assert eventually(lambda: epoch(fleet) > before_epoch), "also where nothing was left to be done"
            fleet.settle(f"VirtualMachine/{name}", timeout=120)
            assert eventually(lambda: fleet.inside("host1", "ls /var/lib/salvus/sessions").split() == epoch(fleet))
            files = made(fleet)
            first.send_signal(signal.SIGCONT)
            time.sleep(5)
            assert made(fleet) == files, fleet.log()
            assert starts(fleet, name) == before + 1
            assert len([file for file in files if f"/volumes/{name}" in file]) == 1, files
            assert not [file for file in files if ".new" in file], "nothing half-made is left"
        finally:
            first.send_signal(signal.SIGCONT)
            second.terminate()
            assert second.wait(60) == 0
        (fleet.manifests / "vm.yaml").unlink()
        assert eventually(lambda: f"VirtualMachine/{name}" not in fleet.knowledge().rows), fleet.log()
    finally:
        fleet.close()


def epoch(fleet: Fleet) -> list[str]:
    """The newest epoch that the host has seen."""
    return fleet.inside("host1", "cat /var/lib/salvus/epoch").split()
