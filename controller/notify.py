"""Talking with systemd: readiness, watchdog and sockets handed over (sd_notify(3), sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket

FIRST_FD = 3  # SD_LISTEN_FDS_START


def notify(message: str) -> bool:
    """Sends ``READY=1``, ``STOPPING=1``, ``WATCHDOG=1`` … to the service manager; False when none hears it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        try:
            out.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:  # no reason to end what works: the manager is being started anew
            return False
    return True


def watchdog_seconds() -> float | None:
    """Half the time after which systemd takes us for dead: how often to say ``WATCHDOG=1``; None when not asked for."""
    usec, ours = os.environ.get("WATCHDOG_USEC"), str(os.getpid())
    return int(usec) / 2_000_000 if usec and os.environ.get("WATCHDOG_PID", ours) == ours else None


def inherited_socket() -> socket.socket | None:
    """The first socket that systemd opened for us (socket activation), or None."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or int(os.environ.get("LISTEN_FDS", "0")) < 1:
        return None
    inherited = socket.socket(fileno=FIRST_FD)
    inherited.set_inheritable(False)
    return inherited
