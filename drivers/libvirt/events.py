"""libvirt's event loop: one thread a process, for the events and keepalives of all connections."""

from __future__ import annotations

import contextlib
import threading
from functools import cache

import libvirt


@cache
def start_event_loop() -> threading.Thread:
    """Starts the loop, once. It must run before the first connection is opened, or that one has no events.

    libvirt prints errors to stderr unless told otherwise; they are raised as well, so it is told to be silent.
    """
    libvirt.registerErrorHandler(_silent, None)
    libvirt.virEventRegisterDefaultImpl()
    thread = threading.Thread(target=_run, name="libvirt-events", daemon=True)
    thread.start()
    return thread


def _silent(context: None, error: object) -> None:
    del context, error


def _run() -> None:
    while True:
        # One bad round must not end the events of the whole process.
        with contextlib.suppress(libvirt.libvirtError):
            libvirt.virEventRunDefaultImpl()
