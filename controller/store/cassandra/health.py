"""What a human should know of the ring, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from controller.store.cassandra.ring import Ring
from controller.store.cassandra.schema import USUAL, check
from controller.store.cassandra.settings import CassandraSettings
from controller.store.opening import Health, Node


def look(settings: CassandraSettings) -> Health:
    """The ring as this client sees it. Raises StoreError."""
    ring = Ring.connect(settings)
    try:
        check(ring)
        replication = ring.replication() or {}
        hosts = ring.cluster.metadata.all_hosts()
        known = sorted((str(host.datacenter), str(host.address), bool(host.is_up)) for host in hosts)
        nodes = tuple(Node(address, place, up) for place, address, up in known)
        return Health(nodes, tuple(sorted(replication.items())), advice(settings.keyspace, replication, nodes))
    finally:
        ring.close()


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
