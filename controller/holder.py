"""Which process it is that holds something, whether it is dead, and for whom this one works."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, told apart from all others: by host, boot, pid namespace, pid and its start time (proc(5))."""

    host: str
    boot: str
    namespace: str
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> Holder:
        """The running process."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
        return cls(socket.gethostname(), boot, namespace, os.getpid(), _start_time(os.getpid()) or "")

    def dead(self, observer: Holder) -> bool:
        """Whether it certainly runs no more: only known of processes of the same boot and pid namespace."""
        if (self.boot, self.namespace) != (observer.boot, observer.namespace):
            return False
        started = _start_time(self.pid)
        if started is None:
            # Where /proc hides other users' processes (hidepid), the kernel still says whether there is one.
            return not _exists(self.pid)
        return started != self.started

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"


def who_am_i() -> str:
    """``user@host``, also of who is root by sudo, or has no name here."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat; None without such a process, empty for a zombie, which runs no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in {"Z", "X"} else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
