"""The machine's fence (rule 10): a newer epoch ends what an older one still runs, then acts; the older one is Fenced.

Two drivers are two controllers: each has a connection of its own, and both see one state folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from drivers.base import Fenced
from drivers.items.image_file import ImageFile
from drivers.items.package import Package
from drivers.ssh import Connection
from tests.conformance.ssh_world import Text, World, changes, creation, errors, running, until

pytestmark = pytest.mark.conformance


@dataclass(frozen=True, slots=True)
class Whole(Text):
    """Must not be ended half-way, as a dpkg."""

    uninterruptible: ClassVar[bool] = True


def endless(begun: Path) -> str:
    """A script that goes on for ever."""
    return f"touch {begun}; while :; do sleep 0.05; done"


def connected(connection: Connection, command: str) -> socket.socket:
    """A client of the tunnel for changes, or of any other."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(connection.tunnel(command, "" if command == "cat" else "changes").path)
    return client


def sessions(ssh: World) -> list[str]:
    """Of which epochs there are, or were."""
    return sorted(path.name for path in (ssh.folder / "state" / "sessions").iterdir())


def test_older_epoch_is_fenced_and_writes_nothing(ssh: World) -> None:
    older, newer, never = ssh.driver(), ssh.driver(), ssh.folder / "never"
    assert errors(older.apply(changes("true"), 41)) == [""]
    newer.fence(42)
    with pytest.raises(Fenced, match="42"):
        older.apply(changes(f"touch {never}"), 41)
    with pytest.raises(Fenced):
        older.fence(41)
    assert not never.exists()
    assert (ssh.folder / "state" / "epoch").read_text() == "42\n"


def test_the_epoch_survives_and_only_root_can_hold_the_lock(ssh: World) -> None:
    ssh.driver().fence(7)
    with pytest.raises(Fenced):
        ssh.driver().fence(6)
    assert (ssh.folder / "state" / "lock").stat().st_mode & 0o777 == 0o600


def test_a_fence_that_can_not_be_kept_stops_everything(ssh: World) -> None:
    (ssh.folder / "state").write_text("in the way")
    never = ssh.folder / "never"
    [error] = errors(ssh.driver().apply(changes(f"touch {never}"), 1))
    assert error.startswith("Failed: web01: its shell ended with status 1: mkdir")
    assert not never.exists()


def test_batches_of_one_epoch_go_side_by_side(ssh: World) -> None:
    """Each can only end after the other has begun; also when both find an older epoch, which one of them replaces."""
    driver = ssh.driver()
    for epoch in range(3, 9):
        one, two = ssh.folder / f"one{epoch}", ssh.folder / f"two{epoch}"
        with ThreadPoolExecutor() as pool:
            jobs = [
                pool.submit(driver.apply, changes(f"touch {mine}; until [ -e {other} ]; do sleep 0.05; done"), epoch)
                for mine, other in ((one, two), (two, one))
            ]
            assert [errors(job.result()) for job in jobs] == [[""], [""]]


def test_a_script_that_ends_within_a_second_is_let_to(ssh: World) -> None:
    log, go = ssh.folder / "log", ssh.folder / "go"
    brief = f"echo first >>{log}; until [ -e {ssh.folder}/state/sessions/2 ]; do sleep 0.05; done; echo second >>{log}"
    with ThreadPoolExecutor() as pool:
        older = pool.submit(ssh.driver().apply, changes(brief, f"touch {go}"), 1)
        until(log.exists, "the older batch at work")
        assert errors(ssh.driver().apply(changes(f"echo third >>{log}"), 2)) == [""]
        with pytest.raises(Fenced):
            older.result()
    assert log.read_text().split() == ["first", "second", "third"]
    assert not go.exists(), "nothing more is begun"


def test_a_script_that_goes_on_is_ended_with_all_that_it_runs(ssh: World) -> None:
    begun, swept, never = (ssh.folder / name for name in ("begun", "swept", "never"))
    length = f"3{secrets.randbelow(10**9)}"
    script = f"trap 'touch {swept}' EXIT; trap 'exit 143' TERM; touch {begun}; sleep {length} | cat"
    with ThreadPoolExecutor() as pool:
        older = pool.submit(ssh.driver().apply, changes(script, f"touch {never}"), 1)
        until(begun.exists, "the older batch at work")
        assert errors(ssh.driver().apply(changes(f"[ -e {swept} ]"), 2)) == [""], "it acts when the other has ended"
        with pytest.raises(Fenced, match="it has seen epoch 2"):
            older.result()
    assert not running(length)
    assert not never.exists()
    assert sessions(ssh) == ["2"]


