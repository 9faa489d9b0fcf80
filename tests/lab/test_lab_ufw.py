"""ufw on a host of the lab, with a real systemd: put back by a timer, there after a boot, and away again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from drivers.base import Absent, Present
from drivers.items.package import Package
from drivers.items.rules import Action, Ports, Protocol, Rule, RuleSet
from drivers.items.ufw_rules import UfwRules
from lab import Lab, breakage, hosts
from tests.conformance.items import Machine, needed
from tests.lab.first_host import first_host
from tests.lab.fleet import eventually

pytestmark = pytest.mark.lab

OPEN = UfwRules(RuleSet((Rule(Action.DENY, "a test", protocol=Protocol.TCP, ports=(Ports(9, 9),)),), (), Action.ALLOW))
SHUT = UfwRules(RuleSet())


@pytest.fixture
def machine(lab: Lab) -> Iterator[Machine]:
    """The lab's first host, with ufw."""
    machine = first_host(lab)
    machine.mend(Package("ufw"))
    assert machine.see(OPEN) == Absent()
    yield machine
    assert machine.delete(OPEN).returncode == 0
    assert machine.see(OPEN) == Absent()
    assert machine.delete(Package("ufw")).returncode == 0


def test_a_timer_puts_back_what_nobody_confirms(machine: Machine) -> None:
    change = needed(SHUT, Absent())
    assert change is not None
    machine.sh(f"SALVUS_WINDOW=8\n{SHUT.script(change)}")
    assert eventually(lambda: machine.see(SHUT) == Absent(), 20)
    machine.sh("! iptables -S | grep ufw; ! ip6tables -S | grep -e ufw -e DROP")


def test_a_boot_brings_what_was_confirmed_last(lab: Lab, machine: Machine) -> None:
    machine.mended(OPEN)
    change = needed(SHUT, machine.see(SHUT))
    assert change is not None
    machine.sh(SHUT.script(change))
    state = machine.see(OPEN)
    assert isinstance(state, Present)
    assert state.fields["trial"] == "pending"
    breakage.reboot(lab, lab.hosts[0])
    hosts.wait(lab, lab.hosts[0])
    assert eventually(lambda: needed(OPEN, machine.see(OPEN)) is None, 20)
    machine.sh("iptables -S | grep -e '-P INPUT ACCEPT' && ufw status | grep 'salvus: a test'")
