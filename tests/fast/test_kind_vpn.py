"""``VPN`` and ``VPNNode``: who is in it, who gets which address, what each machine has, and what is wrong."""

from __future__ import annotations

import ipaddress
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.allocate import allocate
from drivers.items.file import File
from drivers.items.file_block import FileBlock
from drivers.items.file_set import FileSet
from drivers.items.systemd_unit import SystemdUnit, Watched
from drivers.items.unit_files import UnitFiles
from resources.base import AnyResource, Invalid, NotYet, Partly, Placed
from resources.fleet import Fleet, kinds, machine_kind
from resources.net import Network
from resources.vpn_keys import tinc_name
from resources.vpn_nodes import Addresses, Node, nodes, with_key
from resources.vpn_spec import split_endpoint
from resources.world import Known, World
from tests.fast.manifests import KEY, host, image, items, problems, refused, resource, service, vm

WG_KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
PEM = "-----BEGIN RSA PUBLIC KEY-----\nMIIBigKCAYEAqqka\n-----END RSA PUBLIC KEY-----"
PEM_A, PEM_C = PEM.replace("MII", "MIA"), PEM.replace("MII", "MIC")
SPEC = {"driver": "tinc", "cidr": "10.1.0.0/24", "members": {"selector": {}}, "hubs": {"names": ["a"]}}


def vpn(name: str = "net", **spec: Any) -> AnyResource:
    return resource("VPN", name, SPEC | spec)


def node(name: str, **spec: Any) -> AnyResource:
    return resource("VPNNode", name, {"vpn": "net"} | spec)


def known(given_: Mapping[str, str], keys: Mapping[str, str]) -> Known:
    ref = "VPN/net"
    return Known(
        {(ref, f"address/{n}"): v for n, v in given_.items()}, {(ref, f"public_key/{n}"): k for n, k in keys.items()}
    )


def decided(
    *resources: AnyResource, keys: Mapping[str, str] | None = None, before: Mapping[str, str] | None = None
) -> World:
    """The world after a fleet pass."""
    fleet = Fleet.of_resources(resources)
    start = known(before or {}, keys or {})
    new, _ = allocate(fleet, start)
    return World(fleet, Known({**start.allocations, **{(d.ref, d.what): d.value for d in new}}, start.facts))


def seen(world: World) -> dict[str, Node]:
    net = world.fleet.by_kind["VPN"]["net"]
    return {one.name: with_key(net, one, world) for one in nodes(net, world)}


def lowered(target: AnyResource, machine: str, world: World) -> list[Placed]:
    """What the resource wants on the machine, as far as it is known."""
    found: list[Placed] = []
    with suppress(Partly):
        found.extend(kinds()[target.kind].items(target, machine, world))
    return found


def waits(world: World, machine: str) -> str:
    """What the VPN waits for on the machine, though its items are made."""
    try:
        list(kinds()["VPN"].items(world.fleet.by_kind["VPN"]["net"], machine, world))
    except Partly as wait:
        return wait.message
    return ""


def text(world: World, machine: str, path: str) -> str:
    """A file that the VPN wants on the machine."""
    for item in items(lowered(world.fleet.by_kind["VPN"]["net"], machine, world)):
        if isinstance(item, FileSet):
            for name, content in item.files:
                if path == f"{item.path}/{name}":
                    return content
        if isinstance(item, File | FileBlock) and item.path == path:
            return item.content
        if isinstance(item, UnitFiles) and (found := [file for file in item.files if file.path == path]):
            return found[0].content
    return ""


# Who is in it


def test_members_are_selected_hubs_and_machines_that_a_node_names() -> None:
    world = decided(
        host("a"),
        host("b", {"role": "web"}),
        host("c"),
        host("d"),
        vpn(members={"selector": {"matchLabels": {"role": "web"}}}),
        node("c-in-net", machine="c"),
        node("other", machine="d", vpn="another"),
        node("laptop", publicKey=PEM),
    )
    assert list(seen(world)) == ["a", "b", "c", "laptop"]
    assert list(kinds()["VPN"].machines(world.fleet.by_kind["VPN"]["net"], world)) == ["a", "b", "c"]


def test_a_host_is_reached_at_its_address_and_a_guest_only_if_it_is_said() -> None:
    guests = [vm(name, interfaces=[{"name": "eth0", "address": f"192.0.2.{n}/24"}]) for n, name in enumerate("xyz", 1)]
    world = decided(
        host("a", address="192.0.2.99"),
        host("nat", address="192.0.2.98"),
        *guests,
        vpn(port=700),
        node("y-in-net", machine="y", endpoint="vpn.example.org:655"),
        node("z-in-net", machine="z", hub=True),
        node("nat-in-net", machine="nat", endpoint="none"),
    )
    found = {name: (one.endpoint, one.hub) for name, one in seen(world).items()}
    assert found == {
        "a": (("192.0.2.99", 700), True),
        "nat": (None, False),
        "x": (None, False),
        "y": (("vpn.example.org", 655), False),
        "z": (("192.0.2.3", 700), True),
    }


