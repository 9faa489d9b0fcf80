"""What a human should know of the ring, in words."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable

from controller.store.cassandra.fallback import ForgivingRing
from controller.store.cassandra.ring import Ring
from controller.store.cassandra.schema import USUAL, check
from controller.store.cassandra.settings import CassandraSettings
from controller.store.opening import Health, Node

# Seconds in which a node that is up answers.
PATIENCE = 2.0


def look(settings: CassandraSettings) -> Health:
    """The ring as this client sees it. Raises StoreError."""
    ring = ForgivingRing.connect(settings)
    try:
        check(ring)
        replication = ring.replication() or {}
        hosts = ring.cluster.metadata.all_hosts()
        known = sorted((str(host.datacenter), str(host.address), _answers(ring, host)) for host in hosts)
        nodes = tuple(Node(address, place, up) for place, address, up in known)
        return Health(nodes, tuple(sorted(replication.items())), advice(settings.keyspace, replication, nodes))
    finally:
        ring.close()


def _answers(ring: Ring, host: Any) -> bool:
    """Whether the node does: one that hangs counts as up for a while. In another data centre, what is heard of it."""
    if host.datacenter != ring.settings.datacenter or host.is_up is False:
        return bool(host.is_up)
    end = time.monotonic() + PATIENCE
    while True:
        try:
            ring.session.execute("SELECT key FROM system.local", host=host, timeout=1.0)
        except (DriverException, NoHostAvailable):
            # Connections to others than the first are made meanwhile.
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        else:
            return True


def advice(keyspace: str, replication: Mapping[str, int], known: Iterable[Node]) -> tuple[str, ...]:
    """What is wrong with the replication and the nodes, and what to do: a sentence each."""
    places: dict[str, list[Node]] = {}
    for node in known:
        places.setdefault(node.datacenter, []).append(node)
    found = [
        f"node {node.address} in {name} is down: start it; after three hours, nodetool repair {keyspace} as well"
        for name, members in places.items()
        for node in members
        if not node.up
    ]
    for name, factor in replication.items():
        members = len(places.get(name, ()))
        up = sum(node.up for node in places.get(name, ()))
        if up <= factor // 2 < members:
            found.append(
                f"{_nodes(up)} of {members} in {name} {'is' if up == 1 else 'are'} up, and nothing can be written with "
                f"fewer than {factor // 2 + 1}: start the others"
            )
        if problem := _problem(factor, members):
            wanted = {**replication, name: min(USUAL, max(members, 1))}
            found.append(
                f"keyspace {keyspace} has replication {factor} in {name} with {_nodes(members)}: {problem}"
                + (_run(keyspace, wanted) if wanted[name] != factor else "; add nodes, three at least")
            )
    return tuple(found)


def _nodes(number: int) -> str:
    return "1 node" if number == 1 else f"{number} nodes"


def _problem(factor: int, members: int) -> str:
    """What is wrong with so many replicas on so many nodes; empty for nothing."""
    if factor > members:
        return (
            "there are fewer nodes than replicas, and whoever needs a quorum of them waits for nodes that are not there"
        )
    if factor == 1:
        return "one dead node loses data" if members > 1 else "one dead node is the end of it all"
    if factor == 2:
        return "a quorum of two is both, so one dead node stops all writing"
    return ""


def _run(keyspace: str, wanted: Mapping[str, int]) -> str:
    factors = ", ".join(f"'{name}': {number}" for name, number in sorted(wanted.items()))
    alter = f"ALTER KEYSPACE {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy', {factors}}}"
    return f"; run in cqlsh: {alter}; then on each node: nodetool repair --full {keyspace}"
