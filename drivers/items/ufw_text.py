"""A `RuleSet` in the words of ufw(8): the rules as its files have them, /etc/ufw/user.rules and user6.rules. Pure.

Such a file is a script of iptables-restore(8). Each rule is a comment, the tuple, of which alone ufw takes notice when
it writes the file anew, and after it the lines that the kernel gets. Of ours the tuple's own comment begins with
``MARK``; ufw writes comments as hex digits.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from drivers.base import Rejected
from drivers.items.rules import Action, Group, Ports, Protocol, Rule, RuleSet, joined

MARK = "salvus: "
MARKED = f" comment={MARK.encode().hex()}"
TUPLE = "### tuple ###"
VERSIONS = (4, 6)
_CHAINS = {4: "ufw", 6: "ufw6"}
_EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
_WORDS = {Action.ALLOW: "allow", Action.DENY: "deny"}
_TARGETS = {"allow": "ACCEPT", "deny": "DROP"}
_LOGGED = {"allow": "ALLOW", "deny": "BLOCK"}
_LIMIT = "-m conntrack --ctstate NEW -m limit --limit 3/min --limit-burst 10"
# iptables-extensions(8), multiport: a range counts as two.
_MULTIPORT = 15
_COMMENT = 240  # bytes
# As ufw takes it; a plus at its end would mean all that begin so (iptables(8)).
_INTERFACE = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9_.+,=%@-]{0,14}[a-zA-Z0-9_.,=%@-]")


@dataclass(frozen=True, slots=True)
class _Line:
    """A rule of ufw's: one version of IP, one direction (``in``, ``out``), at most one address."""

    version: int
    way: str
    action: str
    why: str
    protocol: str = "any"
    dport: str = "any"
    sport: str = "any"
    peer: str = ""
    interface: str = ""
    log: bool = False

    @property
    def tuple(self) -> str:
        """As ufw reads it."""
        anywhere = _EVERYWHERE[self.version]
        src, dst = (self.peer or anywhere, anywhere) if self.way == "in" else (anywhere, self.peer or anywhere)
        action = f"{self.action}_log" if self.log else self.action
        way = f"{self.way}_{self.interface}" if self.interface else self.way
        words = f"{TUPLE} {action} {self.protocol} {self.dport} {dst} {self.sport} {src} {way}"
        return f"{words} comment={(MARK + self.why).encode().hex()}"

    @property
    def kernel(self) -> Sequence[str]:
        """As iptables-restore reads it, in the order in which ufw writes it."""
        name = {"in": "input", "out": "output"}[self.way]
        prefix, match, target = _CHAINS[self.version], self._match(), _TARGETS[self.action]
        chain, logging = f"-A {prefix}-user-{name}", f"{prefix}-user-logging-{name}"
        decides = f"{chain} {match}-j {target}"
        if not self.log:
            return (decides,)
        return (
            f'-A {logging} {match}{_LIMIT} -j LOG --log-prefix "[UFW {_LOGGED[self.action]}] "',
            f"-A {logging} {match}-j RETURN",
            f"{chain} {match}-j {logging}",
            decides,
        )

    def _match(self) -> str:
        flags = {"in": ("-i", "-s"), "out": ("-o", "-d")}[self.way]
        interface = f"{flags[0]} {self.interface} " if self.interface else ""
        protocol = f"-p {self.protocol} " if self.protocol != "any" else ""
        several = "," in self.dport or ":" in self.dport
        ports = f"-m multiport --dports {self.dport} " if several else ""
        peer = f"{flags[1]} {self.peer} " if self.peer else ""
        # The destination's address stands before its port, and the source's behind (ufw, UFWRule.format_rule).
        dport = f"--dport {self.dport} " if not several and self.dport != "any" else ""
        sport = f"--sport {self.sport} " if self.sport != "any" else ""
        middle = dport + peer if self.way == "in" else peer + dport
        return f"{interface}{protocol}{ports}{middle}{sport}"


@dataclass(frozen=True, slots=True)
class Block:
    """A rule as the file has it."""

    tuple: str
    kernel: Sequence[str]

    def __str__(self) -> str:
        """For people: the tuple with its comment in clear."""
        words, _, comment = self.tuple.removeprefix(f"{TUPLE} ").partition(" comment=")
        return f"{words} # {_decoded(comment).removeprefix(MARK)}"


def blocks(rules: RuleSet, version: int) -> tuple[Block, ...]:
    """The rules for one version of IP, in order."""
    return tuple(Block(line.tuple, line.kernel) for line in _lines(rules) if line.version == version)


def counts(some: Iterable[Block]) -> tuple[int, int]:
    """How many rules of the kernel's are about incoming packets, and about outgoing ones."""
    chains = [line.split(" ")[1].partition("-")[2] for block in some for line in block.kernel]
    return chains.count("user-input"), chains.count("user-output")


def text(some: Iterable[Block]) -> str:
    """What stands in the file, behind the line that begins its rules."""
    return "".join("\n" + "".join(f"{line}\n" for line in (block.tuple, *block.kernel)) for block in some)


def shown(rules: RuleSet) -> tuple[str, ...]:
    """All rules, a line each."""
    return tuple(f"IPv{version} {block}" for version in VERSIONS for block in blocks(rules, version))


