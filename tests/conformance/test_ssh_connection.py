"""How a machine is reached: addresses, host keys, keys, jumps, root; and what is said when it can't be."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.items.system import System
from drivers.ssh import Connection, ShellDriver
from tests.conformance.ssh_world import Text, World, changes, errors, reason, said, until
from tests.conformance.sshd import Sshd, keygen

pytestmark = pytest.mark.conformance
ITEM = Text("x", "id -u")


def test_addresses_are_tried_in_order(ssh: World) -> None:
    driver = ssh.driver(addresses=("127.0.0.7", "127.0.0.1"))
    assert said(driver.observe([ITEM]), ITEM) == "0\n"


def test_when_no_address_answers_all_are_told(ssh: World) -> None:
    told = reason(ssh.driver(addresses=("127.0.0.7", "host.invalid")).observe([ITEM, System()]), ITEM)
    assert "root@127.0.0.7" in told
    assert "root@host.invalid" in told
    assert told.count("web01") == 1, "the machine is named once"
    assert "is sshd running there?" in told


def test_an_sshd_that_accepts_and_says_nothing_costs_the_deadline(ssh: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        driver = ssh.driver(port=mute.getsockname()[1], connect_timeout=3)
        assert "no answer for 3 s" in reason(driver.observe([ITEM]), ITEM)


def test_a_machine_that_is_cut_off_costs_less_than_the_deadline_of_a_command(
    ssh: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernel acknowledges nothing; that of a machine that is only busy does."""
    monkeypatch.setattr("drivers.ssh.link.CUT_OFF", 1.0)
    relay = ssh.relay(ssh.shared)
    driver = ssh.driver(port=relay.port, command_timeout=600)
    assert said(driver.observe([ITEM]), ITEM) == "0\n"
    relay.cut()
    assert "root@127.0.0.1" in reason(driver.observe([ITEM]), ITEM)


def test_close_ends_connecting(ssh: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        driver = ssh.driver(port=mute.getsockname()[1], connect_timeout=600)
        told: list[str] = []
        thread = threading.Thread(target=lambda: told.append(reason(driver.observe([ITEM]), ITEM)))
        thread.start()
        with mute.accept()[0]:
            driver.close()
            thread.join()
        # Where it is found out depends on how far it was: all of them say that nothing came.
        ends = ("the connection ended", "closed while connecting", "Error reading SSH protocol banner")
        assert any(end in told[0] for end in ends), told


def test_something_that_is_no_sshd(ssh: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def serve() -> None:
            with other.accept()[0] as peer:
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)

        thread = threading.Thread(target=serve)
        thread.start()
        told = reason(ssh.driver(port=other.getsockname()[1], connect_timeout=5).observe([ITEM]), ITEM)
        thread.join()
    assert told.startswith("web01: ssh to root@127.0.0.1")


def test_what_a_login_prints_and_sets_does_no_harm(ssh: World) -> None:
    sshd = ssh.sshd()
    variables = "LC_ALL=xx PATH=/usr/bin:/bin ENV=/etc/passwd BASH_ENV=/etc/passwd"
    (sshd.folder / ".bashrc").write_text(f"echo welcome; echo oops >&2; export {variables}; umask 077")
    driver = ssh.driver(sshd)
    item = Text("x", "echo $PATH $LC_ALL $(umask) $(pwd)")
    assert said(driver.observe([item]), item).split()[0].startswith("/usr/local/sbin:")
    assert said(driver.observe([item]), item).split()[1:] == ["C", "0022", "/"]
    assert errors(driver.apply(changes("[ $(umask) = 0022 ]", "echo why >&2; exit 1"), 1)) == [
        "",
        "Failed: web01: Text:1: why",
    ]


def test_changed_host_key_is_refused_loudly_and_never_learnt(ssh: World) -> None:
    sshd = ssh.sshd()
    driver = ssh.driver(sshd)
    assert said(driver.observe([ITEM]), ITEM) == "0\n"
    sshd.stop()
    sshd.new_host_key()
    sshd.start()
    for _ in range(2):
        told = reason(driver.observe([ITEM]), ITEM)
        assert "does not match" in told
        assert "this may be an attack" in told
    assert errors(driver.apply(changes("true"), 1))[0].startswith("Unreachable")
    assert (sshd.folder / "log").read_text().count("Accepted publickey") == 1


def test_host_key_of_another_type_is_refused(ssh: World) -> None:
    keygen(ssh.folder / "rsa", "rsa")
    other = " ".join((ssh.folder / "rsa.pub").read_text().split()[:2])
    assert "this may be an attack" in reason(ssh.driver(host_keys=(other,)).observe([ITEM]), ITEM)
    assert said(ssh.driver(host_keys=(other, ssh.shared.host_key)).observe([ITEM]), ITEM) == "0\n"


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "nonsense AAAA", "ssh-ed25519 !!"])
def test_what_is_no_host_key_is_said_to_be_none(ssh: World, line: str) -> None:
    assert "not a host key" in reason(ssh.driver(host_keys=(line,)).observe([ITEM]), ITEM)


def test_no_pinned_key_means_nobody_is_trusted(ssh: World) -> None:
    assert "none is trusted" in reason(ssh.driver(host_keys=()).observe([ITEM]), ITEM)


