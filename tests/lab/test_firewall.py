"""Firewalls by manifest on real hosts, with a real controller: who gets in and who does not, and that nobody is locked
out.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lab import Lab, breakage, hosts
from lab.model import GATEWAY
from salvusctl.lab import manifest_documents
from tests.lab.fleet import Fleet, eventually, resource

pytestmark = pytest.mark.lab

# Where salvus comes from, and where nobody does (RFC 5737).
OURS = f"{GATEWAY.partition('/')[0]}/32"
NOBODYS = "192.0.2.1/32"
ONE, TWO, THREE = ADDRESSES = ("198.18.0.11", "198.18.0.12", "198.18.0.13")
WINDOW = 30
HOSTS = ("host1", "host2", "host3")
COUNTERS = ("salvus_pass_seconds_count", "salvus_driver_writes_total")

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
# A node that asks its peers as soon as it is started, once, and notes who let it in; then it serves, by IPv6 too.
NODE = """
import http.server, socket, sys
with open("/run/met", "a") as met:
    for peer in sys.argv[2:]:
        try:
            socket.create_connection((peer, int(sys.argv[1])), 1).close()
        except OSError:
            continue
        print(peer, file=met)
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="::")
"""
# A connection that is made now, and of which nothing is heard until somebody makes a file.
HELD = """
import os, socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 2) as one:
    print("open", flush=True)
    while not os.path.exists("/run/say"):
        time.sleep(0.1)
    one.settimeout(5)
    one.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    print(one.recv(64).decode())
"""
# On a machine that takes its time, who joins would be there first.
NFT = "/usr/local/sbin/nft"
SLOW = """#!/bin/sh
case $1 in -f) sleep 5 ;; esac
exec /usr/sbin/nft "$@"
"""


@pytest.fixture(scope="module")
def fleet(vpn_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(vpn_lab, tmp_path_factory.mktemp("walls"))
    try:
        made.start()
        yield made
    finally:
        made.close()


def machines(fleet: Fleet, **labels: Sequence[str]) -> list[dict[str, Any]]:
    """The hosts, with labels. Of host2 the user is not root; what is not answered takes 6 s to be known."""
    found = [one for one in manifest_documents(fleet.lab) if one["kind"] == "Host"]
    for one in found:
        name = one["metadata"]["name"]
        one["metadata"]["labels"] = dict.fromkeys(labels.get(name, ()), "yes")
        one["spec"]["ssh"] |= {"connectTimeout": "3s", "commandTimeout": "20s"}
        del one["spec"]["hypervisor"]
        if name == "host2":
            one["spec"]["ssh"]["user"] = "operator"
    return found


def labelled(label: str) -> dict[str, Any]:
    return {"selector": {"matchLabels": {label: "yes"}}}


def wall(name: str, machines: dict[str, Any], *ssh: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return resource("Firewall", name, {"machines": machines, "ssh": list(ssh) or [{"cidr": OURS}]} | spec)


def listener(name: str, port: int, machines: dict[str, Any], *clients: dict[str, Any]) -> dict[str, Any]:
    command = ["/usr/bin/python3", "-c", NODE, str(port), *ADDRESSES]
    spec = {"machines": machines, "command": command, "ports": [{"name": name, "port": port}]}
    return resource("Service", name, spec | ({"clients": list(clients)} if clients else {}))


def change(fleet: Fleet, *documents: dict[str, Any]) -> None:
    """Writes the manifests, all of them and in the form that is kept, and waits until what is new in them is done."""

    def in_force() -> bool:
        now = [row.document for row in fleet.knowledge().rows.values()]
        return told(now) == told(documents)

    fleet.write("fleet", *documents)
    assert eventually(in_force, 20), fleet.log()
    fleet.settle(timeout=90)


def in_sync(fleet: Fleet) -> None:
    """Waits for what follows elsewhere from a change, too, which is no new generation there."""
    assert eventually(lambda: fleet.run("diff").returncode == 0), fleet.run("diff").stdout + fleet.log()


def told(documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What a manifest says, by kind and name."""
    return {
        f"{one['kind']}/{one['metadata']['name']}": (one["metadata"].get("labels") or {}, one["spec"])
        for one in documents
    }


def unfiltered(fleet: Fleet) -> None:
    """No Firewall and no Service is left; then nothing of a filter is on any host."""
    change(fleet, *machines(fleet))
    in_sync(fleet)
    for host in HOSTS:
        assert "salvus" not in fleet.inside(host, "nft list tables")
        assert fleet.inside(host, "ls -d /var/lib/salvus/firewall /etc/systemd/system/salvus-fire* || :") == ""


