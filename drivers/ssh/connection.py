"""One kept ssh connection a machine, opened when it is first needed and again when it turns out dead."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

from paramiko import Channel

from drivers.base import DriverError, SshTarget, Unreachable
from drivers.ssh.errors import Silent
from drivers.ssh.link import Link, abort, dial, open_link
from drivers.ssh.tunnel import Tunnel, splice

T = TypeVar("T")
# Seconds that a jump host gets to say that it could not reach the other machine.
SPARE = 5


class Connection:
    """The way to one machine. Safe for threads; makes no connection before it is used.

    Args:
        machine: its name, for messages.
        target: how to reach it.
        via: the connection of the machine to jump over.
    """

    def __init__(self, machine: str, target: SshTarget, via: Connection | None = None) -> None:
        self.machine = machine
        self.target = target
        self._via = via
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._opening: Future[Link] | None = None
        self._half_open: socket.socket | None = None
        self._closes = 0
        self._tunnels: dict[str, tuple[str, Tunnel]] = {}

    @property
    def become(self) -> str:
        """What makes a command run as root; empty when we already are."""
        return "" if self.target.user == "root" else "sudo -n "

    def anew(self, seconds: int) -> Connection:
        """A connection of its own, by the same way; ``seconds`` is the longest that it waits for anything."""
        connect, command = (min(seconds, most) for most in (self.target.connect_timeout, self.target.command_timeout))
        target = replace(self.target, connect_timeout=connect, command_timeout=command)
        return Connection(self.machine, target, self._via)

    def run(self, action: Callable[[Link], T]) -> T:
        """``action`` on the live connection; once more on a new one if a kept one turns out dead.

        So ``action`` must be safe to repeat, or raise Unreachable only before it changed anything. A frozen machine
        is not asked again: it has cost its deadline. Nor is one that was closed meanwhile.
        """
        closes = self._closes
        link, kept = self._get()
        try:
            return action(link)
        except Unreachable as error:
            if isinstance(error, Silent) or not kept or not link.ended() or self._closes != closes:
                raise
        return action(self._get()[0])

    def tunnel(self, command: str, name: str = "") -> Tunnel:
        """A local unix socket; each connection to it runs ``command`` as root on the machine.

        One per ``name``, or per command: one of the same name for another command takes no more connections.
        """

        def start(link: Link) -> Channel:
            with link.call(self.target.connect_timeout, f"starting {name or command}"):
                return link.execute(f"exec {self.become}{command}", combine=False)

        with self._lock:
            kept, tunnel = self._tunnels.get(name or command, ("", None))
            if tunnel is None or kept != command:
                if tunnel is not None:
                    tunnel.close()
                tunnel = Tunnel(self.machine, lambda: self.run(start))
                self._tunnels[name or command] = command, tunnel
            return tunnel

    def close(self) -> None:
        """Ends the connection and its tunnels; calls under way get Unreachable. It can be used again."""
        with self._lock:
            self._closes += 1
            link, self._link = self._link, None
            tunnels, self._tunnels = tuple(self._tunnels.values()), {}
            if self._half_open is not None:
                abort(self._half_open)
        for _, tunnel in tunnels:
            tunnel.close()
        if link is not None:
            link.abort()

    def _get(self) -> tuple[Link, bool]:
        """The live link, and whether it was there before. Threads that come while it is opened share the result."""
        with self._lock:
            if self._link is not None and self._link.alive:
                return self._link, True
            attempt, mine = self._opening, False
            if attempt is None:
                attempt, mine = Future(), True
                self._opening = attempt
            closes = self._closes
        if mine:
            self._open(attempt, closes)
        return attempt.result(), False

    def _open(self, attempt: Future[Link], closes: int) -> None:
        def opened(sock: socket.socket) -> None:
            with self._lock:
                self._half_open = sock
                if self._closes != closes:
                    abort(sock)

        link, error = None, None
        try:
            link = open_link(self.machine, self.target, dial if self._via is None else self._jump, opened)
        except BaseException as raised:  # noqa: BLE001 - whoever waits for the result gets it too
            error = raised
        with self._lock:
            self._opening = self._half_open = None
            if link is not None and self._closes != closes:
                link.abort()
                link, error = None, Unreachable(f"{self.machine}: closed while connecting", machine=self.machine)
            self._link = link
        if error is not None:
            attempt.set_exception(error)
        elif link is not None:
            attempt.set_result(link)

    def _jump(self, address: str, port: int, seconds: float) -> socket.socket:
        """A socket to there through the machine that is jumped over; a real one, so that ending it wakes everybody."""
        assert self._via is not None

        def forward(link: Link) -> Channel:
            # The other machine being slow is no fault of this one: the channel's own deadline comes first.
            with link.call(seconds + SPARE, f"connecting {self.machine} at {address} port {port}"):
                return link.forward(address, port, seconds)

        try:
            return splice(self._via.run(forward))
        except DriverError as error:
            raise Unreachable(str(error), machine=self.machine, hint=error.hint) from error
