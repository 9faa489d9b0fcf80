"""Domains made, mended and ended by LibvirtDriver, and those that it must not touch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import libvirt
import pytest

from drivers.base import Absent, Change, Fenced, Grade, Present, Rejected, Verb, drift
from drivers.items.domain import MEBIBYTE, Disk
from drivers.items.domain_xml import definition
from drivers.items.domain_xml_write import create
from drivers.libvirt import LibvirtDriver, power
from drivers.libvirt.calls import Calls
from drivers.libvirt.look import glance
from drivers.libvirt.session import Session
from tests.conformance.libvirt_machine import PATIENCE, URI, World
from tests.fast.domains import DOMAIN

pytestmark = pytest.mark.conformance


def inactive(domain: Any) -> str:
    return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


# --- making, mending, ending


def test_a_domain_is_made_and_runs_and_starts_with_its_host(world: World, admin: Any) -> None:
    assert isinstance(world.state(DOMAIN), Absent)
    assert world.change(DOMAIN) is None
    domain = admin.lookupByName("web")
    assert domain.isActive()
    assert domain.autostart()
    assert domain.UUIDString() == DOMAIN.uuid
    assert world.in_sync(DOMAIN)


@pytest.mark.parametrize("running", [False, None])
def test_a_domain_that_shall_not_run_is_only_defined(world: World, admin: Any, running: bool | None) -> None:
    item = replace(DOMAIN, running=running)
    assert world.change(item) is None
    assert not admin.lookupByName("web").isActive()
    assert world.in_sync(item)


def test_defined_and_killed_before_it_was_started(world: World, admin: Any) -> None:
    admin.defineXML(create(DOMAIN))
    assert world.drift(DOMAIN) == {"running", "autostart"}
    assert world.change(DOMAIN) is None
    assert world.in_sync(DOMAIN)


def test_a_creation_that_was_made_already_does_no_harm(world: World, admin: Any) -> None:
    world.change(DOMAIN)
    before = admin.lookupByName("web").ID()
    assert world.change(DOMAIN, Verb.CREATE) is None
    assert admin.lookupByName("web").ID() == before


def test_a_killed_domain_is_started(world: World, admin: Any) -> None:
    world.change(DOMAIN)
    admin.lookupByName("web").destroy()
    assert world.drift(DOMAIN) == {"running"}
    assert world.change(DOMAIN) is None
    assert world.in_sync(DOMAIN)


def test_a_paused_domain_is_resumed_not_restarted(world: World, admin: Any) -> None:
    world.change(DOMAIN)
    domain = admin.lookupByName("web")
    domain.suspend()
    state = world.state(DOMAIN)
    assert isinstance(state, Present)
    assert state.fields["running"] == "paused"
    assert world.change(DOMAIN) is None
    assert world.in_sync(DOMAIN)
    assert admin.lookupByName("web").ID() == domain.ID()


def test_a_domain_is_shut_down_and_does_not_start_with_its_host(world: World, admin: Any) -> None:
    world.change(DOMAIN)
    off = replace(DOMAIN, running=False)
    assert world.change(off) is None
    domain = admin.lookupByName("web")
    assert domain.state() == [libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN]
    assert not domain.autostart()
    assert world.in_sync(off)


def test_a_paused_domain_is_shut_down_too(world: World, admin: Any) -> None:
    world.change(DOMAIN)
    admin.lookupByName("web").suspend()
    assert world.change(replace(DOMAIN, running=False)) is None
    assert admin.lookupByName("web").state()[1] == libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN


def test_what_is_live_changes_while_it_runs(world: World, admin: Any) -> None:
    world.change(DOMAIN)
    before = admin.lookupByName("web").ID()
    bigger = replace(DOMAIN, vcpus=3, memory=700 * MEBIBYTE)
    assert world.change(bigger) is None
    domain = admin.lookupByName("web")
    assert domain.ID() == before
    live = definition(domain.XMLDesc())
    assert (live.vcpus, live.memory) == (3, 700 * MEBIBYTE)
    assert world.in_sync(bigger)


def test_a_restart_gives_the_instance_its_definition_and_keeps_who_it_is(world: World, admin: Any) -> None:
    world.change(DOMAIN)
    before = admin.lookupByName("web").ID()
    other = replace(DOMAIN, kernel="/boot/other", uuid="00000000-0000-4000-8000-000000000001")
    assert world.change(other) is None
    domain = admin.lookupByName("web")
    assert domain.ID() != before
    assert domain.UUIDString() == DOMAIN.uuid
    assert definition(domain.XMLDesc()).kernel == "/boot/other"
    assert world.in_sync(other)


def test_no_more_is_disturbed_than_the_plan_says(world: World, admin: Any) -> None:
    world.change(DOMAIN)
    before = admin.lookupByName("web").ID()
    other = replace(DOMAIN, kernel="/boot/other")
    assert world.change(other, grade=Grade.LIVE) is None
    assert admin.lookupByName("web").ID() == before
    assert world.drift(other) == {"fresh"}


def test_defined_anew_and_killed_before_the_restart(world: World, admin: Any) -> None:
    world.change(DOMAIN)
    other = replace(DOMAIN, kernel="/boot/other")
    world.change(other, grade=Grade.LIVE)
    assert world.change(other) is None
    assert world.in_sync(other)


def test_a_domain_run_by_hand_gets_its_definition_and_is_left_alone(world: World, admin: Any) -> None:
    world.change(replace(DOMAIN, running=None))
    admin.lookupByName("web").create()
    before = admin.lookupByName("web").ID()
    bigger = replace(DOMAIN, running=None, vcpus=8, vcpus_max=8, memory=2048 * MEBIBYTE, memory_max=2048 * MEBIBYTE)
    assert world.change(bigger) is None
    assert admin.lookupByName("web").ID() == before
    assert world.in_sync(bigger)


def test_a_domain_without_a_definition_gets_one(world: World, admin: Any) -> None:
    """Somebody undefined it while it ran: with its host's next start it would be gone."""
    admin.createXML(create(DOMAIN))
    assert "persistent" in world.drift(DOMAIN)
    assert world.change(DOMAIN) is None
    assert admin.lookupByName("web").isPersistent()
    assert world.in_sync(DOMAIN)


