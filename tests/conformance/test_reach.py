"""What ``can-reach`` says is what the kernel does: random fleets, their rules in a real nft, packets on a wire."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.items.rules import Protocol
from resources.fleet import Fleet
from resources.reach import THE_WORLD, Trial, site_of, trials
from resources.world import Known, World
from tests.conformance.reach_world import Net, made
from tests.fast.firewalls import NAMES, fleets

pytestmark = pytest.mark.conformance

# Where rules begin and end, and next to that.
PORTS = st.sampled_from([1, 2, 3, 4, 5, 8, 9, 22, 23, 65534, 65535])
KINDS = st.one_of(
    st.tuples(st.sampled_from([Protocol.TCP, Protocol.UDP]), PORTS),
    st.tuples(st.sampled_from([Protocol.ICMP, Protocol.ANY]), st.just(0)),
)


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    """The machines of ``fleets``, and the world."""
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("needs root: network namespaces and packet filters are made")
    with ExitStack() as stack:
        yield made(NAMES, stack)


def test_the_kernel_agrees(net: Net) -> None:
    seen: Counter[tuple[Protocol, int, bool]] = Counter()

    @settings(max_examples=60)
    @given(fleet=fleets(), kinds=st.lists(KINDS, min_size=4, max_size=4, unique=True))
    def agrees(fleet: Fleet, kinds: list[tuple[Protocol, int]]) -> None:
        tried = _tried(net, fleet, kinds)
        assert [(trial, found) for trial, found in tried if found != trial.allowed] == []
        seen.update((trial.packet.protocol, trial.packet.version, found) for trial, found in tried)

    agrees()
    # Each protocol, by each version of IP, was let through and was not.
    assert len(seen) == 4 * 2 * 2
    assert min(seen.values()) > 20


def _tried(net: Net, fleet: Fleet, kinds: list[tuple[Protocol, int]]) -> list[tuple[Trial, bool]]:
    """From each machine to each other one, the world included: what is said to become of packets, and what did."""
    world = World(fleet, Known())
    sites = [*(site_of(machine, world) for machine in fleet.machines()), THE_WORLD]
    net.filter({site.name: site.filter.rules for site in sites if site.filter is not None})
    said = [
        (one.name, other.name, trial)
        for one, other in permutations(sites, 2)
        for kind in kinds
        for trial in trials(one, other, *kind)
    ]
    packets = [(source, destination, trial.packet) for source, destination, trial in said]
    arrived = net.arrived(packets, sum(trial.allowed for _, _, trial in said))
    return [(trial, found) for (_, _, trial), found in zip(said, arrived, strict=True)]
