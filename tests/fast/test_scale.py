"""The scale benchmark at work on a small fleet: it measures what it says."""

from __future__ import annotations

from tools.bench.scale import measured


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
