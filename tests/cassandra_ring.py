"""A real ring of three nodes for all tests of a run, started when the first asks for it, and emptied for each test."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import DCAwareRoundRobinPolicy, WhiteListRoundRobinPolicy

from controller.store.cassandra.settings import CassandraSettings
from controller.store.cassandra.store import CassandraStore
from lab import cassandra, cgroup
from lab.cassandra import Ring
from lab.progress import silent


@contextmanager
def running_ring(
    name: str, network: str, datacenters: tuple[int, ...], more: Mapping[str, object] = MappingProxyType({})
) -> Iterator[Ring]:
    """A ring that takes clients, and ends with the block; what a killed run left under the name goes first."""
    group = f"salvus-ring-{name}"
    _end(group)
    with tempfile.TemporaryDirectory(prefix=group, ignore_cleanup_errors=True) as folder:
        ring = cassandra.plan(
            group, Path(folder), cassandra.jars(silent), network=network, datacenters=datacenters, more=more
        )
        try:
            cassandra.up(ring)
            for node in ring.nodes if len(ring.nodes) > 1 else ():
                _wait_for_peers(ring, node.address)
            yield ring
        finally:
            _end(group)


def _wait_for_peers(ring: Ring, address: str, timeout: float = 60) -> None:
    """Until the node tells clients of all others: who connects before takes those that are missing for removed."""
    deadline = time.monotonic() + timeout
    alone = ExecutionProfile(load_balancing_policy=WhiteListRoundRobinPolicy([address]))
    with Cluster([address], protocol_version=5, execution_profiles={EXEC_PROFILE_DEFAULT: alone}) as cluster:
        session = cluster.connect()
        query = "SELECT host_id, data_center, rack, schema_version FROM system.peers_v2"
        while sum(None not in peer for peer in session.execute(query)) < len(ring.nodes) - 1:
            assert time.monotonic() < deadline, f"{address} does not know the others"
            time.sleep(0.2)


def _end(group: str) -> None:
    for node in cgroup.hosts(group):
        cgroup.group(group, node).kill()
    cgroup.remove(group)


@pytest.fixture(scope="session")
def ring() -> Iterator[Ring]:
    """Three nodes in one data centre. On CI missing rights are a failure; a developer without them is told."""
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("Cassandra's nodes get control groups, which needs root: run these tests with sudo")
    name = os.environ.get("SALVUS_TEST_LAB", "test")
    with running_ring(name, "127.77.0", (3,)) as ring:
        yield ring


@pytest.fixture(scope="session")
def lasting_keyspace(ring: Ring) -> CassandraSettings:
    """The keyspace, made once."""
    settings = CassandraSettings(tuple(node.address for node in ring.nodes), "dc1")
    CassandraStore.make(settings, len(ring.nodes))
    return settings


@pytest.fixture(scope="session")
def keyspace(lasting_keyspace: CassandraSettings) -> Iterator[Callable[[], CassandraSettings]]:
    """Gives the keyspace, emptied of all but its version."""
    made = lasting_keyspace
    near = ExecutionProfile(load_balancing_policy=DCAwareRoundRobinPolicy(made.datacenter))
    cluster = Cluster(list(made.contact_points), protocol_version=5, execution_profiles={EXEC_PROFILE_DEFAULT: near})
    session = cluster.connect(made.keyspace)
    tables = [name for name in cluster.metadata.keyspaces[made.keyspace].tables if name != "versions"]

    def fresh() -> CassandraSettings:
        for future in [session.execute_async(f"TRUNCATE {name}", timeout=60) for name in tables]:
            future.result()
        return made

    try:
        yield fresh
    finally:
        cluster.shutdown()
