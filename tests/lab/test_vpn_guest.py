"""C1: a private network of three real hosts and a real guest, from nothing and after reboots, with each driver.

The guest joins by itself, before its services start.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab import Lab, breakage, hosts, pin
from tests.lab.fleet import Fleet, eventually, resource
from tests.lab.networks import DRIVERS, HOSTS, address, all_reach_all, inside, network
from tests.lab.test_lab_machines import ssh

# A guest under emulation boots, and installs packages: on a busy machine that takes minutes.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

EVERYBODY = (*HOSTS, "guest")
ADDRESS = "198.18.1.27"
GUEST = resource(
    "VirtualMachine",
    "guest",
    {
        "image": "debian12",
        "cpu": 2,
        "memory": "512Mi",
        "rootDisk": {"size": "2Gi"},
        "interfaces": [{"name": "eth0", "address": f"{ADDRESS}/15"}],
        "placement": {"host": "host3"},
    },
    labels={"role": "web"},
)
# It listens on an address that is there only when the network is.
PAGE = resource(
    "Service",
    "page",
    {
        "machines": {"names": ["guest"]},
        "command": ["/usr/bin/python3", "-m", "http.server", "--bind", "guest", "8080"],
    },
)


@pytest.fixture(scope="module")
def machines(vpn_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts in no network, and a controller."""
    made = Fleet(vpn_lab, tmp_path_factory.mktemp("guest"))
    try:
        made.write_lab()
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module", params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def fleet(machines: Fleet, driver: str) -> Iterator[Fleet]:
    """A network of them, from nothing, with a guest that comes up beside it and a service in that: all at once."""
    machines.write("guest", GUEST, PAGE)
    machines.write("vpn", everybody(driver))
    refs = ("VPN/net", "VirtualMachine/guest", "Service/page")
    assert eventually(lambda: all(ref in machines.knowledge().rows for ref in refs)), machines.log()
    machines.settle(*refs, timeout=800)
    pin(machines.lab, ADDRESS, machines.knowledge().known.facts["VirtualMachine/guest", "ssh_host_key"])
    yield machines
    machines.write("guest", GUEST)
    (machines.manifests / "vpn.yaml").unlink()
    gone = {"VPN/net", "Service/page"}
    assert eventually(lambda: gone.isdisjoint(machines.knowledge().rows), 300), machines.log()


def everybody(driver: str) -> dict[str, Any]:
    return network(driver, *EVERYBODY, members={"selector": {}}, aliases="role")


def page(fleet: Fleet) -> str:
    """What the guest's service answers host2, at its address in the network."""
    get = f"import urllib.request as u; print(u.urlopen('http://{address(fleet, 'guest')}:8080', timeout=10).status)"
    return fleet.inside("host2", f'python3 -c "{get}" 2>&1 || :')


def test_all_reach_all_by_address_and_by_name(fleet: Fleet, driver: str) -> None:
    all_reach_all(fleet, EVERYBODY)
    assert address(fleet, "guest") in fleet.inside("host1", "getent hosts web")
    assert eventually(lambda: page(fleet) == "200\n", 180), page(fleet)
    assert eventually(lambda: fleet.run("diff").returncode == 0, 180), "the second pass has nothing to do"
    # An emulated guest on a busy machine does not always answer in time.
    assert eventually(lambda: fleet.run("vpn", "status").returncode == 0, 180), fleet.run("vpn", "status").stdout
    shown = fleet.run("vpn", "status", "-o", "json")
    (told,) = json.loads(shown.stdout)["networks"]
    assert sorted(node["node"] for node in told["nodes"]) == sorted(EVERYBODY)
    for node in told["nodes"]:
        assert sorted((*(one["node"] for one in node["reaches"]), node["node"])) == sorted(EVERYBODY)
        for reach in node["reaches"]:
            assert reach["milliseconds"] is not None
            assert (reach["handshake"] is None, reach["endpoint"] is None) == (driver == "tinc", driver == "tinc")
    if driver == "wireguard":
        assert "wireguard" in inside(fleet, "guest", "ip -d link show vpn-net"), "the kernel's own"
        assert "wireguard-go" in fleet.inside("host2", "ps -e -o args")


def test_whoever_reboots_comes_back_into_the_network_without_a_controller(fleet: Fleet) -> None:
    """With its host the guest goes down and comes up; meanwhile the hub does, too."""
    fleet.kill()
    before = inside(fleet, "guest", "cat /proc/sys/kernel/random/boot_id")
    for host in ("host3", "host2", "host1"):
        breakage.reboot(fleet.lab, fleet.host(host))
        hosts.wait(fleet.lab, fleet.host(host))
        all_reach_all(fleet, HOSTS)
    assert eventually(lambda: ssh(fleet.lab, ADDRESS, "true").returncode == 0, 400), "it is up"
    all_reach_all(fleet, EVERYBODY, timeout=180)
    assert inside(fleet, "guest", "cat /proc/sys/kernel/random/boot_id") != before
    assert eventually(lambda: page(fleet) == "200\n", 180), page(fleet)
    fleet.start()
    fleet.settle(timeout=300)
