"""A kept shell and what it was asked last: of what did not change, nothing is sent again, nor told again."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from drivers.base import DriverError, Item, Observation, State, Unknown
from drivers.items.shell import ShellItem
from drivers.ssh import probe
from drivers.ssh.connection import Connection
from drivers.ssh.link import Link
from drivers.ssh.shell import Shell


@dataclass(frozen=True, slots=True)
class _Asked:
    shell: Shell
    items: tuple[Item, ...]
    groups: probe.Groups
    script: str
    states: Mapping[str, State]


class Asking:
    """One of the shells over a connection. Safe for threads: one asks, the others wait."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._asked: _Asked | None = None

    def observe(self, items: tuple[Item, ...]) -> Mapping[str, Observation]:
        """See Driver."""
        with self._lock:
            at = time.time()
            try:
                states = self._connection.run(lambda link: self._ask(link, items))
            except DriverError as error:
                reason = f"{error}; {error.hint}" if error.hint else str(error)
                states = {item.key: Unknown(reason) for item in items}
        return {key: Observation(state, at, "shell") for key, state in states.items()}

    def _ask(self, link: Link, items: tuple[Item, ...]) -> Mapping[str, State]:
        target = self._connection.target
        last = self._asked
        if last is None or last.shell.link is not link:
            shell = Shell(link, target.user, self._connection.become, target.command_timeout)
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
