"""``Service``: what it is in machine words, what it waits for, what is refused."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from controller.lower import lower
from drivers.base import Grade, Item
from drivers.items.directory import Directory
from drivers.items.file import File, Trial
from drivers.items.package import Package
from drivers.items.systemd_unit import SystemdUnit, Watched
from resources.base import AnyResource, Invalid, NotYet
from resources.fleet import kinds
from resources.world import Known, World, selected
from tests.fast.manifests import host, items, lowered, problems, refused, service, vm, world

KIND = kinds()["Service"]
UNIT = "[Service]\nExecStart=/bin/true\n"


def on_host1(resource: AnyResource, *others: AnyResource, known: Known | None = None) -> list[Item]:
    """What the service is on host1."""
    return items(lowered(resource, "host1", world(resource, host(), *others, known=known)))


def unit_of(resource: AnyResource) -> SystemdUnit:
    """The unit alone."""
    (found,) = (item for item in on_host1(resource) if isinstance(item, SystemdUnit))
    return found


def content(template: str, *others: AnyResource, known: Known | None = None) -> str:
    """What a template gives on host1."""
    files = [{"path": "/etc/x", "template": template}]
    (found,) = on_host1(service(files=files), *others, known=known)
    assert isinstance(found, File)
    return found.content


def seen(path: str, text: str) -> Watched:
    return Watched(path, hashlib.sha256(text.encode()).hexdigest())


# In machine words.


def test_all_that_a_service_is() -> None:
    hub = service(
        packages=["nginx", "curl"],
        directories=[{"path": "/srv/hub", "mode": "0750", "owner": "www-data", "group": "adm"}],
        files=[{"path": "/srv/hub/a", "content": "é\n", "mode": "0600", "owner": "www-data"}],
        unitName="nginx.service",
    )
    assert on_host1(hub) == [
        Package("nginx"),
        Package("curl"),
        Directory("/srv/hub", "0750", "www-data", "adm"),
        File("/srv/hub/a", "é\n", "0600", "www-data", "root"),
        SystemdUnit("nginx.service", True, True, (seen("/srv/hub/a", "é\n"),), ()),
    ]


def test_a_command_becomes_a_unit_of_its_own() -> None:
    command = {"command": "/bin/echo 'a b' $HOME", "user": "www-data", "workingDirectory": "/srv"}
    file, unit = on_host1(service(**command, environment={"A": "1"}))
    assert isinstance(file, File)
    assert file.path == "/etc/systemd/system/salvus-hub.service"
    lines = file.content.splitlines()
    assert {'ExecStart=/bin/echo "a b" $$HOME', "User=www-data", "WorkingDirectory=/srv", "Environment=A=1"} <= set(
        lines
    )
    assert unit == SystemdUnit("salvus-hub.service", True, True, (seen(file.path, file.content),))


def test_a_command_may_be_a_list_of_words() -> None:
    words = service(command=["/bin/echo", "a b"])
    assert on_host1(words) == on_host1(service(command="/bin/echo 'a b'"))


def test_a_unit_as_written() -> None:
    path = "/etc/systemd/system/hub.service"
    assert on_host1(service(unit=UNIT)) == [
        File(path, UNIT),
        SystemdUnit("hub.service", True, True, (seen(path, UNIT),)),
    ]


def test_what_a_changed_file_does_to_the_unit() -> None:
    ways = ("restart", "reload", "none")
    files = [{"path": f"/etc/{way}", "content": way, "onChange": way} for way in ways]
    unit = unit_of(service(files=files, unitName="x.service"))
    assert unit.restart_on == (seen("/etc/restart", "restart"),)
    assert unit.reload_on == (seen("/etc/reload", "reload"),)


@pytest.mark.parametrize("folder", ["/etc/ssh/sshd_config.d", "/etc/network", "/etc/systemd/network", "/etc/netplan"])
def test_what_decides_who_logs_in_is_changed_on_trial(folder: str) -> None:
    def tried(**spec: Any) -> Trial | None:
        (file,) = (item for item in on_host1(service(**spec)) if isinstance(item, File))
        return file.trial

    def files(how: str = "restart", path: str = f"{folder}/a") -> list[dict[str, str]]:
        return [{"path": path, "content": "a", "onChange": how}]

    assert tried(files=files(), unitName="x.service") == Trial("x.service", "restart")
    assert tried(files=files("reload"), unitName="x.service") == Trial("x.service", "reload")
    assert tried(files=files("none"), unitName="x.service") == Trial()
    assert tried(files=files()) == Trial()
    assert tried(files=files(), unitName="x.service", state="stopped") == Trial()
    assert tried(files=files(path=f"/srv{folder}/a"), unitName="x.service") is None


def test_stopped_and_not_enabled() -> None:
    unit = unit_of(service(unitName="x.timer", state="stopped", enabled=False))
    assert (unit.running, unit.enabled) == (False, False)


def test_only_packages() -> None:
    assert on_host1(service(packages=["tinc"])) == [Package("tinc")]


def test_an_empty_file() -> None:
    assert on_host1(service(files=[{"path": "/etc/x", "content": ""}])) == [File("/etc/x", "")]


def test_files_come_after_packages_and_their_directories_and_the_unit_after_all() -> None:
    hub = service(
        packages=["nginx"],
        directories=[{"path": "/srv/hub/in"}, {"path": "/srv/hub"}],
        files=[{"path": "/srv/hub/in/a", "content": "a"}, {"path": "/etc/b", "content": "b"}],
        command="/bin/true",
    )
    view = world(hub, host())
    order = [w.key for w in lower("host1", [hub], view.fleet, view.known).wanted]
    assert order.index("Package:nginx") == 0
    assert order.index("Directory:/srv/hub") < order.index("Directory:/srv/hub/in") < order.index("File:/srv/hub/in/a")
    assert order[-1] == "SystemdUnit:salvus-hub.service"
    after = {place.item.key: place.after for place in lowered(hub, "host1", view)}
    assert after["File:/etc/b"] == ("Package:nginx",), "nothing waits for what it does not need"
    assert set(after[order[-1]]) == set(order[:-1])


# Where it is.


def test_it_is_on_the_machines_it_names_or_selects_of_any_kind() -> None:
    fleet = (host("a", {"role": "web"}), host("b"), vm("c", {"role": "web"}))
    named = service(machines={"names": ["b", "a"]})
    selected = service(machines={"selector": {"matchLabels": {"role": "web"}}})
    assert list(KIND.machines(named, world(*fleet))) == ["a", "b"]
    assert list(KIND.machines(selected, world(*fleet))) == ["a", "c"]
    assert list(KIND.machines(service(), world(*fleet))) == ["a", "b", "c"]


def test_the_same_inside_a_machine() -> None:
    hub = service(packages=["nginx"], command="/bin/true")
    view = world(hub, host(), vm())
    assert items(lowered(hub, "web01", view)) == items(lowered(hub, "host1", view))


# Templates.


def test_a_template_over_the_fleet() -> None:
    fleet = (
        vm("db2", {"role": "db"}, interfaces=[{"name": "eth0", "address": "10.0.0.2/24"}]),
        host("db1", {"role": "db"}),
    )
    text = (
        '{% for m in members("role=db") %}\nserver {{ m.name }} {{ m.address }};\n{% endfor %}\non {{ machine.name }}\n'
    )
    address = fleet[1].spec.address
    assert content(text, *fleet) == f"server db1 {address};\nserver db2 10.0.0.2;\non host1\n"


def test_the_machines_of_another_service() -> None:
    other = service("db", machines={"names": ["host2"]})
    assert content('{% for m in service("db").machines %}{{ m }},{% endfor %}', host("host2"), other) == "host2,"


def test_a_fact_is_waited_for() -> None:
    text = '{{ fact("VirtualMachine/web01", "ssh_host_key") }}'
    with pytest.raises(NotYet, match="ssh_host_key of VirtualMachine/web01"):
        content(text)
    known = Known(facts={("VirtualMachine/web01", "ssh_host_key"): "ssh-ed25519 A"})
    assert content(text, known=known) == "ssh-ed25519 A"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a\n{{ service('nope').machines }}", r"/etc/x: line 2 of the template: there is no Service named 'nope'"),
        ("{{ members('role=dhcp')[0].address }}", "VirtualMachine/v has no static address"),
        ("{{ machine.nope }}", "nope"),
        ("{{ 1 / 0 }}", "/etc/x: line 1 of the template: division by zero"),
        ("{{ machine.__class__.__mro__ }}", "unsafe"),
        ("{% for a in range(99999999) %}a{% endfor %}", "/etc/x"),
    ],
)
def test_what_cannot_be_rendered_says_where(text: str, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        content(text, vm("v", {"role": "dhcp"}))


def test_a_service_that_a_template_names_with_a_text_must_be_there() -> None:
    """What it works out is known only when it is rendered."""
    template = "{{ service('hab').machines }}{{ service(machine.name) }}{{ service('h' ~ 'ub') }}"
    hub = service(files=[{"path": "/etc/x", "content": "x"}, {"path": "/etc/y", "template": template}])
    (problem,) = problems(hub, host())
    assert "spec.files.1.template" in problem
    assert "there is no Service named 'hab'; did you mean 'hub'" in problem


def test_what_a_template_read_is_noted() -> None:
    hub = service(
        files=[{"path": "/etc/x", "template": "{% for m in members('role=db') %}{{ m.address }}{% endfor %}"}]
    )
    view = world(hub, host(), host("db1", {"role": "db"}))
    lowered(hub, "host1", view)
    kinds = {kind for read in view.reads if (found := selected(read)) is not None for kind in found[:1]}
    assert kinds == {"Host", "VirtualMachine"}


# What it needs.


@pytest.mark.parametrize(
    ("need", "ref", "condition"),
    [
        ({"service": "db"}, "Service/db", "Ready"),
        ({"virtualMachine": "web01"}, "VirtualMachine/web01", "Ready"),
        ({"host": "host1", "condition": "Synced"}, "Host/host1", "Synced"),
    ],
)
def test_it_waits_for_what_it_needs(need: dict[str, str], ref: str, condition: str) -> None:
    hub = service(needs=[need], packages=["nginx"])
    view = world(hub, host())
    with pytest.raises(NotYet, match=f"waits for {ref} to be {condition}") as waiting:
        lowered(hub, "host1", view)
    assert waiting.value.reason == "WaitsForDependency"
    assert f"condition/{ref}/{condition}" in view.reads, "it is lowered again when that changes"
    met = Known(conditions={(ref, condition): "True"})
    assert lowered(hub, "host1", World(view.fleet, met))


def test_services_that_need_each_other_in_a_circle() -> None:
    def needs(name: str, *others: str) -> AnyResource:
        return service(name, needs=[{"service": other} for other in others])

    assert problems(needs("a", "b", "c"), needs("b", "c"), needs("c"), host()) == []
    (found,) = problems(needs("a", "x", "b"), needs("b", "c"), needs("c", "a"), needs("x"), host())
    assert found == "Service/a spec.needs.1.service: the services need each other in a circle: a → b → c → a"
    assert len(problems(needs("a", "b"), needs("b", "a"), needs("c", "d"), needs("d", "c"), host())) == 2


# What is refused.


@pytest.mark.parametrize(
    ("one", "two", "what"),
    [
        (
            {"files": [{"path": "/etc/x", "content": "a"}]},
            {"files": [{"path": "/etc/x", "content": "a"}]},
            "spec.files.0.path: Service/a describes the path /etc/x on host1 already",
        ),
        (
            {"files": [{"path": "/etc/x", "content": "a"}]},
            {"directories": [{"path": "/etc/x"}]},
            "spec.directories.0.path: Service/a describes the path /etc/x on host1 already",
        ),
        (
            {"directories": [{"path": "/srv", "mode": "0755"}]},
            {"directories": [{"path": "/srv", "mode": "0700"}]},
            "spec.directories.0.path: Service/a describes the path /srv on host1 already",
        ),
        (
            {"unitName": "nginx.service"},
            {"unitName": "nginx.service", "state": "stopped"},
            "spec.unitName: Service/a describes the unit nginx.service on host1 already",
        ),
        (
            {"command": "/bin/true"},
            {"files": [{"path": "/etc/systemd/system/salvus-a.service", "content": "a"}]},
            "spec.files.0.path: Service/a describes the path /etc/systemd/system/salvus-a.service on host1 already",
        ),
    ],
)
def test_two_services_that_describe_one_thing_on_one_machine(one: Any, two: Any, what: str) -> None:
    names = {"names": ["host1"]}
    (found,) = problems(service("a", **one, machines=names), service("b", **two), host(), host("host2"))
    assert found == f"Service/b {what}; only one may, or leave it to one of them"
    assert problems(service("a", **one, machines=names), service("b", **two, machines={"names": []}), host()) == []


def test_two_services_may_share_a_directory_and_packages() -> None:
    shared = {"directories": [{"path": "/srv"}], "packages": ["curl"]}
    a, b = service("a", **shared), service("b", **shared)
    assert problems(a, b, host()) == []
    view = world(a, b, host())
    assert lower("host1", [a, b], view.fleet, view.known).waiting == {}


@pytest.mark.parametrize(
    "spec",
    [
        {"machines": {"names": ["../x"]}},
        {"packages": ["-y"]},
        {"packages": ["nginx; reboot"]},
        {"unitName": "--now.service"},
        {"files": [{"path": "/etc/a\nb", "content": ""}]},
        {"files": [{"path": "/etc/a", "content": "\0"}]},
        {"files": [{"path": "/etc/a", "content": "", "owner": "a b"}]},
        {"command": "sh -c true"},
        {"command": ["/bin/a", "\0"]},
        {"environment": {"A B": ""}, "command": "/bin/a"},
        {"state": "Running"},
    ],
)
def test_nothing_gets_through_that_a_shell_or_systemd_would_read(spec: dict[str, Any]) -> None:
    assert refused("Service", {"machines": {"names": ["a"]}} | spec)


def test_the_ceiling_is_the_manifests() -> None:
    assert KIND.ceiling(service()) is Grade.RESTART
    assert KIND.ceiling(service(disruption={"ceiling": "reload"})) is Grade.RELOAD
