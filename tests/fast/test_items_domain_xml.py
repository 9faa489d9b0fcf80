"""Domain XML: what was written is read back, what is not ours stays, and nothing a user writes becomes an element."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given

from drivers.base import Failed, Grade, Rejected, drift
from drivers.items.domain import MEBIBYTE, OWNER_NAMESPACE, Disk, Domain, Interface, Seen
from drivers.items.domain_xml import definition, parse
from drivers.items.domain_xml_write import create, update
from tests.fast.domains import DOMAIN, ROOT, SEED, domains

# What libvirt 9.0 made of DOMAIN, with a disk, a card, a limit and other metadata that somebody added by hand.
DUMPED = (Path(__file__).parent.parent / "cases" / "domain" / "dumped.xml").read_text()


def changed(field: str, value: object) -> dict[str, Any]:
    return {field: value}


@given(domains())
def test_what_was_written_is_read_back(item: Domain) -> None:
    read = definition(create(item))
    found = Seen(read, None, bool(item.running), bool(item.running))
    assert drift(item.fields(), item.present(found).fields) == ()
    assert parse(create(item)).findtext("name") == item.domain


@given(domains(), domains())
def test_an_update_makes_any_domain_any_other(old: Domain, new: Domain) -> None:
    updated = update(new, create(old))
    found = Seen(definition(updated), None, bool(new.running), bool(new.running))
    assert {one.field for one in drift(new.fields(), new.present(found).fields)} <= {"name"}
    assert parse(updated).findtext("name") == old.domain
    assert parse(updated).findtext("uuid") == old.uuid


@given(domains(), domains())
def test_a_second_update_writes_the_same(old: Domain, new: Domain) -> None:
    once = update(new, create(old))
    assert update(new, once) == once


@pytest.mark.parametrize("field", ["domain", "kernel", "cmdline", "owner_uid"])
def test_a_text_cannot_become_an_element(field: str) -> None:
    evil = "</name><devices><disk type='file'><source file='/etc/shadow'/></disk></devices>&lt;\"'>]]>"
    item = replace(DOMAIN, **changed(field, evil))
    root = parse(create(item))
    assert len(root.findall(".//disk")) == len(DOMAIN.disks)
    assert [one.get("file") for one in root.iterfind(".//source[@file]")] == [ROOT.source, SEED.source]


def test_a_path_cannot_become_an_element() -> None:
    evil = "/x'/></disk><disk type='block'><source dev='/dev/sda'/><target dev='vdz'/></disk>"
    root = parse(
        create(replace(DOMAIN, disks=(Disk(evil, "vda"),), interfaces=(Interface(evil, "52:54:00:00:00:01"),)))
    )
    assert [one.get("file") for one in root.iterfind(".//disk/source")] == [evil]
    assert [one.get("bridge") for one in root.iterfind(".//interface/source")] == [evil]


@pytest.mark.parametrize("bad", ["\0", "\x1b", "\r", "\ufffe", "\ud800"])
@pytest.mark.parametrize("field", ["domain", "cmdline", "disks"])
def test_what_xml_cannot_carry_is_refused(field: str, bad: str) -> None:
    value = (Disk(f"/x{bad}", "vda"),) if field == "disks" else f"a{bad}b"
    item = replace(DOMAIN, **changed(field, value))
    with pytest.raises(Rejected, match=field):
        create(item)


def test_entities_are_refused() -> None:
    with pytest.raises(Failed, match="document type"):
        parse('<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><domain><name>&x;</name></domain>')


@pytest.mark.parametrize("text", ["", "<domain>", "no", "<a/><b/>"])
def test_what_is_not_xml_fails_with_a_sentence(text: str) -> None:
    with pytest.raises(Failed, match="well-formed"):
        parse(text)


def test_a_dump_of_libvirt_gives_no_drift() -> None:
    """libvirt's defaults, its order and whatever was added by hand are no difference (rule 4)."""
    found = Seen(definition(DUMPED), None, True, True)
    fields = {**DOMAIN.fields(), "domain_type": "qemu", "arch": "x86_64"}
    assert drift(fields, DOMAIN.present(found).fields) == ()


def test_what_is_not_ours_survives_an_update() -> None:
    item = replace(DOMAIN, disks=(replace(ROOT, cache="none"),), interfaces=(), vcpus=3, memory=600 * MEBIBYTE)
    before, after = parse(DUMPED), parse(update(item, DUMPED))
    foreign = (
        "devices/disk/target[@dev='vdx']/..",
        "devices/interface/mac[@address='52:54:00:99:99:99']/..",
        "cputune",
        "metadata/*[2]",
        "devices/filesystem",
        "devices/emulator",
    )
    for path in foreign:
        assert [*map(_text, after.iterfind(path))] == [*map(_text, before.iterfind(path))], path
    assert after.findtext("uuid") == before.findtext("uuid")


