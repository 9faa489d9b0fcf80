"""The libvirt of one machine as a Driver."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from drivers.base import Applied, Change, DriverError, Failed, Fenced, Item, Observation, State, Unknown, Unreachable
from drivers.items.domain import Domain
from drivers.items.hypervisor import Hypervisor
from drivers.libvirt import hypervisor, look
from drivers.libvirt.calls import Calls, Silent
from drivers.libvirt.change import carry_out
from drivers.libvirt.session import Patience, Session

T = TypeVar("T")


class LibvirtDriver:
    """Domains and what is known of their host. Connects when it is first used; safe for threads."""

    def __init__(
        self,
        machine: str,
        uri: Callable[[], str],
        on_event: Callable[[str], None],
        *,
        fence: Callable[[int], None],
        patience: Patience | None = None,
    ) -> None:
        """Args:
        machine: its name, for messages.
        uri: where libvirt is; asked anew for every connection. May do I/O and raise DriverError.
        on_event: told the name of a domain when its life changes, and an empty name when the connection is lost. It
            is called on the thread of libvirt's event loop and must return at once.
        fence: tells the machine our epoch, once more whenever a guest was waited for. Raises Fenced, Unreachable or
            Failed.
        """
        self._machine = machine
        self._uri = uri
        self._on_event = on_event
        self._fence = fence
        self._patience = patience or Patience()
        self._calls = Calls(machine)
        self._session: Session | None = None
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
            with self._dropped_if_unreachable(self._open()) as session:
                carry_out(session, change.item, change, partial(self._fence, epoch))
        except Fenced:
            raise
        except DriverError as error:
            error.machine = error.machine or self._machine
            return error
        return None

    def close(self) -> None:
        """See Driver."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _read(self, read: Callable[[Session], T]) -> T:
        before = self._session
        session = self._open()
        try:
            with self._dropped_if_unreachable(session):
                return read(session)
        except Silent:
            raise
        except Unreachable:
            if session is not before:
                raise
        with self._dropped_if_unreachable(self._open()) as session:
            return read(session)

    def _open(self) -> Session:
        """The open connection, or a new one. Raises DriverError."""
        with self._lock:
            if self._session is not None and not self._session.alive:
                self._session.close()
                self._session = None
            if self._session is None:
                self._session = Session.open(self._uri(), self._calls, self._patience, self._on_event)
            return self._session

    @contextlib.contextmanager
    def _dropped_if_unreachable(self, session: Session) -> Iterator[Session]:
        try:
            yield session
        except Unreachable:
            with self._lock:
                if self._session is session:
                    self._session = None
            session.close()
            raise


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