# Addresses


def test_addresses_are_given_once_and_those_that_are_written_to_nobody_else() -> None:
    everything = (
        host("a"),
        host("b"),
        host("c"),
        vpn(),
        node("b-in-net", machine="b", address="10.1.0.1"),
        node("x", publicKey=PEM),
    )
    world = decided(*everything, before={"gone": "10.1.0.2"})
    assert {name: one.address for name, one in seen(world).items()} == {
        "a": "10.1.0.3",
        "b": "10.1.0.1",
        "c": "10.1.0.4",
        "x": "10.1.0.5",
    }


def test_a_written_address_that_was_given_to_another_is_refused_there_and_the_others_go_on() -> None:
    world = decided(
        host("a"),
        host("b"),
        vpn(),
        node("b-in-net", machine="b", address="10.1.0.7"),
        before={"a": "10.1.0.7"},
        keys={"a": PEM},
    )
    net = world.fleet.by_kind["VPN"]["net"]
    with pytest.raises(
        Invalid, match=r"its address 10\.1\.0\.7 is that of a for ever; write another in VPNNode/b-in-net"
    ):
        lowered(net, "b", world)
    assert text(world, "a", "/etc/hosts") == "10.1.0.7 a\n"


def test_a_network_that_leaves_addresses_outside_stalls_the_machines_as_they_are() -> None:
    world = decided(host("a"), host("b"), vpn(cidr="10.2.0.0/24"), before={"a": "10.1.0.1"})
    with pytest.raises(Invalid, match=r"its address stays 10\.1\.0\.1, which is not in 10\.2\.0\.0/24"):
        lowered(world.fleet.by_kind["VPN"]["net"], "a", world)
    wider = decided(host("a"), vpn(cidr="10.0.0.0/8"), before={"a": "10.1.0.1"}, keys={"a": PEM})
    assert "ip address add 10.1.0.1/8" in text(wider, "a", "/etc/tinc/net/tinc-up")


def test_a_full_network_is_said_of_who_has_no_room() -> None:
    fleet = Fleet.of_resources([host("a"), host("b"), host("c"), vpn(cidr="10.1.0.0/30")])
    new, waiting = allocate(fleet, Known())
    assert len(new) == 2
    assert waiting["VPN/net"].message.startswith("no address of 10.1.0.0/30 is left for c")
    with pytest.raises(NotYet):
        lowered(fleet.by_kind["VPN"]["net"], "c", World(fleet, known({"a": "10.1.0.1", "b": "10.1.0.2"}, {})))


def test_no_address_is_made_before_it_is_asked_for() -> None:
    free = Addresses(ipaddress.ip_network("10.0.0.0/8"), frozenset({"10.0.0.1"}))
    assert next(iter(free)) == "10.0.0.2"
    assert "10.255.255.254" in free
    assert not {"10.0.0.1", "10.0.0.0", "10.255.255.255", "11.0.0.1"} & {
        a for a in ("10.0.0.1", "10.0.0.0", "10.255.255.255", "11.0.0.1") if a in free
    }
    assert next(iter(Addresses(ipaddress.ip_network("fd00::/64"), frozenset()))) == "fd00::1"


NETWORKS = st.sampled_from(["10.1.0.0/24", "10.1.0.0/28", "10.0.0.0/8", "fd00::/64"]).map(ipaddress.ip_network)


@settings(max_examples=60, deadline=None)
@given(
    network=NETWORKS,
    steps=st.lists(
        st.tuples(
            st.sets(st.sampled_from("abcdefghijk"), min_size=1),
            st.dictionaries(st.sampled_from("bcd"), st.integers(1, 14), max_size=2),
        ),
        max_size=5,
    ),
)
def test_whoever_comes_and_goes_no_address_is_had_by_two_and_none_changes(
    network: Network, steps: list[tuple[set[str], dict[str, int]]]
) -> None:
    given_: dict[str, str] = {}
    before: dict[str, str] = {}
    for names, fixed in steps:
        written = [node(f"{name}-in-net", machine=name, address=str(network[n])) for name, n in fixed.items()]
        world = decided(
            host("a"), *map(host, sorted(names | set(fixed) - {"a"})), vpn(cidr=str(network)), *written, before=given_
        )
        now = {key[1].removeprefix("address/"): value for key, value in world.known.allocations.items()}
        assert given_.items() <= now.items(), "what was given stays"
        given_ = now
        addresses = {name: one.address for name, one in seen(world).items() if one.address}
        # Two of one written address are an error of the manifests, found before.
        if len(set(fixed.values())) == len(fixed):
            assert len(set(addresses.values())) == len(addresses)
        assert all(ipaddress.ip_address(one) in network for one in addresses.values())
        auto = {name: one for name, one in addresses.items() if name not in fixed}
        assert all(before.get(name, one) == one for name, one in auto.items())
        before |= auto


