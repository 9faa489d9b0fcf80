"""Machines as network namespaces on one bridge, and a stranger: what the kernel lets through between them."""

from __future__ import annotations

import itertools
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from drivers.items import nft_text, ufw_text
from drivers.items.rules import Action, Protocol, RuleSet
from lab.namespaces import held
from resources.reach import WORLD, Packet
from tests.conformance.nft_world import entered
from tests.conformance.ufw_world import SETUP

# As ``tests/fast/firewalls.py`` gives them to machines; whatever is written of a machine, here it has both.
STRANGER = {4: "203.0.113.99", 6: "2001:db8::99"}
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_POLICIES = {Action.ALLOW: "ACCEPT", Action.DENY: "DROP"}
# What a rule set decides; what ufw made of the default at its start is in the last two.
_CHAINS = ("user-input", "user-output", "user-logging-input", "user-logging-output", "track-input", "track-output")
# Gives the machine whose process that is these rules, or none.
Put = Callable[[int, RuleSet | None], None]
_UP = """\
ip link set lo up
echo ready
exec sleep infinity
"""
# Each is there at once: no address is tried out before, no router asked for; and who sends from where is not looked at.
_NODE = """\
sysctl -q net.ipv4.conf.all.rp_filter=0
sysctl -q net.ipv4.conf.eth0.rp_filter=0 net.ipv6.conf.eth0.accept_ra=0 net.ipv6.conf.eth0.dad_transmits=0
ip link set eth0 up
ip address add {v4} dev eth0
ip address add {v6} dev eth0 nodad
ip route add {other_v4} dev eth0
ip route add {other_v6} dev eth0
"""
# The device of the VPN ``net``. Its addresses are reached from elsewhere, too: machines have no strict routing.
_DEVICE = """\
sysctl -q net.ipv4.conf.vpn-net.rp_filter=0 net.ipv6.conf.vpn-net.dad_transmits=0
ip link set vpn-net up
ip address add 10.9.0.{number}/29 dev vpn-net
ip address add fd09::{number}/64 dev vpn-net nodad
"""
_TO_DEVICE = """\
ip route add 10.9.0.{number} via 10.0.0.{number} dev eth0 onlink
ip route add fd09::{number} via fd00::{number} dev eth0 onlink
"""
# netlink(7), nfnetlink_conntrack.h: IPCTNL_MSG_CT_DELETE of nothing in particular is of all connections.
_NETLINK_NETFILTER, _NLMSG_ERROR = 12, 2
_FORGET = struct.pack("=IHHIIBBH", 20, 1 << 8 | 2, 1 | 4, 1, 0, 0, 0, 0)
# Numbers that no protocol has (IANA): one for each try, because the kernel knows such connections by addresses alone.
_NAMELESS = range(150, 250)


def by_nft(pid: int, rules: RuleSet | None) -> None:
    """As ``NftTable`` has them loaded."""
    text = nft_text.whole(rules) if rules is not None else "table inet salvus\ndelete table inet salvus\n"
    _in(pid, "nft -f -", text)


@dataclass
class Net:
    """The namespaces by machine."""

    pids: Mapping[str, int]
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.cycle(range(20000, 60000)))
    _nameless: Iterator[int] = field(default_factory=lambda: itertools.cycle(_NAMELESS))

    def filter(self, rules: Mapping[str, RuleSet], put: Put = by_nft) -> None:
        """Gives machines these rules, and takes all others away; what was connected is forgotten."""
        for name, pid in self.pids.items():
            put(pid, rules.get(name))
            with entered(pid), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as kernel:
                kernel.send(_FORGET)
                length, kind, _, _, _, error = struct.unpack("=IHHIIi", kernel.recv(256)[:20])
                assert (length, kind, error) == (36, _NLMSG_ERROR, 0)

    def arrived(self, packets: Sequence[tuple[str, str, Packet]], expected: int) -> list[bool]:
        """Which packets (from whom, to whom, which) get there. It is waited for as many as are expected."""
        with ExitStack() as sockets:
            ears = _Ears(sockets)
            calls = [self._call(packet, ears) for packet in packets]
            heard: set[int] = set()
            patience = time.monotonic() + 5
            while len(heard) < expected and time.monotonic() < patience:
                heard |= _heard(calls, ears)
            # Delivered before sending returns; what nobody expected gets a moment all the same.
            time.sleep(0.02)
            heard |= _heard(calls, ears)
        return [call.token in heard for call in calls]

    def _call(self, sent: tuple[str, str, Packet], ears: _Ears) -> _Call:
        """Sends one packet; a TCP connection is refused at once by whoever hears of it."""
        source, destination, packet = sent
        version = packet.version
        token = next(self._numbers)
        here = packet.source or STRANGER[version]
        there = packet.destination or STRANGER[version]
        kind, number = self._kind(packet)
        if packet.protocol is not Protocol.TCP:
            ears.listen(self.pids[destination], there, number, packet)
        with entered(self.pids[source]):
            caller = ears.sockets.enter_context(socket.socket(_FAMILY[version], kind, number))
        caller.setblocking(False)
        ported = packet.protocol in {Protocol.TCP, Protocol.UDP}
        caller.bind((here, token if ported else 0))
        call = _Call(caller, token, packet.protocol is Protocol.TCP)
        try:
            caller.connect((there, packet.port))
            caller.send(_message(packet.protocol, version, token))
        except (BlockingIOError, PermissionError):  # under way; not even let out
            pass
        return call

    def _kind(self, packet: Packet) -> tuple[socket.SocketKind, int]:
        match packet.protocol:
            case Protocol.TCP:
                return socket.SOCK_STREAM, socket.IPPROTO_TCP
            case Protocol.UDP:
                return socket.SOCK_DGRAM, socket.IPPROTO_UDP
            case Protocol.ICMP:
                return socket.SOCK_RAW, socket.IPPROTO_ICMP if packet.version == 4 else socket.IPPROTO_ICMPV6
            case Protocol.ANY:
                return socket.SOCK_RAW, next(self._nameless)


