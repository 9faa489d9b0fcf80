"""The benchmark of syncs at work on a small fleet: what it measures is what it says."""

from __future__ import annotations

from tools.bench.sync import CHANGED, Bench, measured


def test_three_changes_are_three_changes_on_a_fleet_that_was_brought_about() -> None:
    bench = Bench(110)
    bench.sync(0)
    bench.settle()
    before = bench.session.knowledge().rows
    bench.sync(1)
    after = bench.session.knowledge().rows
    assert len(before) == 110
    assert {ref for ref in after if after[ref] != before[ref]} == {f"Service/hub0000{n}" for n in range(CHANGED)}
    assert bench.session.ledger.inventory("host000").keys() >= {"File:/etc/hub/0.conf"}
    bench.sync(1)
    assert bench.session.knowledge().rows == after
    bench.close()


def test_all_of_it_is_measured() -> None:
    assert measured(101)["resources"] == 101