# What a machine has


def test_with_tinc_a_machine_starts_alone_and_hears_of_hubs_and_a_hub_of_all() -> None:
    fleet = (host("a"), host("b-1"), host("c"), vpn(aliases="role"))
    nothing = decided(*fleet)
    assert [type(item).__name__ for item in items(lowered(nothing.fleet.by_kind["VPN"]["net"], "b-1", nothing))] == [
        *("Package", "Directory", "Directory", "Directory", "KeyPair")
    ]
    assert waits(nothing, "b-1").startswith("waits for the public key of b-1")
    alone = decided(*fleet, keys={"b-1": PEM})
    assert waits(alone, "b-1") == "waits for the public keys of a; others are in it"
    net = alone.fleet.by_kind["VPN"]["net"]
    assert isinstance(items(lowered(net, "b-1", alone))[-2], SystemdUnit)
    assert (
        text(alone, "b-1", "/etc/tinc/net/hosts/b_1")
        == f"Address = {host('b-1').spec.address} 655\nSubnet = 10.1.0.2/32\n{PEM}\n"
    )
    assert text(alone, "b-1", "/etc/tinc/net/hosts/a") == ""
    assert "ConnectTo" not in text(alone, "b-1", "/etc/tinc/net/conf.d/connect.conf")
    world = decided(*fleet, keys={"a": PEM_A, "b-1": PEM, "c": PEM_C})
    assert waits(world, "b-1") == ""
    assert PEM_A in text(world, "b-1", "/etc/tinc/net/hosts/a")
    assert text(world, "b-1", "/etc/tinc/net/hosts/c") == "", "they talk over the hub, and then by themselves"
    assert "ConnectTo = a\n" in text(world, "b-1", "/etc/tinc/net/conf.d/connect.conf")
    assert PEM in text(world, "a", "/etc/tinc/net/hosts/b_1")
    assert "ConnectTo" not in text(world, "a", "/etc/tinc/net/conf.d/connect.conf")
    assert "Name = b_1\n" in text(world, "b-1", "/etc/tinc/net/tinc.conf")


def test_of_tinc_only_what_it_reads_at_its_start_restarts_it() -> None:
    fleet = (host("a"), host("b"), host("c"))

    def start(world: World, machine: str = "a") -> UnitFiles:
        found = items(lowered(world.fleet.by_kind["VPN"]["net"], machine, world))
        return next(item for item in found if isinstance(item, UnitFiles))

    def reload(world: World) -> tuple[Watched, ...]:
        found = items(lowered(world.fleet.by_kind["VPN"]["net"], "a", world))
        unit = next(item for item in found if isinstance(item, SystemdUnit))
        assert unit.restart_on == ()
        return unit.reload_on

    two = decided(*fleet, vpn(), keys={"a": PEM_A, "b": PEM})
    more = decided(*fleet, vpn(), keys={"a": PEM_A, "b": PEM, "c": PEM_C})
    assert start(two) == start(more)
    assert reload(two) != reload(more), "it is to look at the new key, or away from an old one"
    behind = decided(*fleet, vpn(), node("b-in-net", machine="b", subnets=["10.9.0.0/24"]), keys={"a": PEM_A, "b": PEM})
    assert start(two).start_files == start(behind).start_files
    assert start(two).reload_files != start(behind).reload_files, "other routes"
    assert start(behind, "b") != start(decided(*fleet, vpn(), keys={"b": PEM}), "b"), "its own"
    rotated = decided(*fleet, vpn(), keys={"a": PEM.replace("MII", "MIJ"), "b": PEM})
    assert start(two) != start(rotated), "its own key is read at the start"
    assert start(two) != start(decided(*fleet, vpn(port=700), keys={"a": PEM_A, "b": PEM}))


@pytest.mark.parametrize("driver", ["tinc", "wireguard"])
def test_names_change_when_the_network_has_and_not_when_it_is_put_back(driver: str) -> None:
    net = vpn(driver=driver)
    found = lowered(net, "a", decided(host("a"), net, keys={"a": PEM_A if driver == "tinc" else WG_KEY}))
    (start,) = (place.item.key for place in found if isinstance(place.item, UnitFiles))
    (names,) = (place for place in found if isinstance(place.item, FileBlock))
    assert start in names.after


