"""Acting on a machine past its controllers: what a person tells it, under the machine's fence."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from controller.holder import Holder
from controller.leases import Leases
from controller.machines import Machines
from controller.members import Role, epochs, shard_of
from controller.pauses import explained, pause_of
from controller.session import Session
from controller.store.base import Conflict
from controller.view import View
from drivers.base import Change, Driver, Failed, SalvusError


@contextmanager
def opened(session: Session) -> Iterator[tuple[View, Machines]]:
    """The fleet as it is in the store, and the ways to it, for a while. Raises StoreError."""
    knowledge = session.knowledge()
    view = View()
    view.update(knowledge.fleet, knowledge.known, {f"resource/{ref}" for ref in knowledge.rows})
    machines = Machines(session.connect, lambda _: None)
    try:
        yield view, machines
    finally:
        machines.close()


def not_paused(session: Session, machine: str, refs: Iterable[str], undone: str) -> None:
    """Raises SalvusError while the machine, or one of the resources, is paused; ``undone`` says what is not done."""
    if (pause := pause_of(session.ledger.pauses(), time.time(), refs, machine)) is not None:
        raise SalvusError(f"{undone}: {explained(pause)[1]}")


def make(session: Session, machine: str, driver: Driver, changes: Sequence[Change], undone: str) -> None:
    """Makes the changes under the epoch of whoever writes to the machine now: a controller's, or, without one, ours.

    They must not be in a controller's way: what needs no more than the machine's fence. Raises DriverError, Conflict;
    Failed, which ``undone`` says, where a part was not made.
    """
    with _epoch(session, machine) as epoch:
        applied = driver.apply(changes, epoch)
    for one in applied:
        if one.error is not None:
            raise one.error
    if len(applied) < len(changes):
        raise Failed(f"{machine}: {undone}", machine=machine, hint="do it again")


@contextmanager
def _epoch(session: Session, machine: str) -> Iterator[int]:
    store, name = session.ledger.store, shard_of(machine)
    if (theirs := epochs(store).get(name)) is not None:
        yield theirs
        return
    ours = Leases(store, Holder.this_process(), Role.APPLY)
    try:
        ours.tick()
        lease = ours.lease(name)
        if not lease.valid():
            raise Conflict(f"a controller has just taken {machine} over", hint="try again")
        yield lease.epoch
    finally:
        ours.release_all()