def _text(element: ElementTree.Element) -> str:
    return ElementTree.tostring(element, encoding="unicode").strip()


def test_addresses_on_the_bus_and_the_machine_version_survive() -> None:
    after = parse(update(replace(DOMAIN, disks=(replace(ROOT, cache="none"), SEED)), DUMPED))
    vda = next(one for one in after.iterfind("devices/disk") if one.find("target[@dev='vda']") is not None)
    address = vda.find("address")
    assert address is not None
    assert address.get("bus") == "0x05"
    machine = after.find("os/type")
    assert machine is not None
    assert machine.get("machine") == "pc-q35-7.2"


def test_removed_devices_of_ours_go_and_others_stay() -> None:
    after = parse(update(replace(DOMAIN, disks=(), interfaces=()), DUMPED))
    assert [one.get("dev") for one in after.iterfind("devices/disk/target")] == ["vdx"]
    assert [one.get("address") for one in after.iterfind("devices/interface/mac")] == ["52:54:00:99:99:99"]


def test_a_disk_of_a_domain_that_was_given_to_salvus_is_not_swapped_by_a_restart() -> None:
    """Its root disk is another file than ours: another machine."""
    unmarked = DUMPED.replace("<alias name='ua-salvus-vda'/>", "")
    item = replace(DOMAIN, disks=(replace(ROOT, source="/srv/ours.qcow2"), SEED))
    found = drift(item.fields(), item.present(Seen(definition(unmarked), None, False, True)).fields)
    assert {one.field for one in found} >= {"disks"}
    assert item.grade(found) is Grade.REPLACE


def test_a_device_that_lost_its_mark_is_taken_back_not_doubled() -> None:
    unmarked = DUMPED.replace("<alias name='ua-salvus-vda'/>", "")
    assert definition(unmarked).disks == (SEED,)
    after = parse(update(DOMAIN, unmarked))
    assert sorted(one.get("dev", "") for one in after.iterfind("devices/disk/target")) == ["sda", "vda", "vdx"]


@pytest.mark.parametrize(
    "listen",
    [
        "<listen type='address' address='0.0.0.0'/>",
        "<listen type='network' network='default'/>",
        "<listen type='address'/>",
    ],
)
def test_vnc_is_on_loopback_only(listen: str) -> None:
    exposed = DUMPED.replace("<listen type='address' address='127.0.0.1'/>", listen)
    exposed = exposed.replace("autoport='yes' listen='127.0.0.1'", "autoport='yes'")
    assert exposed != DUMPED
    assert "listens on" in str(definition(exposed).vnc)
    assert definition(update(DOMAIN, exposed)).vnc is True
    assert definition(update(replace(DOMAIN, vnc=False), exposed)).vnc is False


@pytest.mark.parametrize(
    "mark",
    [
        f'<owner xmlns="{OWNER_NAMESPACE}" uid="x"/>',
        f'<p:owner xmlns:p="{OWNER_NAMESPACE}" uid="x"/>',
        f'<other/><salvus:owner xmlns:salvus="{OWNER_NAMESPACE}" uid="x"/>',
    ],
)
def test_our_mark_is_known_by_its_name_space(mark: str) -> None:
    text = f"<domain><metadata>{mark}</metadata></domain>"
    assert definition(text).owner == "x"
    assert text.count("owner") == update(DOMAIN, text).count("owner")
    assert definition(update(DOMAIN, text)).owner == DOMAIN.owner_uid


@pytest.mark.parametrize("mark", ['<salvus:owner xmlns:salvus="https://other/1" uid="x"/>', '<owner uid="x"/>', ""])
def test_somebody_elses_mark_is_not_ours(mark: str) -> None:
    assert definition(f"<domain><metadata>{mark}</metadata></domain>").owner == ""


def test_spare_ports_and_pcie_root_are_there_for_hot_plug() -> None:
    controllers = parse(create(DOMAIN)).findall("devices/controller[@type='pci']")
    assert [one.get("index") for one in controllers if one.get("model") == "pcie-root"] == ["0"]
    assert sum(one.get("model") == "pcie-root-port" for one in controllers) > 8


def test_the_list_of_single_cpus_goes_when_numbers_change() -> None:
    listed = DUMPED.replace("</vcpu>", "</vcpu><vcpus><vcpu id='0' enabled='yes'/></vcpus>")
    assert parse(update(DOMAIN, listed)).find("vcpus") is None


@pytest.mark.parametrize(("domain_type", "mode"), [("kvm", "host-passthrough"), ("qemu", "maximum")])
def test_the_cpu_follows_the_domain_type(domain_type: str, mode: str) -> None:
    item = replace(DOMAIN, domain_type="kvm" if domain_type == "kvm" else "qemu")
    for text in (create(item), update(item, create(replace(DOMAIN, domain_type="test")))):
        cpu = parse(text).find("cpu")
        assert cpu is not None
        assert cpu.get("mode") == mode