def test_what_salvus_reaches_through_it_keeps_its_driver() -> None:
    keys = {"a": PEM_A, "b": PEM}
    fleet = (host("a"), host("b"))
    wireguard = vpn(driver="wireguard")
    others: list[AnyResource] = [
        host("c", ssh={"hostKeys": [KEY], "addresses": ["vpn/net"]}),
        host("c", ssh={"hostKeys": [KEY], "addresses": ["10.1.0.3"]}),
    ]
    for other in others:
        with pytest.raises(Invalid, match=r"made with tinc, and salvus reaches c through it.*another VPN beside it"):
            lowered(wireguard, "a", decided(*fleet, other, wireguard, keys=keys))
        assert lowered(wireguard, "a", decided(*fleet, other, wireguard, keys=dict.fromkeys("ab", WG_KEY)))
        assert lowered(vpn(), "a", decided(*fleet, other, vpn(), keys=keys))
    elsewhere = host("c", ssh={"hostKeys": [KEY], "addresses": ["192.0.2.9", "c.example.org"]})
    assert lowered(wireguard, "a", decided(*fleet, elsewhere, wireguard, keys=keys))


def test_a_second_vpn_may_be_beside_the_first_until_that_is_given_up() -> None:
    def fleet(*ways: str) -> list[AnyResource]:
        return [host(name, ssh={"hostKeys": [KEY], "addresses": list(ways)}) for name in "ab"]

    second = vpn("net2", driver="wireguard", cidr="10.2.0.0/24")
    # One step a line, as docs/vpn.md tells them.
    for step in (
        [*fleet("vpn/net"), vpn()],
        [*fleet("vpn/net"), vpn(), second],
        [*fleet("vpn/net2", "vpn/net"), vpn(), second],
        [*fleet("vpn/net2"), vpn(), second],
        [*fleet("vpn/net2"), second],
    ):
        assert problems(*step) == []
    both = decided(*fleet("vpn/net2", "vpn/net"), vpn(), second, keys={"a": PEM_A, "b": PEM})
    reached = machine_kind(both.fleet.by_kind["Host"]["b"]).target(both.fleet.by_kind["Host"]["b"], both)
    assert reached.addresses[:2] == ("10.2.0.2", "10.1.0.2")
    for each in ("net", "net2"):
        assert lowered(both.fleet.by_kind["VPN"][each], "a", both)


def test_with_tinc_a_key_concerns_its_machine_and_the_hubs_only() -> None:
    everything = (*map(host, "abcd"), vpn())

    def keys_read(machine: str) -> set[str]:
        world = decided(*everything, keys=dict.fromkeys("abcd", PEM))
        world.reads.clear()
        lowered(world.fleet.by_kind["VPN"]["net"], machine, world)
        return {read.rpartition("/")[2] for read in world.reads if "public_key" in read}

    assert keys_read("a") == {"a", "b", "c", "d"}
    assert keys_read("b") == {"a", "b"}


def peers(world: World, machine: str) -> dict[str, dict[str, str]]:
    """The peers in ``peers.conf`` by name, read as wg(8) does."""
    found: dict[str, dict[str, str]] = {}
    for block in text(world, machine, "/etc/wireguard/net/peers.conf").split("\n\n")[1:]:
        comment, section, *lines = block.strip().splitlines()
        assert section == "[Peer]"
        found[comment.removeprefix("# ")] = dict(line.split(" = ", 1) for line in lines)
    return found


def test_with_wireguard_those_who_cannot_reach_each_other_talk_over_the_first_hub() -> None:
    quiet = [node(f"{name}-in-net", machine=name, endpoint="none") for name in ("x", "y")]
    subnet = node("z-in-net", machine="z", endpoint="none", subnets=["10.9.0.0/24"])
    keys = {name: f"{name.upper()}{WG_KEY[1:]}" for name in ("a", "b", "x", "y", "z")}
    world = decided(*map(host, "abxyz"), vpn(driver="wireguard", keepalive="7s"), *quiet, subnet, keys=keys)
    x = peers(world, "x")
    assert x.keys() == {"a", "b"}
    assert x["a"]["AllowedIPs"] == "10.1.0.1/32, 10.1.0.0/24, 10.9.0.0/24"
    assert x["b"]["AllowedIPs"] == "10.1.0.2/32"
    assert x["b"]["PersistentKeepalive"] == "7"
    b = peers(world, "b")
    assert b.keys() == {"a", "x", "y", "z"}
    assert b["x"] == {"PublicKey": keys["x"], "AllowedIPs": "10.1.0.3/32", "PersistentKeepalive": "0"}
    assert b["a"]["Endpoint"] == f"{host('a').spec.address}:51820"
    assert b["a"]["PersistentKeepalive"] == "0", "told, so that one that was there before goes"
    assert b["z"]["AllowedIPs"] == "10.1.0.5/32, 10.9.0.0/24"
    assert "ipv4/conf/vpn-net/forwarding" in text(world, "a", "/etc/wireguard/net/run")
    assert "forwarding" not in text(world, "b", "/etc/wireguard/net/run")


