"""A deadline of our own on every call: paramiko's writes, and its waits for a frozen peer, know none.

One thread for the whole process looks after all of them; a call costs no thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

TICK = 0.1


class Guard:
    """While entered, calls ``abort`` once when ``seconds`` pass without ``renew``. ``abort`` must not block."""

    def __init__(self, seconds: float, abort: Callable[[], None]) -> None:
        self.seconds = seconds
        self.expired = False
        self.until = 0.0
        self._abort = abort

    def renew(self) -> None:
        """The peer gave a sign of life."""
        self.until = time.monotonic() + self.seconds

    def expire(self) -> None:
        """Ends the call that is guarded."""
        self.expired = True
        self._abort()

    def __enter__(self) -> Self:
        self.renew()
        _WATCH.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _WATCH.discard(self)


class _Watch:
    """The guards of all calls that are under way."""

    def __init__(self) -> None:
        self._guards: set[Guard] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, guard: Guard) -> None:
        with self._changed:
            self._guards.add(guard)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ssh-deadlines", daemon=True)
                self._thread.start()
            if len(self._guards) == 1:
                self._changed.notify()

    def discard(self, guard: Guard) -> None:
        with self._changed:
            self._guards.discard(guard)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._guards)
                now = time.monotonic()
                late = [guard for guard in self._guards if guard.until <= now]
                self._guards.difference_update(late)
            for guard in late:
                guard.expire()
            time.sleep(TICK)


_WATCH = _Watch()
