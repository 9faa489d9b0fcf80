"""What every store backend must do. A new backend is one entry in ``stores.BACKENDS`` (and ``SHARED``)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from controller.holder import Holder
from controller.leases import Leases
from controller.members import FLEET
from controller.store.base import Partition, Store, Table
from tests.conformance import stores
from tests.conformance.stores import BACKENDS, SHARED, Backend, named

HOSTILE = (
    "",
    " ",
    "a\nb",
    "a\tb",
    "nul\0in it",
    "'; DROP TABLE rows; --",
    '"',
    "%",
    "_",
    "*",
    "\\",
    "../../etc/passwd",
    "Ä",
    "A\u0308",
    "ä",
    "名前",
    "🂡",
    "\u202eright to left",
    "a" * 3000,
    "A",
    "a",
    "a ",
    "1",
    "01",
    "null",
    "Kind/name",
)


@pytest.fixture(params=named(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    with BACKENDS[request.param](tmp_path, lambda: request.getfixturevalue("keyspace")()) as made:
        yield made


@pytest.fixture
def store(backend: Backend) -> Store:
    return backend.store


@pytest.fixture(params=named(SHARED))
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    return SHARED[request.param](tmp_path, lambda: request.getfixturevalue("keyspace")())


def values(rows: Mapping[str, object]) -> dict[str, str]:
    return {key: getattr(row, "value") for key, row in rows.items()}  # noqa: B009 - rows are read only here


def test_an_empty_store_has_nothing(store: Store) -> None:
    assert store.get(Table.FACT, "p", "k") is None
    assert store.read(Table.FACT, "p") == {}
    assert store.read_all(Table.FACT) == {}
    assert store.changed_since(0)[1] == frozenset()


def test_what_is_written_is_read_by_everybody(backend: Backend) -> None:
    assert backend.store.write(Table.FACT, "p", {"b": "2", "a": "1"})
    for store in (backend.store, backend.again()):
        row = store.get(Table.FACT, "p", "a")
        assert row is not None
        assert row.value == "1"
        assert list(store.read(Table.FACT, "p")) == ["a", "b"], "sorted"
        assert values(store.read(Table.FACT, "p")) == {"a": "1", "b": "2"}
        assert {name: values(rows) for name, rows in store.read_all(Table.FACT).items()} == {"p": {"a": "1", "b": "2"}}


def test_tables_and_partitions_know_nothing_of_each_other(store: Store) -> None:
    places = [(table, name) for table in Table for name in ("p", "q", "p/q", "")]
    for table, name in places:
        store.write(table, name, {"k": f"{table} {name}", "other": "x"})
    store.write(Table.FACT, "p", {}, ["k", "other"])
    for table, name in places:
        gone = (table, name) == (Table.FACT, "p")
        assert values(store.read(table, name)) == ({} if gone else {"k": f"{table} {name}", "other": "x"})
    assert list(store.read_all(Table.FACT)) == ["", "p/q", "q"], "sorted, and an empty partition is none"


def test_hostile_keys_partitions_and_values_are_just_text(backend: Backend) -> None:
    expected = {name: {key: key + name for key in HOSTILE} for name in HOSTILE}
    for name, rows in expected.items():
        backend.store.write(Table.FACT, name, rows)
    found = backend.again().read_all(Table.FACT)
    assert {name: values(rows) for name, rows in found.items()} == expected
    assert [list(rows) for rows in found.values()] == [sorted(HOSTILE)] * len(HOSTILE)
    for key in HOSTILE:
        row = backend.store.get(Table.FACT, key, key)
        assert row is not None
        assert backend.store.compare_and_set(Table.FACT, key, {key: row.version}, {}, [key])
        assert backend.store.get(Table.FACT, key, key) is None
        assert len(backend.store.read(Table.FACT, key)) == len(HOSTILE) - 1, "only that one"


def test_big_values_and_many_rows(backend: Backend) -> None:
    big = "ö" * 500_000
    many = {f"{n:05}": str(n) for n in range(5000)}
    backend.store.write(Table.OBSERVATION, "big", {"big": big})
    backend.store.write(Table.OBSERVATION, "many", many)
    other = backend.again()
    assert values(other.read(Table.OBSERVATION, "big")) == {"big": big}
    assert values(other.read(Table.OBSERVATION, "many")) == many
    assert not other.write(Table.OBSERVATION, "many", many)


def test_a_write_that_changes_nothing_costs_nothing(store: Store) -> None:
    store.write(Table.FACT, "p", {"a": "1", "b": "2"})
    before, (cursor, _) = store.read(Table.FACT, "p"), store.changed_since(0)
    assert not store.write(Table.FACT, "p", {"a": "1", "b": "2"}, ["c"])
    assert not store.write(Table.FACT, "p", {"a": "1"})
    assert not store.write(Table.FACT, "p", {}, ["c"])
    assert not store.write(Table.FACT, "p", {})
    assert store.read(Table.FACT, "p") == before
    assert store.changed_since(cursor) == (cursor, frozenset())


def test_only_rows_that_differ_get_a_new_version_and_versions_only_grow(store: Store) -> None:
    store.write(Table.FACT, "p", {"a": "1", "b": "1"})
    first = store.read(Table.FACT, "p")
    assert store.write(Table.FACT, "p", {"a": "2", "b": "1"})
    second = store.read(Table.FACT, "p")
    assert second["a"].version > first["a"].version
    assert second["b"] == first["b"]
    store.write(Table.FACT, "p", {}, ["a"])
    store.write(Table.FACT, "p", {"a": "2"})
    third = store.get(Table.FACT, "p", "a")
    assert third is not None
    assert third.version > second["a"].version, "also after a deletion: a version never stands for two values"


def test_compare_and_set_of_a_new_row(store: Store) -> None:
    assert not store.compare_and_set(Table.FACT, "p", {"k": 1}, {"k": "1"}), "there is none"
    assert store.compare_and_set(Table.FACT, "p", {"k": None}, {"k": "1"})
    assert not store.compare_and_set(Table.FACT, "p", {"k": None}, {"k": "2"}), "there is one"
    assert values(store.read(Table.FACT, "p")) == {"k": "1"}


def test_compare_and_set_of_a_row_that_is_there(store: Store) -> None:
    store.write(Table.FACT, "p", {"k": "1", "other": "x"})
    first = store.read(Table.FACT, "p")["k"].version
    assert store.compare_and_set(Table.FACT, "p", {"k": first}, {"k": "2"})
    assert not store.compare_and_set(Table.FACT, "p", {"k": first}, {"k": "3"}), "its version is old"
    second = store.read(Table.FACT, "p")["k"].version
    assert store.compare_and_set(Table.FACT, "p", {"k": second}, {"k": "2"}), "the same value again"
    third = store.read(Table.FACT, "p")["k"].version
    assert third > second, "is a write all the same: who waits for a change sees that somebody is alive"
    assert not store.compare_and_set(Table.FACT, "p", {"k": second}, {}, ["k"])
    assert store.compare_and_set(Table.FACT, "p", {"k": third}, {}, ["k"])
    assert values(store.read(Table.FACT, "p")) == {"other": "x"}
    assert not store.compare_and_set(Table.FACT, "p", {"k": third}, {"k": "4"}), "it is gone"


def test_compare_and_set_of_several_rows_is_all_or_nothing(store: Store) -> None:
    store.write(Table.FACT, "p", {"a": "1", "b": "1", "other": "x"})
    rows = store.read(Table.FACT, "p")
    both = {key: rows[key].version for key in ("a", "b")}
    assert not store.compare_and_set(Table.FACT, "p", both | {"new": 1}, {"a": "2", "new": "2"}, ["b"])
    assert not store.compare_and_set(Table.FACT, "p", both | {"other": None}, {"a": "2", "new": "2"}, ["b"])
    assert values(store.read(Table.FACT, "p")) == {"a": "1", "b": "1", "other": "x"}
    assert store.compare_and_set(Table.FACT, "p", both | {"new": None}, {"a": "2", "new": "2"}, ["b"])
    now = store.read(Table.FACT, "p")
    assert values(now) == {"a": "2", "new": "2", "other": "x"}
    assert now["a"].version == now["new"].version > rows["a"].version, "one write"
    assert now["other"] == rows["other"], "what was not named is not touched"
    store.write(Table.FACT, "p", {"other": "y"})
    assert not store.compare_and_set(Table.FACT, "p", {"other": rows["other"].version}, {"a": "3"}), "only looked at"


def test_rows_that_expire(backend: Backend) -> None:
    store = backend.store
    store.write(Table.EVENT, "p", {"soon": "1", "same": "1"}, ttl=2.0 * backend.pace)
    store.write(Table.EVENT, "p", {"stays": "1", "same": "1"})
    store.write(Table.EVENT, "only", {"soon": "1"}, ttl=2.0 * backend.pace)
    backend.advance(1.0 * backend.pace)
    assert list(store.read(Table.EVENT, "p")) == ["same", "soon", "stays"]
    backend.advance(1.5 * backend.pace)
    assert store.get(Table.EVENT, "p", "soon") is None
    assert list(store.read(Table.EVENT, "p")) == ["same", "stays"], "written again without a time, it stays"
    assert list(store.read_all(Table.EVENT)) == ["p"]
    assert not store.write(Table.EVENT, "p", {}, ["soon"]), "there is nothing to delete"
    assert store.compare_and_set(Table.EVENT, "p", {"soon": None}, {"soon": "2"}), "nor to compare with"
    backend.advance(3.0 * backend.pace)
    assert values(store.read(Table.EVENT, "p")) == {"same": "1", "soon": "2", "stays": "1"}


def test_a_row_that_expires_is_given_new_time(backend: Backend) -> None:
    store = backend.store
    store.write(Table.EVENT, "p", {"k": "1"}, ttl=2.0 * backend.pace)
    backend.advance(1.5 * backend.pace)
    assert store.write(Table.EVENT, "p", {"k": "1"}, ttl=2.0 * backend.pace)
    backend.advance(1.5 * backend.pace)
    assert values(store.read(Table.EVENT, "p")) == {"k": "1"}


def test_what_changed_is_told_from_where_one_was(backend: Backend) -> None:
    store = backend.store
    store.write(Table.FACT, "p", {"k": "1"})
    store.write(Table.STATUS, "q", {"k": "1"})
    cursor, changed = store.changed_since(0)
    assert changed == {(Table.FACT, "p"), (Table.STATUS, "q")}
    assert store.changed_since(cursor) == (cursor, frozenset())
    other = backend.again()
    other.write(Table.FACT, "p", {"k": "2"})
    other.compare_and_set(Table.FACT, "r", {"k": None}, {"k": "1"})
    cursor, changed = store.changed_since(cursor)
    assert changed >= {(Table.FACT, "p"), (Table.FACT, "r")}
    other.write(Table.STATUS, "q", {}, ["k"])
    row = other.read(Table.FACT, "r")["k"]
    other.compare_and_set(Table.FACT, "r", {"k": row.version}, {}, ["k"])
    cursor, changed = store.changed_since(cursor)
    assert changed >= {(Table.STATUS, "q"), (Table.FACT, "r")}, "deletions, too"
    assert store.changed_since(cursor) == (cursor, frozenset())


def test_a_cursor_from_the_future_tells_of_everything(store: Store) -> None:
    store.write(Table.FACT, "p", {"k": "1"})
    cursor, changed = store.changed_since(1 << 62)
    assert changed == {(Table.FACT, "p")}
    assert store.changed_since(cursor) == (cursor, frozenset())


def test_compare_and_set_loses_nothing_between_threads(backend: Backend) -> None:
    clients = [backend.store, backend.store, backend.again(), backend.again()]
    in_threads(*(lambda client=client: stores.increment(client, 25) for client in clients))
    assert values(backend.store.read(Table.META, "race")) == {"counter": "100"}


def test_whoever_follows_the_changes_ends_with_what_is_there(backend: Backend) -> None:
    follower = Follower(backend.again())
    writers = [(backend.store, "a"), (backend.store, "b"), (backend.again(), "c")]
    in_threads(
        *(lambda c=client, w=who: stores.write_pairs(c, w, 100) for client, who in writers), beside=follower.look
    )
    follower.look()
    assert follower.seen == follower.everything()
    assert len(follower.seen) == 21


def in_threads(*work: Callable[[], object], beside: Callable[[], None] = lambda: None) -> None:
    """Runs all at once, and ``beside`` again and again here. What a thread raises, pytest makes an error."""
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        beside()
    for thread in threads:
        thread.join()


class Follower:
    """Keeps a copy of the facts by what ``changed_since`` tells; a pair of rows must never be seen half-written."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.cursor = 0
        self.looks = 0
        self.seen: dict[Partition, dict[str, str]] = {}

    def look(self) -> None:
        self.cursor, changed = self.store.changed_since(self.cursor)
        for table, name in changed:
            rows = values(self.store.read(table, name))
            # A change may be told before it is made: then there is nothing yet.
            assert rows.get("left") == rows.get("right"), "what is written at once is there at once"
            self.seen[table, name] = rows
        self.looks += 1

    def everything(self) -> dict[Partition, dict[str, str]]:
        return {(Table.FACT, name): values(rows) for name, rows in self.store.read_all(Table.FACT).items()}


