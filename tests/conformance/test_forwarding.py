"""What is forwarded goes on under a table that denies both ways: a NAT network of libvirt, containers as by Docker.

Their rules are as these programs make them; guests and containers are network namespaces.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace

import pytest

from drivers.items.nft_table import NftTable
from drivers.items.rules import Action, Group, Ports, Protocol, Rule, RuleSet
from lab.namespaces import held
from tests.conformance.nft_world import HERE, THERE, Box, box, entered

__all__ = ["box"]
pytestmark = pytest.mark.conformance

HERE_6, THERE_6 = "fd00:255::1", "fd00:255::2"
GUEST, GUEST_6, CONTAINER = "192.168.122.2", "fd00:122::2", "172.17.0.2"
GATEWAY = "192.168.122.1"
SHUT = RuleSet(default_ingress=Action.DENY, default_egress=Action.DENY)
# As docs/firewall.md says for the hypervisor of a NAT network.
GUESTS = Group("guests", ("192.168.122.0/24",))
FOR_GUESTS = RuleSet(
    ingress=(
        Rule(Action.ALLOW, "guests-dhcp", "", Protocol.UDP, (Ports(67, 67),)),
        Rule(Action.ALLOW, "guests-dns-udp", "guests", Protocol.UDP, (Ports(53, 53),)),
        Rule(Action.ALLOW, "guests-dns-tcp", "guests", Protocol.TCP, (Ports(53, 53),)),
    ),
    egress=(Rule(Action.ALLOW, "guests-dhcp", "", Protocol.UDP, (Ports(68, 68),)),),
    default_egress=Action.DENY,
    groups=(GUESTS,),
)
# Who forwards asks for neighbours from its link-local address, which is tried out for a second or two first (RFC 4862).
_SETTLED = 'until [ -z "$(ip -6 address show tentative)" ]; do sleep 0.1; done\n'
_UP = "ip link set lo up\necho ready\nexec sleep infinity\n"
_BRIDGE = """\
ip link add {bridge} type bridge forward_delay 0
sysctl -q net.ipv6.conf.{bridge}.dad_transmits=0
ip address add {gateway} dev {bridge}
ip link set {bridge} up
ip link add {bridge}-1 master {bridge} up type veth peer name eth0 netns {pid}
"""
_BEHIND = """\
sysctl -q net.ipv6.conf.eth0.accept_ra=0 net.ipv6.conf.eth0.dad_transmits=0
ip address add {own} dev eth0
ip link set eth0 up
ip route add default via {gateway}
"""
# libvirt's (src/network/network_iptables.c), for forward mode nat; and Docker's, for one published port.
_RULES = """\
sysctl -q net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
iptables -A INPUT -i virbr0 -p udp -m multiport --dports 53,67 -j ACCEPT
iptables -A FORWARD -d 192.168.122.0/24 -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A FORWARD -s 192.168.122.0/24 -i virbr0 -j ACCEPT
iptables -A FORWARD -i virbr0 -o virbr0 -j ACCEPT
iptables -A FORWARD -o virbr0 -j REJECT
iptables -t nat -A POSTROUTING -s 192.168.122.0/24 ! -d 192.168.122.0/24 -j MASQUERADE
iptables -P FORWARD DROP
iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A FORWARD -d 172.17.0.2 ! -i docker0 -o docker0 -p tcp --dport 80 -j ACCEPT
iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -p tcp --dport 8080 -j DNAT --to 172.17.0.2:80
iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
"""


class Hypervisor:
    """The box with a guest, whose network has IPv6 that is routed, and a container."""

    def __init__(self, machine: Box, stack: ExitStack) -> None:
        self.machine = machine
        self.guest, self.container = (stack.enter_context(held(_UP)) for _ in range(2))
        self._behind("virbr0", self.guest, (f"{GUEST}/24", GATEWAY), (f"{GUEST_6}/64", "fd00:122::1"))
        self._behind("docker0", self.container, (f"{CONTAINER}/16", "172.17.0.1"))
        subprocess.run(["ip", "address", "add", f"{HERE_6}/64", "dev", "c0", "nodad"], check=True)
        machine.sh(f"ip address add {THERE_6}/64 dev eth0 nodad\n{_RULES}")
        subprocess.run(["ip", "route", "add", "fd00:122::/64", "via", THERE_6], check=True)
        subprocess.run(["sh", "-euc", _SETTLED], check=True)
        machine.sh(_SETTLED)

    def _behind(self, bridge: str, pid: int, *networks: tuple[str, str]) -> None:
        for number, (own, gateway) in enumerate(networks):
            mask = own.partition("/")[2]
            made = _BRIDGE if not number else "ip address add {gateway} dev {bridge}\n"
            self.machine.sh(made.format(bridge=bridge, gateway=f"{gateway}/{mask}", pid=pid))
            text = _BEHIND.format(own=own, gateway=gateway)
            subprocess.run(["nsenter", f"--target={pid}", "--net", "sh", "-euc", text], check=True)


@pytest.fixture
def hypervisor(box: Box) -> Iterator[Hypervisor]:
    with ExitStack() as stack:
        yield Hypervisor(box, stack)


def made(kind: socket.SocketKind, address: str, pid: int | None) -> socket.socket:
    """A socket for such an address, in the network of that process; of none, in the one beside the machine."""
    with entered(pid) if pid is not None else nullcontext():
        found = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    found.settimeout(1)
    return found


def connected(source: int | None, to: str, port: int, place: int | None, listens: tuple[str, int] | None = None) -> str:
    """From where who listens sees a connection come; empty for none. ``listens``: where that is not ``to``."""
    with made(socket.SOCK_STREAM, to, place) as there, made(socket.SOCK_STREAM, to, source) as here:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        there.bind(listens or (to, port))
        there.listen()
        with suppress(TimeoutError):
            here.connect((to, port))
            accepted, peer = there.accept()
            accepted.close()
            return str(peer[0])
    return ""


def asked(hypervisor: Hypervisor, port: int, back: int, to: str, answer: str) -> tuple[bool, bool]:
    """Whether a datagram of the guest gets to the hypervisor, and what is told to ``answer`` then to the guest."""
    pid = hypervisor.machine.pid
    with made(socket.SOCK_DGRAM, to, pid) as there, made(socket.SOCK_DGRAM, to, hypervisor.guest) as here:
        for one in (there, here):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        there.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"virbr0")
        there.bind(("", port))
        here.bind(("", back))
        here.sendto(b"who am I", (to, port))
        got = heard(there)
        with suppress(PermissionError):
            there.sendto(b"you are", (answer, here.getsockname()[1]))
        return got, heard(here)


def heard(one: socket.socket) -> bool:
    with suppress(TimeoutError):
        return bool(one.recv(99))
    return False


def test_guests_and_containers_get_out_and_a_published_port_is_reached(hypervisor: Hypervisor) -> None:
    machine, guest, container = hypervisor.machine, hypervisor.guest, hypervisor.container
    machine.machine.mended(NftTable(SHUT))
    assert not connected(None, THERE, 7, machine.pid), "nobody gets in"
    assert not connected(machine.pid, HERE, 7, None), "nor out"
    assert not connected(machine.pid, HERE_6, 7, None)
    assert connected(guest, HERE, 7, None) == THERE, "masqueraded"
    assert connected(guest, HERE_6, 7, None) == GUEST_6
    assert connected(None, GUEST_6, 7, guest) == HERE_6, "routed"
    assert connected(container, HERE, 7, None) == THERE
    assert connected(None, THERE, 8080, container, (CONTAINER, 80)) == HERE
    assert not connected(None, THERE, 8081, container, (CONTAINER, 81)), "Docker lets in what is published"


def test_guests_have_names_and_addresses_when_that_is_written(hypervisor: Hypervisor) -> None:
    machine, guest = hypervisor.machine, hypervisor.guest
    dns, dhcp = (53, 0, GATEWAY, GUEST), (67, 68, "255.255.255.255", GUEST)
    assert asked(hypervisor, *dhcp) == (True, True)
    machine.machine.mended(NftTable(SHUT))
    assert asked(hypervisor, *dns)[0] is False
    assert asked(hypervisor, *dhcp) == (False, False)
    machine.machine.mended(NftTable(replace(FOR_GUESTS, egress=())))
    assert asked(hypervisor, *dhcp) == (True, False), "an answer to a broadcast belongs to no connection"
    machine.machine.mended(NftTable(FOR_GUESTS))
    assert asked(hypervisor, *dns) == (True, True)
    assert asked(hypervisor, *dhcp) == (True, True)
    assert connected(guest, GATEWAY, 53, machine.pid) == GUEST
    assert not connected(guest, GATEWAY, 22, machine.pid)
