"""The log of a source's revisions: a line when something changes, and no other."""

from __future__ import annotations

from dataclasses import replace

from controller.revisions import in_force, lasts, previous, turns
from controller.store.source_records import Disturbed, Hold, SourceState, Turn

GIT = "git:https://git.example.org/fleet.git#main:manifests"


def state(revision: str, *errors: str, newest: str = "", held: bool = False) -> SourceState:
    holds = (Hold(GIT, revision, "revision", (Disturbed("Host/a"),), 9),) if held else ()
    return SourceState(GIT, revision, 0.0, errors, holds, newest)


def log_of(*states: SourceState) -> list[Turn]:
    log: list[Turn] = []
    for at, one in enumerate(states):
        log += turns(one, "Alice", float(at), log)
    return log


def told(*states: SourceState) -> list[tuple[str, str]]:
    return [(turn.revision, turn.state) for turn in log_of(*states)]


def test_the_same_again_is_no_news_whatever_was_in_between() -> None:
    away = SourceState(GIT, "", 0.0, ("it is away",))
    assert told(state("a"), state("a"), away, state("a")) == [("a", "in force")]
    assert told(state("a"), state("b", "wrong"), away, state("b", "wrong")) == [("a", "in force"), ("b", "refused")]


def test_what_is_held_and_let_through_and_what_comes_into_force_again_is_news() -> None:
    assert told(state("a", held=True), state("a")) == [("a", "held"), ("a", "in force")]
    log = log_of(state("a"), state("b"), state("a"))
    assert [turn.revision for turn in log] == ["a", "b", "a"]
    assert (in_force(log), previous(log)) == ("a", "b")
    assert previous(log_of(state("a"), state("b", "wrong"))) == ""
    assert (in_force([]), previous([])) == ("", "")


def test_what_is_newer_than_a_pin_is_held() -> None:
    log = log_of(state("b"), state("a", newest="b"), state("a", newest="c"), state("a", newest="c"), state("c"))
    there = [("b", "in force"), ("a", "in force"), ("b", "held"), ("c", "held"), ("c", "in force")]
    assert [(turn.revision, turn.state) for turn in log] == there
    assert (log[0].about, log[2].about, log[2].why) == ("Alice", "", "pinned to a")
    assert previous(log) == "a"


def test_what_was_so_is_told_from_what_is() -> None:
    states = [state("b"), state("a", newest="b"), state("a", newest="c"), state("c"), state("d", "wrong")]
    log = log_of(*states)
    now = [(turn.revision, turn.state) for turn in log if lasts(turn, states[-1], log)]
    assert now == [("c", "in force"), ("d", "refused")]
    assert len(log) == 6


def test_a_held_or_refused_revision_says_why() -> None:
    assert log_of(state("a", "x.yaml:1:1: what is that", "more"))[0].why == "x.yaml:1:1: what is that"
    assert "salvusctl approve" in log_of(state("a", held=True))[0].why
    gone = Hold(GIT, "a", "deletions", (Disturbed("Host/a"),), 9)
    (turn,) = log_of(replace(state("a"), holds=(gone,)))
    assert (turn.state, turn.why) == ("in force", gone.message)