@pytest.mark.parametrize("running", [True, False])
def test_a_deleted_domain_is_gone_and_its_neighbours_are_not(world: World, admin: Any, running: bool) -> None:
    item, neighbour = replace(DOMAIN, running=running), replace(DOMAIN, domain="web2", uuid="", owner_uid="another")
    admin.defineXML(create(replace(neighbour, uuid="00000000-0000-4000-8000-000000000002")))
    world.change(item)
    assert world.change(item, Verb.DELETE) is None
    assert isinstance(world.state(item), Absent)
    assert world.change(item, Verb.DELETE) is None, "deleted already"
    assert {domain.name() for domain in admin.listAllDomains()} == {"test", "web2"}


def test_what_xml_cannot_carry_is_refused_before_anything_is_made(world: World, admin: Any) -> None:
    assert isinstance(world.change(replace(DOMAIN, cmdline="a\0b")), Rejected)
    assert [domain.name() for domain in admin.listAllDomains()] == ["test"]


def test_after_a_failure_the_rest_is_not_tried(world: World, admin: Any) -> None:
    items = (replace(DOMAIN, cmdline="\0"), replace(DOMAIN, domain="web2"))
    done = world.driver.apply([Change(item, Verb.CREATE, (), Grade.LIVE) for item in items], 1)
    assert len(done) == 1
    assert isinstance(done[0].error, Rejected)
    assert isinstance(world.state(items[1]), Absent)


# --- what is not ours (rule 6)


