"""Working on the fleet, or watching a controller do so, until resources are where they are to be."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from controller.knowledge import Knowledge
from controller.log import configure
from controller.members import FLEET, Role
from controller.metrics import Metrics
from controller.present import machines, settled
from controller.session import Session
from controller.store.records import Condition
from drivers.base import Change
from salvusctl import out
from salvusctl.progress import board
from salvusctl.version import VERSION

POLL = 0.3
# Something is under way, or is tried again by itself.
MOVING = frozenset(
    {
        "NotSeenYet",
        "Checking",
        "Progressing",
        "JobRunning",
        "Failed",
        "Unreachable",
        "ItemUnknown",
        "Deleting",
        "WaitsForCanary",
        "WaitsForTurn",
        "WaitsForFirewall",
    }
)
# Seconds: what waits for others, and nothing moved for so long, waits for somebody to do something. Of passes that
# another controller makes is seen only how they end, and in a small guest one may take a minute.
QUIET = 10.0
UNSEEN = 120.0

Pending = Mapping[str, Condition]


@dataclass(frozen=True, slots=True)
class _Passes:
    """What our own passes have done: the machines that they asked, and those that they work on now."""

    asked: frozenset[str]
    working: frozenset[str]


def follow(
    session: Session, refs: Collection[str], pending: Callable[[Knowledge], Pending], *, done: str, timeout: float
) -> bool:
    """Waits until nothing is pending, or waiting longer is of no use, or for ``timeout`` seconds; says what is left.

    The passes are made in this process when no controller runs; then nothing counts that was said before them.
    Returns whether nothing is left.
    """
    began = turned = time.monotonic()
    reasons: dict[str, str] = {}
    with board(refs, done) as shown, _working(session, shown.note) as passes:
        while True:
            # Before the store is read: a pass that ends in between has not been read.
            ours = passes()
            knowledge = session.knowledge()
            said = pending(knowledge)
            new = _not_asked(knowledge, refs, ours.asked) if ours is not None else {}
            left = {**new, **said}
            shown.show(left)
            before, reasons = reasons, {ref: condition.reason for ref, condition in left.items()}
            now = time.monotonic()
            worked = ours is not None and any(ours.working.intersection(machines(knowledge, ref)) for ref in left)
            turned = now if worked or reasons != before else turned
            stopped = session.ledger.world() is not None
            still = now - turned > (UNSEEN if ours is None else QUIET)
            hopeless = stopped or _hopeless(left, new, still=still)
            if hopeless or now - began > timeout:
                break
            time.sleep(POLL)
    for ref, condition in left.items():
        out.failed(f"{ref} is not {done}: {condition.reason}: {condition.message}", f"salvusctl why {ref}")
    if left and stopped:
        out.note("the world is stopped: what was written stays in force, and nothing is done about it until the end")
    if not hopeless:
        out.note(f"the time to wait is over (--timeout {timeout:g}); what was written stays in force")
    return not left


def _hopeless(left: Pending, new: Pending, *, still: bool) -> bool:
    """Whether waiting longer is of no use; also when nothing is left. ``new`` has not been asked yet; it is ``still``
    when nothing has moved for long.
    """
    if all(settled(condition) and ref not in new for ref, condition in left.items()):
        return True
    return still and not any(condition.reason in MOVING for condition in left.values())


def _not_asked(knowledge: Knowledge, refs: Collection[str], asked: Collection[str]) -> Pending:
    """The resources with machines that no pass of ours has asked yet: what the store says of them may be old."""
    found: dict[str, Condition] = {}
    for ref in refs:
        row = knowledge.rows.get(ref)
        unasked = [machine for machine in machines(knowledge, ref) if machine not in asked] if row else []
        if row is not None and unasked:
            message = f"was as wanted; {', '.join(unasked)} is asked whether it still is"
            found[ref] = Condition("Ready", "Unknown", "Checking", message, time.time(), row.generation)
    return found


@contextmanager
def _working(session: Session, note: Callable[[str], None]) -> Iterator[Callable[[], _Passes | None]]:
    """A runner beside us; gives what tells of its passes, or None when another controller makes them: one that was
    there before, or came meanwhile.

    What it changes is noted; defects in it are logged to stderr.
    """
    configure("text", "error")
    asked: set[str] = set()
    alone = not session.controller()

    def made(machine: str, change: Change) -> None:
        note(f"{machine}: {change.verb} {change.item.key}")

    def passes() -> _Passes | None:
        if not alone or runner.engine.leases.other_holder(FLEET):
            return None
        working = runner.queue.working()
        return _Passes(frozenset(asked), working)

    runner = session.runner(Metrics(VERSION), Role.APPLY, lambda outcome: asked.add(outcome.machine))
    runner.made = made
    runner.start()
    try:
        yield passes
    except KeyboardInterrupt:
        note("stopping at the next safe point; what was written stays in force")
        raise
    finally:
        runner.stop(note)
