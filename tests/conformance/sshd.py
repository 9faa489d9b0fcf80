"""A real sshd on loopback with keys of its own; the system's service is never touched."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from drivers.base import SshTarget

# A home of its own: what is in root's shell settings here is no matter of the tests.
CONFIG = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host
AuthorizedKeysFile {folder}/client.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 200
MaxSessions 64
SetEnv HOME={folder}
"""


class Sshd:
    """Made stopped; ``start`` and ``stop`` as often as wanted, with the same port and keys.

    ``into`` are the words before a command that is to be run in other namespaces, where it listens at ``address``.
    """

    def __init__(self, into: Sequence[str] = (), address: str = "127.0.0.1") -> None:
        self.address = address
        self._into = into
        self.folder = Path(tempfile.mkdtemp(prefix="salvus-sshd-"))
        self.folder.chmod(0o755)  # sshd reads the authorized keys as the user who logs in
        Path("/run/sshd").mkdir(exist_ok=True)
        self.new_host_key()
        keygen(self.folder / "client")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (self.folder / "config").write_text(CONFIG.format(port=self.port, folder=self.folder, address=address))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host_key(self) -> str:
        """The public half, as a manifest has it."""
        return " ".join((self.folder / "host.pub").read_text().split()[:2])

    def new_host_key(self) -> None:
        """As after a machine was made anew; counts from the next start."""
        for old in self.folder.glob("host*"):
            old.unlink()
        keygen(self.folder / "host")

    def target(self, **changes: object) -> SshTarget:
        """How to reach it as root."""
        values: dict[str, object] = {
            "addresses": (self.address,),
            "port": self.port,
            "user": "root",
            "host_keys": (self.host_key,),
            "identity_files": (str(self.folder / "client"),),
            "connect_timeout": 20,
            "command_timeout": 20,
        }
        return SshTarget(**(values | changes))  # type: ignore[arg-type]

    def start(self) -> None:
        """Starts it and waits until it listens."""
        sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin") or "sshd"
        with (self.folder / "log").open("ab") as log:
            command = [*self._into, sshd, "-D", "-e", "-f", str(self.folder / "config")]
            self._process = subprocess.Popen(command, stderr=log)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                self.knock()
                return
            time.sleep(0.02)
        raise TimeoutError((self.folder / "log").read_text())

    @property
    def pid(self) -> int:
        """Of the one that listens."""
        assert self._process is not None
        return self._process.pid

    def knock(self) -> None:
        """Connects once. Raises OSError when nobody answers within a second."""
        socket.create_connection((self.address, self.port), timeout=1).close()

    def sessions(self) -> list[int]:
        """The processes of the connections that are there now."""
        return children(self._process.pid) if self._process else []

    def signal_sessions(self, number: signal.Signals) -> None:
        """To the processes of all connections, and what runs in them: as when a machine freezes or dies."""
        for session in self.sessions():
            for pid in (session, *descendants(session)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def stop(self) -> None:
        """Ends it with all its sessions."""
        if self._process is None:
            return
        self.signal_sessions(signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._process = None

    def close(self) -> None:
        """Stops it and removes what it needed."""
        self.stop()
        shutil.rmtree(self.folder)


def keygen(path: Path, kind: str = "ed25519", passphrase: str = "") -> None:
    """A key pair."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)], check=True)


def children(pid: int) -> list[int]:
    """The process's children."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def descendants(pid: int) -> list[int]:
    """Its children and theirs."""
    found = children(pid)
    return [*found, *(deeper for child in found for deeper in descendants(child))]
