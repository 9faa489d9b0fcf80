"""The history of passes: what stands still is not written at every look."""

from __future__ import annotations

from dataclasses import replace

from drivers.base import Applied, Change, Grade, Verb
from tests.fast.test_controller_record import Desk, outcome
from tests.fast.things import Thing

STUCK = outcome(unreachable="refused")
MADE = outcome(Applied(Change(Thing("x"), Verb.CREATE, (), Grade.LIVE)))


def test_a_pass_like_the_last_is_kept_once_a_minute() -> None:
    desk = Desk()
    for second in range(5000, 5130, 10):
        desk.recorder.run(replace(STUCK, at=float(second)), 10.0)
    assert [run.at for run in desk.ledger.runs("m")] == [5000.0, 5060.0, 5120.0]


def test_another_result_or_another_change_is_kept_at_once() -> None:
    desk = Desk()
    more = replace(MADE, executed=replace(MADE.executed, applied=MADE.executed.applied * 2))
    for second, found in enumerate((STUCK, MADE, more, more, STUCK)):
        desk.recorder.run(replace(found, at=float(second)), 10.0)
    assert [run.at for run in desk.ledger.runs("m")] == [0.0, 1.0, 2.0, 4.0]


def test_of_a_machine_that_left_nothing_is_kept() -> None:
    desk = Desk()
    desk.recorder.forget("m")
    desk.recorder.run(STUCK, None)
    assert desk.ledger.runs("m") == []