def test_with_wireguard_a_name_that_cannot_be_looked_up_holds_up_nobody() -> None:
    named = node("b-in-net", machine="b", endpoint="b.example.org")
    world = decided(*map(host, "abc"), vpn(driver="wireguard"), named, keys={n: n.upper() + WG_KEY[1:] for n in "abc"})
    conf = text(world, "a", "/etc/wireguard/net/peers.conf")
    assert f"\n# Found at B{WG_KEY[1:]} b.example.org:51820\n" in conf, "wg does not read it with the rest"
    assert re.findall("^Endpoint = (.*)", conf, re.MULTILINE) == [f"{host('c').spec.address}:51820"]


@pytest.mark.parametrize("whose", ["a", "b"])
def test_a_key_that_another_node_tells_too_lets_nobody_in(whose: str) -> None:
    keys = {"a": WG_KEY, "b": f"B{WG_KEY[1:]}", "d": f"D{WG_KEY[1:]}"}
    world = decided(*map(host, "abcd"), vpn(driver="wireguard"), keys=keys | {"c": keys[whose]})
    assert peers(world, "a").keys() == {"b", "d"} - {whose}
    assert peers(world, "d").keys() == {"a", "b"} - {whose}
    names = "c" if whose == "a" else "b, c"
    assert waits(world, "a") == f"{names} tell a public key that another node has, too: none is let in"


@pytest.mark.parametrize("step", ["device", "down"])
def test_with_wireguard_a_device_that_is_somebody_elses_is_not_deleted(step: str, tmp_path: Path) -> None:
    world = decided(host("a"), vpn(driver="wireguard", interface="lo"), keys={"a": WG_KEY})
    for program, does in (("ip", f"[ $2 = show ] || echo $* >>{tmp_path}/done"), ("wg", "exit 1")):
        (tmp_path / program).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / program).chmod(0o755)
    script = text(world, "a", "/etc/wireguard/net/run")
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    ended = subprocess.run(["sh", "-c", script, "run", step], env=env, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 1
    assert "there is a lo that is not WireGuard's, and it is left alone" in ended.stderr
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("step", ["down", "device"])
def test_with_wireguard_another_interface_does_not_leave_the_device_that_was(step: str, tmp_path: Path) -> None:
    """As at a restart with new files, where the new script takes down what the old one made, and when put back."""
    made = tmp_path / "made"
    made.write_text("was\n")
    stubs = {
        "ip": f"case $2 in show) [ $4 = was ] ;; del) echo $4 >>{tmp_path}/gone ;; add) exit 0 ;; esac",
        "wg": "[ $2 = was ]",
        "sleep": "exit 1",
    }
    for program, does in stubs.items():
        (tmp_path / program).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / program).chmod(0o755)
    world = decided(host("a"), vpn(driver="wireguard", interface="new"), keys={"a": WG_KEY})
    script = text(world, "a", "/etc/wireguard/net/run").replace("/run/salvus-vpn-net.service.device", str(made))
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["sh", "-c", script, "run", step], env=env, capture_output=True, text=True, timeout=20)
    assert (tmp_path / "gone").read_text().split() == ["was"]
    assert made.read_text() == ("new\n" if step == "device" else "was\n")


def test_with_wireguard_it_starts_with_what_an_older_salvus_wrote(tmp_path: Path) -> None:
    world = decided(host("a"), vpn(driver="wireguard"), keys={"a": WG_KEY})
    files = {
        "ip": "#!/bin/sh\n",
        "wg": f"#!/bin/sh\n[ $1 = show ] || (echo $*; cat) >>{tmp_path}/read\n",
        "routes": "#!/bin/sh\n",
    }
    for name, content in (files | {"key": "PRIVATE\n", "peers.conf": "[Interface]\nListenPort = 1\n"}).items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    script = text(world, "a", "/etc/wireguard/net/run").replace("/etc/wireguard/net/", f"{tmp_path}/")
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["sh", "-c", script, "run", "up"], env=env, capture_output=True, timeout=20)
    read = "[Interface]\nPrivateKey = PRIVATE\n[Interface]\nListenPort = 1\n"
    own = "set vpn-net listen-port 51820\n"
    assert (tmp_path / "read").read_text() == f"setconf vpn-net /dev/stdin\n{read}{own}"


