"""What a human is told of a ring's replication and nodes."""

from __future__ import annotations

import pytest

from controller.store.cassandra.health import advice
from controller.store.opening import Health, Node


def ring(**numbers: int) -> list[Node]:
    return [Node(f"10.0.{name}.{n}", name, True) for name, number in numbers.items() for n in range(number)]


@pytest.mark.parametrize(("replicas", "nodes"), [(3, 3), (3, 9), (5, 5)])
def test_all_is_well(replicas: int, nodes: int) -> None:
    assert advice("salvus", {"dc1": replicas}, ring(dc1=nodes)) == ()


@pytest.mark.parametrize(
    ("replicas", "nodes", "said"),
    [
        (1, 3, "has replication 1 in dc1 with 3 nodes: one dead node loses data; run in cqlsh: ALTER KEYSPACE salvus "),
        (1, 1, "has replication 1 in dc1 with 1 node: one dead node is the end of it all; add nodes, three at least"),
        (
            2,
            3,
            "has replication 2 in dc1 with 3 nodes: a quorum of two is both, so one dead node stops all writing; run",
        ),
        (2, 2, "all writing; add nodes, three at least"),
        (3, 2, "there are fewer nodes than replicas"),
    ],
)
def test_a_replication_that_does_not_hold(replicas: int, nodes: int, said: str) -> None:
    (sentence,) = advice("salvus", {"dc1": replicas}, ring(dc1=nodes))
    assert said in sentence


def test_what_is_to_be_run_names_all_data_centres() -> None:
    (sentence,) = advice("salvus", {"dc1": 1, "dc2": 3}, ring(dc1=3, dc2=3))
    assert "{'class': 'NetworkTopologyStrategy', 'dc1': 3, 'dc2': 3}" in sentence
    assert sentence.endswith("then on each node: nodetool repair --full salvus")


def test_dead_nodes_are_named() -> None:
    nodes = [*ring(dc1=2), Node("10.0.0.9", "dc1", False)]
    (sentence,) = advice("salvus", {"dc1": 3}, nodes)
    assert sentence.startswith("node 10.0.0.9 in dc1 is down")


def test_too_few_nodes_for_a_quorum_are_told() -> None:
    nodes = [*ring(dc1=1), Node("10.0.0.8", "dc1", False), Node("10.0.0.9", "dc1", False)]
    assert advice("salvus", {"dc1": 3}, nodes)[-1].startswith("1 node of 3 in dc1 is up, and nothing can be written")


def nodes(datacenter: str, up: int, number: int) -> tuple[Node, ...]:
    return tuple(Node(f"192.0.2.{n}", datacenter, n < up) for n in range(number))


@pytest.mark.parametrize(
    ("up", "there"),
    [((3, 0), True), ((2, 1), True), ((2, 0), False), ((1, 1), False)],
)
def test_a_quorum_is_of_the_replicas_of_all_data_centres(up: tuple[int, int], there: bool) -> None:
    health = Health((*nodes("a", up[0], 3), *nodes("b", up[1], 1)), (("a", 3), ("b", 1)))
    assert health.writable is there


def test_a_file_has_no_quorum_and_a_ring_of_three_needs_two() -> None:
    assert Health().writable
    assert Health(nodes("a", 2, 3), (("a", 3),)).writable
    assert not Health(nodes("a", 1, 3), (("a", 3),)).writable
