"""The packet filter of a host of the lab, over boots: what was confirmed last is there before the network (rule 9)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from drivers.base import Absent, Present
from drivers.items.nft_table import NftTable
from drivers.items.package import Package
from drivers.items.rules import Action, Ports, Protocol, Rule, RuleSet
from lab import Lab, LabError, breakage
from tests.conformance.items import Machine, needed
from tests.lab.first_host import first_host
from tests.lab.fleet import eventually

pytestmark = pytest.mark.lab

OPEN = NftTable(RuleSet((Rule(Action.DENY, "a test", protocol=Protocol.TCP, ports=(Ports(9, 9),)),), (), Action.ALLOW))
SHUT = NftTable(RuleSet())


@pytest.fixture
def machine(lab: Lab) -> Iterator[Machine]:
    """The lab's first host, with nftables; what the tests make there is taken away."""
    machine = first_host(lab)
    machine.mend(Package("nftables"))
    assert machine.see(OPEN) == Absent()
    yield machine
    machine.delete(OPEN)
    assert machine.see(OPEN) == Absent()


def output(machine: Machine, text: str) -> str:
    """What it prints; nothing while the host is just booting."""
    with contextlib.suppress(LabError):
        return machine.run(["sh", "-eu"], text, b"").stdout.decode()
    return ""


def rebooted(lab: Lab, machine: Machine) -> None:
    breakage.reboot(lab, lab.hosts[0])
    up = ("running\n", "degraded\n")
    assert eventually(lambda: output(machine, "systemctl is-system-running --wait || :") in up)


def test_a_boot_brings_what_was_confirmed_before_the_network_is_up(lab: Lab, machine: Machine) -> None:
    machine.mended(OPEN)
    rebooted(lab, machine)
    assert needed(OPEN, machine.see(OPEN)) is None
    after = output(machine, "systemctl show --value -p After network-pre.target")
    assert "salvus-firewall.service" in after.split()


def test_a_boot_within_the_window_brings_what_was_there_before(lab: Lab, machine: Machine) -> None:
    machine.mended(OPEN)
    change = needed(SHUT, machine.see(SHUT))
    assert change is not None
    machine.sh(SHUT.script(change))
    state = machine.see(OPEN)
    assert isinstance(state, Present)
    assert state.fields["trial"] == "pending"
    rebooted(lab, machine)
    assert needed(OPEN, machine.see(OPEN)) is None


def test_the_first_rules_do_not_survive_a_boot_within_the_window(lab: Lab, machine: Machine) -> None:
    change = needed(SHUT, Absent())
    assert change is not None
    machine.sh(SHUT.script(change))
    rebooted(lab, machine)
    assert machine.see(SHUT) == Absent()
