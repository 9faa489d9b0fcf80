"""A private network from nothing, on real hosts, with each driver: members come and go, and nobody else notices."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from tests.lab.fleet import Fleet, eventually, resource
from tests.lab.networks import (
    DRIVERS,
    HOSTS,
    KEEPALIVE,
    Pings,
    address,
    all_reach_all,
    change,
    journals,
    longest,
    network,
    started,
    unit,
)

pytestmark = pytest.mark.lab

FOLDERS = {"tinc": "/etc/tinc/net", "wireguard": "/etc/wireguard/net"}
KEYS = {"tinc": "/etc/tinc/net/rsa_key.priv", "wireguard": "/etc/wireguard/net/key"}
TRUSTED = {"tinc": "cat /etc/tinc/net/hosts/*", "wireguard": "wg show vpn-net peers"}


@pytest.fixture(scope="module", params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def fleet(vpn_lab: Lab, driver: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts, two of them in the network, one of these its hub."""
    made = Fleet(vpn_lab, tmp_path_factory.mktemp(driver))
    try:
        made.write_lab()
        made.start()
        change(made, network(driver, "host1", "host2"))
        yield made
        (made.manifests / "vpn.yaml").unlink()
        assert eventually(lambda: "VPN/net" not in made.knowledge().rows), made.log()
    finally:
        made.close()


@pytest.fixture(autouse=True)
def in_sync(fleet: Fleet) -> None:
    """Every test begins with a controller, and with a fleet that is as it is written."""
    if fleet.process is None:
        fleet.start()
    fleet.settle(timeout=90)


def reaches(fleet: Fleet, host: str, target: str) -> bool:
    return fleet.inside(host, f"ping -q -c 1 -W 1 {target} >/dev/null && echo yes || echo no") == "yes\n"


def rotated(fleet: Fleet, driver: str, host: str) -> None:
    """Rotates a machine's key: then it has one pair, the second, and nobody else lets it in with the first."""
    old = fleet.knowledge().known.facts["VPN/net", f"public_key/{host}"]
    done = fleet.run("vpn", "rotate", "net", "--node", host)
    assert done.returncode == 0, done.stdout + done.stderr + fleet.log()
    kept = sorted(fleet.inside(host, f"cd {FOLDERS[driver]}; ls | grep key").split())
    name = KEYS[driver].rpartition("/")[2]
    assert kept == [f"{name}.2", f"{name}.2.pub"]
    for one in ("host1", "host2"):
        assert old.splitlines()[-2:][0] not in fleet.inside(one, TRUSTED[driver])


def test_all_reach_all_by_address_and_by_name(fleet: Fleet, driver: str) -> None:
    all_reach_all(fleet, ("host1", "host2"))
    assert fleet.run("diff").returncode == 0, "the second pass has nothing to do"
    shown = fleet.run("vpn", "status", "-o", "json")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    (told,) = json.loads(shown.stdout)["networks"]
    for one, other in zip(told["nodes"], ("host2", "host1"), strict=True):
        (reach,) = one["reaches"]
        assert (reach["node"], reach["milliseconds"] < 1000) == (other, True)
        assert (reach["handshake"] is None, reach["endpoint"] is None) == (driver == "tinc", driver == "tinc")


def test_connections_are_tried_from_a_machine(fleet: Fleet) -> None:
    """By the public address and by the one in the VPN."""
    shown = fleet.run("can-reach", "host2", "host1:22", "--live", "-o", "json")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    (path,) = json.loads(shown.stdout)["paths"]
    assert {one["outcome"] for one in path["live"]} == {"connected"}
    assert address(fleet, "host1") in {one["destinationAddress"] for one in path["live"]}
    assert len(path["live"]) == 2
    shown = fleet.run("can-reach", "host2", "host1:9", "--live", "-o", "json")
    assert {one["outcome"] for one in json.loads(shown.stdout)["paths"][0]["live"]} == {"refused"}


