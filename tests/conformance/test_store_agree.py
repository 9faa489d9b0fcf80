"""Every backend gives the same answers as the one in memory, whatever is done to both."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from controller.store.base import Partition, Row, Store, Table
from tests.conformance.stores import BACKENDS, Keyspace, named

TABLES = st.sampled_from([Table.FACT, Table.EVENT])
PARTITIONS = ("", "p", "q\0", "Kind/ñ")
NAMES = st.sampled_from(PARTITIONS)
KEYS = st.sampled_from(["", "a", "b", "'", "🂡"])
VALUES = st.sampled_from(["", "1", "2", "x" * 5000])
TTLS = st.sampled_from([None, None, 2.0, 4.0])


def plain(rows: Mapping[str, Row]) -> list[tuple[str, str]]:
    return [(key, row.value) for key, row in rows.items()]


class Agreement(RuleBasedStateMachine):
    """Two stores to which the same happens. Versions may differ; what they say of changes may not."""

    name = ""
    keyspace: Keyspace
    # Whether the backend's time is the test's, and its cursors outlive who was given them.
    exact = True

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.backends = [
            self.stack.enter_context(BACKENDS[name](folder, self.keyspace)) for name in ("memory", self.name)
        ]
        self.stores: list[Store] = [backend.store for backend in self.backends]
        self.cursors = [0, 0]
        self.versions: list[dict[tuple[Partition, str], Row]] = [{}, {}]

    @rule(
        table=TABLES,
        name=NAMES,
        puts=st.dictionaries(KEYS, VALUES, max_size=3),
        deletes=st.sets(KEYS, max_size=2),
        ttl=TTLS,
    )
    def write(self, table: Table, name: str, puts: dict[str, str], deletes: set[str], ttl: float | None) -> None:
        gone = deletes - puts.keys()
        ttl = ttl if self.exact else None
        first, second = (store.write(table, name, puts, gone, ttl=ttl) for store in self.stores)
        assert first == second

    @rule(
        table=TABLES,
        name=NAMES,
        looked_at=st.sets(KEYS, min_size=1, max_size=3),
        stale=st.sets(KEYS, max_size=1),
        puts=st.dictionaries(KEYS, VALUES, max_size=3),
        deletes=st.sets(KEYS, max_size=2),
    )
    def compare_and_set(
        self, table: Table, name: str, looked_at: set[str], stale: set[str], puts: dict[str, str], deletes: set[str]
    ) -> None:
        results = []
        for store in self.stores:
            rows = store.read(table, name)
            expected: dict[str, int | None] = {key: rows[key].version if key in rows else None for key in looked_at}
            expected |= {key: (expected[key] or 0) + 1_000_000 for key in stale & looked_at}
            results.append(store.compare_and_set(table, name, expected, puts, deletes - puts.keys()))
        assert results == [stale.isdisjoint(looked_at)] * 2

    @rule(seconds=st.sampled_from([1.0, 2.5]))
    def time_passes(self, seconds: float) -> None:
        for backend in self.backends if self.exact else ():
            backend.advance(seconds)

    @rule()
    def changes(self) -> None:
        told = []
        for number, store in enumerate(self.stores):
            self.cursors[number], changed = store.changed_since(self.cursors[number])
            told.append(changed)
        assert told[0] == told[1] if self.exact else told[0] <= told[1]

    @rule()
    def opened_again(self) -> None:
        self.stores = [backend.again() for backend in self.backends]

    @invariant()
    def same(self) -> None:
        for table in (Table.FACT, Table.EVENT):
            first, second = (store.read_all(table) for store in self.stores)
            assert [(name, plain(rows)) for name, rows in first.items()] == [
                (name, plain(rows)) for name, rows in second.items()
            ]
            for number, everything in enumerate((first, second)):
                self.check_reads(self.stores[number], table, everything)
                self.check_versions(
                    number, {((table, n), k): row for n, rows in everything.items() for k, row in rows.items()}
                )

    @staticmethod
    def check_reads(store: Store, table: Table, everything: Mapping[str, Mapping[str, Row]]) -> None:
        """A partition or a row, asked for alone, is the same; what is not there is not."""
        for name in PARTITIONS:
            rows = everything.get(name, {})
            assert store.read(table, name) == rows
            key = next(iter(rows), "a")
            assert store.get(table, name, key) == rows.get(key)

    def check_versions(self, number: int, rows: dict[tuple[Partition, str], Row]) -> None:
        """A version stands for one value only, and a new one is higher than any before."""
        for where, row in rows.items():
            before = self.versions[number].get(where)
            if before is None or before.version != row.version:
                assert before is None or row.version > before.version
            else:
                assert before == row
        self.versions[number] |= rows

    def teardown(self) -> None:
        self.stack.close()


@pytest.mark.parametrize("backend", named(BACKENDS.keys() - {"memory"}))
def test_a_backend_agrees_with_the_one_in_memory(backend: str, request: pytest.FixtureRequest) -> None:
    exact = backend != "cassandra"
    own = {"name": backend, "keyspace": lambda _: request.getfixturevalue("keyspace")(), "exact": exact}
    machine = type("AgreementOf" + backend, (Agreement,), own)
    examples = 30 if exact else 8  # each begins with empty tables, which real nodes take a second for
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=25, deadline=None))