def test_a_script_that_hears_no_sigterm_is_killed(ssh: World) -> None:
    begun = ssh.folder / "begun"
    with ThreadPoolExecutor() as pool:
        older = pool.submit(ssh.driver().apply, changes(f"trap '' TERM; {endless(begun)}"), 1)
        until(begun.exists, "the older batch at work")
        assert errors(ssh.driver(command_timeout=60).apply(changes("true"), 2)) == [""]
        with pytest.raises(Fenced):
            older.result()


def test_what_must_not_be_ended_half_way_is_waited_for(ssh: World) -> None:
    """The newer one says so after its patience; the older one begins nothing more, neither meanwhile nor then."""
    begun, go, made, never = (ssh.folder / name for name in ("begun", "go", "made", "never"))
    # As apt: what it runs is in its process group, and gets the signal too.
    script = f"touch {begun}; sh -c 'until [ -e {go} ]; do sleep 0.05; done'; touch {made}"
    items = [Whole("apt", change=script), Text("x", change=f"touch {never}")]
    with ThreadPoolExecutor() as pool:
        older = pool.submit(ssh.driver().apply, [creation(item) for item in items], 1)
        until(begun.exists, "the older batch at work")
        newer = ssh.driver(command_timeout=5)
        busy = ["Failed: web01: changes of an older session still run there"]
        assert errors(newer.apply(changes("true"), 2)) == busy
        assert errors(newer.apply(changes("true"), 2)) == busy
        assert not made.exists()
        go.touch()
        with pytest.raises(Fenced):
            older.result()
    assert errors(newer.apply(changes(f"[ -e {made} ]"), 2)) == [""]
    assert not never.exists()


def test_what_must_not_be_ended_half_way_has_its_limit(ssh: World) -> None:
    [done] = ssh.driver(script_limit=1).apply([creation(Whole("apt", change=endless(ssh.folder / "begun")))], 1)
    assert "it took longer than 1 s" in str(done.error)


def test_a_package_is_not_ended_half_way() -> None:
    assert Package("x").uninterruptible


def test_a_script_that_waits_for_its_payload_is_ended(ssh: World) -> None:
    """Of the payload only the beginning comes, as from a controller that is paused while it sends."""
    pipe, got, never = (ssh.folder / name for name in ("pipe", "got", "never"))
    os.mkfifo(pipe)
    image = Text("image", change=f"cat >{got}; touch {never}", file=str(pipe))
    with ThreadPoolExecutor() as pool:
        older = pool.submit(ssh.driver().apply, [creation(image)], 1)
        with pipe.open("wb", buffering=0) as sends:
            sends.write(b"beginning" * 6000)
            until(lambda: got.exists() and got.read_bytes(), "the beginning of the payload")
            assert errors(ssh.driver().apply(changes("true"), 2)) == [""]
            assert not never.exists()
            sends.write(b"end" * 10_000)
        with pytest.raises(Fenced):
            older.result()
    assert b"end" not in got.read_bytes()
    assert not never.exists()


@contextlib.contextmanager
def other_controller(ssh: World, *words: object) -> Iterator[subprocess.Popen[str]]:
    """A process that pushes an image, see ``tests.conformance.other_controller``."""
    target = ssh.shared.target()
    argv = [sys.executable, "-m", "tests.conformance.other_controller", target.port, target.host_keys[0]]
    argv += [target.identity_files[0], ssh.folder / "state", *words]
    with subprocess.Popen([str(word) for word in argv], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_controller_that_is_paused_while_it_pushes_an_image(ssh: World) -> None:
    """SIGSTOP, a newer one goes on, SIGCONT: it is fenced, nothing of its is left and nothing is written any more."""
    large, small, folder = ssh.folder / "large", ssh.folder / "small", ssh.folder / "images"
    folder.mkdir()
    with large.open("wb") as file:
        file.truncate(8 << 30)
    small.write_bytes(b"the newer one's")
    item = ImageFile(str(folder / "image"), str(small), hashlib.sha256(small.read_bytes()).hexdigest())
    with other_controller(ssh, 1, large, item.path) as process:
        until(lambda: any(folder.iterdir()), "the push at work")
        process.send_signal(signal.SIGSTOP)
        until(lambda: Path("/proc", str(process.pid), "stat").read_text().rpartition(")")[2].split()[0] == "T", "pause")
        assert errors(ssh.driver().apply([creation(item)], 2)) == [""]
        written = {path: path.stat() for path in folder.iterdir()}
        assert Path(item.path) in written
        assert not [path for path in written if path.name.endswith(".new")], "what it had of the other is swept"
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=120)[0].split() == ["Fenced", "Fenced"]
    assert {path: path.stat() for path in folder.iterdir()} == written


