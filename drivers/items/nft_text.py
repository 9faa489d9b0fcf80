"""A `RuleSet` as nft(8) text: the table as it stays, as it is on trial, and what is added to it. Pure.

On trial, the new chains and sets stand beside what is there, under names that begin with ``trial_``, and the first rule
of each base chain leads to them while the elements of the set ``trial`` last; these have a timeout in the kernel. So
what was there before is not touched, and counts again when the time is over, whatever has become of all processes.
The comment of ``trial``, and that of ``older`` where the table stays, is the digest: of which rules the kernel has.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, product

from drivers.base import Rejected
from drivers.items.rules import Action, Ports, Protocol, Rule, RuleSet, joined

TABLE = "inet salvus"
TRIAL = "trial_"
# What nothing of the table survives; in the transaction of what comes next, so that no packet meets the gap.
_ANEW = f"table {TABLE}\ndelete table {TABLE}\n"
_ELEMENTS = f"add element {TABLE} "
_TO_TRIAL = f"""\
insert rule {TABLE} input meta nfproto @trial goto {TRIAL}input
insert rule {TABLE} output meta nfproto @trial goto {TRIAL}output
"""
_OLDER = "\t\ttypeof meta nfproto\n\t\tflags timeout\n"
_MARK = re.compile(rf'({_OLDER})\t\tcomment "[0-9a-f]{{64}}"\n')
_COMMENT = 120  # bytes; nft takes 128 with the end
_PREFIX = 100
# Of the kernel, IFNAMSIZ; a star at the end would mean all that begin so.
_INTERFACE = re.compile(r"[!#-)+-.0-\[\]-~]{1,15}")
_BASE = {"input": "iifname", "output": "oifname"}
# What is let through before all rules, see rules.py. Connections older than the table are not known to the kernel where
# nothing had it track them: while the elements of ``older`` last, their next packet tells it. ICMPv6: errors, MLD,
# neighbour discovery, and with it inverse and secured discovery and multicast router discovery (RFC 4890, 4.4.1). Ports
# of DHCP: RFC 2131, 4.1; of DHCPv6: RFC 8415, 7.2.
_ALWAYS = """\
{interface} "lo" accept
ct state established,related accept
meta nfproto @{prefix}older ct state new tcp flags & syn == 0 accept
icmp type {{ destination-unreachable, time-exceeded, parameter-problem }} accept
icmpv6 type {{ 1-4, 130-136, 141-143, 148-149, 151-153 }} accept
{dhcp}ct state invalid drop
"""
_DHCP = {
    "input": "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept\n",
    "output": "meta nfproto ipv4 udp sport 68 udp dport 67 accept\n"
    "ip6 daddr { fe80::/10, ff02::1:2 } udp sport 546 udp dport 547 accept\n",
}
_VERDICTS = {Action.ALLOW: "accept", Action.DENY: "drop"}
_FAMILIES = {"4": ("ip", "icmp"), "6": ("ip6", "ipv6-icmp")}
_FIELDS = {"ingress": "saddr", "egress": "daddr"}


def whole(rules: RuleSet) -> str:
    """The table as it stays, in place of whatever stands there."""
    return _whole(rules, f'\t\tcomment "{digest(rules)}"\n')


def digest(rules: RuleSet) -> str:
    """By which it is known again what was wanted: SHA-256."""
    return hashlib.sha256(_whole(rules, "").encode()).hexdigest()


def attempt(rules: RuleSet) -> str:
    """By which it is known again with what nobody could log in: SHA-256 of the rules, and of who may where one does.

    A member elsewhere could not help: it makes no other attempt.
    """
    named = {rule.peers for rule in rules.ingress for door in rules.ingress[:1] if _meet(rule, door)}
    who = (f"{group.name} {network}" for group in rules.groups if group.name in named for network in group.networks)
    return hashlib.sha256("\n".join((*lines(rules), *who)).encode("utf-8", "replace")).hexdigest()


def on_trial(rules: RuleSet) -> str:
    """The table beside what stands there. Whoever runs it adds the elements of ``trial``, with their timeout."""
    timed = f'add set {TABLE} trial {{ typeof meta nfproto; flags timeout; comment "{digest(rules)}"; }}\n'
    return timed + _block(rules, TRIAL) + _elements(members(rules), TRIAL) + _TO_TRIAL


def added(new: Iterable[str]) -> str:
    """More ``members`` of the table that stands there."""
    return _elements(new, "")


def lines(rules: RuleSet) -> tuple[str, ...]:
    """All of the table but its members."""
    return _lines(_block(rules, ""))


def members(rules: RuleSet) -> tuple[str, ...]:
    """``SET NETWORK`` of each member of a group; the set's name lacks the IP version."""
    return tuple(f"{_set(group.name)} {network}" for group in rules.groups for network in group.networks)


