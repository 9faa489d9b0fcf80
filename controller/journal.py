"""What passes say in the log: a line a change, one for a pass that failed, one when a machine falls silent or is back.

Of a change only what it is about: contents and secrets are in no log (rule 13).
"""

from __future__ import annotations

import logging

from controller.execute import explain
from controller.log import log
from controller.reconcile import Outcome
from drivers.base import Change

# Errors in one line.
SHOWN = 5


class Journal:
    """Remembers which machines are silent. One machine is never told of by two threads at once."""

    def __init__(self) -> None:
        self._silent: set[str] = set()

    def passed(self, outcome: Outcome) -> None:
        """What a pass did, and what went wrong."""
        machine = outcome.machine
        for one in outcome.executed.applied:
            if one.error is None:
                made(machine, one.change, outcome.planned.owners.get(one.change.item.key, ""))
        failed = [f"{one.change.item.key}: {explain(one.error)}" for one in outcome.executed.failed if one.error]
        if failed:
            log(logging.WARNING, "changes failed", machine=machine, failed=len(failed), errors=failed[:SHOWN])
        if outcome.unreachable and machine not in self._silent:
            log(logging.WARNING, "cannot be asked", machine=machine, error=outcome.unreachable)
        elif not outcome.unreachable and machine in self._silent:
            log(logging.INFO, "can be asked again", machine=machine)
        if outcome.unreachable:
            self._silent.add(machine)
        else:
            self._silent.discard(machine)

    def forget(self, machine: str) -> None:
        """The machine left the fleet."""
        self._silent.discard(machine)


def made(machine: str, change: Change, resource: str) -> None:
    """One change that was made; ``resource`` is the ``Kind/name`` that wanted it."""
    fields = {"machine": machine, "item": change.item.key, "verb": change.verb.value, "grade": change.grade.word}
    log(logging.INFO, "change made", **fields, resource=resource)
