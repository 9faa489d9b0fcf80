"""The lab with Cassandra: its nodes as a user sees, breaks and mends them, and a fleet whose state is in them."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab as lab_package
from lab import Lab, LabError, cassandra, cgroup
from tests.lab.conftest import NAME
from tests.lab.fleet import SALVUSCTL, Fleet, eventually, resource
from tests.lab.test_lab_command import salvusctl_lab

pytestmark = [pytest.mark.lab, pytest.mark.cassandra]

NODES = ["cassandra1", "cassandra2", "cassandra3"]


@pytest.fixture
def fleet(ha_lab: Lab, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(ha_lab, tmp_path)
    try:
        made.write_lab()
        yield made
    finally:
        made.close()


def states(lab: Lab) -> dict[str, str]:
    document = json.loads(salvusctl_lab(lab, "status", "-o", "json").stdout)
    return {node["name"]: node["state"] for node in document["cassandra"]}


def test_the_nodes_are_in_the_labs_network_and_nowhere_else(ha_lab: Lab) -> None:
    rows = [line.split() for line in salvusctl_lab(ha_lab, "status").stdout.splitlines()]
    assert [row[:3] for row in rows if row[0] in NODES] == [
        [name, f"127.0.0.{number}", "running"] for number, name in enumerate(NODES, 1)
    ]
    inside = Path(f"/run/netns/{ha_lab.namespace}").stat().st_ino
    for node in ha_lab.nodes:
        assert Path(f"/proc/{node.pid}/ns/net").stat().st_ino == inside


def test_up_of_a_running_lab_keeps_its_ring_which_does_not_change_its_size(ha_lab: Lab) -> None:
    assert lab_package.up(ha_lab.name, 3) == ha_lab
    assert lab_package.up(ha_lab.name, 3, nodes=3) == ha_lab
    with pytest.raises(LabError, match="ring of 3 Cassandra nodes, which neither grows nor shrinks"):
        lab_package.up(ha_lab.name, 3, nodes=2)


def test_a_name_that_is_no_node_is_refused(ha_lab: Lab) -> None:
    done = salvusctl_lab(ha_lab, "break", "kill-node", "host1")
    assert done.returncode == 2
    assert "no Cassandra node 'host1'; it has cassandra1, cassandra2, cassandra3" in done.stderr


@pytest.mark.parametrize(
    ("breaking", "undoing", "state"), [("kill-node", "start-node", "stopped"), ("freeze", "thaw", "frozen")]
)
def test_a_fleet_in_the_ring_goes_on_with_two_nodes(fleet: Fleet, breaking: str, undoing: str, state: str) -> None:
    fleet.start()
    fleet.settle(timeout=120)
    broken = salvusctl_lab(fleet.lab, "break", breaking, "cassandra2")
    try:
        assert broken.returncode == 0
        assert f"lab break {undoing} cassandra2 --name {fleet.lab.name}" in broken.stderr
        assert states(fleet.lab) == {"cassandra1": "running", "cassandra2": state, "cassandra3": "running"}
        fleet.write("more", service())
        fleet.settle("Service/hello", timeout=180)
        assert fleet.inside("host3", "cat /etc/hello") == "hi"
        done = fleet.run("get", "all", "-o", "name")
        assert (done.returncode, set(done.stdout.split())) == (0, set(fleet.knowledge().rows))
    finally:
        assert salvusctl_lab(fleet.lab, "break", undoing, "cassandra2").returncode == 0
    assert states(fleet.lab) == dict.fromkeys(NODES, "running")
    assert fleet.stop() == 0


def service() -> dict[str, object]:
    file = {"path": "/etc/hello", "content": "hi"}
    return resource("Service", "hello", {"machines": {"names": ["host3"]}, "files": [file]})


def test_what_a_killed_up_has_started_goes_with_the_next_one() -> None:
    """A lab gets its ring from an `up` that is killed half way: no process is left that nobody knows."""
    name = f"{NAME}-late"
    lab_package.down(name)
    try:
        small = lab_package.up(name, 1)
        argv = [SALVUSCTL, "lab", "up", "--hosts", "1", "--cassandra", "2", "--name", name]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            group = cgroup.group(small.namespace, "cassandra1")
            assert eventually(lambda: bool(group.pids()), 300)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(30)
        left = group.pids()
        assert not lab_package.load(name).nodes
        grown = lab_package.up(name, 1, nodes=1)
        assert left
        assert not {*left} & {*group.pids()}
        assert [node.state for node in grown.nodes] == ["running"]
        cassandra.kill(*grown.node("cassandra1"))
        assert lab_package.status(name).state == "partial"
        assert [node.state for node in lab_package.up(name, 1).nodes] == ["running"]
    finally:
        lab_package.down(name)
    assert not cgroup.hosts(small.namespace)
