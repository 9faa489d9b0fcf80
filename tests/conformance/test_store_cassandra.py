"""What only a store of several nodes can show: nodes that die or hang, answers that are lost, clocks that are wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cassandra import OperationTimedOut

from controller.leases import TTL, USABLE
from controller.store.base import StoreMissing, StoreUnavailable, StoreUnusable, Table
from controller.store.cassandra import changes, ring, schema
from controller.store.cassandra.health import look
from controller.store.cassandra.settings import CassandraSettings
from controller.store.cassandra.store import PERSISTENCE, CassandraStore
from lab import cassandra
from lab.cassandra import Node, Ring
from tests.cassandra_ring import running_ring
from tests.conformance import stores

pytestmark = pytest.mark.cassandra

Keyspace = Callable[[], CassandraSettings]


@pytest.fixture
def settings(keyspace: Keyspace) -> CassandraSettings:
    return keyspace()


@pytest.fixture
def store(settings: CassandraSettings) -> Iterator[CassandraStore]:
    made = CassandraStore(settings)
    yield made
    made.close()


@contextmanager
def paused(ring: Ring, node: Node) -> Iterator[None]:
    cassandra.pause(ring, node, True)
    try:
        yield
    finally:
        cassandra.pause(ring, node, False)


@contextmanager
def dead(ring: Ring, *nodes: Node) -> Iterator[None]:
    for node in nodes:
        cassandra.kill(ring, node)
    try:
        yield
    finally:
        for node in nodes:
            cassandra.start(ring, node)
        for node in nodes:
            cassandra.wait(ring, node)


def count(store: CassandraStore, until: int) -> None:
    """Counts up in ten partitions, each number once; what is unclear is looked up before it is done again."""
    for number in range(until):
        place = f"p{number % 10}"
        value = str(number // 10)
        while True:
            row = store.get(Table.FACT, place, "n")
            if row is not None and row.value == value:
                break
            assert row is None or int(row.value) == number // 10 - 1, "nothing is lost, nothing is done twice"
            try:
                store.compare_and_set(Table.FACT, place, {"n": row.version if row else None}, {"n": value})
            except StoreUnavailable:
                continue


def test_one_node_that_hangs_is_left(store: CassandraStore, ring: Ring) -> None:
    with paused(ring, ring.nodes[1]):
        count(store, 60)
    assert {rows["n"].value for rows in store.read_all(Table.FACT).values()} == {"5"}


def test_one_node_that_dies_is_not_missed(store: CassandraStore, ring: Ring) -> None:
    worker = threading.Thread(target=count, args=(store, 200))
    worker.start()
    with dead(ring, ring.nodes[2]):
        worker.join()
        assert len(store.read_all(Table.FACT)) == 10
    assert {rows["n"].value for rows in store.read_all(Table.FACT).values()} == {"19"}


def test_with_one_of_three_who_only_reads_is_told_how_old_it_is_and_nothing_is_written(
    settings: CassandraSettings, store: CassandraStore, ring: Ring
) -> None:
    store.write(Table.FACT, "p", {"before": "1"})
    warned: list[str] = []
    with dead(ring, *ring.nodes[1:]):
        with pytest.raises(StoreUnavailable) as caught:
            store.write(Table.FACT, "p", {"meanwhile": "2"})
        assert "salvusctl store status" in caught.value.hint
        with pytest.raises(StoreUnavailable):
            store.read(Table.FACT, "p")
        with closing(CassandraStore(settings, warned.append)) as reader:
            assert reader.read(Table.FACT, "p")["before"].value == "1"
            assert (Table.FACT, "p") in reader.changed_since(0)[1]
            assert "this is from one, and may be old: the newest change" in warned[0]
            assert (len(warned), look(settings).advice[-1][:40]) == (1, "1 node of 3 in dc1 is up, and nothing ca")
            with pytest.raises(StoreUnavailable):
                reader.write(Table.FACT, "p", {"meanwhile": "2"})
    with closing(CassandraStore(settings, warned.append)) as reader:
        goes_on(store)
        found = {key: row.value for key, row in reader.read(Table.FACT, "p").items()}
        assert found.pop("meanwhile", "2") == "2", "it is written, or not"
        assert found == {"before": "1", "after": "3"}


def goes_on(store: CassandraStore) -> None:
    """Until it can be written again, by itself."""
    deadline = time.monotonic() + 240
    while True:
        try:
            store.write(Table.FACT, "p", {"after": "3"})
            break
        except StoreUnavailable:
            assert time.monotonic() < deadline


class Loses:
    """Wraps the driver's session: of a conditional batch the answer is lost, once it was made, or before."""

    def __init__(self, session: Any, made: bool, times: int = 1) -> None:
        self._session = session
        self._made = made
        self.left = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def execute(self, statement: Any, **more: Any) -> Any:
        if not more["execution_profile"].startswith(ring.SWAP) or not self.left:
            return self._session.execute(statement, **more)
        self.left -= 1
        if self._made:
            self._session.execute(statement, **more)
        raise OperationTimedOut({"node": "no answer"})


