"""A command on the machine behind a local unix socket: how libvirt uses the connection that is there."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO

from paramiko import Channel

from drivers.base import DriverError
from drivers.ssh.errors import RAISED
from drivers.ssh.link import hang_up

_LOG = logging.getLogger(__name__)
CHUNK = 256 * 1024
PREFIX = "salvus-tunnel-"
# In the folder; whoever uses it holds a lock on it.
LOCK = "lock"
# What paramiko keeps of a packet for itself.
HEADER = 64


class Tunnel:
    """Listens at ``path``, in a folder that nobody else may enter; each connection there is joined to a new channel."""

    def __init__(self, machine: str, start: Callable[[], Channel]) -> None:
        self._machine = machine
        self._start = start
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = _lock(self._folder / LOCK, "w")
        self.path = str(self._folder / "socket")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen()
        _thread(self._serve)

    def close(self) -> None:
        """Takes no more connections and removes the socket. Those that are there end with the ssh connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()

    def _serve(self) -> None:
        with self._listener, contextlib.suppress(OSError):
            while True:
                local, _ = self._listener.accept()
                _thread(self._join, local)

    def _join(self, local: socket.socket) -> None:
        with local:
            try:
                channel = self._start()
            except DriverError as error:
                _LOG.warning("tunnel: %s", error)
                return
            join(local, channel)
            if said := channel.recv_stderr(2000) if channel.recv_stderr_ready() else b"":
                _LOG.info("tunnel to %s ended: %s", self._machine, said.decode("utf-8", "replace").strip())


def _lock(path: Path, mode: str) -> IO[str]:
    """The file, locked (flock(2)): the kernel knows when its process is gone, also in a pid namespace of its own.

    Raises OSError where somebody else has it.
    """
    file = path.open(mode)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


@cache
def _sweep() -> None:
    """Once a process: removes the sockets of processes that were killed; only empty folders with a socket go."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # One without its lock is being made at this moment.
        with contextlib.suppress(OSError), _lock(folder / LOCK, "r+"):
            (folder / "socket").unlink(missing_ok=True)
            (folder / LOCK).unlink()
            folder.rmdir()


def splice(channel: Channel) -> socket.socket:
    """The channel as a real socket, which can be shut down from any thread and never blocks another one."""
    ours, theirs = socket.socketpair()
    _thread(join, theirs, channel)
    return ours


def join(sock: socket.socket, channel: Channel) -> None:
    """Carries bytes both ways until both ends are done; the end of one direction is passed on as such."""
    up = _thread(_up, sock, channel)
    try:
        while data := channel.recv(CHUNK):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    except RAISED:
        hang_up(channel)
    up.join()
    hang_up(channel)
    sock.close()


def _up(sock: socket.socket, channel: Channel) -> None:
    try:
        while data := sock.recv(channel.out_max_packet_size - HEADER):
            channel.sendall(data)
        channel.shutdown_write()
    except RAISED:
        hang_up(channel)


def _thread(target: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, name=f"ssh-{target.__name__.strip('_')}", daemon=True)
    thread.start()
    return thread