def found(lines: Mapping[int, Sequence[str]], rules: RuleSet) -> tuple[str, ...]:
    """As ``shown``, what the machine has: per version of IP the lines of our blocks. Where the kernel gets something
    else than ``rules`` say, it is told.
    """
    told = []
    for version in VERSIONS:
        wanted = {block.tuple: tuple(block.kernel) for block in blocks(rules, version)}
        for block in _taken_apart(lines[version]):
            edited = wanted.get(block.tuple, block.kernel) != block.kernel
            told.append(f"IPv{version} {block}{' (edited)' if edited else ''}")
    return tuple(told)


def opens(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether what is ``shown`` after lets in or out all that was let before: only rules that allow were added."""
    left = iter(before)
    waiting = next(left, None)
    for line in after:
        if line == waiting:
            waiting = next(left, None)
        elif not re.match(r"IPv[46] allow(_log)? ", line):
            return False
    return waiting is None


def check(rules: RuleSet) -> None:
    """Raises Rejected for what cannot be said in ufw's words: it is never half said."""
    groups = {group.name for group in rules.groups}
    for rule in (*rules.ingress, *rules.egress):
        if rule.peers and rule.peers not in groups:
            raise Rejected(f"a rule is about {rule.peers!r}, a group that is not there", hint=rule.why)
        if rule.protocol is Protocol.ICMP:
            raise Rejected("ufw has no rules about ICMP but in its before.rules", hint=f"{rule.why}: leave it out")
        if rule.per_minute:
            raise Rejected("ufw knows no rate for all peers together", hint=f"{rule.why}: leave perMinute out")
        if rule.interface and not _INTERFACE.fullmatch(rule.interface):
            raise Rejected(f"{rule.interface!r} is not the name of an interface to ufw", hint=rule.why)
        if any(not 1 <= ports.first <= ports.last <= 65535 for ports in rule.ports):
            raise Rejected("ports are from 1 to 65535", hint=rule.why)
    for group in rules.groups:
        for network in group.networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise Rejected(f"not a network: {error}") from error


def comment(why: str) -> str:
    """As a comment that ufw can show: in its own commands it stands between single quotes, and there is no other."""
    safe = "".join(letter if letter.isprintable() else "?" for letter in why).replace("'", '"')
    return safe.encode("utf-8", "replace")[:_COMMENT].decode("utf-8", "ignore")


def _lines(rules: RuleSet) -> Iterator[_Line]:
    groups = {group.name: group for group in rules.groups}
    for rule in rules.ingress:
        yield from _split(rule, "in", groups)
    if rules.egress or rules.default_egress is Action.DENY:
        yield from _CLIENT
    for rule in rules.egress:
        yield from _split(rule, "out", groups)


# What the contract lets through before all rules, and ufw's own before.rules do not: what a client of DHCP says
# (RFC 2131, 4.1; RFC 8415, 7.2).
_CLIENT = (
    _Line(4, "out", "allow", "always: DHCP", "udp", "67", "68"),
    _Line(6, "out", "allow", "always: DHCPv6", "udp", "547", "546", "fe80::/10"),
    _Line(6, "out", "allow", "always: DHCPv6", "udp", "547", "546", "ff02::1:2"),
)


def _split(rule: Rule, way: str, groups: Mapping[str, Group]) -> Iterator[_Line]:
    """One rule as many: ufw knows neither groups nor both protocols with several ports."""
    base = _Line(4, way, _WORDS[rule.action], comment(rule.why), interface=rule.interface, log=rule.log)
    protocols: Sequence[str] = (str(rule.protocol),)
    if rule.protocol is Protocol.ANY and rule.ports:
        protocols = ("tcp", "udp")
    for version, peer in _peers(rule, groups):
        for protocol in protocols:
            for ports in _ports(rule.ports):
                yield replace(base, version=version, peer=peer, protocol=protocol, dport=ports)


def _peers(rule: Rule, groups: Mapping[str, Group]) -> Iterator[tuple[int, str]]:
    if not rule.peers:
        yield from ((version, "") for version in VERSIONS)
        return
    for network in map(ipaddress.ip_network, groups[rule.peers].networks):
        # As inet_ntop(3) writes it, which ufw asks; it is not always what ipaddress says (::ffff:192.0.2.1).
        address = _written(network)
        whole = network.prefixlen == network.max_prefixlen
        yield network.version, address if whole else f"{address}/{network.prefixlen}" if network.prefixlen else ""


def _written(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    return socket.inet_ntop(family, network.network_address.packed)


def _ports(some: Iterable[Ports]) -> Iterator[str]:
    """As many as one rule can have, and what is more in others; ``any`` for all."""
    words: list[str] = []
    room = _MULTIPORT
    all_ports = joined(some)
    for ports in all_ports:
        size = 1 if ports.first == ports.last else 2
        if size > room:
            yield ",".join(words)
            words, room = [], _MULTIPORT
        words.append(str(ports.first) if size == 1 else f"{ports.first}:{ports.last}")
        room -= size
    yield ",".join(words) if all_ports else "any"


def _taken_apart(lines: Iterable[str]) -> Iterator[Block]:
    first = ""
    kernel: list[str] = []
    for line in lines:
        if line.startswith(TUPLE):
            if first:
                yield Block(first, tuple(kernel))
            first, kernel = line, []
        else:
            kernel.append(line)
    if first:
        yield Block(first, tuple(kernel))


def _decoded(comment: str) -> str:
    try:
        return bytes.fromhex(comment).decode("utf-8", "replace")
    except ValueError:
        return comment
