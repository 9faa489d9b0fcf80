"""What ``can-reach`` says is what the kernel does: random fleets, their rules by nft and ufw, packets on a wire."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.items.rules import Action, Group, Ports, Protocol, Rule, RuleSet
from resources.fleet import Fleet
from resources.reach import THE_WORLD, Packet, Site, Trial, site_of, trials
from resources.world import World
from tests.conformance.reach_world import Net, Put, by_nft, by_ufw, made, start_ufw
from tests.fast.firewalls import NAMES, fleets, known, without_icmp

pytestmark = pytest.mark.conformance

PORTLESS = ((Protocol.ICMP, 0), (Protocol.ANY, 0))


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    """The machines of ``fleets``, and the world."""
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("needs root: network namespaces and packet filters are made")
    with ExitStack() as stack:
        yield made(NAMES, stack)


def test_the_kernel_agrees(net: Net) -> None:
    seen = _agreeing(net, by_nft, fleets(), PORTLESS, 50)
    # Each protocol, by each version of IP, was let through and was not; and so over the VPN, and past it.
    assert len({(packet.protocol, packet.version, found) for packet, found in seen}) == 4 * 2 * 2
    assert {("vpn" if packet.vpn else "past" if _in_vpn(packet) else "", found) for packet, found in seen} == {
        (way, found) for way in ("", "vpn", "past") for found in (True, False)
    }


def test_the_kernel_agrees_when_ufw_told_it(net: Net) -> None:
    net.filter({}, by_nft)
    start_ufw(net)
    # Of ICMP ufw's before.rules decide.
    seen = _agreeing(net, by_ufw, fleets().map(without_icmp), PORTLESS[1:], 15)
    assert len({(packet.protocol, packet.version, found) for packet, found in seen}) == 3 * 2 * 2


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP, Protocol.ICMP])
def test_of_a_rate_so_many_get_in_over_both_versions_together_and_no_more(net: Net, protocol: Protocol) -> None:
    everybody = Group("all", ("10.0.0.0/24", "fd00::/64"))
    ports = () if protocol is Protocol.ICMP else (Ports(7, 7),)
    rule = Rule(Action.ALLOW, "Firewall/f", "all", protocol, ports, per_minute=60, log=True)
    begun = time.monotonic()
    net.filter({"beta": RuleSet((rule,), groups=(everybody,))})
    ways = ((4, "10.0.0.1", "10.0.0.2"), (6, "fd00::1", "fd00::2"))
    packets = [("alpha", "beta", Packet(*way, protocol, 7 if ports else 0)) for way in ways for _ in range(40)]
    first = sum(net.arrived(packets, 60))
    # A packet more each second, and all of the 60 at once.
    assert 60 <= first <= 61 + time.monotonic() - begun
    time.sleep(1.1)
    later = sum(net.arrived(packets[-20:], 1))
    assert later >= 1
    assert first + later <= 61 + time.monotonic() - begun


def _agreeing(
    net: Net, put: Put, some: st.SearchStrategy[Fleet], portless: Sequence[tuple[Protocol, int]], examples: int
) -> set[tuple[Packet, bool]]:
    """What was tried, and found as it was said."""
    seen: set[tuple[Packet, bool]] = set()

    @settings(max_examples=examples)
    @given(fleet=some, data=st.data())
    def agrees(fleet: Fleet, data: st.DataObject) -> None:
        world = World(fleet, known(fleet))
        sites = [*(site_of(machine, world) for machine in fleet.machines()), THE_WORLD]
        ported = st.tuples(st.sampled_from((Protocol.TCP, Protocol.UDP)), st.sampled_from(_telling(sites)))
        kinds = data.draw(st.lists(ported, min_size=4, max_size=4, unique=True))
        tried = _tried(net, put, sites, [*kinds, *portless])
        assert [(trial, found) for trial, found in tried if found != trial.allowed] == []
        seen.update((trial.packet, found) for trial, found in tried)

    agrees()
    return seen


def _past_vpns(site: Site) -> Site:
    """Who sends from its address in a VPN what does not go through that: to the others that is a forged address."""
    return replace(site, addresses=tuple(filter(site.vpns.__contains__, site.addresses)), is_world=False, vpns={})


def _in_vpn(packet: Packet) -> bool:
    return packet.source.startswith(("10.9.", "fd09:"))


def _telling(sites: Iterable[Site]) -> list[int]:
    """Ports at the ends of what rules are about, and next to them."""
    filters = [site.filter.rules for site in sites if site.filter is not None]
    ranges = {ports for one in filters for rule in (*one.ingress, *one.egress) for ports in rule.ports}
    ends = {port for one in ranges for port in (one.first - 1, one.first, one.last, one.last + 1)}
    return sorted(ends & {*range(1, 65536)} | {4, 9})


def _tried(
    net: Net, put: Put, sites: Sequence[Site], kinds: Sequence[tuple[Protocol, int]]
) -> list[tuple[Trial, bool]]:
    """From each site to each other one: what is said to become of packets, and what did."""
    net.filter({site.name: site.filter.rules for site in sites if site.filter is not None}, put)
    said = [
        (one.name, other.name, trial)
        for one, other in permutations(sites, 2)
        for kind in kinds
        for trial in (*trials(one, other, *kind), *trials(_past_vpns(one), other, *kind))
    ]
    packets = [(source, destination, trial.packet) for source, destination, trial in said]
    arrived = net.arrived(packets, sum(trial.allowed for _, _, trial in said))
    return [(trial, found) for (_, _, trial), found in zip(said, arrived, strict=True)]
