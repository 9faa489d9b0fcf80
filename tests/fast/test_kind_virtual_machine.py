"""``VirtualMachine``: what it is in machine words, what a change disturbs, what is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import yaml

from controller.lower import lower
from drivers.base import Grade, drift
from drivers.items.directory import Directory
from drivers.items.domain import Disk, Domain, Interface
from drivers.items.host_key import HostKey
from drivers.items.image_file import ImageFile
from drivers.items.seed import Seed
from drivers.items.volume import Volume
from resources.base import MOVED_FROM, AnyResource, Invalid, NotYet
from resources.fleet import kinds
from resources.net import derived_mac
from resources.world import Known, World
from tests.fast.manifests import DIGEST, KEY, UID, host, image, items, lowered, problems, service, vm, world

KIND = kinds()["VirtualMachine"]
STORE = "/var/lib/salvus"
NIC = {"name": "eth0", "address": "10.1.1.2/24"}


def made(machine: AnyResource, *others: AnyResource) -> list[Any]:
    """What the machine is on host1."""
    others = others or (host(), image())
    return items(lowered(machine, "host1", world(machine, *others)))


def domain(machine: AnyResource, *others: AnyResource) -> Domain:
    """The domain alone."""
    (found,) = (item for item in made(machine, *others) if isinstance(item, Domain))
    return found


def seed(machine: AnyResource) -> Seed:
    """The seed alone."""
    (found,) = (item for item in made(machine) if isinstance(item, Seed))
    return found


# In machine words.


def test_all_that_a_machine_is_on_its_host() -> None:
    machine = vm(interfaces=[NIC], memory="512Mi", cpu=2, cpuMax=4)
    mac = derived_mac(UID, "eth0")
    base, root = f"{STORE}/images/debian12-{DIGEST[:12]}.qcow2", f"{STORE}/volumes/web01-root.qcow2"
    key, iso = f"{STORE}/seeds/web01.ssh_host_ed25519_key", f"{STORE}/seeds/web01.iso"
    *folders, file, volume, host_key, medium, defined = made(machine)
    assert [folder.path for folder in folders] == [f"{STORE}/{name}" for name in ("images", "volumes", "seeds")]
    assert all(isinstance(folder, Directory) for folder in folders)
    assert file == ImageFile(base, "/srv/debian12.qcow2", DIGEST)
    assert volume == Volume(root, 4 * 2**30, base, "qcow2")
    assert host_key == HostKey(key)
    assert (medium.path, medium.host_key, medium.instance_id, medium.hostname) == (iso, key, UID, "web01")
    assert defined == Domain(
        domain="web01",
        uuid=UID,
        owner_uid=UID,
        running=True,
        vcpus=2,
        vcpus_max=4,
        memory=512 * 2**20,
        memory_max=512 * 2**20,
        domain_type="qemu",
        disks=(Disk(root, "vda"), Disk(iso, "sda", device="cdrom", format="raw", readonly=True)),
        interfaces=(Interface("br0", mac),),
    )


def test_every_item_comes_after_what_it_is_made_of() -> None:
    machine = vm()
    view = world(machine, host(), image())
    order = [w.key for w in lower("host1", [machine], view.fleet, view.known).wanted]
    places = {place.item.key: place for place in lowered(machine, "host1", view)}
    assert set(order) == set(places)
    needs = {key.partition(":")[0]: {k.partition(":")[0] for k in place.after} for key, place in places.items()}
    assert needs == {
        "Directory": set(),
        "ImageFile": {"Directory"},
        "Volume": {"Directory", "ImageFile"},
        "HostKey": {"Directory"},
        "Seed": {"Directory", "HostKey"},
        "Domain": {"ImageFile", "Volume", "Seed"},
    }
    for key, place in places.items():
        assert set(place.after) <= set(places), "nothing waits for what is not there"
        assert all(order.index(before) < order.index(key) for before in place.after)


def test_folders_belong_to_the_host_and_image_files_to_the_image() -> None:
    """So that they stay when the machine goes."""
    owners = {place.item.type(): place.owner for place in lowered(vm(), "host1", world(vm(), host(), image()))}
    assert owners == {
        "Directory": "Host/host1",
        "ImageFile": "Image/debian12",
        "Volume": "",
        "HostKey": "",
        "Seed": "",
        "Domain": "",
    }


def test_host_and_machine_agree_on_the_folders() -> None:
    machine, alpha = vm(), host()
    view = world(machine, alpha, image())
    assert lower("host1", [alpha, machine], view.fleet, view.known).waiting == {}


def test_a_kernel_is_booted_directly() -> None:
    kernel, initrd = ({"source": f"/srv/{name}", "sha256": DIGEST[::-1]} for name in ("vmlinuz", "initrd"))
    direct = image(kernel=kernel, initrd=initrd, cmdline="root=/dev/vda", format="raw")
    files = [item for item in made(vm(), host(), direct) if isinstance(item, ImageFile)]
    assert [file.source for file in files] == ["/srv/debian12.qcow2", "/srv/vmlinuz", "/srv/initrd"]
    found = domain(vm(), host(), direct)
    assert (found.kernel, found.initrd, found.cmdline) == (files[1].path, files[2].path, "root=/dev/vda")
    assert files[0].path.endswith(".raw")
    places = lowered(vm(), "host1", world(vm(), host(), direct))
    assert {file.key for file in files} <= set(places[-1].after)


def test_a_new_version_of_an_image_is_another_file() -> None:
    found = [item for digit in "ab" for item in made(vm(), host(), image(sha256=digit * 64))]
    paths = {item.path for item in found if isinstance(item, ImageFile)}
    assert len(paths) == 2


@pytest.mark.parametrize(("strategy", "running"), [("Always", True), ("Halted", False), ("Manual", None)])
def test_what_runs(strategy: str, running: bool | None) -> None:
    assert domain(vm(runStrategy=strategy)).running is running


@pytest.mark.parametrize(
    ("written", "on_host", "told", "expected"),
    [
        ("auto", "auto", "kvm", "kvm"),
        ("auto", "auto", "qemu", "qemu"),
        ("auto", "qemu", "kvm", "qemu"),
        ("qemu", "kvm", "kvm", "qemu"),
        ("kvm", "auto", "qemu", "kvm"),
    ],
)
def test_how_it_is_run(written: str, on_host: str, told: str, expected: str) -> None:
    machine, alpha = vm(domainType=written), host(hypervisor={"domainType": on_host})
    view = world(machine, alpha, image())
    known = dataclasses.replace(view.known, facts={("Host/host1", "domain_type"): told})
    places = lowered(machine, "host1", World(view.fleet, known))
    assert places[-1].item.fields()["domain_type"] == expected


def test_what_is_written_needs_no_answer_of_the_host() -> None:
    machine = vm(domainType="qemu")
    view = world(machine, host(), image())
    assert lowered(machine, "host1", World(view.fleet, dataclasses.replace(view.known, facts={})))
    with pytest.raises(NotYet, match="domain_type of Host/host1"):
        lowered(vm(), "host1", World(view.fleet, dataclasses.replace(view.known, facts={})))


def test_macs_and_bridges_as_written_or_by_default() -> None:
    alpha = host(hypervisor={"bridge": "lan"})
    nics = [NIC, {"name": "eth1", "bridge": "dmz", "mac": "52:54:00:AB:00:01", "model": "e1000"}]
    assert domain(vm(interfaces=nics), alpha, image()).interfaces == (
        Interface("lan", derived_mac(UID, "eth0")),
        Interface("dmz", "52:54:00:ab:00:01", "e1000"),
    )
    told = json.loads(seed(vm(interfaces=nics)).network_config)["ethernets"]
    assert [told[name]["match"]["macaddress"] for name in ("eth0", "eth1")] == [
        derived_mac(UID, "eth0"),
        "52:54:00:ab:00:01",
    ]


def test_memory_and_disks_are_made_in_whole_mebibytes() -> None:
    volume = next(item for item in made(vm(rootDisk={"size": "3G"})) if isinstance(item, Volume))
    assert volume.size == 2862 * 2**20


def test_a_renamed_machine_keeps_its_disk_its_domain_and_its_name_inside() -> None:
    moved = vm("web03", interfaces=[NIC])
    known = Known(
        allocations={(moved.ref, "host"): "host1", (moved.ref, "instance"): "web01"},
        facts={("Host/host1", "domain_type"): "qemu"},
        uids={moved.ref: UID},
    )
    before = made(vm(interfaces=[NIC]))
    assert items(lowered(moved, "host1", world(moved, host(), image(), known=known))) == before


def test_a_renamed_machine_whose_name_on_the_host_nobody_knows_any_more_may_be_there_by_its_former_one() -> None:
    """A store that was lost: whoever made it under the former name has it still."""
    machine = vm("web01")
    machine = dataclasses.replace(
        machine, metadata=machine.metadata.model_copy(update={"annotations": {MOVED_FROM: "web00"}})
    )
    assert domain(machine, host(), image()).former == "web00"
    known = Known({(machine.ref, "instance"): "web00"}, {("Host/host1", "domain_type"): "qemu"}, {}, {machine.ref: UID})
    (kept,) = (
        item
        for item in items(lowered(machine, "host1", world(machine, host(), image(), known=known)))
        if isinstance(item, Domain)
    )
    assert (kept.domain, kept.former) == ("web00", "")


def test_the_host_name_may_be_written() -> None:
    assert seed(vm(cloudInit={"hostname": "www"})).hostname == "www"


def test_the_controller_is_let_in() -> None:
    machine = vm()
    view = world(machine, host(), image())
    facts = {**view.known.facts, ("Controller/self", "ssh_public_keys"): KEY}
    places = lowered(machine, "host1", World(view.fleet, dataclasses.replace(view.known, facts=facts)))
    (found,) = (place.item for place in places if isinstance(place.item, Seed))
    assert yaml.safe_load(found.user_data)["users"][0]["ssh_authorized_keys"] == [KEY]


def test_a_host_that_is_no_hypervisor_any_more_or_gone() -> None:
    with pytest.raises(Invalid, match="Host/host1 is no hypervisor any more"):
        made(vm(), host(hypervisor=None), image())
    with pytest.raises(Invalid, match="host1 is not in the manifests any more"):
        made(vm(), host("host2"), image())
    with pytest.raises(Invalid, match="Image debian12 is not in the manifests any more"):
        made(vm(), host(), image("debian13"))


def test_what_is_not_decided_yet_is_waited_for() -> None:
    view = world(vm(), host(), image())
    for known in (dataclasses.replace(view.known, allocations={}), dataclasses.replace(view.known, uids={})):
        with pytest.raises(NotYet):
            lowered(vm(), "host1", World(view.fleet, known))


def test_the_ceiling_is_the_manifests() -> None:
    assert KIND.ceiling(vm()) is Grade.RESTART
    assert KIND.ceiling(vm(disruption={"ceiling": "live"})) is Grade.LIVE


# What is refused.


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"memory": "32Mi"}, "spec.memory: no machine boots with 32Mi; write at least 64Mi"),
        (
            {"memory": "2Gi", "memoryMax": "1Gi"},
            "spec.memoryMax: is less than spec.memory, 2Gi; write at least that, or leave it out",
        ),
        ({"placement": {"host": "geom"}}, "spec.placement.host: Host/geom is no hypervisor; add spec.hypervisor to it"),
        (
            {"placement": {"host": "host1", "selector": {}}},
            "spec.placement.selector: spec.placement.host is written too",
        ),
        ({"interfaces": [NIC | {"dhcp": True}]}, "spec.interfaces.0.dhcp: the interface has an address too"),
        ({"interfaces": [{"name": "a", "gateway": "10.0.0.1"}]}, "spec.interfaces.0.gateway: needs a static address"),
        (
            {"interfaces": [NIC | {"gateway": "10.2.0.1"}]},
            "spec.interfaces.0.gateway: 10.2.0.1 is not in the network of the address, 10.1.1.0/24",
        ),
        ({"interfaces": [NIC | {"gateway": "10.1.1.2"}]}, "spec.interfaces.0.gateway: is the machine's own address"),
        (
            {
                "interfaces": [
                    NIC | {"gateway": "10.1.1.1"},
                    {"name": "eth1", "address": "10.2.0.2/24", "gateway": "10.2.0.1"},
                ]
            },
            "spec.interfaces.1.gateway: eth0 has a gateway already; a machine has one way out",
        ),
    ],
)
def test_contradictions(spec: dict[str, Any], problem: str) -> None:
    (found,) = problems(vm(**spec), host(), image(), host("geom", hypervisor=None))
    assert found.startswith(f"VirtualMachine/web01 {problem}")


def test_ways_out_of_both_internets() -> None:
    nics = [NIC | {"gateway": "10.1.1.1"}, {"name": "eth1", "address": "fd00::2/64", "gateway": "fd00::1"}]
    assert problems(vm(interfaces=nics), host(), image()) == []


def test_services_may_be_inside() -> None:
    assert problems(vm(), host(), image(), service(machines={"names": ["web01"]})) == []


# What a change disturbs.


def cost(before: dict[str, Any], after: dict[str, Any], *, other_image: bool = False) -> Grade:
    """The grade of the change between two manifests of a machine that runs."""
    old = {item.key: item.fields() for item in made(vm(**before))}
    images = (host(), image(sha256="b" * 64)) if other_image else ()
    grades: list[Grade] = [
        item.grade(differences)
        for item in made(vm(**after), *images)
        if (differences := drift(item.fields(), old.get(item.key, item.fields())))
    ]
    return max(grades)


BIG = {"cpu": 2, "cpuMax": 4, "memory": "1Gi", "memoryMax": "2Gi", "interfaces": [NIC]}


@pytest.mark.parametrize(
    ("change", "grade"),
    [
        ({"cpu": 4}, Grade.LIVE),
        ({"cpu": 1}, Grade.RESTART),
        ({"cpuMax": 8}, Grade.RESTART),
        ({"memory": "2Gi"}, Grade.LIVE),
        ({"memory": "512Mi"}, Grade.LIVE),
        ({"memoryMax": "3Gi"}, Grade.RESTART),
        ({"rootDisk": {"size": "8Gi"}}, Grade.RESTART),
        ({"rootDisk": {"size": "4Gi", "cache": "none"}}, Grade.RESTART),
        ({"interfaces": []}, Grade.RESTART),
        ({"graphics": {"vnc": False}}, Grade.RESTART),
        ({"domainType": "kvm"}, Grade.RESTART),
        ({"firmware": "efi"}, Grade.RESTART),
        ({"runStrategy": "Halted"}, Grade.RESTART),
        ({"cloudInit": {"runcmd": ["true"]}}, Grade.LIVE),
    ],
)
def test_what_a_change_disturbs(change: dict[str, Any], grade: Grade) -> None:
    """The table in docs/kinds/virtual-machine.md."""
    assert cost(BIG, BIG | change) is grade


def test_another_image_is_another_disk() -> None:
    assert cost(BIG, BIG, other_image=True) is Grade.REPLACE
