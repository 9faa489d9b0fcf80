"""Calls to one machine's libvirt: at most four at once (rule 12), and none that is waited for without end.

A call on a frozen peer cannot be taken back. Its thread is left behind and keeps its slot until libvirt's keepalive or
the end of the tunnel under it makes the call fail: however often it happens, no more than four hang.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

import libvirt

from drivers.base import Unreachable
from drivers.libvirt.errors import translate

T = TypeVar("T")
_AT_ONCE = 4


class Silent(Unreachable):
    """No answer within the deadline. Asking again at once would only cost the deadline again."""


class Calls:
    """The slots of one machine. Safe for threads."""

    def __init__(self, machine: str) -> None:
        self._machine = machine
        self._slots = threading.BoundedSemaphore(_AT_ONCE)

    def run(self, doing: str, call: Callable[[], T], deadline: float) -> T:
        """What the call returns. ``doing`` says what it does, for errors: "starting web".

        Raises Silent after ``deadline`` seconds, and libvirt's errors as ours.
        """
        end = time.monotonic() + deadline
        if not self._slots.acquire(timeout=deadline):
            raise self._silent(doing, deadline, f"its {_AT_ONCE} calls before have not come back")
        future: Future[T] = Future()
        # A daemon: a call that hangs must not keep the process from ending.
        threading.Thread(target=self._work, args=(future, call), name=f"libvirt-{self._machine}", daemon=True).start()
        if not wait([future], max(0.0, end - time.monotonic())).done:
            raise self._silent(doing, deadline, "it does not answer")
        try:
            return future.result()
        except libvirt.libvirtError as error:
            raise translate(error, self._machine, doing) from error

    def _work(self, future: Future[T], call: Callable[[], T]) -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - it is raised again where the call is waited for
            self._slots.release()
            future.set_exception(error)
        else:
            self._slots.release()
            future.set_result(result)

    def _silent(self, doing: str, deadline: float, why: str) -> Silent:
        return Silent(
            f"libvirt on {self._machine}: {doing}: {why} ({deadline:g} s)",
            machine=self._machine,
            hint="is the machine frozen, or its storage? see there: virsh list; journalctl -u libvirtd",
        )
