"""Working on the fleet, or watching a controller do so, until resources are where they are to be."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from controller.knowledge import Knowledge
from controller.log import configure
from controller.metrics import Metrics
from controller.present import settled
from controller.session import Session
from controller.store.records import Condition
from salvusctl import out
from salvusctl.progress import board
from salvusctl.version import VERSION
from salvusctl.why import helpful

POLL = 0.3


def follow(
    session: Session,
    refs: Collection[str],
    pending: Callable[[Knowledge], Mapping[str, Condition]],
    *,
    done: str,
    timeout: float,
) -> bool:
    """Waits until nothing is pending, or waiting longer is of no use, or for ``timeout`` seconds; says what is left.

    The passes are made in this process when no controller runs. Returns whether nothing is left.
    """
    deadline = time.monotonic() + timeout
    with _working(session), board(refs, done) as show:
        while True:
            left = pending(session.knowledge())
            show(left)
            if all(settled(condition) for condition in left.values()) or time.monotonic() > deadline:
                break
            time.sleep(POLL)
    late = any(not settled(condition) for condition in left.values())
    for ref, condition in left.items():
        _tell(ref, condition, session.controller())
    if late:
        out.note(f"no longer waited for after {timeout:.0f} s; what was written stays in force")
    return not left


@contextmanager
def _working(session: Session) -> Iterator[None]:
    """A runner beside us. It makes passes unless another controller does; defects in it are logged to stderr."""
    configure("text", "error")
    runner = session.runner(Metrics(VERSION))
    runner.start()
    try:
        yield
    finally:
        runner.stop()


def _tell(ref: str, condition: Condition, controller: str) -> None:
    commands = [f"salvusctl why {ref}", *helpful(ref, condition, controller)]
    out.failed(f"{ref} is not there yet: {condition.reason}: {condition.message}", "\n".join(commands))
