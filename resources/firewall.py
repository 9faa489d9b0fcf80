"""``Firewall``: who may connect to machines, and to whom they may."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.items.nft_table import NftTable
from drivers.items.package import Package
from drivers.items.ufw_rules import UfwRules
from resources.base import Column, Kind, Placed, Problem, Reference, Resource
from resources.firewall_checks import alone, disagreeing, references
from resources.firewall_spec import FirewallSpec
from resources.fleet import Fleet
from resources.quantity import share_of
from resources.rollouts import digest, gate, in_force
from resources.world import World

_ITEMS = {"nftables": NftTable, "ufw": UfwRules}


class FirewallKind(Kind[FirewallSpec]):
    """Firewalls, on hosts and in virtual machines alike."""

    name = "Firewall"
    plural = "firewalls"
    short = ("fw",)
    spec = FirewallSpec
    as_one = True
    columns = (
        Column("MACHINES", ("status", "machines")),
        Column("INGRESS", ("spec", "default", "ingress")),
        Column("EGRESS", ("spec", "default", "egress")),
        Column("DERIVE", ("spec", "derive"), wide=True),
        Column("BACKEND", ("spec", "backend"), wide=True),
    )

    def references(self, resource: Resource[FirewallSpec]) -> Iterator[Reference]:
        """The machines and services that it names."""
        yield from references(resource.spec)

    def check(self, resource: Resource[FirewallSpec], fleet: Fleet) -> Iterator[Problem]:
        """Contradictions; peers whose addresses nobody can know."""
        yield from alone(resource, fleet)

    def check_together(self, fleet: Fleet) -> Iterator[Problem]:
        """Machines with two backends; tests that do not hold."""
        yield from disagreeing(fleet)
        if any(one.spec.tests for one in fleet.of(self.name)):
            from resources.firewall_together import failed_tests  # here, because few commands check manifests

            yield from failed_tests(fleet)

    def warnings(self, fleet: Fleet) -> Iterator[Problem]:
        """Rules that decide nothing."""
        from resources.firewall_together import useless

        yield from useless(fleet)

    def machines(self, resource: Resource[FirewallSpec], world: World) -> Iterator[str]:
        """The machines that it names or selects."""
        yield from (machine.name for machine in resource.spec.machines.select(world))

    def items(self, resource: Resource[FirewallSpec], machine: str, world: World) -> Iterator[Placed]:
        """The one rule set of the machine, which all its Firewalls make together; before it, what loads it."""
        # Here, because who only reads the store lowers nothing.
        from resources.firewall_rules import filter_of, firewalls_of
        from resources.openings import LETS_IN, lets_in

        found = world.machine(machine)
        if found is not None and (made := filter_of(found, world)) is not None:
            tool = Package(made.backend)
            yield Placed(tool)
            walls = firewalls_of(found, world)
            told = {**in_force(found, walls), (found.ref, LETS_IN): lets_in(found, world)}
            item = _ITEMS[made.backend](made.rules)
            yield Placed(item, (tool.key,), gate=gate(found, walls, world), tells=told)

    def at_once(self, resource: Resource[FirewallSpec], machines: int) -> int:
        """``spec.rollout.maxParallel``."""
        return share_of(resource.spec.rollout.max_parallel, machines)

    def on_trial(self, resource: Resource[FirewallSpec]) -> str:
        """All that is written."""
        return digest(resource.spec.model_dump(mode="json", exclude_unset=True))


KIND = FirewallKind()
