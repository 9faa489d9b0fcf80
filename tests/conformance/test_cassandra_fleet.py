"""salvusctl with its store in Cassandra; machines are simulated, the nodes are real."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from controller.store import copy
from controller.store.base import StoreUnavailable, Table
from controller.store.cassandra.settings import CassandraSettings
from controller.store.cassandra.store import CassandraStore
from controller.store.sqlite import SqliteStore
from lab import cassandra
from lab.cassandra import Ring
from salvusctl.exits import Code
from tests.fast.cli import HOST, OTHER, SERVICE, Cli, cli

pytestmark = pytest.mark.cassandra

__all__ = ["cli"]


@pytest.fixture
def ring_cli(cli: Cli, keyspace: Callable[[], CassandraSettings]) -> Cli:
    settings = keyspace()
    points = json.dumps(settings.contact_points)
    store = f"{{cassandra: {{contactPoints: {points}, datacenter: dc1}}}}"
    (cli.folder / "config.yaml").write_text(f"contexts: [{{name: test, store: {store}}}]\n")
    return cli


def test_a_fleet_whose_state_is_in_cassandra(ring_cli: Cli, ring: Ring) -> None:
    cli = ring_cli
    made = cli("store", "init").out
    assert cli("store", "init").out == made, "once more changes nothing"
    assert "replicas: 3 in dc1" in cli("store", "status").out
    fleet = cli.write(HOST, OTHER, SERVICE)
    assert "1 to create" in cli("diff", fleet, code=Code.DIFFERENT).out
    cli("apply", "--timeout", "120", fleet)
    cli("diff", fleet)
    assert {item["metadata"]["name"] for item in cli("get", "all", "-o", "json").data["items"]} == {
        "alpha",
        "beta",
        "hello",
    }
    assert "Created" in cli("events", "hello").out
    cassandra.pause(ring, ring.nodes[0], True)
    try:
        assert "hello" in cli("get", "svc").out, "one node that hangs is not noticed"
        cli("delete", "svc/hello", "--yes", "--timeout", "120")
    finally:
        cassandra.pause(ring, ring.nodes[0], False)
    assert {item["kind"] for item in cli("get", "all", "-o", "json").data["items"]} == {"Host"}


def test_a_node_that_hangs_and_a_dead_one_are_told_by_status_and_reading_goes_on(ring_cli: Cli, ring: Ring) -> None:
    cli = ring_cli
    cli("store", "init")
    cli("apply", "--no-wait", cli.write(HOST))
    hung, dead = ring.nodes[1], ring.nodes[2]
    cassandra.pause(ring, hung, True)
    try:
        answer = cli("store", "status", code=None)
        assert answer.code == Code.DIFFERENT
        assert f"node {hung.address} in dc1 is down" in answer.err
        cassandra.kill(ring, dead)
        answer = cli("get", "host")
        assert "alpha" in answer.out
        assert "no quorum of the store's 3 replicas answers in time; this is from one, and may be old" in answer.err
        told = cli("delete", "host/alpha", "--yes", code=Code.TROUBLE).err
        assert "the store in Cassandra" in told
        assert "salvusctl store status" in told
        assert cli("store", "dump", str(cli.folder / "copy"), code=Code.TROUBLE).out == ""
        assert not (cli.folder / "copy").exists(), "a copy of what may be old would be none"
        assert f"node {dead.address} in dc1 is down" in cli("store", "status", code=None).err
    finally:
        cassandra.pause(ring, hung, False)
        cassandra.start(ring, dead)
        cassandra.wait(ring, dead)
    assert "one of 3" not in cli("get", "host").err


def test_sqlite_and_cassandra_take_each_others_copies_under_load(
    ring_cli: Cli, keyspace: Callable[[], CassandraSettings], cli: Cli
) -> None:
    """While somebody writes: what was acknowledged before the copy began is in it, and both ends keep the same."""
    settings = keyspace()
    store, over = CassandraStore(settings), threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            with suppress(StoreUnavailable):
                store.write(Table.FACT, f"p{number % 5}", {"n": str(number)})
                number += 1

    store.write(Table.RESOURCE, "Host/alpha", {"manifest": "{}"})
    writer = threading.Thread(target=write)
    writer.start()
    try:
        parts = copy.checked(copy.dump(store))
    finally:
        over.set()
        writer.join()
    file = SqliteStore(cli.folder / "copied.db")
    copy.restore(file, parts)
    assert file.read(Table.RESOURCE, "Host/alpha")["manifest"].value == "{}"
    assert set(file.read_all(Table.FACT)) <= {f"p{number}" for number in range(5)}
    there = copy.checked(copy.dump(file))
    store.close()
    empty = CassandraStore(keyspace())
    copy.restore(empty, there)
    assert copy.checked(copy.dump(empty)) == there
    empty.close()
    file.close()
