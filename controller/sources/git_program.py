"""Running the ``git`` program in a bare repository of our own: no shell, no settings but ours, no hooks, in time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from controller.sources.base import Unreadable

# Seconds for what asks nobody, and for what asks a server.
LOCAL: Final = 60.0
REMOTE: Final = 120.0
# Seconds: how often it is looked whether another process has ended with the copy.
TURN: Final = 0.05
# Seconds after which another copy is taken, and how many there may be: a process that is stopped keeps its own.
PATIENCE: Final = 10.0
COPIES: Final = 4
# Seconds: how soon it is noticed that we are closed.
STOP: Final = 0.2
# Bytes that one answer may have: a few trees of trees in a small repository can list a billion names.
MOST: Final = 256 * 2**20

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
    # Of many replaced commits: as loose objects again they would have the next fetch tidy up anew, and the next.
    "gc.cruftPacks=true",
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
_LOCK: Final = "salvus.lock"
# In our folder: what git makes while it works, and would leave there for weeks.
_LEFT: Final = ("*.lock", "refs/**/*.lock", "objects/*/tmp_*", "objects/pack/.tmp-*", "objects/pack/*.keep")
# Of our own environment: what the machine's network needs.
_PASSED: Final = ("PATH", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY")


class GitFailed(Exception):
    """The program ended with an error; ``said`` is its stderr."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code
        self.said = said


class GitProgram:
    """One bare repository. One thread at a time runs; ``close`` may come from another.

    Attributes:
        folder: where it is; within ``alone`` that may be another copy, beside the one that was asked for.
    """

    def __init__(
        self, folder: Path, settings: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._copies = [folder, *(folder.with_name(f"{folder.name}.{number}") for number in range(1, COPIES))]
        self._settings = [word for one in (*_SETTINGS, *settings) for word in ("-c", one)]
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        self._environment = {**passed, **_ENVIRONMENT, **(environment or {})}
        self._closed = threading.Event()
        self._lock: int | None = None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else uses the repository meanwhile; it is made when it is not there. Raises Unreadable."""
        try:
            lock = self._locked()
            try:
                # What we start has it too: should we be killed, it is free when that has ended.
                self._lock = lock
                self._tidy()
                yield
            finally:
                self._lock = None
                os.close(lock)
        except OSError as error:
            raise Unreadable(f"{self.folder} cannot be written: {error.strerror}", hint="make room, or way") from error

    def _locked(self) -> int:
        """Takes the first copy that nobody has for long; the open file that is its lock. Raises Unreadable, OSError."""
        for copy in self._copies:
            self.folder = copy
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                mine = self._turn(lock)
            except OSError:
                os.close(lock)
                raise
            if mine:
                return lock
            os.close(lock)
            if self._closed.is_set():
                break
        what = f"other processes have been using {self._copies[0]} and its copies for long"
        raise Unreadable(what, hint=f"fuser -v {self._copies[0]}*/{_LOCK} shows which")

    def _turn(self, lock: int) -> bool:
        """Waits for it, not for long."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._closed.wait(TURN) or time.monotonic() > until:
                    return False
            else:
                return True

    def _tidy(self) -> None:
        """Takes away what somebody who was killed has locked or half fetched, and makes what is missing."""
        for pattern in _LEFT:
            for left in self.folder.glob(pattern):
                if left.name != _LOCK:
                    left.unlink(missing_ok=True)
        if not (self.folder / "salvus.made").exists():
            self.run("init", "-q", "--bare", "--template=", str(self.folder))
            (self.folder / "salvus.made").touch()

    def renew(self) -> None:
        """Begins anew with an empty repository. To be called within ``alone``."""
        for found in self.folder.iterdir():
            if found.is_dir():
                shutil.rmtree(found)
            elif found.name != _LOCK:
                found.unlink()
        self._tidy()

    def damaged(self) -> str:
        """What is wrong with the repository itself; empty for nothing. Raises Unreadable."""
        try:
            self.run("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
        except GitFailed as failed:
            return failed.said.strip() or "git fsck fails"
        return ""

    def run(
        self, *words: str, data: bytes = b"", timeout: float = LOCAL, settings: Sequence[str] = (), **more: str
    ) -> bytes:
        """Its stdout; ``more`` is added to the environment. To be called within ``alone``.

        Raises GitFailed, and Unreadable when it does not end in ``timeout`` seconds, or ``close`` was called.
        """
        assert self._lock is not None, "within alone()"
        command = ["git", *self._settings, *(word for one in settings for word in ("-c", one)), *words]
        # Files, not pipes: nothing waits for being written while something waits for being read, or fills our memory.
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
            given.write(data)
            given.seek(0)
            try:
                process = subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env={"HOME": str(self.folder), **self._environment, "GIT_DIR": str(self.folder), **more},
                    stdin=given,
                    stdout=out,
                    stderr=said,
                    pass_fds=(self._lock,),
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise Unreadable("the program git is not installed here", hint="apt-get install git") from error
            with process:
                self._wait(process, timeout, (out, said))
            if process.returncode:
                raise GitFailed(process.returncode, _whole(said).decode(errors="replace"))
            return _whole(out)

    def _wait(self, process: subprocess.Popen[bytes], timeout: float, answers: Sequence[IO[bytes]]) -> None:
        started, trouble = time.monotonic(), None
        while trouble is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP)
            waited = time.monotonic() - started
            if any(os.fstat(answer.fileno()).st_size > MOST for answer in answers):
                what = f"git answers with more than {MOST // 2**20} MiB"
                trouble = Unreadable(what, hint="have fewer and smaller files in the folder of the manifests")
            elif process.returncode is not None:
                return
            elif self._closed.is_set() or waited > timeout:
                trouble = Unreadable(f"no answer within {waited:.0f} s", hint="it is tried again")
        if process.returncode is None:
            # With what it has started: ssh, or what speaks https.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        raise trouble

    def close(self) -> None:
        """Ends what runs, and what is to run."""
        self._closed.set()


def _whole(answer: IO[bytes]) -> bytes:
    answer.seek(0)
    return answer.read()
