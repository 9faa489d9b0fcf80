"""Running the ``git`` program in a bare repository of our own: no shell, no settings but ours, no hooks, in time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from controller.sources.base import Unreadable

# Seconds for what asks nobody, and for what asks a server.
LOCAL: Final = 60.0
REMOTE: Final = 120.0
# Seconds: how often it is looked whether another process has ended with the copy.
TURN: Final = 0.05
# Seconds: how soon it is noticed that we are closed.
STOP: Final = 0.2

# git(1): its settings are these and no others, whoever we are, and whatever is configured on the machine.
_SETTINGS: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "credential.helper=",
    "fetch.recurseSubmodules=false",
    "transfer.fsckObjects=true",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=20",
    # What is tidied up is so before the command ends: nothing is left behind that runs.
    "gc.autoDetach=false",
)
_ENVIRONMENT: Final = {
    "LC_ALL": "C",
    "GIT_ALLOW_PROTOCOL": "https:ssh:file",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
}
# Of our own environment: what the machine's network needs.
_PASSED: Final = ("PATH", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY")


class GitFailed(Exception):
    """The program ended with an error; ``said`` is its stderr."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code
        self.said = said


class GitProgram:
    """One bare repository. One thread at a time runs; ``close`` may come from another."""

    def __init__(
        self, folder: Path, settings: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._settings = [word for one in (*_SETTINGS, *settings) for word in ("-c", one)]
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        self._environment = {**passed, "HOME": str(folder), **_ENVIRONMENT, **(environment or {})}
        self._closed = threading.Event()
        self._lock: int | None = None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else uses the repository meanwhile; it is made when it is not there. Raises Unreadable."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.folder / "salvus.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._wait_for(lock)
                # What we start has it too: should we be killed, it is free when that has ended.
                self._lock = lock
                self._tidy()
                yield
            finally:
                self._lock = None
                os.close(lock)
        except OSError as error:
            raise Unreadable(f"{self.folder} cannot be written: {error.strerror}", hint="make room, or way") from error

    def _wait_for(self, lock: int) -> None:
        until = time.monotonic() + REMOTE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._closed.wait(TURN) or time.monotonic() > until:
                    raise Unreadable(
                        f"another process has been using {self.folder} for long", hint="it is tried again"
                    ) from None
            else:
                return

    def _tidy(self) -> None:
        """Takes away what somebody who was killed has locked, and makes what is missing."""
        for left in (*self.folder.glob("*.lock"), *self.folder.glob("refs/**/*.lock")):
            if left.name != "salvus.lock":
                left.unlink(missing_ok=True)
        if not (self.folder / "salvus.made").exists():
            self.run("init", "-q", "--bare", "--template=", str(self.folder))
            (self.folder / "salvus.made").touch()

    def run(
        self, *words: str, data: bytes = b"", timeout: float = LOCAL, settings: Sequence[str] = (), **more: str
    ) -> bytes:
        """Its stdout; ``more`` is added to the environment. To be called within ``alone``.

        Raises GitFailed, and Unreadable when it does not end in ``timeout`` seconds, or ``close`` was called.
        """
        assert self._lock is not None, "within alone()"
        command = ["git", *self._settings, *(word for one in settings for word in ("-c", one)), *words]
        # A file, not a pipe: nothing waits for being written while something waits for being read.
        with tempfile.TemporaryFile() as given:
            given.write(data)
            given.seek(0)
            try:
                process = subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env={**self._environment, "GIT_DIR": str(self.folder), **more},
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(self._lock,),
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise Unreadable("the program git is not installed here", hint="apt-get install git") from error
        with process:
            out, said = self._heard(process, timeout)
        if process.returncode:
            raise GitFailed(process.returncode, said.decode(errors="replace"))
        return out

    def _heard(self, process: subprocess.Popen[bytes], timeout: float) -> tuple[bytes, bytes]:
        started = time.monotonic()
        while True:
            try:
                return process.communicate(timeout=STOP)
            except subprocess.TimeoutExpired:
                waited = time.monotonic() - started
                if self._closed.is_set() or waited > timeout:
                    # With what it has started: ssh, or what speaks https.
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.communicate()
                    raise Unreadable(f"no answer within {waited:.0f} s", hint="it is tried again") from None

    def close(self) -> None:
        """Ends what runs, and what is to run."""
        self._closed.set()