@pytest.mark.parametrize("made", [True, False])
def test_what_was_done_without_an_answer_is_known_by_its_stamp(
    store: CassandraStore, made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(Table.FACT, "p", {"n": "1"})
    row = store.get(Table.FACT, "p", "n")
    assert row is not None
    lossy = Loses(store._ring.session, made)
    monkeypatch.setattr(store._ring, "session", lossy)
    assert store.compare_and_set(Table.FACT, "p", {"n": row.version}, {"n": "2"}), "once, and told as done"
    assert not store.compare_and_set(Table.FACT, "p", {"n": row.version}, {"n": "3"})
    lossy.left = 1
    assert store.write(Table.FACT, "p", {"other": "x"}, ["n"])
    assert list(store.read(Table.FACT, "p")) == ["other"]


def test_what_never_gets_an_answer_is_told(store: CassandraStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.store.cassandra.store.PERSISTENCE", 0.5)
    monkeypatch.setattr(store._ring, "session", Loses(store._ring.session, False, times=10_000))
    with pytest.raises(StoreUnavailable, match="came too late"):
        store.write(Table.FACT, "p", {"n": "1"})


@pytest.mark.parametrize("answers", [1, 2, 3], ids=["before its turn", "before the first swap", "before the second"])
def test_who_was_stopped_inside_a_write_does_not_send_it_later(
    store: CassandraStore, monkeypatch: pytest.MonkeyPatch, answers: int
) -> None:
    """As after SIGSTOP: by then another controller may hold the lease that was valid when the write began."""
    now = [*[0.0] * answers, 60.0]
    monkeypatch.setattr("controller.store.cassandra.store.uptime", lambda: now.pop(0) if len(now) > 1 else now[0])
    monkeypatch.setattr(store._ring, "session", Loses(store._ring.session, False))
    with pytest.raises(StoreUnavailable, match="came too late"):
        store.write(Table.FACT, "p", {"n": "1"})
    assert store.read(Table.FACT, "p") == {}


def test_threads_of_one_process_take_turns_at_a_partition(
    store: CassandraStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those that tell of one machine do: each writes a row of its own, and none comes in between."""
    made: list[bool | None] = []
    swap = store._swap

    def counted(*about: Any) -> bool | None:
        made.append(swap(*about))
        return made[-1]

    monkeypatch.setattr(store, "_swap", counted)
    keys = [f"event{number}" for number in range(48)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda key: stores.in_time(lambda: store.write(Table.EVENT, "host1", {key: key})), keys))
    assert sorted(store.read(Table.EVENT, "host1")) == sorted(keys)
    assert False not in made


def test_a_write_is_over_before_anybody_else_can_hold_the_lease_under_which_it_began() -> None:
    assert PERSISTENCE + ring.PATIENCE <= TTL * (1 - USABLE) + 1e-9


def test_a_change_whose_end_was_never_marked_is_told_again(settings: CassandraSettings, store: CassandraStore) -> None:
    """A writer that dies between its two marks, after others have looked."""
    now = 1000.0
    store._changes._clock = lambda: now
    cursor, _ = store.changed_since(0)
    other = CassandraStore(settings)
    other._changes.tell(Table.FACT, "p", 4711, done=False)
    cursor, changed = store.changed_since(cursor)
    assert changed == {(Table.FACT, "p")}
    now += changes.PENDING / 2
    assert store.changed_since(cursor) == (cursor, frozenset())
    now += changes.PENDING
    cursor, changed = store.changed_since(cursor)
    assert changed == {(Table.FACT, "p")}, "by now what was begun is there, or never will be"
    assert store.changed_since(cursor) == (cursor, frozenset())
    other.close()


def test_who_has_not_looked_for_long_hears_of_everything(store: CassandraStore) -> None:
    now = 1000.0
    store._changes._clock = lambda: now
    store.write(Table.FACT, "old", {"k": "1"})
    cursor, _ = store.changed_since(0)
    now += 3600
    later, changed = store.changed_since(cursor)
    assert changed == {(Table.FACT, "old")}
    assert later > cursor
    assert store.changed_since(later) == (later, frozenset())


def write_an_hour_ago(connection: Any, settings: CassandraSettings, shift: float) -> None:
    """In a process of its own, whose clock is wrong from before the driver is loaded."""
    real, boot = time.time, time.time_ns
    time.time, time.time_ns = lambda: real() + shift, lambda: boot() + int(shift * 1e9)
    store = CassandraStore(settings)
    stores.increment(store, 20)
    store.write(Table.STATUS, "s", {"k": f"{shift}"})
    connection.send(store.changed_since(0)[1])
    store.close()


@pytest.mark.parametrize("shift", [-3600.0, 3600.0])
def test_a_clock_that_is_an_hour_wrong_does_no_harm(
    settings: CassandraSettings, store: CassandraStore, shift: float
) -> None:
    cursor, _ = store.changed_since(0)
    store.write(Table.STATUS, "s", {"k": "before"})
    with stores.process(write_an_hour_ago, settings, shift) as (_, connection):
        stores.increment(store, 20)
        seen = connection.recv()
    assert store.read(Table.META, "race")["counter"].value == "40"
    assert store.read(Table.STATUS, "s")["k"].value == f"{shift}", "the last one wins, not the latest clock"
    assert store.changed_since(cursor)[1] == seen == {(Table.STATUS, "s"), (Table.META, "race")}
    store.write(Table.STATUS, "s", {"k": "after"})
    assert store.read(Table.STATUS, "s")["k"].value == "after"


def test_a_keyspace_that_is_not_there_is_told_with_what_to_do(settings: CassandraSettings) -> None:
    missing = CassandraSettings(settings.contact_points, "dc1", keyspace="nobody")
    with pytest.raises(StoreMissing, match="no such keyspace") as caught:
        CassandraStore(missing)
    assert "salvusctl store init" in caught.value.hint


def test_a_data_centre_that_is_not_there_is_told_with_those_that_are(settings: CassandraSettings) -> None:
    with pytest.raises(StoreUnusable, match="no data centre 'berlin'; it has dc1"):
        CassandraStore(CassandraSettings(settings.contact_points, "berlin"))


def test_no_node_at_all(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be used now"):
        CassandraStore(CassandraSettings(("127.77.9.9",), "dc1"))


def test_a_newer_schema_is_refused(settings: CassandraSettings, store: CassandraStore) -> None:
    def version(number: int) -> None:
        store._ring.execute(ring.SWAP, "UPDATE salvus.versions SET version = ? WHERE what = 'rows' IF EXISTS", number)

    version(99)
    try:
        with pytest.raises(StoreUnusable, match="schema 99, this salvus knows 1"):
            CassandraStore(settings)
    finally:
        version(1)
    CassandraStore(settings).close()


# What the next version may do: it adds.
NEXT = (
    *schema.STEPS,
    (
        "ALTER TABLE salvus.fact ADD IF NOT EXISTS note text",
        "CREATE TABLE IF NOT EXISTS salvus.extra (k text PRIMARY KEY) WITH id = {id[extra]}",
    ),
)


def test_who_knows_the_version_before_goes_on_while_others_migrate(settings: CassandraSettings) -> None:
    """Two at once, through different nodes."""
    one, other, *_ = settings.contact_points
    by = [replace(settings, keyspace="older", contact_points=(node,)) for node in (one, other)]
    CassandraStore.make(by[0], 3)
    begin = threading.Barrier(2)

    def migrate(where: CassandraSettings) -> tuple[int, int]:
        with closing(ring.Ring.connect(where)) as connection:
            begin.wait()
            return schema.migrate(connection, NEXT)

    with closing(CassandraStore(by[0])) as running, ThreadPoolExecutor(2) as threads:
        running.write(Table.FACT, "p", {"before": "1"})
        done = [threads.submit(migrate, where) for where in by]
        assert {found.result() for found in done} <= {(1, 2), (2, 2)}
        running.write(Table.FACT, "p", {"during": "2"})
        with closing(CassandraStore(by[1])) as started:
            started.write(Table.FACT, "p", {"after": "3"})
            assert [row.value for row in running.read(Table.FACT, "p").values()] == ["3", "1", "2"]
            connection = started._ring
            names = {name for name, _ in connection.cluster.metadata.keyspaces["older"].tables["fact"].columns.items()}
            assert "note" in names
            assert schema.migrate(connection, NEXT) == (2, 2)
            assert schema.migrate(connection) == (2, 2), "who knows only the version before takes nothing back"
            with pytest.raises(StoreUnusable, match="has schema 2, this salvus knows 0"):
                schema.migrate(connection, ())
            connection.session.execute("DROP KEYSPACE older", timeout=60)


def test_an_older_schema_is_refused_with_what_to_do(
    settings: CassandraSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "STEPS", NEXT)
    with pytest.raises(StoreUnusable, match="schema 1, this salvus needs 2") as caught:
        CassandraStore(settings)
    assert "salvusctl store migrate" in caught.value.hint


def sign(store: CassandraStore, who: str, times: int) -> None:
    """Appends names to one row, each once; a node that is busy may be away for a while."""
    for number in range(times):
        name, signed = f"{who}{number}", False
        while not signed:
            with suppress(StoreUnavailable):
                row = store.get(Table.META, "race", "book")
                book = row.value.split() if row else []
                value = " ".join([*book, name])
                signed = name in book or store.compare_and_set(
                    Table.META, "race", {"book": row.version if row else None}, {"book": value}
                )


def test_two_data_centres_agree_on_one_writer() -> None:
    """A quorum of each data centre by itself would let both win."""
    with running_ring("two", "127.78.0", (1, 1)) as two:
        here = CassandraSettings((two.nodes[0].address,), "dc1")
        there = CassandraSettings((two.nodes[1].address,), "dc2")
        with pytest.raises(StoreUnusable, match="of the 3 nodes that are wanted at least are seen in dc1"):
            CassandraStore.make(here)
        CassandraStore.make(here, 1)
        with pytest.raises(StoreUnusable, match="no replicas of it are in dc2, but in: dc1"):
            CassandraStore(there).get(Table.FACT, "p", "k")
        first = CassandraStore(here)
        assert first._ring.scope() == ring.LOCAL
        first._ring.session.execute(
            "ALTER KEYSPACE salvus WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1, 'dc2': 1}"
        )
        second = CassandraStore(there)
        assert {first._ring.scope(), second._ring.scope()} == {ring.GLOBAL}
        threads = [threading.Thread(target=sign, args=(store, who, 20)) for store, who in ((first, "a"), (second, "b"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        signed = second.read(Table.META, "race")["book"].value.split()
        assert sorted(signed) == sorted(f"{who}{number}" for who in "ab" for number in range(20)), "each once"
        first.close()
        second.close()