@pytest.fixture(params=["", "00000000-0000-4000-8000-0000000000ff"], ids=["hand-made", "another resource's"])
def foreign(admin: Any, request: pytest.FixtureRequest) -> Any:
    item = replace(DOMAIN, owner_uid=request.param, disks=(Disk("/srv/theirs.qcow2", "vda"),), vcpus=1)
    text = create(item)
    if not request.param:
        start, end = text.index("<metadata>"), text.index("</metadata>")
        text = text[:start] + text[end + len("</metadata>") :]
    domain = admin.defineXML(text)
    domain.create()
    return domain


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize("running", [True, False, None])
def test_a_domain_of_the_same_name_is_never_touched(
    world: World, foreign: Any, verb: Verb, running: bool | None
) -> None:
    item, before = replace(DOMAIN, running=running), (inactive(foreign), foreign.XMLDesc(), foreign.ID())
    assert "owner" in world.drift(item)
    refusal = world.change(item, verb, Grade.DATA_LOSS)
    assert isinstance(refusal, Rejected)
    assert "left alone" in str(refusal)
    assert "rename" in refusal.hint
    assert (inactive(foreign), foreign.XMLDesc(), foreign.ID()) == before
    assert not foreign.autostart()


def test_a_domain_can_be_given_to_salvus_as_the_hint_says(world: World, foreign: Any) -> None:
    refusal = world.change(DOMAIN)
    assert refusal is not None
    mark = refusal.hint[refusal.hint.index("<owner") : refusal.hint.index("/>") + 2]
    assert "https://salv.us/xmlns/1 --key salvus" in refusal.hint
    foreign.setMetadata(
        libvirt.VIR_DOMAIN_METADATA_ELEMENT, mark, "salvus", "https://salv.us/xmlns/1", libvirt.VIR_DOMAIN_AFFECT_CONFIG
    )
    state = world.state(DOMAIN)
    assert isinstance(state, Present)
    found = drift(DOMAIN.fields(), state.fields)
    assert "owner" not in {one.field for one in found}
    assert DOMAIN.grade(found) is Grade.REPLACE, "its disk is another one: no restart swaps it"


def test_a_domain_of_the_former_name_counts_as_this_one_until_there_is_one(world: World, admin: Any) -> None:
    assert world.change(DOMAIN) is None
    renamed = replace(DOMAIN, domain="web01", former="web")
    state, alike = world.state(renamed), world.state(replace(renamed, former="other"))
    assert isinstance(state, Present)
    assert "former name, web" in str(renamed.refusal(state.fields))
    assert isinstance(alike, Absent)
    assert isinstance(world.change(renamed, Verb.UPDATE), Rejected)
    assert [domain.name() for domain in admin.listAllDomains() if domain.name() != "test"] == ["web"]


def test_somebody_else_was_faster_in_starting_it(admin: Any) -> None:
    session = Session(admin, Calls("host1"), PATIENCE)
    domain = admin.defineXML(create(DOMAIN))
    before = glance(session, "web")
    assert before is not None
    domain.create()
    power.start(session, before)
    assert domain.isActive()


@pytest.mark.parametrize("hears", [True, False], ids=["shut down", "deaf"])
@pytest.mark.parametrize("verb", [Verb.UPDATE, Verb.DELETE])
def test_who_lost_the_machine_while_a_guest_was_waited_for_neither_destroys_nor_starts_it(
    world: World, admin: Any, monkeypatch: pytest.MonkeyPatch, verb: Verb, hears: bool
) -> None:
    """Rule 10: the lease may run out during the grace of a restart."""

    def fence(epoch: int) -> None:
        raise Fenced(f"newer than {epoch}")

    item = replace(DOMAIN, grace=1)
    assert world.change(item) is None
    before = admin.lookupByName("web").ID()
    if not hears:
        monkeypatch.setattr(libvirt.virDomain, "shutdown", lambda domain: 0)
    driver = LibvirtDriver("host1", lambda _: URI, lambda _: None, fence=fence, patience=PATIENCE)
    try:
        with pytest.raises(Fenced, match="newer than 7"):
            driver.apply([Change(replace(item, kernel="/boot/other"), verb, (), Grade.RESTART)], 7)
    finally:
        driver.close()
    assert admin.lookupByName("web").isActive() != hears
    assert hears or admin.lookupByName("web").ID() == before
