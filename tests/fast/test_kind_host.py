"""``Host``."""

from __future__ import annotations

from drivers.base import SshTarget
from drivers.items.directory import Directory
from drivers.items.hypervisor import Hypervisor
from drivers.items.trash import Trash
from resources.fleet import kinds, machine_kind
from tests.fast.manifests import KEY, host, items, lowered, problems, refused, world

BASE = {"address": "192.0.2.1", "ssh": {"hostKeys": [KEY]}}


def test_a_hypervisor_has_libvirt_and_its_folders_and_the_one_around_them_is_not_its_own() -> None:
    alpha = host("alpha", hypervisor={"storagePath": "/srv/vms", "trash": {"keep": "2h"}})
    placed = lowered(alpha, "alpha", world(alpha))
    folders = ["/srv/vms/images", "/srv/vms/volumes", "/srv/vms/seeds"]
    made = [Directory(folder, mode="0711") for folder in folders]
    assert items(placed) == [Hypervisor(), *made, Trash("/srv/vms/trash", 7200)]


def test_the_trash_is_not_emptied_at_once() -> None:
    assert "must be at least 1h" in refused("Host", BASE | {"hypervisor": {"trash": {"keep": "5m"}}})


def test_a_host_that_is_no_hypervisor_has_nothing_of_its_own() -> None:
    geom = host("geom", hypervisor=None)
    assert lowered(geom, "geom", world(geom)) == []
    assert not machine_kind(geom).hypervisor(geom)
    assert machine_kind(host()).hypervisor(host())


def test_a_host_is_on_itself() -> None:
    alpha = host("alpha")
    assert list(kinds()["Host"].machines(alpha, world(alpha))) == ["alpha"]


def test_it_is_reached_with_its_pinned_keys_and_without_their_comments() -> None:
    access = {"user": "operator", "port": 2222, "via": "gate", "connectTimeout": "3s", "identityFiles": ["~/id"]}
    alpha = host("alpha", address="Alpha.Example.org", ssh=access | {"hostKeys": [f"{KEY} root@alpha"]})
    assert machine_kind(alpha).target(alpha, world(alpha)) == SshTarget(
        addresses=("alpha.example.org",),
        port=2222,
        user="operator",
        host_keys=(KEY,),
        identity_files=("~/id",),
        via="gate",
        connect_timeout=3,
    )


def test_it_is_root_at_port_22_by_default() -> None:
    target = machine_kind(host()).target(host(), world(host()))
    assert (target.user, target.port, target.via, target.identity_files) == ("root", 22, "", ())


def test_a_host_key_must_be_pinned() -> None:
    assert "ssh.hostKeys: Field required" in refused("Host", BASE | {"ssh": {}})
    assert "at least 1 item" in refused("Host", BASE | {"ssh": {"hostKeys": []}})


def test_jumps_must_end_somewhere() -> None:
    one = host("one", ssh={"hostKeys": [KEY], "via": "two"})
    two = host("two", ssh={"hostKeys": [KEY], "via": "one"})
    assert problems(one, host("two")) == []
    assert problems(one) == ["Host/one spec.ssh.via: there is no Host or VirtualMachine named 'two'; there are: one"]
    assert problems(one, two) == [
        "Host/one spec.ssh.via: the jumps go in a circle: one → two → one",
        "Host/two spec.ssh.via: the jumps go in a circle: two → one → two",
    ]
