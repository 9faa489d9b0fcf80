"""Items that go by shell, on one machine: asked for in one round trip, changed in one where order allows."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from drivers.base import Applied, Change, DriverError, Failed, Fenced, Item, Observation, State, Unknown, Verb
from drivers.items.shell import ShellItem
from drivers.ssh import batch, probe
from drivers.ssh.connection import Connection
from drivers.ssh.fence import session
from drivers.ssh.frames import boundary
from drivers.ssh.link import Link
from drivers.ssh.session import Errors, Session
from drivers.ssh.shell import Shell

STATE = "/var/lib/salvus"
SCRIPT_LIMIT = 3600


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was last asked of which shell, and the answer."""

    shell: Shell
    items: tuple[Item, ...]
    groups: probe.Groups
    script: str
    states: Mapping[str, State]


class ShellDriver:
    """See ``drivers.base.Fencing``.

    Args:
        connection: the way to the machine.
        state: the folder on the machine that has its fence.
        script_limit: seconds that a change may take, if it has no payload.
    """

    def __init__(self, connection: Connection, *, state: str = STATE, script_limit: int = SCRIPT_LIMIT) -> None:
        self._connection = connection
        self._target = connection.target
        self._state = state
        self._limit = script_limit
        self._asking = threading.Lock()
        self._asked: _Asked | None = None

    def observe(self, items: Sequence[Item]) -> Mapping[str, Observation]:
        """See Driver."""
        wanted = tuple(items)
        with self._asking:
            at = time.time()
            try:
                states = self._connection.run(lambda link: self._ask(link, wanted))
            except DriverError as error:
                reason = f"{error}; {error.hint}" if error.hint else str(error)
                states = {item.key: Unknown(reason) for item in wanted}
        return {key: Observation(state, at, "shell") for key, state in states.items()}

    def apply(self, changes: Sequence[Change], epoch: int) -> tuple[Applied, ...]:
        """See Driver."""
        done: list[Applied] = []
        for part in _parts(changes):
            done.extend(self._together(part, epoch))
            if done[-1].error is not None:
                break
        return tuple(done)

    def fence(self, epoch: int) -> None:
        """See Fencing. Raises Fenced, Unreachable, Failed."""
        self._run((), (), epoch)

    def session(self, command: str, epoch: int) -> str:
        """A command that runs ``command`` on the machine for as long as it has seen no newer epoch, see ``fence``."""
        return session(command, epoch, self._state, self._target.command_timeout)

    def close(self) -> None:
        """See Driver."""
        self._connection.close()

    def _ask(self, link: Link, items: tuple[Item, ...]) -> Mapping[str, State]:
        last = self._asked
        if last is None or last.shell.link is not link:
            shell = Shell(link, self._target.user, self._connection.become, self._target.command_timeout)
            last = _Asked(shell, (), {}, "", {})
        if last.items != items:
            groups = probe.grouped([item for item in items if isinstance(item, ShellItem)])
            last = _Asked(last.shell, items, groups, probe.script(groups, last.shell.inner), last.states)
        answer = last.shell.ask(last.script)
        states = last.states
        if answer is not None:
            states = probe.read(last.groups, answer.output, answer.status, last.shell.inner)
        self._asked = _Asked(last.shell, items, last.groups, last.script, states)
        return states

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
                errors = self._run(scripts, [c.item.key for c in changes], epoch, _payload(changes[0]))
            except Fenced:
                raise
            except DriverError as error:
                errors = [error]
        if not any(errors):
            errors += refused
        return [Applied(change, error) for change, error in zip(changes, errors, strict=False)]

    def _run(self, scripts: Sequence[batch.Script], names: Sequence[str], epoch: int, payload: str = "") -> Errors:
        """See ``Session.results``."""
        seconds = self._target.command_timeout
        limit = 0 if payload else self._limit
        todo = batch.Batch(
            scripts, epoch, boundary(), self._state, limit, seconds, int(time.time()), payload=bool(payload)
        )
        become = self._connection.become
        with _source(payload, self._connection.machine) as source:
            run = self._connection.run(lambda link: Session(link, self._target.user, become, todo, seconds))
            return run.results(names[: len(scripts)], source)


def _parts(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """The changes in order, cut into batches: those with a payload go alone."""
    for alone, group in itertools.groupby(changes, key=lambda change: bool(_payload(change))):
        part = tuple(group)
        yield from ((change,) for change in part) if alone else (part,)


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
