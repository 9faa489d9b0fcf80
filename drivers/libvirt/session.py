"""One open connection to a machine's libvirt, with its events."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import libvirt

from drivers.base import State, Unreachable
from drivers.libvirt.calls import Calls
from drivers.libvirt.events import start_event_loop

T = TypeVar("T")
# A peer that is silent for 5 * (3 + 1) seconds is given up by libvirt, and every call that hangs on it fails.
_KEEPALIVE = (5, 3)
# The guest by which is found out what a host can run. No VirtualMachine can be called so, and as it is always the same
# name, libvirt keeps one log of it.
PROBE = "salvus_probe"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited, in seconds.

    Attributes:
        answer: for a connection, and for what libvirt answers from memory.
        work: for what it does itself: starting a guest, destroying one.
        farewell: for a guest to shut down before it is deleted, at most.
    """

    answer: float = 15.0
    work: float = 120.0
    farewell: float = 20.0


class Session:
    """An open connection.

    Attributes:
        connection: libvirt's, safe for threads.
        hypervisor: what was found out about the host over this connection; None before it was asked.
    """

    def __init__(self, connection: Any, calls: Calls, patience: Patience) -> None:
        self.connection = connection
        self.patience = patience
        self.hypervisor: State | None = None
        self._calls = calls
        self._events: int | None = None
        self._left = False

    @classmethod
    def open(cls, uri: str, calls: Calls, patience: Patience, on_event: Callable[[str], None] | None = None) -> Session:
        """Connects, and from then on tells ``on_event`` the name of every domain whose life changes.

        It is told an empty name when the connection is lost: nobody knows what happened since. It is called on the
        thread of libvirt's event loop and must return at once. Raises DriverError.
        """
        start_event_loop()
        session = cls(calls.run("connecting", lambda: libvirt.open(uri), patience.answer), calls, patience)
        try:
            session.ask("setting the connection up", session._keep_alive)
            if on_event is not None:
                session.ask("asking for events", partial(session._listen, on_event))
        except BaseException:
            session.close()
            raise
        return session

    def _keep_alive(self) -> None:
        with contextlib.suppress(libvirt.libvirtError):  # the test driver has none; nothing depends on it
            self.connection.setKeepAlive(*_KEEPALIVE)

    def _listen(self, on_event: Callable[[str], None]) -> None:
        def lifecycle(_: object, domain: Any, *__: object) -> None:
            if not self._left and domain.name() != PROBE:
                on_event(domain.name())

        def closed(*_: object) -> None:
            if not self._left:
                on_event("")

        with contextlib.suppress(libvirt.libvirtError):  # nor has it this
            self.connection.registerCloseCallback(closed, None)
        kind = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
        self._events = self.connection.domainEventRegisterAny(None, kind, lifecycle, None)

    def ask(self, doing: str, call: Callable[[], T]) -> T:
        """A call that libvirt answers from memory; see Calls."""
        return self._calls.run(doing, call, self.patience.answer)

    def work(self, doing: str, call: Callable[[], T]) -> T:
        """A call that takes libvirt some time; see Calls."""
        return self._calls.run(doing, call, self.patience.work)

    @property
    def alive(self) -> bool:
        """Whether libvirt still believes in the connection; asks nobody."""
        try:
            return bool(self.connection.isAlive())
        except libvirt.libvirtError:
            return False

    def close(self) -> None:
        """Lets go of the connection, without waiting: on a frozen peer this hangs as long as any call.

        From now on it tells of no events, nor of its own end.
        """
        self._left = True
        threading.Thread(target=self._close, name="libvirt-close", daemon=True).start()

    def _close(self) -> None:
        # Callbacks hold the connection: without these it would never be freed.
        if self._events is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self.connection.domainEventDeregisterAny(self._events)
        for farewell in (self.connection.unregisterCloseCallback, self.connection.close):
            with contextlib.suppress(libvirt.libvirtError):
                farewell()


class Kept:
    """One session, opened when it is first needed and again when it turned out dead. Safe for threads."""

    def __init__(self, open_: Callable[[], Session]) -> None:
        self._open = open_
        self._session: Session | None = None
        self._lock = threading.Lock()

    @property
    def session(self) -> Session | None:
        """The one that is there; it may be dead."""
        return self._session

    @contextlib.contextmanager
    def use(self) -> Iterator[Session]:
        """The open one, or a new one; Unreachable from inside ends it. Raises DriverError."""
        session = self._get()
        try:
            yield session
        except Unreachable:
            with self._lock:
                if self._session is session:
                    self._session = None
            session.close()
            raise

    def _get(self) -> Session:
        with self._lock:
            if self._session is not None and not self._session.alive:
                self._session.close()
                self._session = None
            if self._session is None:
                self._session = self._open()
            return self._session

    def close(self) -> None:
        """Ends it; it may be used again."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()