def connects(fleet: Fleet, host: str, address: str, port: int) -> bool:
    script = f"python3 -c {shlex.quote(CONNECT)} {address} {port} 2>/dev/null && echo yes || echo no"
    return fleet.inside(host, script) == "yes\n"


def logs_in(fleet: Fleet, address: str) -> bool:
    """Whether a new connection comes about from where salvus comes from."""
    command = ["nsenter", f"--net=/run/netns/{fleet.lab.namespace}", "python3", "-c", CONNECT, address, "22"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def connections(fleet: Fleet, wanted: Mapping[tuple[str, str, int], bool]) -> None:
    """Makes them all at once: what comes about and what does not."""
    with ThreadPoolExecutor(len(wanted)) as pool:
        found = dict(zip(wanted, pool.map(lambda one: connects(fleet, *one), wanted), strict=True))
    assert found == wanted


def proved(fleet: Fleet) -> dict[str, bool | None]:
    """All sentences in the manifests, by real connections."""
    shown = fleet.run("firewall", "test", "--live", "-o", "json")
    return {one["test"]: one["true"] for one in json.loads(shown.stdout)["tests"]}


def chains(fleet: Fleet, host: str) -> str:
    """The rules, with the handles that the kernel gave them."""
    return "".join(fleet.inside(host, f"nft -a -s list chain inet salvus {one}") for one in ("input", "output"))


# The notes' roles, in a private network that is IPv6 where the public one is IPv4

RING, SAGE, WEB = labelled("ring"), labelled("sage"), labelled("web")
VPN = resource("VPN", "net", {"driver": "tinc", "cidr": "fd77::/64", "members": {"selector": {}}, "hubs": RING})
SERVICES = (
    listener("gossip", 7000, RING, {"service": "gossip"}),
    listener("cql", 9042, RING, {"machines": SAGE}),
    listener("notebook", 6000, SAGE, {"machines": WEB}),
)
ALWAYS = [
    "host2 reaches cql:9042",
    "host2 never reaches gossip:7000",
    "host2 never reaches host1:22",
    "host2 reaches host3:655",
    "host3 never reaches host1:9042",
    "host3 reaches notebook:6000",
    "host3 reaches host2:22",
    "host1 never reaches notebook:6000",
    "host2 never reaches host3:22",
]
# From there nobody can try.
WORLD = "world never reaches host2:22"
APART = ["host3 never reaches host1:7000", "host2 reaches host3:53", "host2 reaches host3:53/udp"]
TOGETHER = ["host3 reaches host1:7000", "host1 reaches host3:7000", "host2 never reaches host3:53"]


def roles(*tests: str) -> list[dict[str, Any]]:
    """A ring that its clients get to; and Sage, with ssh from all of the VPN, and nothing out but names, the VPN and
    the ring.
    """
    egress = [{"name": f"dns-{one}", "protocol": one, "ports": ["53"]} for one in ("tcp", "udp")]
    egress += [{"name": f"tinc-{one}", "protocol": one, "ports": ["655"]} for one in ("tcp", "udp")]
    shut = {"ingress": "deny", "egress": "deny"}
    return [
        wall("ring", RING, default={"ingress": "deny"}, derive=True, tests=list(tests)),
        wall("sage", SAGE, {"cidr": OURS}, {"vpn": "net"}, default=shut, egress=egress),
    ]


def test_roles_let_in_who_they_name_and_follow_who_joins(fleet: Fleet) -> None:
    """C5."""
    apart = machines(fleet, host1=["ring"], host2=["sage"], host3=["web"])
    change(fleet, *apart, VPN, *SERVICES, *roles(WORLD, *ALWAYS, *APART))
    known = fleet.knowledge().known.allocations
    one, two, three = (known["VPN/net", f"address/{host}"] for host in HOSTS)
    assert eventually(lambda: connects(fleet, "host3", two, 22), 20), "the tunnel is up"
    assert proved(fleet) == dict.fromkeys((*ALWAYS, *APART), True) | {WORLD: None}
    public = {("host2", ONE, 9042): True, ("host3", ONE, 9042): False, ("host2", ONE, 7000): False}
    public |= {("host3", TWO, 6000): True, ("host1", TWO, 6000): False}
    public |= {("host1", TWO, 22): False, ("host3", TWO, 22): False, ("host2", THREE, 22): False}
    private = {("host2", one, 9042): True, ("host3", one, 9042): False, ("host2", one, 7000): False}
    private |= {("host3", two, 6000): True, ("host1", two, 6000): False}
    private |= {("host1", two, 22): True, ("host3", two, 22): True, ("host2", three, 22): False}
    connections(fleet, public | private)

    # Without this what began before the rules would live on for three hours, whatever they say.
    fleet.inside("host1", "nft flush set inet salvus older")
    fleet.inside("host2", f"rm -f /run/say; python3 -c {shlex.quote(HELD)} {ONE} 9042 >/run/held 2>&1 &")
    assert eventually(lambda: fleet.inside("host2", "cat /run/held") == "open\n", 10)
    before = chains(fleet, "host1")
    assert not {THREE, three} & set(re.findall(r"[0-9a-f.:]+", fleet.inside("host1", "nft list table inet salvus")))
    joined = machines(fleet, host1=["ring"], host2=["sage"], host3=["web", "ring"])
    fleet.inside("host1", f"printf %s {shlex.quote(SLOW)} >{NFT}; chmod +x {NFT}")
    change(fleet, *joined, VPN, *SERVICES, *roles(WORLD, *ALWAYS, *TOGETHER))
    in_sync(fleet)
    fleet.inside("host1", f"rm {NFT}")
    assert chains(fleet, "host1") == before, "a member is an element of a set"
    assert {THREE, three} <= set(re.findall(r"[0-9a-f.:]+", fleet.inside("host1", "nft list table inet salvus")))
    assert ONE in fleet.inside("host3", "cat /run/met").split(), "it was let in before it was started"
    public = {("host3", ONE, 7000): True, ("host1", THREE, 7000): True}
    public |= {("host2", THREE, 9042): True, ("host2", THREE, 7000): False}
    private = {("host3", one, 7000): True, ("host1", three, 7000): True}
    private |= {("host2", three, 9042): True, ("host2", three, 7000): False}
    connections(fleet, public | private)

    change(fleet, *machines(fleet, host1=["ring"], host3=["ring"]), VPN, *SERVICES, *roles())
    assert eventually(lambda: not connects(fleet, "host2", ONE, 9042)), fleet.log()
    fleet.inside("host2", "touch /run/say")
    assert eventually(lambda: "200 OK" in fleet.inside("host2", "cat /run/held"), 10), "what was open lives on"
    # No more than five at once are deleted.
    change(fleet, *machines(fleet), VPN)
    unfiltered(fleet)
    assert connects(fleet, "host2", ONE, 22)


# ufw, and an operator who had it before

OPERATORS = f"""
ufw allow from {OURS} to any port 22 proto tcp >/dev/null
ufw allow 8080/tcp comment 'mine' >/dev/null
ufw allow 8090/tcp comment 'too much' >/dev/null
ufw --force enable >/dev/null
"""
# Of what iptables-save(8) tells, not the time and not how many packets there were.
STATE = r"""
exec 2>&1
ufw status verbose; ufw status numbered; ufw show added; systemctl is-enabled ufw || :; systemctl is-active ufw || :
for tool in iptables ip6tables; do $tool-save | sed -e '/^#/d' -e 's/ \[[0-9:]*\]$//'; done
for file in $(find /etc/ufw /etc/default/ufw -type f | sort); do stat -c '%n %a %U %G' $file; cat $file; done
ls -A /etc/ufw /etc/default /var/lib/salvus/ufw || :; ls /etc/systemd/system/*.wants/ufw.service || :
sysctl -e $(sed -n 's/^\([a-z][^=]*\)=.*/\1/p' /etc/ufw/sysctl.conf)
"""
TOOLS = resource("Service", "tools", {"machines": {"names": ["host2"]}, "packages": ["ufw"]})
UFW = (
    listener("open", 7000, {"names": ["host2"]}, {"machines": {"names": ["host1"]}}),
    listener("mine", 8080, {"names": ["host2"]}),
    listener("shut", 8090, {"names": ["host2"]}),
)


@pytest.fixture(scope="module")
def operators(fleet: Fleet) -> str:
    """host2 has ufw, and rules of somebody else in it; what it says of that."""
    change(fleet, *machines(fleet), TOOLS)
    fleet.inside("host2", OPERATORS)
    return ufw(fleet)


def ufw(fleet: Fleet) -> str:
    """Its rules, its files byte for byte, what the kernel has of them and of its settings, what systemd starts."""
    return fleet.inside("host2", STATE)


def test_ufw_filters_beside_the_operators_own_rules(fleet: Fleet, operators: str, tmp_path: Path) -> None:
    """C6."""
    denied = [{"name": "shut", "action": "deny", "ports": ["8090"]}]
    change(fleet, *machines(fleet), TOOLS, *UFW, wall("host2", {"names": ["host2"]}, backend="ufw", ingress=denied))
    tried = [("host1", 7000), ("host3", 7000), ("host3", 8080), ("host3", 8090)]
    assert [connects(fleet, host, TWO, port) for host, port in tried] == [True, False, True, False]
    # The operator goes on meanwhile, and has ufw write its files anew.
    fleet.inside("host2", "ufw allow 7777/tcp >/dev/null; ufw delete allow 7777/tcp >/dev/null")
    in_sync(fleet)
    added = fleet.inside("host2", "ufw show added").splitlines()
    assert "\n".join(line for line in added if "salvus: " not in line) in operators
    assert any("salvus: " in line for line in added)

    # Of whom no controller knows any more.
    fleet.stop()
    other = Fleet(fleet.lab, tmp_path)
    try:
        other.write("fleet", *machines(other))
        done = other.run("apply", str(other.manifests))
        assert done.returncode == 0, done.stdout + done.stderr
        done = other.run("firewall", "remove", "host2", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        other.close()
    assert ufw(fleet).splitlines() == operators.splitlines()

    # Who does know makes it again, and takes it away with the manifest.
    fleet.start()
    assert eventually(lambda: connects(fleet, "host1", TWO, 7000) and not connects(fleet, "host3", TWO, 8090)), (
        fleet.log()
    )
    change(fleet, *machines(fleet), TOOLS)
    assert eventually(lambda: ufw(fleet) == operators), fleet.log()


# The dead-man switch


def armed(fleet: Fleet, host: str) -> bool:
    """Whether rules are on trial there."""
    kernels = "nft -s list set inet salvus trial 2>/dev/null | grep elements"
    return fleet.inside(host, f"{kernels} || cat /var/lib/salvus/undo/*/armed 2>/dev/null || :") != ""


def walls(ssh: str, **spec: Any) -> list[dict[str, Any]]:
    """One a host, so that none waits for another; host2 has ufw."""
    who = {"cidr": ssh}
    backends = ("nftables", "ufw", "nftables")
    return [wall(host, {"names": [host]}, who, backend=one, **spec) for host, one in zip(HOSTS, backends, strict=True)]


def test_nobody_is_locked_out(fleet: Fleet, operators: str) -> None:
    """C4: with the controller killed, with sshd restarted, with a boot within the window; and with nothing of it."""
    base = [*machines(fleet), TOOLS]
    change(fleet, *base, *walls(OURS))
    # With ufw the operator's own rule would let us in.
    shut = [{"name": "shut", "action": "deny", "ports": ["22"]}]
    fleet.write("fleet", *base, *walls(NOBODYS, ingress=shut))
    since = time.monotonic()
    assert eventually(lambda: all(armed(fleet, host) for host in HOSTS) and not logs_in(fleet, TWO), 25), fleet.log()
    fleet.kill()
    assert [logs_in(fleet, address) for address in ADDRESSES] == [False] * 3
    fleet.inside("host1", "systemctl restart ssh")
    breakage.reboot(fleet.lab, fleet.host("host3"))
    hosts.wait(fleet.lab, fleet.host("host3"))
    assert eventually(lambda: all(logs_in(fleet, address) for address in ADDRESSES), WINDOW + 10)
    assert time.monotonic() - since < WINDOW + 20
    assert not connects(fleet, "host2", ONE, 22), "what was there before counts, not nothing"
    assert NOBODYS.partition("/")[0] not in fleet.inside("host3", "nft list table inet salvus")

    # Nobody knows whether they were good: they are tried again, once.
    fleet.start()
    assert eventually(lambda: all(armed(fleet, host) for host in HOSTS), 25), fleet.log()
    refs = [f"Firewall/{host}" for host in HOSTS]
    assert eventually(lambda: {fleet.ready(ref).reason for ref in refs} == {"RolledBack"}, WINDOW + 30), fleet.unready()
    passes, writes = (fleet.metric(name) for name in COUNTERS)
    assert eventually(lambda: fleet.metric(COUNTERS[0]) >= passes + 6)
    assert fleet.metric(COUNTERS[1]) == writes, "the same is not tried again"
    assert all(logs_in(fleet, address) for address in ADDRESSES)

    since = time.monotonic()
    change(fleet, *base, *walls(OURS, ingress=[{"name": "web", "ports": ["80"]}]))
    assert time.monotonic() - since < WINDOW, "what is corrected need not wait"
    rules = [fleet.inside(host, "nft list table inet salvus 2>/dev/null || ufw status") for host in HOSTS]
    assert all("spec.ingress[web]" in one for one in rules)
    assert not any(armed(fleet, host) for host in HOSTS)
    change(fleet, *base)
    assert eventually(lambda: ufw(fleet) == operators), fleet.log()
