"""Entering a network namespace, so that salvusctl and the controller can work inside the lab."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from drivers.base import SalvusError

CLONE_NEWNET = 0x40000000  # sched.h; Python 3.11 has no os.setns


def enter(namespace: str) -> None:
    """Moves this thread, and all that it starts, into the namespace: a name under ``/run/netns`` or a path (setns(2)).

    To be called before any other thread is started. Raises SalvusError.
    """
    path = Path("/run/netns") / namespace
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SalvusError(
            f"the network namespace {namespace!r} cannot be opened: {error.strerror}",
            hint="is the lab up? see: salvusctl lab status",
        ) from error
    try:
        if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET):
            code = ctypes.get_errno()
            raise SalvusError(
                f"cannot enter the network namespace {namespace!r}: {os.strerror(code)}", hint="run salvusctl as root"
            )
    finally:
        os.close(fd)
