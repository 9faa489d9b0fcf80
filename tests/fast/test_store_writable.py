"""Whether a ring can be written to, as `salvusctl store status` says it."""

from __future__ import annotations

import pytest

from controller.store.opening import Health, Node


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
