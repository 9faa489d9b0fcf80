"""What ``can-reach`` says is what the kernel does: random fleets, their rules by nft and ufw, packets on a wire."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.items.rules import Protocol
from resources.fleet import Fleet
from resources.reach import THE_WORLD, Site, Trial, site_of, trials
from resources.world import Known, World
from tests.conformance.reach_world import Net, Put, by_nft, by_ufw, made, start_ufw
from tests.fast.firewalls import NAMES, fleets, without_icmp

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
    # Each protocol, by each version of IP, was let through and was not.
    assert len(seen) == 4 * 2 * 2


def test_the_kernel_agrees_when_ufw_told_it(net: Net) -> None:
    net.filter({}, by_nft)
    start_ufw(net)
    # Of ICMP ufw's before.rules decide.
    seen = _agreeing(net, by_ufw, fleets().map(without_icmp), PORTLESS[1:], 15)
    assert len(seen) == 3 * 2 * 2


def _agreeing(
    net: Net, put: Put, some: st.SearchStrategy[Fleet], portless: Sequence[tuple[Protocol, int]], examples: int
) -> Counter[tuple[Protocol, int, bool]]:
    """What was tried, and found as it was said."""
    seen: Counter[tuple[Protocol, int, bool]] = Counter()

    @settings(max_examples=examples)
    @given(fleet=some, data=st.data())
    def agrees(fleet: Fleet, data: st.DataObject) -> None:
        world = World(fleet, Known())
        sites = [*(site_of(machine, world) for machine in fleet.machines()), THE_WORLD]
        ported = st.tuples(st.sampled_from((Protocol.TCP, Protocol.UDP)), st.sampled_from(_telling(sites)))
        kinds = data.draw(st.lists(ported, min_size=4, max_size=4, unique=True))
        tried = _tried(net, put, sites, [*kinds, *portless])
        assert [(trial, found) for trial, found in tried if found != trial.allowed] == []
        seen.update((trial.packet.protocol, trial.packet.version, found) for trial, found in tried)

    agrees()
    return seen


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
        for trial in trials(one, other, *kind)
    ]
    packets = [(source, destination, trial.packet) for source, destination, trial in said]
    arrived = net.arrived(packets, sum(trial.allowed for _, _, trial in said))
    return [(trial, found) for (_, _, trial), found in zip(said, arrived, strict=True)]