def test_with_wireguard_a_port_is_read_at_the_start_and_so_on_trial() -> None:
    worlds = [decided(host("a"), vpn(driver="wireguard", port=port), keys={"a": WG_KEY}) for port in (1024, 1025)]
    found = [items(lowered(world.fleet.by_kind["VPN"]["net"], "a", world)) for world in worlds]
    before, after = (next(item for item in some if isinstance(item, UnitFiles)) for some in found)
    assert [old.path for old, new in zip(before.start_files, after.start_files, strict=True) if old != new] == [
        "/etc/wireguard/net/run"
    ]
    assert text(worlds[0], "a", "/etc/wireguard/net/peers.conf") == text(
        worlds[1], "a", "/etc/wireguard/net/peers.conf"
    )


def test_with_wireguard_who_has_no_key_yet_holds_up_nobody() -> None:
    world = decided(*map(host, "abc"), vpn(driver="wireguard"), keys={"a": WG_KEY, "b": f"B{WG_KEY[1:]}"})
    assert peers(world, "a").keys() == {"b"}
    assert waits(world, "a") == "waits for the public keys of c; others are in it"
    off = vm("off", runStrategy="Halted")
    assert waits(decided(host("a"), off, vpn(), keys={"a": PEM}), "a") == "", "who is off is not waited for"


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from("bcdefg"), st.booleans(), max_size=6), st.sets(st.sampled_from("abcdefg")))
def test_with_wireguard_every_pair_has_a_way(reachable: dict[str, bool], without_key: set[str]) -> None:
    names = ["a", *reachable]
    quiet = [node(f"{n}-in-net", machine=n, endpoint="none") for n, open_ in reachable.items() if not open_]
    keys = {name: f"{name.upper()}{WG_KEY[1:]}" for name in names if name not in without_key}
    world = decided(*map(host, names), vpn(driver="wireguard"), *quiet, keys=keys)
    known_, address = peers, {name: ipaddress.ip_address(one.address) for name, one in seen(world).items()}

    def next_hop(one: str, other: str) -> str | None:
        """The peer with the longest prefix, as the kernel chooses."""
        ways = [
            (network.prefixlen, peer)
            for peer, conf in known_(world, one).items()
            for network in map(ipaddress.ip_network, conf["AllowedIPs"].split(", "))
            if address[other] in network
        ]
        assert len({prefix for prefix, _ in ways}) == len(ways), "no two peers have the same network"
        return max(ways)[1] if ways else None

    for one in keys:
        for other in keys:
            if one == other or ("a" not in keys and not (reachable.get(one, True) or reachable.get(other, True))):
                continue
            hop = next_hop(one, other)
            assert hop is not None
            assert hop == other or next_hop(hop, other) == other
            assert one in known_(world, hop), "and is known there"


def test_hosts_have_all_names_and_the_value_of_a_label_but_no_name_twice() -> None:
    world = decided(
        host("a", {"role": "web"}), host("b", {"role": "a"}), host("c"), vpn(aliases="role"), keys={"c": PEM}
    )
    assert text(world, "c", "/etc/hosts") == "10.1.0.1 a web\n10.1.0.2 b\n10.1.0.3 c\n"


def test_routes_lead_to_what_is_behind_others() -> None:
    world = decided(
        host("a"),
        host("b"),
        vpn(),
        node("b-in-net", machine="b", subnets=["10.9.0.0/24", "10.8.0.1"]),
        keys={"a": PEM, "b": PEM},
    )
    assert 'wanted="10.8.0.1 10.9.0.0/24"' in text(world, "a", "/etc/tinc/net/routes")
    assert "proto 121 metric 4242\n" in text(world, "a", "/etc/tinc/net/routes"), "behind routes of the machine's own"
    assert 'wanted=""' in text(world, "b", "/etc/tinc/net/routes")
    assert "Subnet = 10.9.0.0/24\n" in text(world, "b", "/etc/tinc/net/hosts/b")


def test_a_service_starts_after_the_networks_of_its_machine_and_waits_until_it_is_in_them() -> None:
    web = service("web", machines={"names": ["a"]}, command="/bin/true")
    world = decided(
        host("a"),
        host("b"),
        vpn(),
        vpn("other", driver="wireguard", hubs={"names": ["b"]}, members={"names": ["b"]}),
        web,
        keys={"a": PEM},
    )
    unit = lowered(web, "a", world)[-1]
    assert "SystemdUnit:tinc@net.service" in unit.after
    assert "SystemdUnit:salvus-vpn-other.service" not in unit.after
    for missing in (Known(), Known(world.known.allocations)):
        with pytest.raises(NotYet):
            lowered(web, "a", World(world.fleet, missing))


# Names

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)


