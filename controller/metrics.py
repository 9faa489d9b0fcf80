"""What Prometheus sees. The only importer of prometheus_client. Every metric is named here, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controller.vpn_reach import VpnPeers

__all__ = ["Metrics", "Snapshot", "make_wsgi_app"]

Labels = TypeVar("Labels", bound=tuple[str, ...])

PASS_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is read at a scrape: the state of the controller at that moment.

    Attributes:
        queue_depth: machine names that are due and not worked on.
        queue_oldest: seconds that the longest-waiting one has waited.
        reachable: machine → whether its last pass could ask it.
        items: (machine, state) → number of items; states are ``in_sync drifted held unknown``.
        resources: (kind, condition, status) → number of resources.
        leases: lease → epoch, of those that are held.
        paused: what is paused: ``world``, ``all``, ``machine/NAME`` or ``Kind/name``.
        store_nodes: address of each of the store's servers → whether it is up, as this controller sees it.
        pinned: sources that are pinned.
        controllers: how many there are, this one included.
        vpn_nodes: (VPN, state) → number of machines; states are those of ``controller/vpn_state.py``.
        vpn_key_ages: (VPN, node) → seconds since it was first seen to use its key.
        vpn_peers: how machines reach others in their VPNs.
    """

    queue_depth: int = 0
    queue_oldest: float = 0.0
    reachable: Mapping[str, bool] = field(default_factory=dict)
    items: Mapping[tuple[str, str], int] = field(default_factory=dict)
    resources: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    leases: Mapping[str, int] = field(default_factory=dict)
    paused: Collection[str] = ()
    pinned: Collection[str] = ()
    store_nodes: Mapping[str, bool] = field(default_factory=dict)
    controllers: int = 0
    vpn_nodes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    vpn_key_ages: Mapping[tuple[str, str], float] = field(default_factory=dict)
    vpn_peers: VpnPeers = field(default_factory=VpnPeers)


class Metrics(Collector):
    """All metrics of one controller, in a registry of their own."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self.passes = Histogram(
            "salvus_pass_seconds",
            "Duration of machine passes by result: synced, changed, held, failed, unreachable, waiting, fenced.",
            ["result"],
            buckets=PASS_BUCKETS,
            registry=self.registry,
        )
        self.changes = Counter(
            "salvus_changes",
            "Changes carried out, by verb, grade and result.",
            ["verb", "grade", "result"],
            registry=self.registry,
        )
        self.writes = Counter(
            "salvus_driver_writes",
            "Writes to machines; a pass in sync makes none.",
            ["machine"],
            registry=self.registry,
        )
        self.fleet_passes = Counter(
            "salvus_fleet_passes", "Fleet passes by result.", ["result"], registry=self.registry
        )
        self.manifest_errors = Gauge(
            "salvus_manifest_errors",
            "Errors in the source at its last reading; the last good state is kept.",
            registry=self.registry,
        )
        self.held_by_budget = Gauge(
            "salvus_held_by_budget",
            "Deletions and disturbances in the source that are above the budget, and wait to be approved.",
            registry=self.registry,
        )
        build = Gauge("salvus_build_info", "The running version.", ["version"], registry=self.registry)
        build.labels(version).set(1)
        self._read: Callable[[], Snapshot] = Snapshot
        self.registry.register(self)

    def watch(self, read: Callable[[], Snapshot]) -> None:
        """Sets where the state comes from at each scrape."""
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """See Collector: called at each scrape."""
        now = self._read()
        yield _gauge("salvus_queue_depth", "Machines that are due and not worked on.", (), {(): now.queue_depth})
        yield _gauge("salvus_queue_oldest_seconds", "How long the oldest has waited.", (), {(): now.queue_oldest})
        yield _gauge(
            "salvus_machine_reachable",
            "1 if the machine's last pass could ask it.",
            ("machine",),
            {(name,): float(up) for name, up in now.reachable.items()},
        )
        yield _gauge("salvus_items", "Items by machine and state.", ("machine", "state"), now.items)
        yield _gauge("salvus_resources", "Resources by condition.", ("kind", "condition", "status"), now.resources)
        epochs = {(name,): epoch for name, epoch in now.leases.items()}
        paused = {(what,): 1.0 for what in now.paused}
        yield _gauge(
            "salvus_paused", "1 for what is paused; what=world: everything, until it is ended.", ("what",), paused
        )
        pinned = {(source,): 1.0 for source in now.pinned}
        yield _gauge(
            "salvus_pinned", "1 for each source that is pinned: what is newer in it is held.", ("source",), pinned
        )
        yield _gauge("salvus_lease_epoch", "Epoch of each lease that this controller holds.", ("lease",), epochs)
        yield _gauge(
            "salvus_store_node_up",
            "1 for each Cassandra node that is up, as this controller sees it; none with SQLite.",
            ("node",),
            {(node,): float(up) for node, up in now.store_nodes.items()},
        )
        yield _gauge("salvus_controllers", "Controllers that live, as this one sees it.", (), {(): now.controllers})
        yield _gauge(
            "salvus_vpn_nodes",
            "Machines of a VPN by what is known of their key; revoked: it is not proved yet that nobody lets it in.",
            ("vpn", "state"),
            now.vpn_nodes,
        )
        yield _gauge(
            "salvus_vpn_key_age_seconds",
            "How long ago a node of a VPN was first seen to use its key.",
            ("vpn", "node"),
            now.vpn_key_ages,
        )
        yield from _peers(now.vpn_peers)

    def forget_machine(self, name: str) -> None:
        """Drops the series of a machine that left the fleet."""
        self.writes.remove_by_labels({"machine": name})


def _peers(now: VpnPeers) -> Iterator[Metric]:
    pair, node = ("vpn", "node", "peer"), ("vpn", "node")
    yield _gauge(
        "salvus_vpn_peer_reachable", "1 if the peer answered the node's last ping through the VPN.", pair, now.reachable
    )
    yield _gauge("salvus_vpn_peer_round_trip_seconds", "How long that took, there and back.", pair, now.round_trips)
    yield _gauge(
        "salvus_vpn_peer_last_handshake_timestamp_seconds",
        "When node and peer last shook hands, in seconds since 1970; WireGuard alone.",
        pair,
        now.handshakes,
    )
    yield _gauge("salvus_vpn_node_peers", "Machines of its VPN that a node pinged when last asked.", node, now.asked)
    yield _gauge("salvus_vpn_node_peers_reached", "How many of them answered.", node, now.reached)


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[Labels, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def names(metrics: Metrics) -> Iterator[str]:
    """All names as Prometheus stores them, for the dashboards and their test."""
    for family in metrics.registry.collect():
        if family.type == "counter":
            yield f"{family.name}_total"
        elif family.type == "histogram":
            yield from (f"{family.name}_{part}" for part in ("bucket", "sum", "count"))
        else:
            yield family.name