def test_wrong_key_missing_key_and_no_key(ssh: World) -> None:
    keygen(ssh.folder / "wrong")
    wrong, right = str(ssh.folder / "wrong"), str(ssh.shared.folder / "client")
    assert "authorized_keys" in reason(ssh.driver(identity_files=(wrong,)).observe([ITEM]), ITEM)
    assert "No such file" in reason(ssh.driver(identity_files=("/nowhere",)).observe([ITEM]), ITEM)
    assert "no key to log in with" in reason(ssh.driver(identity_files=()).observe([ITEM]), ITEM)
    assert said(ssh.driver(identity_files=(wrong, right)).observe([ITEM]), ITEM) == "0\n"


def test_a_file_that_is_no_key(ssh: World) -> None:
    path = ssh.folder / "key"
    path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert f"{path}: not a key" in reason(ssh.driver(identity_files=(str(path),)).observe([ITEM]), ITEM)


def test_a_key_with_a_passphrase_wants_an_agent(ssh: World) -> None:
    path = ssh.folder / "locked"
    keygen(path, passphrase="secret-word")
    told = reason(ssh.driver(identity_files=(str(path),)).observe([ITEM]), ITEM)
    assert "ssh-agent" in told
    assert "secret-word" not in told


@pytest.fixture
def agent(ssh: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A running ssh-agent that has the client's key."""
    path = str(ssh.folder / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        until(Path(path).exists, "the agent's socket")
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        subprocess.run(["ssh-add", "-q", ssh.shared.folder / "client"], check=True)
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.mark.usefixtures("agent")
def test_keys_of_the_agent_are_used_when_wanted(ssh: World) -> None:
    assert said(ssh.driver(identity_files=(), use_agent=True).observe([ITEM]), ITEM) == "0\n"
    assert "no key" in reason(ssh.driver(identity_files=()).observe([ITEM]), ITEM)


def _jumped(ssh: World, jump: Connection, to: Sshd, **target: object) -> ShellDriver:
    return ShellDriver(ssh.connection(to, jump, **target), state=str(ssh.folder / "state"))


def test_jump(ssh: World) -> None:
    """The machine sees the jump host's connection; losing either way is mended."""
    over, to = ssh.sshd(), ssh.sshd()
    driver = _jumped(ssh, ssh.connection(over), to)
    assert said(driver.observe([ITEM]), ITEM) == "0\n"
    assert (len(over.sessions()), len(to.sessions())) == (1, 1)
    over.signal_sessions(signal.SIGKILL)
    assert said(driver.observe([ITEM]), ITEM) == "0\n"
    to.signal_sessions(signal.SIGKILL)
    assert said(driver.observe([ITEM]), ITEM) == "0\n"
    assert len(over.sessions()) == 1


def test_behind_a_jump_the_frozen_one_is_the_only_one_to_suffer(ssh: World) -> None:
    over, frozen, fine = ssh.sshd(), ssh.sshd(), ssh.sshd()
    jump = ssh.connection(over)
    slow, quick = (_jumped(ssh, jump, to, command_timeout=3, connect_timeout=5) for to in (frozen, fine))
    for driver in (slow, quick):
        assert said(driver.observe([ITEM]), ITEM) == "0\n"
    frozen.signal_sessions(signal.SIGSTOP)
    assert "no answer for 3 s" in reason(slow.observe([ITEM]), ITEM)
    assert said(quick.observe([ITEM]), ITEM) == "0\n"
    assert len(over.sessions()) == 1, "the way there was not opened again"
    frozen.stop()
    assert reason(slow.observe([ITEM]), ITEM).startswith("web01: connecting web01 at 127.0.0.1")
    assert len(over.sessions()) == 1


def test_a_jump_host_that_is_down(ssh: World) -> None:
    over = ssh.sshd()
    over.stop()
    driver = _jumped(ssh, ssh.connection(over), ssh.shared)
    assert "is sshd running there?" in reason(driver.observe([ITEM]), ITEM)
    assert errors(driver.apply(changes("true"), 1))[0].startswith("Unreachable")


@pytest.fixture
def user(ssh: World) -> Iterator[str]:
    """A user who may log in, and may not become root."""
    name = f"salvus-test-{os.getpid()}"
    subprocess.run(["useradd", "--shell", "/bin/sh", "--password", "*", name], check=True)
    try:
        yield name
    finally:
        ssh.end()
        until(lambda: subprocess.run(["userdel", name], capture_output=True).returncode == 0, "the user's last process")


@pytest.fixture
def sudoer(user: str) -> Iterator[str]:
    """A user who may become root without a password."""
    rule = Path("/etc/sudoers.d") / user
    rule.write_text(f"{user} ALL=(ALL) NOPASSWD: ALL\n")
    try:
        yield user
    finally:
        rule.unlink()


def test_a_user_becomes_root(ssh: World, sudoer: str) -> None:
    connection = ssh.connection(user=sudoer)
    driver = ShellDriver(connection, state=str(ssh.folder / "state"))
    assert said(driver.observe([ITEM]), ITEM) == "0\n"
    mine = ssh.folder / "mine"
    assert errors(driver.apply(changes(f"touch {mine}"), 1)) == [""]
    assert mine.stat().st_uid == 0
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(connection.tunnel("id -u").path)
        assert client.makefile("rb").read() == b"0\n"


def test_a_user_who_can_not_become_root_is_told_how(ssh: World, user: str) -> None:
    driver = ssh.driver(user=user)
    told = reason(driver.observe([ITEM]), ITEM)
    assert "sudo" in told
    assert f"{user} ALL=(ALL) NOPASSWD: ALL" in told
    [error] = errors(driver.apply(changes("true"), 1))
    assert error.startswith("Failed: web01: its shell ended with status 1: ")
    assert "sudo: a password is required" in error
