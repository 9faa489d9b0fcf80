"""The scale benchmark at work on a small fleet: it measures what it says."""

from __future__ import annotations

from controller.store.memory import MemoryStore
from tools.bench import filters, joining
from tools.bench.scale import measured
from tools.bench.store import measure


def test_the_first_pass_makes_everything_and_the_others_write_nothing() -> None:
    rows = measured(machines=3, items=40, profile=False)
    assert {row.what: row.writes for row in rows} == {
        "read the store and decide": 0,
        "lower and plan everything": 0,
        "first pass: everything is made": 120,
        "what machines told comes in": 0,
        "second pass: everything is looked at": 0,
        "every further pass": 0,
    }


def test_a_look_and_passes_with_nothing_to_do_ask_the_store_once_and_write_nothing() -> None:
    found = measure("memory", MemoryStore(), machines=3, items=40, passes=2)
    assert (found.reads, found.writes) == (1, 0)
    assert found.written > 3 * 10, "a row at least for each service on each machine"


def test_a_machine_more_is_work_for_those_whom_it_concerns_and_for_nobody_else() -> None:
    stranger, database = joining.measured(machines=60)
    assert (stranger.machines, stranger.changed) == (1, 1)
    # The network's other fifty.
    assert (database.machines, database.changed) == (51, 51)
    assert database.lowered == database.passes


def test_passes_over_many_rules_with_nothing_to_do_write_nothing() -> None:
    assert filters.idle(nodes=3, rules=10, passes=2).writes == 0
