"""Trying connections from machines, for verbs that prove what is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from drivers.base import Present, State, Unknown
from drivers.items.attempts import Attempt, Attempts
from resources.reach import Site, Trial
from resources.reach_claims import Target
from resources.reach_live import Outcome, Tried, attempts_of, outcome_of
from resources.world import World

if TYPE_CHECKING:
    from controller.session import Session

Wanted = tuple[Site, Site, Target]


def world_in_force(session: Session) -> World:
    """All that is in force and known."""
    knowledge = session.knowledge()
    return knowledge.world()


def try_all(session: Session, wanted: Sequence[Wanted]) -> list[tuple[Tried, ...]]:
    """What came of each, by pair of addresses; every machine is asked once, all at the same time."""
    from controller.asking import ask

    plans = [
        (source.name, destination.name, attempts_of(source, destination, to)) for source, destination, to in wanted
    ]
    of_machine = defaultdict[str, dict[Attempt, None]](dict)
    for source, _, plan in plans:
        of_machine[source].update(dict.fromkeys(plan))
    items = {machine: Attempts(tuple(found)) for machine, found in of_machine.items() if found}
    said = ask(session, items)
    answers = {
        (machine, attempt): outcome
        for machine, item in items.items()
        for attempt, outcome in zip(item.attempts, _outcomes(item, said[machine]), strict=True)
    }

    def tried(source: str, destination: str, plan: Mapping[Attempt, Trial]) -> Iterator[Tried]:
        for attempt, trial in plan.items():
            outcome, why = answers[source, attempt]
            yield Tried(source, destination, trial, outcome, why)

    return [tuple(tried(source, destination, plan)) for source, destination, plan in plans]


def _outcomes(item: Attempts, said: State) -> list[tuple[Outcome, str]]:
    answers = said.fields.get("answers") if isinstance(said, Present) else None
    if isinstance(answers, tuple) and len(answers) == len(item.attempts):
        return [outcome_of(str(answer)) for answer in answers]
    reason = said.reason if isinstance(said, Unknown) else "the machine did not answer"
    return [(Outcome.NOT_TRIED, reason)] * len(item.attempts)
