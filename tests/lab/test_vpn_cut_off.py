"""What could cut the controller off a machine, with VPNs on real hosts: nobody is locked out for good."""

from __future__ import annotations

import base64
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.members import FLEET, Register
from controller.store.base import Table
from lab import Lab, breakage, hosts
from tests.lab.fleet import Fleet, eventually, free_port, resource
from tests.lab.networks import (
    DRIVERS,
    HOSTS,
    Pings,
    address,
    all_reach_all,
    change,
    journals,
    network,
    started,
    write,
)

pytestmark = pytest.mark.lab

WINDOW = 30
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 22), 2)"
COUNTERS = ("salvus_pass_seconds_count", "salvus_driver_writes_total")


@pytest.fixture(scope="module")
def fleet(cut_off_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(cut_off_lab, tmp_path_factory.mktemp("cutoff"))
    try:
        document = yaml.safe_load(made.config.read_text())
        document["contexts"][0]["budgets"] = {"maxDeletes": 1000, "maxDisruption": 1000}
        made.config.write_text(yaml.safe_dump(document))
        made.write_lab()
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def no_network(fleet: Fleet) -> Iterator[None]:
    """Every test begins and ends with a controller, and with no VPN."""
    yield
    if fleet.process is None:
        fleet.start()
    (fleet.manifests / "ssh.yaml").unlink(missing_ok=True)
    write(fleet)
    fleet.settle(timeout=90)


# The dead-man switch

# The controller's own address is in it: whoever has it answers the controller into the VPN.
GOOD, NONSENSE = "10.80.0.{}", "198.18.0.{}"
# The first in a VPN to change it, and its driver.
LONE = {"host1": "tinc", "host2": "wireguard", "host3": "tinc", "host4": "wireguard"}
SSHD = "/etc/ssh/sshd_config.d/salvus-test.conf"


def lone(network_of: str) -> Iterator[dict[str, Any]]:
    """A VPN for each of these hosts; in the first one there is another one, too, which is to wait."""
    for host, driver in LONE.items():
        members = (host, "host5") if host == "host1" else (host,)
        yield network(driver, *members, name=host, cidr=network_of.format("0/29"))
        for number, one in enumerate(members, 5):
            spec = {"vpn": host, "machine": one, "address": network_of.format(number)}
            yield resource("VPNNode", f"{one}-in-{host}", spec)


def sshd(listen: str) -> dict[str, Any]:
    file = {"path": SSHD, "content": f"ListenAddress {listen}\n", "onChange": "reload"}
    return resource("Service", "ssh", {"machines": {"names": ["host5"]}, "unitName": "ssh.service", "files": [file]})


def start_files(fleet: Fleet, host: str) -> str:
    """What the VPN of the host reads at its start, and the address that it has."""
    name = "host1" if host == "host5" else host
    folder = f"/etc/{LONE[name]}/{name}"
    files = f"cat {folder}/tinc-up {folder}/hosts/{host} {folder}/run 2>/dev/null || :"
    return fleet.inside(host, f"{files}; ip -4 -o address show dev vpn-{name} | grep -o 'inet [^ ]*' || :")


def armed(fleet: Fleet, host: str) -> bool:
    return fleet.inside(host, "cat /var/lib/salvus/undo/*/armed 2>/dev/null || :") != ""


def logs_in(fleet: Fleet, host: str) -> bool:
    """Whether a new connection comes about from where the controller is."""
    command = ["nsenter", f"--net=/run/netns/{fleet.lab.namespace}", "python3", "-c", CONNECT, fleet.host(host).address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def who(true: Callable[[str], bool]) -> list[str]:
    """Of whom it is so, all asked at once."""
    with ThreadPoolExecutor() as pool:
        return [host for host, it_is in zip(LONE, pool.map(true, LONE), strict=True) if it_is]


def test_a_network_that_cuts_the_controller_off_goes_back_by_itself(fleet: Fleet) -> None:
    """C4 with both drivers: the controller killed right after the change, sshd restarted, a boot within the window; and
    with nothing of it. That also of a file that sshd reads, on a host of its own.
    """
    change(fleet, *lone(GOOD))
    before = {host: start_files(fleet, host) for host in (*LONE, "host5")}
    assert all("inet 10.80.0." in files for files in before.values())
    fleet.write("vpn", *lone(NONSENSE))
    lets_in, on_trial = partial(logs_in, fleet), partial(armed, fleet)
    assert eventually(lambda: who(on_trial) == list(LONE) and not who(lets_in), 40), fleet.log()
    fleet.kill()
    since = time.monotonic()
    assert who(on_trial) == list(LONE)
    for host in ("host1", "host2"):
        fleet.inside(host, "systemctl restart ssh")
    for host in ("host3", "host4"):
        breakage.reboot(fleet.lab, fleet.host(host))
    for host in ("host3", "host4"):
        hosts.wait(fleet.lab, fleet.host(host))
        # The timer went with the boot.
        assert eventually(partial(as_before, fleet, before, host), 10), start_files(fleet, host)
    assert eventually(lambda: who(lets_in) == list(LONE), WINDOW + 10)
    assert time.monotonic() - since < WINDOW + 20
    assert eventually(lambda: all(as_before(fleet, before, host) for host in before), 10)

    # Nobody knows whether it was good: it is tried again, once.
    fleet.write("ssh", sshd("127.0.0.1"))
    fleet.start()
    refs = [*(f"VPN/{host}" for host in LONE), "Service/ssh"]
    assert eventually(lambda: "Service/ssh" in fleet.knowledge().rows), fleet.log()
    assert eventually(lambda: {fleet.ready(ref).reason for ref in refs} == {"RolledBack"}, WINDOW + 60), fleet.unready()
    assert fleet.inside("host5", f"ls {SSHD} 2>/dev/null || :") == ""
    (held,) = fleet.knowledge().statuses["VPN/host1"]["host5"].conditions
    assert (held.reason, start_files(fleet, "host5")) == ("HeldByRollout", before["host5"])
    since_when = [started(fleet, LONE[host], host, host) for host in LONE]
    passes, writes = (fleet.metric(name) for name in COUNTERS)
    assert eventually(lambda: fleet.metric(COUNTERS[0]) >= passes + 10)
    assert fleet.metric(COUNTERS[1]) == writes, "the same is not tried again"
    assert [started(fleet, LONE[host], host, host) for host in LONE] == since_when
    assert who(lets_in) == list(LONE)
    assert lets_in("host5")

    corrected = time.monotonic()
    fleet.write("ssh", sshd("0.0.0.0"))
    change(fleet, *lone(GOOD))
    fleet.settle("Service/ssh")
    assert time.monotonic() - corrected < 2 * WINDOW, "what is corrected need not wait"
    assert fleet.inside("host5", f"cat {SSHD}") == "ListenAddress 0.0.0.0\n"
    assert {host: start_files(fleet, host) for host in before} == before
    assert who(on_trial) == []
    (fleet.manifests / "ssh.yaml").unlink()
    assert eventually(lambda: fleet.inside("host5", f"ls {SSHD} 2>/dev/null || :") == ""), fleet.log()


def as_before(fleet: Fleet, before: dict[str, str], host: str) -> bool:
    return start_files(fleet, host) == before[host]


# A machine that is reached through the VPN alone

CHAIN = "inet test in"


def reached(fleet: Fleet, *ways: str) -> None:
    """host2 is reached over host1, at these addresses."""
    documents = [fleet.manifest(ref) for ref in fleet.knowledge().rows if ref.startswith(("Host/", "Image/"))]
    (host2,) = (one for one in documents if one["metadata"]["name"] == "host2")
    host2["spec"]["ssh"] |= {"via": "host1", "addresses": list(ways)}
    fleet.write("lab", *documents)
    assert eventually(lambda: fleet.manifest("Host/host2")["spec"]["ssh"] == host2["spec"]["ssh"]), fleet.log()
    fleet.settle()


@pytest.fixture
def only_in_vpns(fleet: Fleet) -> Iterator[None]:
    """host2 is to answer ssh in VPNs alone, as soon as somebody adds a rule to this chain."""
    fleet.inside("host2", f"nft 'add table inet test; add chain {CHAIN} {{ type filter hook input priority 0; }}'")
    yield
    fleet.inside("host2", "nft delete table inet test")
    fleet.write_lab()
    assert eventually(lambda: "via" not in fleet.manifest("Host/host2")["spec"]["ssh"]), fleet.log()


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.usefixtures("only_in_vpns")
def test_what_is_reached_by_a_vpn_alone_goes_to_another_one(fleet: Fleet, driver: str) -> None:
    """The way that docs/vpn.md tells."""
    (other,) = set(DRIVERS) - {driver}
    net, net2 = network(driver, *HOSTS), network(other, *HOSTS, name="net2", cidr="10.78.0.0/24")
    change(fleet, net)
    reached(fleet, "vpn/net")
    fleet.inside("host2", f"nft 'add rule {CHAIN} iifname br0 tcp dport 22 reject with tcp reset'")
    fleet.settle()
    # Not in one step: it would be lost on the way. Nothing is lost for good by trying.
    moved = network(driver, *HOSTS, port=7000)
    write(fleet, moved)
    assert eventually(lambda: ":7000" in fleet.inside("host1", "ss -Hlnu"), 20), fleet.log()
    change(fleet, net)
    all_reach_all(fleet, HOSTS)

    before = [started(fleet, driver, host) for host in HOSTS]
    pings = [Pings(fleet, "host1", address(fleet, "host3"))]
    write(fleet, network(other, *HOSTS))
    assert eventually(lambda: fleet.ready("VPN/net").reason == "Stalled", 20), fleet.unready()
    assert "write another VPN beside it" in fleet.ready("VPN/net").message
    change(fleet, net, net2)
    all_reach_all(fleet, HOSTS, "net2")
    pings += [Pings(fleet, "host1", address(fleet, "host3", "net2"))]
    reached(fleet, "vpn/net2", "vpn/net")
    shown = fleet.run("vpn", "status", "net2")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert [started(fleet, driver, host) for host in HOSTS] == before
    reached(fleet, "vpn/net2")
    lost = [pings[0].end()[1]]
    change(fleet, net2)
    lost += [pings[1].end()[1]]
    assert lost == [set(), set()], journals(fleet, "host1", "host3")
    all_reach_all(fleet, HOSTS, "net2")
    assert fleet.inside("host2", f"ls -d /etc/{driver}/net 2>/dev/null || :") == "", "it was still reached"


# Two controllers


def outside(*numbers: int) -> Iterator[dict[str, Any]]:
    """Nodes outside the fleet, which want an address as machines do."""
    for number in numbers:
        key = base64.b64encode(number.to_bytes(32, "little")).decode()
        yield resource("VPNNode", f"outside{number}", {"vpn": "race", "publicKey": key})


def given(fleet: Fleet) -> dict[str, str]:
    """Addresses that nodes have, as the store has them now."""
    rows = fleet.store.read(Table.ALLOCATION, "VPN/race").items()
    return {what: row.value for what, row in rows if what.startswith("address/")}


def put_to_sleep(fleet: Fleet, pid: int) -> None:
    """SIGSTOP, when the process is not in the middle of a write: with SQLite it would hold up all others."""
    store = fleet.session.settings.store
    assert isinstance(store, Path)
    while True:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)  # it is all there, or a thread of it may still begin one
        with closing(sqlite3.connect(store, timeout=0, isolation_level=None)) as one:
            try:
                one.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
            else:
                return


def giving(fleet: Fleet, *documents: dict[str, Any]) -> int:
    """The process that gives addresses to these, as soon as it has begun."""
    before = len(given(fleet))
    fleet.write("vpn", *documents)
    assert eventually(lambda: len(given(fleet)) > before, 20), fleet.log()
    register = Register.read(fleet.store)
    return register.members[register.holder(FLEET)].who.pid


def test_two_controllers_that_race_give_no_address_twice(fleet: Fleet) -> None:
    """C3: one sleeps while it gives addresses and goes on with what it knew then; and one is killed."""
    fleet.stop()
    race = network("wireguard", *LONE, name="race", cidr="10.81.0.0/23")
    with ExitStack() as running:
        running.callback(setattr, fleet, "process", None)

        def start() -> None:
            process = fleet.start("--http", f"127.0.0.1:{free_port()}")
            running.callback(process.wait, 30)
            running.callback(process.kill)

        start()
        start()
        assert eventually(lambda: len(Register.read(fleet.store).members) == 2, 20), fleet.log()
        asleep = giving(fleet, race, *outside(*range(1, 121)))
        put_to_sleep(fleet, asleep)
        first = given(fleet)
        assert len(first) < len(LONE) + 120, "that was in the middle"
        assert eventually(lambda: len(given(fleet)) == len(LONE) + 120, 30), fleet.log()
        os.kill(asleep, signal.SIGCONT)
        os.kill(giving(fleet, race, *outside(*range(1, 241))), signal.SIGKILL)
        assert len(given(fleet)) < len(LONE) + 240, "that was in the middle"
        start()
        fleet.settle("VPN/race", timeout=90)
        addresses = given(fleet)
        assert len(set(addresses.values())) == len(addresses) == len(LONE) + 240
        assert first.items() <= addresses.items(), "what is given stays"
        for host in LONE:
            has = fleet.inside(host, "ip -4 -o address show dev vpn-race")
            assert f" {addresses[f'address/{host}']}/23 " in has
        all_reach_all(fleet, tuple(LONE), "race")