@dataclass
class _Ears:
    """Sockets that hear what arrives, one for each address, protocol and port; all are closed with the stack."""

    sockets: ExitStack
    _ready: select.poll = field(default_factory=select.poll)
    _known: set[tuple[str, int, int]] = field(default_factory=set)
    _by_number: dict[int, socket.socket] = field(default_factory=dict)

    def listen(self, pid: int, address: str, number: int, packet: Packet) -> None:
        """In the namespace of this process."""
        key = (address, number, packet.port)
        if key in self._known:
            return
        with entered(pid):
            kind = socket.SOCK_DGRAM if number == socket.IPPROTO_UDP else socket.SOCK_RAW
            ear = self.sockets.enter_context(socket.socket(_FAMILY[packet.version], kind, number))
        ear.bind((address, packet.port))
        self._known.add(key)
        self._by_number[ear.fileno()] = ear
        # Not select(2): it knows no descriptor beyond 1023.
        self._ready.register(ear, select.POLLIN)

    def told(self) -> set[int]:
        """The last four bytes of a packet for each who has heard one."""
        return {int.from_bytes(self._by_number[number].recv(2048)[-4:]) for number, _ in self._ready.poll(10)}


def _heard(calls: Sequence[_Call], ears: _Ears) -> set[int]:
    # Who hears ICMP hears much more than that.
    return {call.token for call in calls if call.answered()} | (ears.told() & {call.token for call in calls})


@dataclass(frozen=True, slots=True)
class _Call:
    caller: socket.socket
    token: int
    tcp: bool

    def answered(self) -> bool:
        """Whether the other end has refused the connection."""
        return self.tcp and self.caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 111


def _message(protocol: Protocol, version: int, token: int) -> bytes:
    """What can be told again at the other end; as a ping for ICMP (RFC 792, RFC 4443)."""
    tail = token.to_bytes(4)
    if protocol is not Protocol.ICMP:
        return tail
    head = struct.pack("!BBHHH", 8 if version == 4 else 128, 0, 0, token, 1)
    total = sum(struct.unpack("!6H", head + tail))
    total = (total & 0xFFFF) + (total >> 16)
    # Of ICMPv6 the kernel works it out.
    return head[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[4:] + tail


def by_ufw(pid: int, rules: RuleSet | None) -> None:
    """As ``UfwRules`` has them loaded, where ``start_ufw`` was before."""
    some = rules or RuleSet(default_ingress=Action.ALLOW)
    for version, (tool, ufw) in {4: ("iptables", "ufw"), 6: ("ip6tables", "ufw6")}.items():
        text = f"*filter\n:INPUT {_POLICIES[some.default_ingress]}\n:OUTPUT {_POLICIES[some.default_egress]}\n"
        text += "".join(f":{ufw}-{name} -\n" for name in _CHAINS)
        text += f"{ufw_text.text(ufw_text.blocks(some, version))}COMMIT\n"
        _in(pid, f"{tool}-restore -n", text)


def start_ufw(net: Net) -> None:
    """On all machines, with the before.rules of its package."""
    for pid in net.pids.values():
        _in(pid, f"{SETUP}echo ENABLED=yes >>/etc/ufw/ufw.conf\n/lib/ufw/ufw-init start\n")


def made(names: Sequence[str], stack: ExitStack) -> Net:
    """The first machine has the addresses 10.0.0.1 and fd00::1, and so on; all can reach each other."""
    bridge = stack.enter_context(held(_UP))
    pids = {name: stack.enter_context(held(_UP)) for name in (*names, WORLD)}
    for name in ("br0", "br1"):
        _in(bridge, f"ip link add {name} type bridge forward_delay 0 mcast_snooping 0\nip link set {name} up\n")
    for number, (name, pid) in enumerate(pids.items(), 1):
        for port, device, master in ((f"n{number}", "eth0", "br0"), (f"v{number}", "vpn-net", "br1")):
            _in(bridge, f"ip link add {port} master {master} up type veth peer name {device} netns {pid}\n")
        own, others = ("10.0.0.{}/24", "fd00::{}/64"), (f"{STRANGER[4]}/32", f"{STRANGER[6]}/128")
        if name == WORLD:
            own, others = (f"{STRANGER[4]}/24", f"{STRANGER[6]}/64"), ("10.0.0.0/24", "fd00::/64")
        v4, v6 = (text.format(number) for text in own)
        _in(pid, _NODE.format(v4=v4, v6=v6, other_v4=others[0], other_v6=others[1]))
        if name != WORLD:
            _in(pid, _DEVICE.format(number=number))
    for number in range(1, len(pids)):
        _in(pids[WORLD], _TO_DEVICE.format(number=number))
    return Net(pids)


def _in(pid: int, text: str, stdin: str = "") -> None:
    into = ["nsenter", f"--target={pid}", "--net", "--mount", "--", "sh", "-euc", text]
    subprocess.run(into, input=stdin, text=True, check=True)
