"""Items that go by shell, on one machine: asked for in one round trip, changed in one where order allows."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from drivers.base import (
    Applied,
    Change,
    DriverError,
    Failed,
    Fenced,
    Item,
    Observation,
    RolledBack,
    Unreachable,
    Verb,
)
from drivers.items.shell import Question, ShellItem
from drivers.ssh import batch, trial
from drivers.ssh.asking import Asking
from drivers.ssh.connection import Connection
from drivers.ssh.fence import session
from drivers.ssh.frames import boundary
from drivers.ssh.session import Errors, Session

STATE = "/var/lib/salvus"
SCRIPT_LIMIT = 3600
# Seconds after which the machine puts a perilous change back that nobody confirmed.
WINDOW = 30
# Seconds that the machine gets then to be reachable again.
RETURN = 60
_PAUSE = 0.5


class ShellDriver:
    """See ``drivers.base.Fencing``.

    Args:
        connection: the way to the machine.
        state: the folder on the machine that has its fence.
        script_limit: seconds that a change may take, if it has no payload.
        window: seconds within which a perilous change has to be confirmed.
    """

    def __init__(
        self, connection: Connection, *, state: str = STATE, script_limit: int = SCRIPT_LIMIT, window: int = WINDOW
    ) -> None:
        self._connection = connection
        self._target = connection.target
        self._state = state
        self._limit = script_limit
        self._window = window
        # The way by which a perilous change is confirmed, and whether that is waited for no more.
        self._new: Connection | None = None
        self._closed = threading.Event()
        self._asking = Asking(connection)
        # Questions may take long, as pings do: nobody who looks at items waits for them, or sends all again after them.
        self._beside = Asking(connection)

    def observe(self, items: Sequence[Item]) -> Mapping[str, Observation]:
        """See Driver."""
        wanted = tuple(items)
        beside = bool(wanted) and all(isinstance(item, Question) for item in wanted)
        return (self._beside if beside else self._asking).observe(wanted)

    def apply(self, changes: Sequence[Change], epoch: int) -> tuple[Applied, ...]:
        """See Driver."""
        self._closed.clear()
        done: list[Applied] = []
        for part in _parts(changes):
            if _shell(part[0]).perilous(part[0]):
                done.append(Applied(part[0], self._on_trial(part[0], epoch)))
            else:
                done.extend(self._together(part, epoch))
            if done[-1].error is not None:
                break
        return tuple(done)

    def fence(self, epoch: int) -> None:
        """See Fencing. Raises Fenced, Unreachable, Failed."""
        self._run(self._connection, (), (), epoch)

    def session(self, command: str, epoch: int) -> str:
        """A command that runs ``command`` on the machine for as long as it has seen no newer epoch, see ``fence``."""
        return session(command, epoch, self._state, self._target.command_timeout)

    def close(self) -> None:
        """See Driver."""
        self._closed.set()
        new = self._new
        for connection in (self._connection, new):
            if connection is not None:
                connection.close()

    def _together(self, changes: Sequence[Change], epoch: int) -> list[Applied]:
        """Makes changes that can go as one batch, up to the first that can't be put as a script."""
        scripts: list[batch.Script] = []
        refused: Errors = []
        for change in changes:
            try:
                item = _shell(change)
                scripts.append(batch.Script(item.script(change), item.uninterruptible))
            except DriverError as error:
                refused = [error]
                break
        errors: Errors = []
        if scripts:
            try:
                names = [change.item.key for change in changes]
                errors = self._run(self._connection, scripts, names, epoch, _payload(changes[0]))
            except Fenced:
                raise
            except DriverError as error:
                errors = [error]
        if not any(errors):
            errors += refused
        return [Applied(change, error) for change, error in zip(changes, errors, strict=False)]

    def _on_trial(self, change: Change, epoch: int) -> DriverError | None:
        """Makes a perilous change and confirms it over a new connection (rule 8); how that went. Raises Fenced."""
        item, until = _shell(change), time.monotonic() + self._window
        try:
            mark = boundary()
            script = batch.Script(trial.marked(item.script(change), mark, self._state), item.uninterruptible)
            # The change may silence the connection that it is told by: then there is still time for a new one.
            silence = max(1, min(self._target.command_timeout, self._window // 3))
            [error] = self._run(self._connection, [script], [item.key], epoch, silence=silence)
        except Fenced:
            raise
        except DriverError as refused:
            return refused
        if isinstance(error, Unreachable):
            error = self._anew(trial.awaited(mark, self._state, self._window), item.key, epoch, until)
        if error is None:
            error = self._anew(item.confirmation(change), item.key, epoch, until)
            if error is None or (not isinstance(error, Unreachable) and time.monotonic() < until):
                return error
        elif not isinstance(error, Unreachable):
            return error
        # It is over. Perhaps it was confirmed, and only the answer was lost: then confirming it again does nothing.
        back = until + RETURN
        error = self._anew(trial.awaited(mark, self._state, 0), item.key, epoch, back)
        if error is not None:
            return error
        error = self._anew(item.confirmation(change), item.key, epoch, back)
        if error is None or isinstance(error, Unreachable):
            return error
        return self._anew(item.refused(change), item.key, epoch, back) or self._rolled_back(item)

    def _anew(self, script: str, name: str, epoch: int, until: float) -> DriverError | None:
        """Runs the script over a new connection, as soon as there is one.

        Unreachable when there is none until then, or the driver was closed meanwhile.
        """
        machine = self._connection.machine
        error: DriverError | None = Unreachable(f"{machine}: closed while a change was on trial", machine=machine)
        while not self._closed.is_set():
            left = max(1, math.ceil(until - time.monotonic()))
            self._new = connection = self._connection.anew(min(left, self._window))
            try:
                [error] = self._run(connection, [batch.Script(script)], [name], epoch)
            except Fenced:
                raise
            except DriverError as refused:
                error = Unreachable(str(refused), machine=machine, hint=refused.hint)
            finally:
                connection.close()
            if not isinstance(error, Unreachable) or time.monotonic() + _PAUSE >= until:
                break
            self._closed.wait(_PAUSE)
        return error

    def _rolled_back(self, item: Item) -> RolledBack:
        machine = self._connection.machine
        said = f"{machine}: {item.key}: nobody could log in anew within {self._window} s of the change"
        hint = "correct what is wanted; until then it is not tried again"
        return RolledBack(f"{said}; the machine put back what was there before", machine=machine, hint=hint)

    def _run(
        self,
        connection: Connection,
        scripts: Sequence[batch.Script],
        names: Sequence[str],
        epoch: int,
        payload: str = "",
        silence: int = 0,
    ) -> Errors:
        """See ``Session.results``. ``silence`` is in seconds, if it is not to be as long as usual."""
        seconds = silence or connection.target.command_timeout
        limit = 0 if payload else self._limit
        now, mark = int(time.time()), boundary()
        todo = batch.Batch(scripts, epoch, mark, self._state, limit, seconds, now, self._window, payload=bool(payload))
        with _source(payload, connection.machine) as source:
            start = partial(Session, user=self._target.user, become=connection.become, batch=todo, seconds=seconds)
            return connection.run(start).results(names[: len(scripts)], source)


def _parts(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """The changes in order, cut into batches: those with a payload go alone, and perilous ones."""
    for alone, group in itertools.groupby(changes, key=_alone):
        part = tuple(group)
        yield from ((change,) for change in part) if alone else (part,)


def _alone(change: Change) -> bool:
    return bool(_payload(change)) or _shell(change).perilous(change)


def _payload(change: Change) -> str:
    """What is pushed for the change; to take something away nothing is, and its source may be gone by then."""
    return "" if change.verb is Verb.DELETE else _shell(change).payload


def _shell(change: Change) -> ShellItem:
    assert isinstance(change.item, ShellItem), change.item
    return change.item


@contextlib.contextmanager
def _source(path: str, machine: str) -> Iterator[BinaryIO | None]:
    """The payload, opened before anything is started on the machine."""
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(Path(path).open("rb")) if path else None
        except OSError as error:
            hint = "the file is read on the controller"
            raise Failed(f"{machine}: could not open {path}: {error.strerror}", machine=machine, hint=hint) from error
        yield source
