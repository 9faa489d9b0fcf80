"""A guest joins a private network by itself, before its services start, with the kernel's own WireGuard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Lab, pin
from tests.lab.fleet import Fleet, eventually, resource
from tests.lab.test_lab_machines import ssh

# A guest under emulation boots, and installs packages: on a busy machine that takes minutes.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

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
        "placement": {"host": "host1"},
    },
    labels={"role": "web"},
)
VPN = resource(
    "VPN",
    "net",
    {
        "driver": "wireguard",
        "cidr": "10.78.0.0/24",
        "members": {"selector": {}},
        "hubs": {"names": ["host1"]},
        "aliases": "role",
    },
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
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts and a guest that is in no network when it comes up: all at once, from nothing."""
    made = Fleet(lab, tmp_path_factory.mktemp("guest"))
    try:
        made.write_lab()
        made.write("all", GUEST, VPN, PAGE)
        made.start()
        assert eventually(lambda: "Service/page" in made.knowledge().rows), made.log()
        made.settle("VPN/net", "Service/page", "VirtualMachine/guest", timeout=600)
        pin(lab, ADDRESS, made.knowledge().known.facts["VirtualMachine/guest", "ssh_host_key"])
        yield made
        (made.manifests / "all.yaml").unlink()
        assert eventually(lambda: "VPN/net" not in made.knowledge().rows, 120), made.log()
    finally:
        made.raze("host1")


def in_guest(fleet: Fleet, command: str) -> str:
    done = ssh(fleet.lab, ADDRESS, command, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_reaches_all_and_all_reach_it(fleet: Fleet) -> None:
    for host in ("host1", "host2"):
        assert eventually(lambda host=host: in_guest(fleet, f"ping -q -c 1 -W 2 {host} >/dev/null; echo $?") == "0\n")  # type: ignore[misc]
        assert eventually(lambda host=host: fleet.inside(host, "ping -q -c 1 -W 2 guest >/dev/null; echo $?") == "0\n")  # type: ignore[misc]
        assert "10.78.0." in fleet.inside(host, "getent hosts web")


def test_it_has_the_kernels_wireguard_and_the_hosts_have_not(fleet: Fleet) -> None:
    assert "wireguard" in in_guest(fleet, "ip -d link show vpn-net")
    assert "wireguard-go" in fleet.inside("host2", "ps -e -o args")


def test_its_service_listens_in_the_network(fleet: Fleet) -> None:
    address = fleet.knowledge().known.allocations["VPN/net", "address/guest"]
    page = f"import urllib.request as u; print(u.urlopen('http://{address}:8080', timeout=10).status)"
    assert eventually(lambda: fleet.inside("host2", f'python3 -c "{page}" || true') == "200\n")