def test_a_shell_that_was_killed_leaves_its_script_to_be_ended(ssh: World) -> None:
    """The lock is the script's too: what runs is never taken for gone."""
    begun = ssh.folder / "begun"
    length = f"3{secrets.randbelow(10**9)}"
    shell = ssh.folder / "shell"
    with ThreadPoolExecutor() as pool:
        # Of the script's shell, timeout(1) is the parent, and of that the shell of the batch.
        find = f"read -r _ _ _ timeout _ </proc/$$/stat; read -r _ _ _ it _ </proc/$timeout/stat; echo $it >{shell}"
        older = pool.submit(ssh.driver(command_timeout=4).apply, changes(f"{find}; touch {begun}; sleep {length}"), 1)
        until(begun.exists, "the older batch at work")
        os.kill(int(shell.read_text()), signal.SIGKILL)
        [lost] = older.result()
        assert str(lost.error).endswith("the connection ended before the change did")
        assert running(length)
        assert errors(ssh.driver().apply(changes("true"), 2)) == [""]
    assert not running(length)
    assert sessions(ssh) == ["2"]


def test_only_who_has_the_session_open_is_ended(ssh: World) -> None:
    """Not who has the number of one that had: a session that nobody is in any more is just taken away."""
    ssh.driver().fence(1)
    state = ssh.folder / "state" / "sessions"
    with subprocess.Popen(["sleep", "600"]) as bystander, (state / "1").open() as reading:
        try:
            (state / "1").write_text(str(bystander.pid))
            assert errors(ssh.driver().apply(changes("true"), 2)) == [""]
            assert bystander.poll() is None
            assert not reading.closed
        finally:
            bystander.kill()
    assert sessions(ssh) == ["2"]


@pytest.mark.parametrize("damage", ["", "x", "-1", "1 2", "1; rm -rf", "9" * 30, "\0" * 8])
def test_a_damaged_epoch_stops_everything(ssh: World, damage: str) -> None:
    driver, never = ssh.driver(), ssh.folder / "never"
    driver.fence(1)
    (ssh.folder / "state" / "epoch").write_text(damage)
    assert errors(driver.apply(changes(f"touch {never}"), 2)) == ["Failed: web01: its epoch can't be read"]
    assert not never.exists()
    (ssh.folder / "state" / "epoch").unlink()
    assert errors(driver.apply(changes("true"), 2)) == [""], "the hint's way out"


def test_an_epoch_that_is_a_folder(ssh: World) -> None:
    (ssh.folder / "state" / "epoch").mkdir(parents=True)
    assert errors(ssh.driver().apply(changes("true"), 2)) == ["Failed: web01: its epoch can't be read"]


def test_what_does_not_belong_among_the_sessions_stays(ssh: World) -> None:
    folder = ssh.folder / "state" / "sessions"
    folder.mkdir(parents=True)
    for name in ("a file of somebody", "-1", "1" * 30, "7"):
        (folder / name).touch()
    assert errors(ssh.driver().apply(changes("true"), 5)) == [""]
    assert sessions(ssh) == sorted(["-1", "1" * 30, "5", "7", "a file of somebody"])


def test_of_many_epochs_that_race_the_newest_wins(ssh: World) -> None:
    """Who has begun to act after a newer one did would be seen in the log."""
    log = ssh.folder / "log"

    def compete(epoch: int) -> list[str]:
        act = f"echo {epoch} >>{log}"
        with contextlib.suppress(Fenced):
            return errors(ssh.driver().apply(changes(act, "sleep 0.1", act, "sleep 0.1", act), epoch))
        return ["Fenced"]

    epochs = [secrets.randbelow(1000) + 1 for _ in range(6)]
    with ThreadPoolExecutor(len(epochs)) as pool:
        ends = dict(zip(epochs, pool.map(compete, epochs), strict=True))
    acted = [int(line) for line in log.read_text().split()]
    assert acted == sorted(acted), (epochs, acted)
    assert ends[max(epochs)] == [""] * 5
    assert set(acted[-3:]) == {max(epochs)}
    assert all(end in (["Fenced"], [""] * 5) for end in ends.values()), ends


def test_a_tunnel_for_changes_is_ended_by_a_newer_epoch_and_refused_to_an_older_one(ssh: World) -> None:
    older, looking = ssh.connection(), ssh.connection()
    ways = [(older, ssh.driver().session("cat", 1)), (looking, "cat")]
    clients = [connected(connection, command) for connection, command in ways]
    for client in clients:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    ssh.driver().fence(2)
    changing, watching = clients
    assert changing.recv(1) == b""
    watching.sendall(b"y")
    assert watching.recv(1) == b"y", "who only looks is not disturbed"
    with connected(older, ssh.driver().session("cat", 1)) as again:
        assert again.recv(1) == b"", "an older one is not let in again"
    with connected(older, ssh.driver().session("cat", 2)) as ours:
        ours.sendall(b"z")
        assert ours.recv(1) == b"z"
    for client in clients:
        client.close()
