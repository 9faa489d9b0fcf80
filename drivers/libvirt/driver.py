"""The libvirt of one machine as a Driver."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from drivers.base import Applied, Change, DriverError, Failed, Fenced, Item, Observation, State, Unknown, Unreachable
from drivers.items.domain import Domain
from drivers.items.hypervisor import Hypervisor
from drivers.libvirt import hypervisor, look
from drivers.libvirt.calls import Calls, Silent
from drivers.libvirt.change import carry_out
from drivers.libvirt.session import Kept, Patience, Session

T = TypeVar("T")


class LibvirtDriver:
    """Domains and what is known of their host. Connects when it is first used; safe for threads."""

    def __init__(
        self,
        machine: str,
        uri: Callable[[int | None], str],
        on_event: Callable[[str], None],
        *,
        fence: Callable[[int], None],
        patience: Patience | None = None,
    ) -> None:
        """Args:
        machine: its name, for messages.
        uri: where libvirt is; asked anew for every connection. One that is for changes gets their epoch, and must end,
            and not be opened again, when the machine has seen a newer one. May do I/O and raise DriverError.
        on_event: told the name of a domain when its life changes, and an empty name when the connection is lost. It
            is called on the thread of libvirt's event loop and must return at once.
        fence: tells the machine our epoch, once more whenever a guest was waited for or a connection for changes was
            lost. Raises Fenced, Unreachable or Failed.
        """
        self._machine = machine
        self._uri = uri
        self._fence = fence
        self._patience = patience or Patience()
        self._calls = Calls(machine)
        self._looking = Kept(lambda: Session.open(uri(None), self._calls, self._patience, on_event))
        self._changing: tuple[int, Kept] | None = None
        self._lock = threading.Lock()

    def observe(self, items: Sequence[Item]) -> Mapping[str, Observation]:
        """See Driver. A connection that turns out to be dead is opened once more (rule 12)."""
        at = time.time()
        nothing = "libvirt knows no such thing"
        try:
            states: Mapping[str, State] = self._read(lambda session: _states(session, items))
        except DriverError as error:
            states, nothing = {}, str(error)
        return {item.key: Observation(states.get(item.key, Unknown(nothing)), at, "libvirt") for item in items}

    def apply(self, changes: Sequence[Change], epoch: int) -> tuple[Applied, ...]:
        """See Driver. The machine was told the epoch just before; libvirt itself knows of none."""
        done: list[Applied] = []
        for change in changes:
            done.append(Applied(change, self._apply(change, epoch)))
            if done[-1].error is not None:
                break
        return tuple(done)

    def _apply(self, change: Change, epoch: int) -> DriverError | None:
        try:
            if not isinstance(change.item, Domain):
                raise Failed(f"libvirt cannot change {change.item.key}", machine=self._machine)
            with self._under(epoch).use() as session:
                carry_out(session, change.item, change, partial(self._fence, epoch))
        except Fenced:
            raise
        except DriverError as error:
            if isinstance(error, Unreachable) and not isinstance(error, Silent):
                self._find_out_why(epoch)
            error.machine = error.machine or self._machine
            return error
        return None

    def _find_out_why(self, epoch: int) -> None:
        """Raises Fenced when a newer epoch ended our connection; whatever else is in the way is told already."""
        with contextlib.suppress(Unreachable, Failed):
            self._fence(epoch)

    def _under(self, epoch: int) -> Kept:
        """The connection for changes under the epoch."""
        with self._lock:
            if self._changing is not None and self._changing[0] == epoch:
                return self._changing[1]
            before = self._changing
            kept = Kept(lambda: Session.open(self._uri(epoch), self._calls, self._patience))
            self._changing = epoch, kept
        if before is not None:
            before[1].close()
        return kept

    def close(self) -> None:
        """See Driver."""
        with self._lock:
            changing, self._changing = self._changing, None
        if changing is not None:
            changing[1].close()
        self._looking.close()

    def _read(self, read: Callable[[Session], T]) -> T:
        before, used = self._looking.session, None
        try:
            with self._looking.use() as used:
                return read(used)
        except Unreachable as error:
            if isinstance(error, Silent) or used is None or used is not before:
                raise
        with self._looking.use() as session:
            return read(session)


def _states(session: Session, items: Sequence[Item]) -> dict[str, State]:
    states: dict[str, State] = {}
    if domains := [item for item in items if isinstance(item, Domain)]:
        states |= look.look(session, domains)
    for item in items:
        if isinstance(item, Hypervisor):
            states[item.key] = _hypervisor(session)
    return states


def _hypervisor(session: Session) -> State:
    if session.hypervisor is None:
        try:
            session.hypervisor = hypervisor.look(session)
        except Failed as error:
            return Unknown(str(error))
    return session.hypervisor