def taken_apart(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``lines`` and ``members`` of a text that ``whole`` made; of another one whatever is in it."""
    rest = _MARK.sub(r"\1", text.removeprefix(_ANEW), count=1)
    elements = [line for line in rest.split("\n") if line.startswith(_ELEMENTS)]
    found = (re.fullmatch(r"(\S+)_[46] \{ (.*) \}", line.removeprefix(_ELEMENTS)) for line in elements)
    parts = [f"{match[1]} {network}" for match in found if match for network in match[2].split(", ")]
    return _lines("\n".join(line for line in rest.split("\n") if line not in elements)), tuple(parts)


def closing(rules: RuleSet, new: Iterable[str]) -> bool:
    """Whether a group that is to have these members too stands in a rule that denies."""
    denied = {_set(rule.peers) for rule in (*rules.ingress, *rules.egress) if rule.action is Action.DENY and rule.peers}
    return any(member.split(" ")[0] in denied for member in new)


def check(rules: RuleSet) -> None:
    """Raises Rejected for what cannot be said in nft's words: it is never half said."""
    names = {group.name for group in rules.groups}
    for rule in (*rules.ingress, *rules.egress):
        if rule.peers and rule.peers not in names:
            raise Rejected(f"a rule is about {rule.peers!r}, a group that is not there", hint=rule.why)
        if rule.interface and not _INTERFACE.fullmatch(rule.interface):
            raise Rejected(f"{rule.interface!r} is not the name of an interface: 1 to 15 of ASCII", hint=rule.why)
        if any(not 0 <= ports.first <= ports.last <= 65535 for ports in rule.ports) or rule.per_minute < 0:
            raise Rejected("ports are from 0 to 65535, a rate is at least 0", hint=rule.why)
    for network in chain.from_iterable(group.networks for group in rules.groups):
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise Rejected(f"not a network: {error}") from error


def quoted(text: str, most: int = _COMMENT) -> str:
    """As a string of nft's, which knows no way to write a quote in one: that, and what cannot be seen, is replaced."""
    safe = "".join(letter if letter.isprintable() else "?" for letter in text)
    short = safe.translate({ord('"'): "'", ord("\\"): "/"}).encode("utf-8", "replace")[:most]
    return f'"{short.decode("utf-8", "ignore")}"'


def _meet(one: Rule, other: Rule) -> bool:
    """Whether a packet may be that both rules are about, whoever their peers are."""
    if Protocol.ANY not in {one.protocol, other.protocol} and one.protocol is not other.protocol:
        return False
    pairs = product(one.ports, other.ports)
    return not one.ports or not other.ports or any(a.first <= b.last and b.first <= a.last for a, b in pairs)


def _whole(rules: RuleSet, mark: str) -> str:
    return _ANEW + _block(rules, "", mark) + _elements(members(rules), "")


def _block(rules: RuleSet, prefix: str, mark: str = "") -> str:
    sets = (
        f"\tset {prefix}{_set(group.name)}_{version} {{\n"
        f"\t\ttype ipv{version}_addr\n\t\tflags interval\n\t\tcomment {quoted(group.name)}\n\t}}\n"
        for group in rules.groups
        for version in _FAMILIES
    )
    both = (
        ("input", "ingress", rules.ingress, rules.default_ingress),
        ("output", "egress", rules.egress, rules.default_egress),
    )
    chains = (_chains(name, way, some, default, prefix) for name, way, some, default in both)
    older = f"\tset {prefix}older {{\n{_OLDER}{mark}\t}}\n"
    return f"table {TABLE} {{\n{older}{''.join(sets)}{''.join(chains)}}}\n"


def _chains(name: str, way: str, rules: Sequence[Rule], default: Action, prefix: str) -> str:
    """A base chain, and a chain of its own for each rule that does more than to decide."""
    body, more = _ALWAYS.format(interface=_BASE[name], prefix=prefix, dhcp=_DHCP[name]).splitlines(), []
    for number, rule in enumerate(rules, 1):
        decides = not rule.log and not rule.per_minute
        verdict = _VERDICTS[rule.action] if decides else f"jump {prefix}{name}_{number}"
        body += [
            f"{match}{verdict} comment {quoted(rule.why)}"
            for match in _matches(rule, _BASE[name], _FIELDS[way], prefix)
        ]
        if not decides:
            more.append(_chain(f"{prefix}{name}_{number}", _more(rule, way)))
    body.append(f'{_VERDICTS[default]} comment "default of {way}"')
    hook = f"type filter hook {name} priority filter"
    if prefix:
        return f"\tchain {name} {{\n\t\t{hook};\n\t}}\n" + "".join(more) + _chain(f"{prefix}{name}", body)
    return "".join(more) + _chain(name, [f"{hook}; policy accept;", *body])


def _chain(name: str, body: Iterable[str]) -> str:
    return f"\tchain {name} {{\n" + "".join(f"\t\t{line}\n" for line in body) + "\t}\n"


def _matches(rule: Rule, interface: str, field: str, prefix: str) -> Iterator[str]:
    """What the rule is about; with peers once for each version of IP."""
    by = f"{interface} {quoted(rule.interface)} " if rule.interface else ""
    if not rule.peers:
        yield by + _protocol(rule, "{ icmp, ipv6-icmp }")
        return
    for version, (family, icmp) in _FAMILIES.items():
        yield f"{by}{family} {field} @{prefix}{_set(rule.peers)}_{version} {_protocol(rule, icmp)}"


def _protocol(rule: Rule, icmp: str) -> str:
    if rule.protocol is Protocol.ICMP:
        return f"meta l4proto {icmp} "
    if rule.protocol is Protocol.ANY:
        return f"meta l4proto {{ tcp, udp }} th dport {{ {_ports(rule.ports)} }} " if rule.ports else ""
    if rule.ports:
        return f"{rule.protocol} dport {{ {_ports(rule.ports)} }} "
    return f"meta l4proto {rule.protocol} "


def _ports(ports: Iterable[Ports]) -> str:
    """No two that overlap or touch: nft refuses those."""
    return ", ".join(map(str, joined(ports)))


def _more(rule: Rule, way: str) -> Iterator[str]:
    """What is above the rate goes on to the next rule."""
    if rule.per_minute:
        yield f"limit rate over {rule.per_minute}/minute burst {rule.per_minute} packets return"
    if rule.log:
        # nft looks for its own variables in a prefix.
        prefix = quoted(f"salvus {rule.action} {way}: {rule.why.replace('$', '?')}", _PREFIX)[1:-1]
        yield f'limit rate 10/minute burst 10 packets log prefix "{prefix} "'
    yield _VERDICTS[rule.action]


def _elements(some: Iterable[str], prefix: str) -> str:
    by_set: dict[str, list[str]] = {}
    for member in some:
        name, network = member.split(" ", 1)
        by_set.setdefault(f"{name}_{6 if ':' in network else 4}", []).append(network)
    return "".join(f"{_ELEMENTS}{prefix}{name} {{ {', '.join(networks)} }}\n" for name, networks in by_set.items())


@lru_cache(4096)
def _set(group: str) -> str:
    """A name that nft takes, always the same for a group, another one for each."""
    readable = re.sub("[^a-z0-9]+", "_", group.lower()).strip("_")[:24]
    return f"peers_{readable}_{hashlib.sha256(group.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _lines(text: str) -> tuple[str, ...]:
    return tuple(stripped for line in text.split("\n") if (stripped := line.strip("\t")))
