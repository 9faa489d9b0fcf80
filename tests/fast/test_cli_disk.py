"""disk: what is in the trash, and what keeps a disk from being taken out of it; on simulated machines."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from controller.holder import Holder
from controller.leases import Leases
from controller.members import shard_of
from controller.session import Settings, open_session
from controller.store.records import WORLD, Pause
from drivers.base import Unknown
from drivers.items.domain import Domain
from salvusctl.disk import TrashOutput
from salvusctl.exits import Code
from tests.fast.cli import HOST, IMAGE, OTHER, Cli, cli
from tests.fast.domains import DOMAIN

__all__ = ["cli"]
TRASH = "Trash:/var/lib/salvus/trash"
DISK, KEY = "web01-root.qcow2", "web01.ssh_host_ed25519_key"
HYPERVISORS = [text.rstrip() + "\n  hypervisor: {}\n" for text in (HOST, OTHER)]
VM = """
apiVersion: salv.us/v1
kind: VirtualMachine
metadata: {name: web01}
spec: {image: debian12, rootDisk: {size: 2Gi}, runStrategy: Halted}
"""


@pytest.fixture
def fleet(cli: Cli) -> Cli:
    """Two hypervisors, brought about."""
    cli("apply", "-f", cli.write(*HYPERVISORS, IMAGE))
    return cli


def at(ago: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - ago))


def threw(cli: Cli, *names: str, host: str = "beta") -> None:
    """These are in the host's trash."""
    cli.machines.machine(host).alter(TRASH, kept=tuple(f"{name} 4096" for name in sorted(names)))


def undeleted(cli: Cli, host: str = "beta") -> list[str]:
    return sorted(key for key in cli.machines.machine(host).items if key.startswith("Undeleted:"))


def test_the_trash_is_listed_with_what_it_is_and_until_when(fleet: Cli) -> None:
    assert fleet("disk", "trash").err == "nothing is in the trash\n"
    old, new = f"{at(86400)}-{DISK}", f"{at(60)}-{KEY}"
    threw(fleet, old, new)
    lines = fleet("disk", "trash").lines
    assert lines[0] == "HOST MACHINE NAME DELETED GOES ON DISK"
    assert [line.split()[:3] for line in lines[1:]] == [["beta", "web01", old], ["beta", "-", new]]
    found = TrashOutput.model_validate_json(fleet("disk", "trash", "-o", "json").out)
    assert [(one.host, one.machine, one.name) for one in found.items] == [("beta", "web01", old), ("beta", "", new)]
    assert TrashOutput.model_validate_json(fleet("disk", "trash", "alpha", "-o", "json").out).items == ()
    fleet("disk", "trash", "gamma", code=Code.DIFFERENT)
    fleet.machines.machine("alpha").faults.unreachable = True
    answer = fleet("disk", "trash", code=Code.DIFFERENT)
    assert old in answer.out
    assert "alpha cannot be asked: " in answer.err


def test_a_disk_comes_back_with_the_key_that_went_with_it_and_the_machine_is_placed_there(fleet: Cli) -> None:
    older, newer = at(7200), at(60)
    names = [f"{t}-{n}" for t in (older, newer) for n in (DISK, KEY, f"{KEY}.pub")]
    threw(fleet, *names)
    answer = fleet("disk", "undelete", "web01")
    assert answer.out == (
        "/var/lib/salvus/seeds/web01.ssh_host_ed25519_key.pub is back on beta\n"
        "/var/lib/salvus/seeds/web01.ssh_host_ed25519_key is back on beta\n"
        "/var/lib/salvus/volumes/web01-root.qcow2 is back on beta\n"
    )
    log = fleet.machines.machine("beta").log
    assert log[-1].key.endswith(DISK), "last, as without it nothing is taken for done"
    assert all(one.epoch for one in log), "under the machine's fence"
    assert "Undeleted" in fleet("events", "-o", "json").out
    fleet("apply", "--no-wait", "-f", fleet.write(*HYPERVISORS, IMAGE, VM))
    fleet("apply", "-f", fleet.write(*HYPERVISORS, IMAGE, VM), "--timeout", "10", code=None)
    assert "Domain:web01" in fleet.machines.machine("beta").items
    assert "Domain:web01" not in fleet.machines.machine("alpha").items


def test_with_a_controller_running_it_is_done_under_its_epoch_and_its_leases_stay(fleet: Cli) -> None:
    threw(fleet, f"{at(60)}-{DISK}")
    with open_session(Settings(fleet.store)) as session:
        leases = Leases(session.ledger.store, Holder.this_process())
        leases.tick()
        fleet("disk", "undelete", "VirtualMachine/web01")
        assert fleet.machines.machine("beta").log[-1].epoch == leases.held()[shard_of("beta")]
        assert leases.lease(shard_of("beta")).valid()


def test_of_several_hosts_with_a_disk_one_has_to_be_named(fleet: Cli) -> None:
    for host in ("alpha", "beta"):
        threw(fleet, f"{at(60)}-{DISK}", host=host)
    assert "alpha, beta have a disk of VirtualMachine/web01" in fleet("disk", "undelete", "web01", code=Code.INPUT).err
    fleet("disk", "undelete", "web01", "--host", "alpha")
    assert undeleted(fleet, "beta") == []
    assert len(undeleted(fleet, "alpha")) == 1


def test_an_older_disk_is_named(fleet: Cli) -> None:
    old = f"{at(9000)}-{DISK}"
    threw(fleet, old, f"{at(60)}-{DISK}")
    assert "no disk of VirtualMachine/web01 is in the trash as 7-x" in (
        fleet("disk", "undelete", "web01", "--name", "7-x", code=Code.DIFFERENT).err
    )
    fleet("disk", "undelete", "web01", "--name", old)
    assert len(undeleted(fleet)) == 1


def guarded(cli: Cli, why: str, code: Code | None = None) -> None:
    answer = cli("disk", "undelete", "web01", code=code)
    assert answer.code
    assert why in " ".join(answer.err.split())
    assert undeleted(cli) == []


def test_nothing_is_taken_out_while_the_machine_is_there_or_a_domain_is_or_nobody_knows(fleet: Cli) -> None:
    guarded(fleet, "no disk of VirtualMachine/web01 is in the trash")
    threw(fleet, f"{at(60)}-{DISK}")
    beta = fleet.machines.machine("beta")
    beta.put(replace(DOMAIN, domain="web01"))
    guarded(fleet, "beta has a domain web01; nothing was taken out of the trash")
    beta.remove("Domain:web01")
    beta.faults.lies[Domain("web01", "", "", None, 1, 1, 0, 0, "qemu").key] = Unknown("libvirtd is down")
    guarded(fleet, "beta does not tell whether web01 is there: libvirtd is down")
    pause = Pause(WORLD, "alice@desk", "fire", time.time())
    with open_session(Settings(fleet.store)) as session:
        session.ledger.put_pause(pause)
    guarded(fleet, "the world is stopped")
    with open_session(Settings(fleet.store)) as session:
        session.ledger.end_pause(WORLD)
    fleet("apply", "--no-wait", "-f", fleet.write(*HYPERVISORS, IMAGE, VM))
    guarded(fleet, "VirtualMachine/web01 is there; nothing was taken out of the trash")
    fleet("disk", "undelete", "Host/alpha", code=Code.INPUT)


def test_what_the_machine_refuses_is_said(fleet: Cli) -> None:
    threw(fleet, f"{at(60)}-{DISK}")
    fleet.machines.machine("beta").epoch = 10**15
    guarded(fleet, "epoch")
