"""What packet filters cost: a pass over machines with many rules and nothing to do, and large groups in a real nft.

``python -m tools.bench.filters``, as root. Sixty-four machines in memory, nodes of one VPN, have 500 rules each: CPU of
the controller for a pass over one of them, beside the same without a Firewall. In a network namespace of its own nft is
given 500 rules, and 10,000 addresses in one transaction; seconds there are on the wall. Nothing fails on a clock.
"""

from __future__ import annotations

import ipaddress
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from controller.store.ledger import Ledger
from controller.store.memory import MemoryStore
from drivers.base import Present
from drivers.items import nft_text
from drivers.items.nft_table import NftTable
from drivers.items.rules import Action, Group, Ports, Protocol, Rule, RuleSet
from drivers.simulated import SimulatedFleet
from tests.conformance.items import needed
from tests.conformance.nft_world import Box, made_box
from tools.bench.fleet import Document, controller, host, manifest, settle, stored

NODES, RULES, MEMBERS = 64, 500, 10_000
PASSES = 20


@dataclass(frozen=True, slots=True)
class Idle:
    """Passes with nothing to do: milliseconds of CPU for one machine, and what was written to machines."""

    milliseconds: float
    writes: int


def documents(nodes: int, rules: int) -> Iterator[Document]:
    """The manifests: a VPN over all, and, unless there are none, a Firewall of so many rules."""
    yield from (host(number, "node") for number in range(nodes))
    everybody: dict[str, Any] = {"selector": {}}
    spec = {"driver": "wireguard", "cidr": "10.64.0.0/16", "members": everybody, "hubs": {"names": ["host0000"]}}
    yield manifest("VPN", "net", spec)
    if rules:
        some = [{"machines": {"selector": {"matchLabels": {"role": "node"}}}}]
        ingress = [{"name": f"r{number}", "ports": [1000 + number], "from": some} for number in range(rules // 2)]
        yield manifest("Firewall", "all", {"machines": everybody, "ingress": ingress})


def idle(nodes: int, rules: int, passes: int = PASSES) -> Idle:
    """The median of a few passes over all, once everything is there."""
    fleet, ledger = SimulatedFleet(), Ledger(MemoryStore())
    for document in documents(nodes, rules):
        ledger.put_resource(stored(document))
    engine = controller(ledger, fleet)
    settle(engine)

    def pass_all() -> None:
        for name in engine.machine_names():
            engine.machine_pass(name, lambda: False)

    before = fleet.writes
    took = statistics.median(_took(pass_all, time.process_time) for _ in range(passes))
    engine.close()
    return Idle(took / nodes * 1000, fleet.writes - before)


def _took(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    begin = clock()
    work()
    return clock() - begin


def rule_set(rules: int, members: int) -> RuleSet:
    """So many rules about one group of so many addresses."""
    addresses = tuple(str(ipaddress.ip_network(ipaddress.ip_address("10.0.0.0") + number)) for number in range(members))
    ports = range(1000, 1000 + rules)
    allowed = tuple(Rule(Action.ALLOW, f"Firewall/f {p}", "some", Protocol.TCP, (Ports(p, p),)) for p in ports)
    return RuleSet(allowed, groups=(Group("some", addresses),))


def in_kernel(box: Box) -> Iterator[tuple[str, float]]:
    """What is done, and how many seconds it takes, in a namespace that has no rules yet."""
    for rules, members in ((RULES, 10), (1, MEMBERS)):
        named = f"{rules:,} rules about {members:,} addresses"
        one, more = NftTable(rule_set(rules, members)), NftTable(rule_set(rules, members + 1))
        text = nft_text.whole(one.rules)
        yield f"{named}: nft -f alone", _took(partial(box.sh, f"nft -f - <<'EOF'\n{text}EOF\n"))
        box.sh("nft delete table inet salvus\n")
        yield f"{named}: made on trial, and confirmed", _took(partial(box.machine.mend, one))
        assert needed(one, box.machine.see(one)) is None
        yield f"{named}: looked at", _took(partial(box.machine.see, one))
        yield f"{named}: one address more", _took(partial(box.machine.mend, more))
        assert isinstance(box.machine.see(more), Present)
        box.machine.delete(more)


def main() -> None:
    """See the module."""
    without, with_rules = idle(NODES, 0), idle(NODES, RULES)
    print(f"a pass over one of {NODES} nodes with nothing to do, CPU of the controller")
    for what, one in (("without a Firewall", without), (f"with {RULES} rules", with_rules)):
        print(f"{what:50} {one.milliseconds:8.2f} ms  {one.writes:4} writes")
    print("in a network namespace, on the wall")
    with ExitStack() as stack:
        for what, seconds in in_kernel(made_box(stack)):
            print(f"{what:50} {seconds * 1000:8.0f} ms")


if __name__ == "__main__":
    main()