@given(st.sets(NAMES, min_size=2, max_size=20))
def test_no_two_machines_have_one_name_for_tinc_and_no_two_networks_one_device(names: set[str]) -> None:
    mapped = {tinc_name(name) for name in names}
    assert len(mapped) == len(names)
    assert all(re.fullmatch("[A-Za-z0-9_]+", name) for name in mapped)
    devices = {vpn().spec.device(name) for name in names}
    assert len(devices) == len(names)
    assert all(len(device) <= 15 for device in devices)


@given(st.ip_addresses(), st.integers(1, 65535) | st.none())
def test_endpoints_are_read_as_they_are_written(address: Network, port: int | None) -> None:
    shown = f"[{address}]" if ":" in str(address) else str(address)
    written = str(address) if port is None else f"{shown}:{port}"
    spec = node("n", machine="a", endpoint=written).spec
    assert split_endpoint(spec.endpoint) == (str(address), port)
    assert node("n", machine="a", endpoint=spec.endpoint).spec == spec


# What is wrong


def test_what_is_wrong_in_a_network() -> None:
    guest = vm("g", interfaces=[{"name": "eth0", "dhcp": True}])
    assert problems(host("a"), vpn()) == []
    assert problems(host("a"), vpn(cidr="10.1.0.0/31")) == [
        "VPN/net spec.cidr: 10.1.0.0/31 has no room for two nodes; write a network"
    ]
    (found,) = problems(host("a"), host("host1"), image(), guest, vpn(hubs={"names": ["g"]}))
    assert found.startswith("VPN/net spec.hubs: g is a hub, and no address is known at which others reach it; write a")
    assert "there is no Host or VirtualMachine named 'b'" in problems(host("a"), vpn(members={"names": ["b"]}))[0]
    assert "did you mean '10.1.0.0/24'?" in refused("VPN", SPEC | {"cidr": "10.1.0.1/24"})
    assert "driver" in refused("VPN", SPEC | {"driver": "openvpn"})


def test_two_networks_on_one_machine_do_not_get_in_each_others_way() -> None:
    assert problems(host("a"), vpn(), vpn("two", driver="wireguard", cidr="10.2.0.0/24")) == []
    both = "VPN/net, which a is in as well; choose another"
    assert problems(host("a"), vpn(interface="vpn0"), vpn("two", interface="vpn0")) == [
        f"VPN/two spec.interface: vpn0 is the interface of {both}",
        f"VPN/two spec.port: 655 is the port of {both}",
        f"VPN/two spec.cidr: 10.1.0.0/24 overlaps 10.1.0.0/24, the network of {both}",
    ]
    apart = {"members": {"names": ["b"]}, "hubs": {"names": ["b"]}}
    assert problems(host("a"), host("b"), vpn(members={"names": ["a"]}), vpn("two", **apart)) == []


def test_a_network_does_not_lead_away_what_carries_it() -> None:
    guest = vm("g", interfaces=[{"name": "eth0", "bridge": "lan", "address": "198.51.100.7/24"}])
    base = (host("a", address="192.0.2.1"), host("b", address="b.example.org"), image(), guest)
    for cidr, inside in (("192.0.0.0/8", "192.0.2.1"), ("198.51.100.0/24", "198.51.100.7")):
        assert problems(*base, vpn(cidr=cidr)) == [
            (
                f"VPN/net spec.cidr: {inside}, at which a node is reached without the VPN, is in {cidr}; "
                "choose a network that is used nowhere else"
            )
        ]
    subnets = ["0.0.0.0/0", "192.0.2.0/24", "10.9.0.0/16", "10.8.0.0/24"]
    behind = node("b-in-net", machine="b", endpoint="10.8.0.1:700", subnets=subnets)
    assert problems(*base, vpn(), behind) == [
        "VPNNode/b-in-net spec.subnets.0: 0.0.0.0/0 overlaps 10.1.0.0/24, in which all nodes are reached by themselves",
        (
            "VPNNode/b-in-net spec.subnets.0: 0.0.0.0/0 is everything, so also what carries the VPN; "
            "name the networks behind the node"
        ),
        (
            "VPNNode/b-in-net spec.subnets.1: 192.0.2.1, at which a node of VPN/net is reached without it, "
            "is in 192.0.2.0/24; leave it out"
        ),
        (
            "VPNNode/b-in-net spec.subnets.3: 10.8.0.1, at which a node of VPN/net is reached without it, "
            "is in 10.8.0.0/24; leave it out"
        ),
    ]


