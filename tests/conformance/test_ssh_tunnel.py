"""A command on the machine behind a local unix socket."""

from __future__ import annotations

import fcntl
import secrets
import socket
import tempfile
import threading
from pathlib import Path

import pytest

from drivers.ssh import Tunnel
from drivers.ssh.tunnel import LOCK, _sweep
from tests.conformance.ssh_world import World, running, until

pytestmark = pytest.mark.conformance


def _talk(tunnel: Tunnel, data: bytes) -> bytes:
    """Sends it, ends the sending, and reads until the other side has ended too."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(tunnel.path)

        def send() -> None:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        got = b"".join(iter(lambda: client.recv(65536), b""))
        thread.join()
    return got


def test_bytes_go_both_ways_and_each_end_by_itself(ssh: World) -> None:
    tunnel = ssh.connection().tunnel("cat")
    data = secrets.token_bytes(5_000_000)
    assert _talk(tunnel, data) == data
    assert _talk(tunnel, b"") == b""
    last = ssh.connection().tunnel("sh -c 'wc -c; echo end'")
    assert _talk(last, data) == b"5000000\nend\n", "what comes after our end arrives"


def test_many_at_once_over_one_connection(ssh: World) -> None:
    sshd = ssh.sshd()
    connection = ssh.connection(sshd)
    tunnel = connection.tunnel("cat")
    assert connection.tunnel("cat") is tunnel
    clients = [socket.socket(socket.AF_UNIX) for _ in range(5)]
    for number, client in enumerate(clients):
        client.connect(tunnel.path)
        client.sendall(b"%d" % number)
    assert [client.recv(10) for client in clients] == [b"%d" % number for number in range(5)]
    assert len(sshd.sessions()) == 1
    for client in clients:
        client.close()


def test_only_we_may_enter_and_nothing_is_left(ssh: World) -> None:
    connection = ssh.connection()
    path = Path(connection.tunnel("cat").path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        connection.close()
        assert client.recv(1) == b"", "it ends with the connection"
    assert not path.parent.exists()
    assert _talk(connection.tunnel("cat"), b"again") == b"again"


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, full, alive, begun = (tmp_path / f"salvus-tunnel-{name}" for name in ("left", "full", "alive", "begun"))
    for folder in (left, full, alive, begun):
        folder.mkdir()
        (folder / "socket").touch()
    for folder in (left, full, alive):
        (folder / LOCK).touch()
    (full / "a file of somebody").touch()
    with (alive / LOCK).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _sweep.__wrapped__()
    assert not left.exists()
    assert (full / "a file of somebody").exists()
    assert (alive / "socket").exists()
    assert (begun / "socket").exists()


def test_a_client_that_goes_away_ends_the_command(ssh: World) -> None:
    length = f"3{secrets.randbelow(10**9)}"
    tunnel = ssh.connection().tunnel(f"sh -c 'sleep {length} & echo up; cat >/dev/null; kill $!'")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(tunnel.path)
        assert client.recv(3) == b"up\n"
        until(lambda: running(length), "the command at work")
    until(lambda: not running(length), "the end of the command")


def test_a_command_that_ends_or_is_not_there_ends_the_client(ssh: World) -> None:
    connection = ssh.connection()
    for command in ("true", "no-such-command"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(connection.tunnel(command).path)
            assert client.recv(1) == b""


def test_it_outlives_the_connection_it_was_made_over(ssh: World) -> None:
    sshd = ssh.sshd()
    tunnel = ssh.connection(sshd).tunnel("cat")
    assert _talk(tunnel, b"one") == b"one"
    sshd.stop()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(tunnel.path)
        assert client.recv(1) == b"", "nobody there"
    sshd.start()
    assert _talk(tunnel, b"three") == b"three"
