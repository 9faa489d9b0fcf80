"""``VirtualMachine``: where it is put, and how it is reached."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from controller.allocate import allocate
from resources.base import AnyResource, Choice, NotYet
from resources.fleet import Fleet, kinds, machine_kind
from resources.world import Known, World
from tests.fast.manifests import KEY, host, image, vm, world

KIND = kinds()["VirtualMachine"]
NIC = {"name": "eth0", "address": "10.1.1.2/24"}


def choices(machine: AnyResource, *others: AnyResource, known: Known | None = None) -> dict[str, Choice]:
    """What is to be decided for it."""
    view = World(Fleet.of_resources([machine, *others]), known or Known())
    return {choice.what: choice for choice in KIND.choices(machine, view)}


# Where it is.


def test_it_is_on_the_host_that_was_chosen() -> None:
    assert list(KIND.machines(vm(), world(vm()))) == ["host1"]
    with pytest.raises(NotYet):
        list(KIND.machines(vm(), world(vm(), known=Known())))


def test_any_hypervisor_that_takes_machines_may_be_chosen() -> None:
    hosts = [host("a"), host("b", schedulable=False), host("c", hypervisor=None), host("d")]
    assert choices(vm(), *hosts)["host"].allowed == ("a", "d")


def test_labels_narrow_the_choice() -> None:
    hosts = [host("a", {"site": "x"}), host("b", {"site": "y"}), host("c", {"site": "y"}, schedulable=False)]
    machine = vm(placement={"selector": {"matchLabels": {"site": "y"}}})
    assert choices(machine, *hosts)["host"].allowed == ("b",)


def test_a_host_that_is_named_need_not_take_others() -> None:
    hosts = [host("a"), host("b", schedulable=False)]
    assert choices(vm(placement={"host": "b"}), *hosts)["host"].allowed == ("b",)


def test_without_a_host_that_fits_it_says_what_it_takes() -> None:
    (waiting,) = allocate(Fleet.of_resources([vm(), host(hypervisor=None)]), Known())[1].values()
    assert waiting.message.startswith("no Host fits: it needs spec.hypervisor and schedulable: true")


def test_a_chosen_host_that_takes_no_new_machines_keeps_its_own() -> None:
    known = Known(allocations={("VirtualMachine/web01", "host"): "b"})
    fleet = Fleet.of_resources([vm(), host("a"), host("b", schedulable=False)])
    decisions, waiting = allocate(fleet, known)
    assert [d.what for d in decisions] == ["instance"]
    assert waiting == {}


def test_a_chosen_host_that_is_no_longer_allowed_is_kept_and_that_is_said() -> None:
    known = Known(allocations={("VirtualMachine/web01", "host"): "b", ("VirtualMachine/web01", "instance"): "web01"})
    fleet = Fleet.of_resources([vm(placement={"host": "a"}), host("a"), host("b")])
    decisions, waiting = allocate(fleet, known)
    assert decisions == ()
    assert "its host stays b" in waiting["VirtualMachine/web01"].message


def test_a_chosen_host_whose_labels_no_longer_fit_is_kept_and_that_is_said() -> None:
    known = Known(allocations={("VirtualMachine/web01", "host"): "a", ("VirtualMachine/web01", "instance"): "web01"})
    machine = vm(placement={"selector": {"matchLabels": {"site": "y"}}})
    _, waiting = allocate(Fleet.of_resources([machine, host("a", {"site": "x"}), host("b", {"site": "y"})]), known)
    assert "stays a, although the manifest now allows: b" in waiting["VirtualMachine/web01"].message


def test_a_renamed_machine_keeps_its_name_on_the_host_and_waits_for_nothing() -> None:
    known = Known(
        allocations={("VirtualMachine/web03", "host"): "host1", ("VirtualMachine/web03", "instance"): "web01"}
    )
    assert allocate(Fleet.of_resources([vm("web03"), host()]), known) == ((), {})


def test_machines_spread() -> None:
    fleet = Fleet.of_resources([host("a"), host("b"), *(vm(f"web{n}") for n in range(6))])
    decisions, _ = allocate(fleet, Known())
    assert sorted(d.value for d in decisions if d.what == "host") == ["a"] * 3 + ["b"] * 3


def test_the_name_on_the_host_is_the_resources_unless_a_renamed_machine_has_it() -> None:
    known = Known(allocations={("VirtualMachine/web03", "instance"): "web01"})
    decisions, _ = allocate(Fleet.of_resources([host(), vm("web01")]), known)
    assert {d.what: d.value for d in decisions}["instance"] == "web01-2"
    long = "w" * 63
    assert all(len(name) <= 63 for name in choices(vm(long), host())["instance"].allowed)
    assert len(set(choices(vm(long), host())["instance"].allowed)) == 9


# How it is reached.


def reached(machine: AnyResource) -> Any:
    view = world(machine, host(), image())
    known = dataclasses.replace(view.known, facts={(machine.ref, "ssh_host_key"): KEY})
    return machine_kind(machine).target(machine, World(view.fleet, known))


def test_it_is_reached_at_its_first_static_address_with_the_key_that_was_made_with_it() -> None:
    nics = [{"name": "eth0", "dhcp": True}, {"name": "eth1", "address": "10.1.1.2/24"}]
    target = reached(vm(interfaces=nics, ssh={"via": "host1", "port": 23}))
    assert (target.addresses, target.host_keys, target.via, target.port) == (("10.1.1.2",), (KEY,), "host1", 23)
    assert target.user == "root"


def test_the_user_is_that_of_cloud_init_unless_another_is_written() -> None:
    assert reached(vm(interfaces=[NIC], cloudInit={"user": "debian"})).user == "debian"
    assert reached(vm(interfaces=[NIC], cloudInit={"user": "debian"}, ssh={"user": "admin"})).user == "admin"


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        (vm(interfaces=[NIC], runStrategy="Halted"), "is off, as spec.runStrategy says"),
        (vm(interfaces=[{"name": "eth0", "dhcp": True}]), "has no static address"),
    ],
)
def test_what_cannot_be_reached_says_why(machine: AnyResource, why: str) -> None:
    with pytest.raises(NotYet, match=why):
        reached(machine)


def test_before_its_key_is_made_it_is_waited_for() -> None:
    machine = vm(interfaces=[NIC])
    with pytest.raises(NotYet, match="ssh_host_key of VirtualMachine/web01"):
        machine_kind(machine).target(machine, world(machine))


@pytest.mark.parametrize(
    ("machine", "answers"),
    [
        (vm(interfaces=[NIC]), True),
        (vm(), False),
        (vm(interfaces=[NIC], runStrategy="Halted"), False),
        (vm(interfaces=[NIC], runStrategy="Manual"), False),
    ],
)
def test_only_one_that_is_to_run_and_has_an_address_is_expected_to_answer(machine: AnyResource, answers: bool) -> None:
    assert machine_kind(machine).answers(machine) is answers


def test_libvirt_is_not_asked_inside() -> None:
    assert not machine_kind(vm()).hypervisor(vm())