def test_a_name_in_the_network_is_not_where_a_node_is_reached_without_it() -> None:
    (found,) = problems(host("a", address="a"), host("b"), vpn())
    assert found.startswith("VPN/net spec.members: a is where a node is reached without the VPN, and a name in it")
    outside = node("laptop", publicKey=PEM, endpoint="Web:700")
    assert "web is where" in problems(host("a", {"role": "WEB"}), vpn(aliases="role"), outside)[0]
    assert problems(host("a", {"role": "WEB"}), vpn(), outside) == []
    assert "called localhost" in problems(host("a", {"role": "localhost"}), vpn(aliases="role"))[0]
    assert "called localhost" in problems(host("a"), vpn(), node("localhost", publicKey=PEM))[0]


def test_a_device_of_something_else_is_not_taken() -> None:
    guest = vm("g", interfaces=[{"name": "nic1", "bridge": "lan", "address": "198.51.100.7/24"}])
    for interface, whose in (("br0", "Host/a"), ("lan", "Host/a"), ("nic1", "VirtualMachine/g")):
        assert problems(host("a"), image(), guest, vpn(interface=interface)) == [
            f"VPN/net spec.interface: {interface} is a bridge or an interface of {whose}; choose another name"
        ]
    assert problems(host("a", hypervisor=None), vpn(interface="br0")) == [], "nobody knows of it"


def test_what_is_wrong_in_a_node() -> None:
    base = (host("a"), host("b"), vpn())

    def wrong(*nodes_: AnyResource) -> list[str]:
        return problems(*base, *nodes_)

    assert wrong(node("x", publicKey=PEM), node("y", machine="b", address="10.1.0.9")) == []
    assert wrong(node("x")) == ["VPNNode/x spec: write machine, or publicKey for a node outside the fleet"]
    assert wrong(node("x", machine="b", publicKey=PEM)) == [
        "VPNNode/x spec.publicKey: the machine makes its key by itself; write one of the two"
    ]
    assert wrong(node("x", machine="b", address="10.2.0.1")) == [
        "VPNNode/x spec.address: 10.2.0.1 is no address of a node in 10.1.0.0/24, the network of VPN/net"
    ]
    assert wrong(node("x", machine="b", address="10.1.0.255"))
    assert wrong(node("x", machine="b", subnets=["10.1.0.0/28"])) == [
        "VPNNode/x spec.subnets.0: 10.1.0.0/28 overlaps 10.1.0.0/24, in which all nodes are reached by themselves"
    ]
    assert wrong(node("x", machine="b"), node("y", machine="b")) == [
        "VPNNode/y spec.machine: b is the name of VPNNode/x already, in the same VPN"
    ]
    assert wrong(node("x", machine="b", address="10.1.0.9"), node("y", publicKey=PEM, address="10.1.0.9")) == [
        "VPNNode/y spec.address: 10.1.0.9 is the address of VPNNode/x already, in the same VPN"
    ]
    assert wrong(node("b", publicKey=PEM)) == [
        "VPNNode/b metadata.name: b is a machine of the fleet; write spec.machine, or call the node otherwise"
    ]
    assert "is no public key of tinc" in wrong(node("x", publicKey=WG_KEY))[0]
    assert "named 'nte'; did you mean 'net'?" in wrong(node("x", vpn="nte", machine="b"))[0]
    assert "ports are 1 to 65535" in refused("VPNNode", {"vpn": "net", "machine": "a", "endpoint": "1.2.3.4:70000"})


@pytest.mark.parametrize("key", ["", "x", WG_KEY[:-2], f"{WG_KEY}\n[Peer]", PEM, f"{WG_KEY}#"])
def test_a_key_that_is_none_never_gets_into_a_configuration(key: str) -> None:
    found = problems(host("a"), vpn(driver="wireguard"), node("x", publicKey=key))
    assert "is no public key of WireGuard" in found[0] or "write machine" in found[0]


BEHIND_KEYS = ["\nSubnet = 0.0.0.0/0", "\n[Peer]\nAllowedIPs = 0.0.0.0/0", " # x", "\u2028x", "\0"]


@pytest.mark.parametrize("more", BEHIND_KEYS)
@pytest.mark.parametrize(("driver", "key"), [("tinc", PEM), ("wireguard", WG_KEY)])
def test_a_machine_that_tells_more_than_its_key_is_not_let_in(driver: str, key: str, more: str) -> None:
    for told in (key + more, more + key):
        assert seen(decided(host("a"), vpn(driver=driver), keys={"a": told}))["a"].public_key is None
    assert seen(decided(host("a"), vpn(driver=driver), keys={"a": f"{key}\n"}))["a"].public_key == key


@pytest.mark.parametrize("key", [f"{PEM}\nSubnet = 0.0.0.0/0", f"Subnet = 0.0.0.0/0\n{PEM}", PEM.replace("MII", "$()")])
def test_nothing_but_a_key_gets_into_a_host_file_of_tinc(key: str) -> None:
    assert "is no public key of tinc" in problems(host("a"), vpn(), node("x", publicKey=key))[0]