@pytest.mark.parametrize(("node", "peer"), [("host1", "host2"), ("host2", "host1")])
def test_the_metrics_tell_who_reaches_whom(fleet: Fleet, driver: str, node: str, peer: str) -> None:
    pair = {"vpn": "net", "node": node, "peer": peer}
    assert eventually(lambda: fleet.metric("salvus_vpn_peer_reachable", **pair) == 1), fleet.log()
    assert 0 < fleet.metric("salvus_vpn_peer_round_trip_seconds", **pair) < 1
    shook = fleet.metric("salvus_vpn_peer_last_handshake_timestamp_seconds", **pair)
    now = float(fleet.inside(node, "date +%s"))
    assert shook == 0 if driver == "tinc" else now - 300 < shook <= now + 5


def test_the_daemon_goes_before_all_else(fleet: Fleet, driver: str) -> None:
    pid = fleet.inside("host1", f"systemctl show --value -p MainPID {unit(driver)}").strip()
    assert fleet.inside("host1", f"ps -o ni= -p {pid}").strip() == "-19"


def test_a_private_key_stays_on_its_machine(fleet: Fleet, driver: str) -> None:
    store = Path(fleet.session.settings.store)  # type: ignore[arg-type]
    files = [file.read_bytes() for file in store.parent.glob(f"{store.name}*")]
    for host in ("host1", "host2"):
        assert fleet.inside(host, f"stat -c '%a %U' {KEYS[driver]}") == "600 root\n"
        # The first half of an RSA key is the modulus, which is public.
        whole = [line for line in fleet.inside(host, f"cat {KEYS[driver]}").splitlines() if not line.startswith("-")]
        lines = whole[len(whole) // 2 :]
        public = fleet.knowledge().known.facts["VPN/net", f"public_key/{host}"]
        assert lines
        assert any(public.splitlines()[-2:][0].encode() in text for text in files), "what is public is there"
        assert not any(line.encode() in text for line in lines for text in files)


def test_a_member_comes_rotates_its_key_and_goes_and_nothing_is_lost_between_the_others(
    fleet: Fleet, driver: str
) -> None:
    before = [started(fleet, driver, host) for host in ("host1", "host2")]
    pings = Pings(fleet, "host1", address(fleet, "host2"))
    try:
        change(fleet, network(driver, *HOSTS))
        all_reach_all(fleet, HOSTS)
        given = address(fleet, "host3")
        own = Pings(fleet, "host2", given)
        rotated(fleet, driver, "host3")
        assert longest(own.end()[1]) <= KEEPALIVE * 10, "of who turns not long"
        change(fleet, network(driver, "host1", "host2"))
        assert eventually(lambda: fleet.inside("host3", f"ls -d {FOLDERS[driver]} || true") == ""), fleet.log()
    finally:
        answered, lost = pings.end()
    assert answered > 20
    assert lost == set(), journals(fleet, "host1", "host2")
    assert [started(fleet, driver, host) for host in ("host1", "host2")] == before, "nothing was restarted"
    assert "salvus" not in fleet.inside("host3", "cat /etc/hosts")
    assert address(fleet, "host3") == given, "its address stays its own"
    key = fleet.knowledge().known.facts["VPN/net", "public_key.2/host3"].splitlines()[-2:][0]
    assert key not in fleet.inside("host1", TRUSTED[driver])


def test_a_hub_rotates_its_key(fleet: Fleet, driver: str) -> None:
    pings = Pings(fleet, "host2", address(fleet, "host1"))
    rotated(fleet, driver, "host1")
    all_reach_all(fleet, ("host1", "host2"))
    assert longest(pings.end()[1]) <= KEEPALIVE * 10


def test_those_who_cannot_reach_each_other_talk_over_the_hub(fleet: Fleet, driver: str) -> None:
    apart = [
        resource("VPNNode", f"{host}-in-net", {"vpn": "net", "machine": host, "endpoint": "none"}) for host in HOSTS[1:]
    ]
    change(fleet, network(driver, *HOSTS), *apart)
    if driver == "wireguard":
        # /proc/sys is read-only in the lab's hosts, and a hub forwards.
        switch = "mount -t proc proc /mnt; echo 1 >/mnt/sys/net/ipv4/conf/vpn-net/forwarding; umount /mnt"
        fleet.inside("host1", switch)
        assert "198.18.0.13" not in fleet.inside("host2", "wg show vpn-net endpoints")
    all_reach_all(fleet, HOSTS)
    change(fleet, network(driver, *HOSTS))


def test_a_machine_that_is_revoked_is_refused_with_the_key_that_it_kept(fleet: Fleet, driver: str) -> None:
    change(fleet, network(driver, *HOSTS))
    all_reach_all(fleet, HOSTS)
    pings = Pings(fleet, "host1", address(fleet, "host2"))
    target = address(fleet, "host1")
    done = fleet.run("vpn", "revoke", "host3", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr + fleet.log()
    (found,) = json.loads(done.stdout)["items"]
    assert found["untried"] is None, "it was really tried from there, before its own side was removed"
    told = [(one["node"], one["refused"], one["hasKey"], one["answers"]) for one in found["nodes"]]
    assert told == [(host, True, False, False) for host in ("host1", "host2")]
    # Its side goes then, and it does not come back by the selector.
    assert eventually(lambda: fleet.inside("host3", f"ls -d {FOLDERS[driver]} || true") == ""), fleet.log()
    fleet.settle("VPN/net", timeout=90)
    answered, lost = pings.end()
    assert answered > 20
    assert lost == set(), journals(fleet, "host1", "host2")
    assert not reaches(fleet, "host3", target)
    done = fleet.run("vpn", "admit", "host3")
    assert done.returncode == 0, done.stdout + done.stderr + fleet.log()
    all_reach_all(fleet, HOSTS)
    name = KEYS[driver].rpartition("/")[2]
    assert re.fullmatch(
        rf"{name}\.[0-9]+\n", fleet.inside("host3", f"cd {FOLDERS[driver]}; ls | grep key | grep -v pub")
    )
    change(fleet, network(driver, "host1", "host2"))


def test_a_device_that_is_deleted_comes_back_without_a_controller(fleet: Fleet, driver: str) -> None:
    if driver == "wireguard":
        fleet.kill()
        fleet.inside("host2", "ip link del vpn-net")
        all_reach_all(fleet, ("host1", "host2"))


def test_a_key_that_is_removed_is_made_anew_and_told_to_the_others(fleet: Fleet, driver: str) -> None:
    before = fleet.knowledge().known.facts["VPN/net", "public_key/host2"]
    fleet.inside("host2", f"rm {KEYS[driver]} {KEYS[driver]}.pub")
    assert eventually(lambda: fleet.knowledge().known.facts["VPN/net", "public_key/host2"] != before), fleet.log()
    all_reach_all(fleet, ("host1", "host2"))


def test_a_strangers_key_put_there_by_hand_is_drift(fleet: Fleet, driver: str) -> None:
    if driver == "tinc":
        fleet.inside("host1", "echo 'Subnet = 10.77.0.66/32' >/etc/tinc/net/hosts/stranger")
        assert eventually(lambda: "stranger" not in fleet.inside("host1", "ls /etc/tinc/net/hosts"))
    else:
        stranger = fleet.inside("host1", "wg genkey | wg pubkey").strip()
        # Else it may be gone before it is looked at.
        fleet.kill()
        fleet.inside("host1", f"printf '\\n[Peer]\\nPublicKey = {stranger}\\n' >>/etc/wireguard/net/peers.conf")
        fleet.inside("host1", "systemctl reload salvus-vpn-net")
        assert stranger in fleet.inside("host1", "wg show vpn-net peers")
        fleet.start()
        assert eventually(lambda: stranger not in fleet.inside("host1", "wg show vpn-net peers"))
    all_reach_all(fleet, ("host1", "host2"))
