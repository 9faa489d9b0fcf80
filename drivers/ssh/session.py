"""One batch of changes on the machine: sent, fed, and listened to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from io import BytesIO
from typing import BinaryIO

from drivers.base import DriverError, Failed, Fenced
from drivers.ssh.batch import Batch, ended, loader, refused, unseen
from drivers.ssh.errors import RAISED
from drivers.ssh.frames import Frame, Frames
from drivers.ssh.guard import Guard
from drivers.ssh.link import Link, hang_up
from drivers.ssh.shell import CHUNK, not_started
from drivers.ssh.tunnel import HEADER

Errors = list[DriverError | None]


class Session:
    """A batch on a channel of its own. When the constructor raises, nothing of it was run: it may be tried again.

    Args:
        link: the connection.
        user: who logs in, and ``become``: what makes a command run as root.
        batch: what to run.
        seconds: the deadline on silence.
    """

    def __init__(self, link: Link, user: str, become: str, batch: Batch, seconds: float) -> None:
        self._link = link
        self._user = user
        self._batch = batch
        self._seconds = seconds
        self._frames = Frames(batch.boundary)
        program = batch.program().encode()
        with link.call(seconds, "starting changes") as guard:
            self._channel = link.execute(loader(program, become))
            self._send(BytesIO(program), guard)

    def results(self, names: Sequence[str], payload: BinaryIO | None) -> Errors:
        """How each change went, up to the first that failed; when the connection ends, all the rest are Unreachable.

        Raises Fenced, or whatever else kept the first from being begun.
        """
        errors: Errors = []
        begun = False
        try:
            with self._link.call(self._seconds, "making changes") as guard, ExitStack() as stack:
                stack.callback(hang_up, self._channel)
                for frame in self._listen(guard, payload):
                    match frame.words:
                        case ("begin",):
                            begun = True
                        case ("done", *_):
                            errors.append(ended(frame, names[len(errors)], self._link.machine, self._batch.limit))
                        case ("finished",):
                            return errors
                        case _:
                            raise refused(frame, self._link.machine, self._batch.state)
                if not begun:
                    raise not_started(self._link.machine, self._channel, self._frames.rest, self._user)
        except DriverError as error:
            if not begun or isinstance(error, Fenced):
                raise
        if errors and errors[-1] is not None:
            return errors
        return errors + [unseen(name, self._link.machine) for name in names[len(errors) :]]

    def _listen(self, guard: Guard, payload: BinaryIO | None) -> Iterator[Frame]:
        if payload is not None:
            self._send_payload(payload, guard)
        if not self._channel.closed:
            self._channel.shutdown_write()
        while True:
            while (frame := self._frames.next()) is not None:
                yield frame
            data = self._channel.recv(CHUNK)
            if not data:
                return
            guard.renew()
            self._frames.feed(data)

    def _send_payload(self, payload: BinaryIO, guard: Guard) -> None:
        """As ``_send``; but a script may end before it has read everything, and then says why."""
        try:
            self._send(payload, guard)
        except RAISED:
            if not self._link.alive:
                raise
        self._channel.settimeout(None)

    def _send(self, source: BinaryIO, guard: Guard) -> None:
        """Sends all of it, a packet at a time. What the machine says meanwhile counts as a sign of life."""
        size = self._channel.out_max_packet_size - HEADER
        self._channel.settimeout(1)
        while data := _read(source, size, self._link.machine):
            while data:
                try:
                    data = data[self._channel.send(data) :]
                    guard.renew()
                except TimeoutError:
                    if self._channel.recv_ready():
                        self._frames.feed(self._channel.recv(CHUNK))
                        guard.renew()
        self._channel.settimeout(None)


def _read(source: BinaryIO, size: int, machine: str) -> bytes:
    try:
        return source.read(size)
    except OSError as error:
        raise Failed(f"{machine}: could not read {source.name}: {error}", machine=machine) from error