def test_compare_and_set_loses_nothing_between_processes(shared: Callable[[], Store]) -> None:
    with ExitStack() as stack:
        workers = [stack.enter_context(stores.process(stores.increment_elsewhere, shared, 100)) for _ in range(2)]
        for _, connection in workers:
            assert connection.recv() == "ready"
        for _, connection in workers:
            connection.send("go")
        for _, connection in workers:
            connection.recv()
    store = shared()
    assert values(store.read(Table.META, "race")) == {"counter": "200"}
    store.close()


def test_reading_while_another_process_writes(shared: Callable[[], Store]) -> None:
    follower = Follower(shared())
    with stores.process(stores.write_pairs_elsewhere, shared, "elsewhere", 300) as (_, connection):
        assert connection.recv() == "ready"
        while not connection.poll():
            follower.look()
        assert connection.recv() == "done"
    follower.look()
    assert follower.seen == follower.everything()
    assert len(follower.seen) == 7
    follower.store.close()


def test_many_processes_make_the_store_at_once(shared: Callable[[], Store]) -> None:
    with ExitStack() as stack:
        workers = [stack.enter_context(stores.process(stores.open_together, shared)) for _ in range(4)]
        for _, connection in workers:
            assert connection.recv() == "ready"
        for _, connection in workers:
            connection.send("go")
        for _, connection in workers:
            assert connection.recv() == "done"
    store = shared()
    assert len(store.read(Table.META, "opened")) == 4
    store.close()


def test_a_killed_writer_loses_nothing_that_was_acknowledged(shared: Callable[[], Store]) -> None:
    told = -1
    with stores.process(stores.write_until_killed, shared) as (child, connection):
        while told < 50:
            told = connection.recv()
        child.kill()
        child.join()
        while connection.poll():
            try:
                told = connection.recv()
            except EOFError:
                break
    store = shared()
    found = {int(key) for rows in store.read_all(Table.FACT).values() for key in rows}
    assert found >= set(range(told + 1))
    assert store.write(Table.FACT, "p0", {"after": "y"})
    store.close()


def test_the_leases_of_a_killed_process_are_taken_over_at_once(shared: Callable[[], Store]) -> None:
    store = shared()
    mine = Leases(store, Holder.this_process())
    with stores.process(stores.hold_leases, shared) as (child, connection):
        held = set(connection.recv().values())
        mine.tick()
        assert mine.held() == {}
        assert mine.other_holder(FLEET).startswith(f"pid {child.pid} ")
        child.kill()
        child.join()
        mine.tick()
    assert min(mine.held().values()) > max(held)
    store.close()
