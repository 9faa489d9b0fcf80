"""A virtual machine is deleted by mistake, and had back: its data, its key, its addresses; a controller runs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab import Lab, pin
from tests.lab.fleet import Fleet, eventually, resource
from tests.lab.test_lab_machines import ssh

pytestmark = pytest.mark.lab
ADDRESS = "198.18.1.31"
REF = "VirtualMachine/precious"
DISK = "/var/lib/salvus/volumes/precious-root.qcow2"


def precious() -> dict[str, object]:
    spec = {
        "image": "debian12",
        "memory": "512Mi",
        "rootDisk": {"size": "2Gi"},
        "interfaces": [{"name": "eth0", "address": f"{ADDRESS}/15"}],
        "terminationGracePeriod": "20s",
    }
    return resource("VirtualMachine", "precious", spec)


@pytest.fixture
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(lab, tmp_path_factory.mktemp("undelete"))
    try:
        made.write_lab()
        made.write("precious", precious())
        made.start()
        yield made
    finally:
        made.raze("host1", "host2")


def in_guest(fleet: Fleet, command: str) -> str:
    """What the command says; cloud-init restarts sshd while a guest boots."""
    said = [""]

    def done() -> bool:
        tried = ssh(fleet.lab, ADDRESS, command, timeout=60)
        said[0] = tried.stdout if tried.returncode == 0 else tried.stderr
        return tried.returncode == 0

    assert eventually(done, timeout=300), said[0]
    return said[0]


def test_a_deleted_machine_comes_back_with_its_data_its_key_and_its_addresses(fleet: Fleet) -> None:
    assert eventually(lambda: REF in fleet.knowledge().rows), fleet.log()
    fleet.settle(timeout=600)
    before = fleet.knowledge()
    key, host = before.known.facts[REF, "ssh_host_key"], before.known.allocations[REF, "host"]
    pin(fleet.lab, ADDRESS, key)
    in_guest(fleet, "echo precious >/root/data && sync")
    mac = in_guest(fleet, "cat /sys/class/net/e*/address")

    (fleet.manifests / "precious.yaml").unlink()
    assert eventually(lambda: REF not in fleet.knowledge().rows, timeout=180), fleet.log()
    assert "precious" not in fleet.domains(host)
    listed = json.loads(fleet.run("disk", "trash", "-o", "json").stdout)
    (found,) = [one for one in listed["items"] if one["machine"] == "precious"]
    assert found["host"] == host

    back = fleet.run("disk", "undelete", REF)
    assert back.returncode == 0, back.stderr
    assert f"{DISK} is back on {host}" in back.stdout
    again = fleet.run("disk", "undelete", REF)
    assert again.returncode == 1, "it is not there any more"

    fleet.write("precious", precious())
    assert eventually(lambda: REF in fleet.knowledge().rows), fleet.log()
    fleet.settle(timeout=600)
    assert in_guest(fleet, "cat /root/data") == "precious\n"
    assert in_guest(fleet, "cat /sys/class/net/e*/address") == mac
    assert fleet.knowledge().known.facts[REF, "ssh_host_key"] == key

    (fleet.manifests / "precious.yaml").unlink()
    assert eventually(lambda: REF not in fleet.knowledge().rows, timeout=180), fleet.log()
    assert fleet.inside(host, f"ls {DISK} 2>&1 || true").startswith("ls: "), "it is salvus's own, and goes again"
