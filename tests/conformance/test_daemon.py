"""The real ``salvusctl controller run``: systemd's protocol, signals, sudden death, and two of them on one store."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from controller.holder import Holder
from controller.leases import TTL
from controller.members import ALL, FLEET, SOURCE, Register, shard_of
from controller.store.sqlite import MIGRATIONS, SqliteStore
from tests.fast.manifests import KEY

pytestmark = pytest.mark.conformance

PATIENCE = 60.0
# As systemd does it: the socket is descriptor 3, and the process is told that it is meant.
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def until(what: Callable[[], object]) -> None:
    """Waits for something to become true."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Daemon:
    """One process, with the service manager that it talks to."""

    def __init__(self, place: Place, number: int, handed: socket.socket | None, more: dict[str, str]) -> None:
        self.port = free_port() if handed is None else handed.getsockname()[1]
        path = place.folder / f"notify{number}"
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(path))
        self.manager.settimeout(PATIENCE)
        command = [sys.executable, "-m", "salvusctl", "controller", "run"]
        if handed is None:
            command += ["--http", f"127.0.0.1:{self.port}"]
        else:
            command = [sys.executable, "-c", HAND_OVER, str(handed.fileno()), *command]
        self.log = place.folder / f"log{number}"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env={**place.environment, "NOTIFY_SOCKET": str(path), **more},
                stderr=log,
                pass_fds=() if handed is None else (handed.fileno(),),
            )

    def heard(self) -> str:
        return self.manager.recv(100).decode()

    def hears(self, message: str) -> None:
        """Waits until the manager was told this."""
        while self.heard() != message:
            pass

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def acts(self) -> bool:
        return self.get("/readyz")[0] == 200

    def leases(self) -> dict[str, int]:
        """The epochs of those that it holds."""
        return {name: int(float(epoch)) for name, epoch in self.labelled("salvus_lease_epoch", "lease")}

    def machines(self) -> set[str]:
        """Those that it has looked at and still has."""
        return {name for name, _ in self.labelled("salvus_machine_reachable", "machine")}

    def labelled(self, metric: str, label: str) -> list[tuple[str, str]]:
        """The label's value and the number of each series."""
        found: list[tuple[str, str]] = re.findall(
            rf'^{metric}{{{label}="(.*)"}} (\S+)', self.get("/metrics")[1], re.MULTILINE
        )
        return found

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        self.signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def bury(self) -> None:
        self.manager.close()
        self.process.kill()
        self.process.wait()


class Place:
    """A folder with a configuration, manifests, a store, and the processes that use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "salvus.db"
        self.manifests = folder / "manifests"
        self.manifests.mkdir()
        self.environment = {**os.environ, "SALVUS_CONFIG": str(folder / "salvus.yaml")}
        for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS"):
            self.environment.pop(name, None)
        self.daemons: list[Daemon] = []
        self.configure("manifests")

    def configure(self, manifests: str, **more: object) -> None:
        context = {"name": "test", "store": {"sqlite": "salvus.db"}, "manifests": manifests, **more}
        (self.folder / "salvus.yaml").write_text(json.dumps({"contexts": [context]}))

    def host(self, name: str, folder: str = "manifests") -> None:
        """A host that nobody can reach: its port is closed."""
        spec = {"address": "127.0.0.1", "ssh": {"port": free_port(), "hostKeys": [KEY]}}
        document = {"apiVersion": "salv.us/v1", "kind": "Host", "metadata": {"name": name}, "spec": spec}
        (self.folder / folder / f"{name}.yaml").write_text(json.dumps(document))

    def start(self, handed: socket.socket | None = None, **more: str) -> Daemon:
        self.daemons.append(Daemon(self, len(self.daemons), handed, more))
        return self.daemons[-1]

    def running(self) -> Daemon:
        daemon = self.start()
        daemon.hears("READY=1")
        until(daemon.acts)
        return daemon

    def salvusctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "salvusctl", *words]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)

    def seen(self, name: str) -> str:
        """The reason why a host is Ready or not; empty when there is none of that name."""
        found = self.salvusctl("get", "host", "-o", "json")
        items = json.loads(found.stdout)["items"] if found.returncode == 0 else []
        reasons = {one["metadata"]["name"]: one["status"]["conditions"][0]["reason"] for one in items}
        return str(reasons.get(name, ""))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for daemon in made.daemons:
        daemon.bury()


def test_systemd_is_told_when_it_is_ready_well_and_stopping(place: Place) -> None:
    daemon = place.start(WATCHDOG_USEC="200000")
    assert daemon.heard() == "READY=1"
    assert [daemon.heard() for _ in range(3)] == ["WATCHDOG=1"] * 3
    daemon.signal(signal.SIGTERM)
    daemon.hears("STOPPING=1")
    assert daemon.process.wait(PATIENCE) == 0


def test_the_socket_may_be_systemds(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        daemon = place.start(handed=listening)
        daemon.hears("READY=1")
        assert daemon.get("/healthz") == (200, "ok\n")
        assert daemon.end() == 0


def test_it_ends_well_also_while_machines_do_not_answer(place: Place) -> None:
    for number in range(5):
        place.host(f"host{number}")
    daemon = place.running()
    until(lambda: place.seen("host4") == "Unreachable")
    assert 'salvus_machine_reachable{machine="host4"} 0.0' in daemon.get("/metrics")[1]
    assert daemon.end() == 0
    assert "Traceback" not in daemon.log.read_text()


def test_ctrl_c_ends_it_too(place: Place) -> None:
    daemon = place.running()
    daemon.signal(signal.SIGINT)
    assert daemon.process.wait(PATIENCE) == 0


def test_sighup_takes_another_directory_over_and_a_broken_configuration_is_not(place: Place) -> None:
    place.host("one")
    (place.folder / "other").mkdir()
    place.host("two", "other")
    daemon = place.running()
    until(lambda: place.seen("one"))
    (place.folder / "salvus.yaml").write_text("{{{")
    daemon.signal(signal.SIGHUP)
    daemon.hears("RELOADING=1")
    daemon.hears("READY=1")
    assert "the old one stays" in daemon.log.read_text()
    place.configure("other")
    daemon.signal(signal.SIGHUP)
    daemon.hears("RELOADING=1")
    daemon.hears("READY=1")
    until(lambda: place.seen("two"))
    assert place.seen("one"), "what came from the directory before stays"
    assert daemon.end() == 0


def test_sighup_takes_other_budgets_over(place: Place) -> None:
    place.configure("manifests", budgets={"maxDeletes": 0, "maxDeletePercent": 0})
    place.host("one")
    place.host("two")
    daemon = place.running()
    until(lambda: place.seen("two"))
    (place.manifests / "two.yaml").unlink()
    until(lambda: "salvus_held_by_budget 1.0" in daemon.get("/metrics")[1])
    place.configure("manifests")
    daemon.signal(signal.SIGHUP)
    until(lambda: not place.seen("two"))
    assert place.seen("one")
    assert daemon.end() == 0


def test_what_was_killed_is_started_again_and_goes_on_at_once(place: Place) -> None:
    place.host("one")
    first = place.running()
    until(lambda: place.seen("one") == "Unreachable")
    before = first.leases()[FLEET]
    first.signal(signal.SIGKILL)
    first.process.wait(PATIENCE)
    place.host("two")
    second = place.running()
    until(lambda: place.seen("two") == "Unreachable")
    assert second.leases()[FLEET] > before
    assert second.end() == 0


def shared(first: Daemon, second: Daemon) -> bool:
    """Whether each lease is with one of the two, and both have some; one may change hands between two looks."""
    one, other = first.leases().keys(), second.leases().keys()
    return bool(one and other) and one.isdisjoint(other) and {*ALL} <= one | other


def test_two_share_the_machines_out_and_one_that_is_killed_is_succeeded_by_the_other(place: Place) -> None:
    names = [f"host{number}" for number in range(12)]
    for name in names:
        place.host(name)
    first = place.running()
    second = place.running()
    until(lambda: shared(first, second))
    until(lambda: first.machines() | second.machines() == {*names})
    assert first.machines() == {name for name in names if shard_of(name) in first.leases()}
    assert first.machines().isdisjoint(second.machines())
    before = {**first.leases(), **second.leases()}
    theirs = first.leases().keys()
    assert second.get("/readyz")[1].startswith("ok: holds ")
    assert f"; the others: pid {first.process.pid} on " in second.get("/readyz")[1]
    first.signal(signal.SIGKILL)
    first.process.wait(PATIENCE)
    until(lambda: second.leases().keys() >= {*ALL})
    after = second.leases()
    assert {name for name in ALL if after[name] > before[name]} == theirs & {*ALL}, "what it had stays as it was"
    until(lambda: second.machines() == {*names})
    assert second.end() == 0


def test_who_ends_hands_over_what_it_has(place: Place) -> None:
    first, second = place.running(), place.running()
    until(lambda: shared(first, second))
    assert first.end() == 0
    with contextlib.closing(SqliteStore(place.store)) as store:
        register = Register.read(store)
    (left,) = register.members
    assert register.members[left].who.pid == second.process.pid
    assert register.held_by(left).keys() >= {*ALL}, "nothing waits for a tick, or for a time to pass"
    until(lambda: second.leases().keys() >= {*ALL})


def test_reading_while_it_writes(place: Place) -> None:
    place.running()
    for number in range(10):
        place.host(f"host{number}")
        found = place.salvusctl("get", "all", "-o", "json")
        assert (found.returncode, found.stderr) == (0, "")
        json.loads(found.stdout)
    until(lambda: place.seen("host9") == "Unreachable")


def test_a_store_of_a_newer_version_is_left_alone(place: Place) -> None:
    assert place.running().process.pid
    assert place.daemons[0].end() == 0
    newer = len(MIGRATIONS) + 2
    with contextlib.closing(sqlite3.connect(place.store)) as db:
        db.execute(f"PRAGMA user_version = {newer}")
    before = place.store.read_bytes()
    daemon = place.start()
    assert daemon.process.wait(PATIENCE) == 3
    said = daemon.log.read_text()
    assert f"has schema {newer}, this salvus knows {newer - 2}" in said
    assert "or a newer one" in said
    assert "Traceback" not in said
    assert place.store.read_bytes() == before


def test_a_store_that_is_damaged_while_it_runs_ends_it_with_what_to_do(place: Place) -> None:
    place.host("one")
    daemon = place.running()
    until(lambda: place.seen("one") == "Unreachable")
    with contextlib.closing(sqlite3.connect(place.store)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = db.execute("PRAGMA page_size").fetchone()[0]
    # The first page, with the header, stays: what is behind it is found out about by who reads it.
    with place.store.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(page)
        file.write(os.urandom(size - page))
    place.host("two")
    assert daemon.process.wait(PATIENCE) == 3
    said = daemon.log.read_text()
    assert "cannot be used: database disk image is malformed" in said
    assert "hint: put it aside and restore a copy" in said
    assert "Traceback" not in said


def test_a_store_that_is_removed_while_it_runs_ends_it_with_what_to_do(place: Place) -> None:
    place.host("one")
    daemon = place.running()
    until(lambda: place.seen("one") == "Unreachable")
    place.store.unlink()
    assert daemon.process.wait(PATIENCE) == 3
    said = daemon.log.read_text()
    assert "was removed, or another file put in its place, while it was in use" in said
    assert "Traceback" not in said


class Watch(threading.Thread):
    """Looks all the time whose each lease is. ``longest``: seconds for which one was nobody's who lives and stays."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.over = threading.Event()
        self.looks = 0
        self.longest = 0.0

    def run(self) -> None:
        since = dict.fromkeys(ALL, time.monotonic())
        with contextlib.closing(SqliteStore(self.path)) as store:
            while not self.over.wait(0.05):
                register = Register.read(store).living(Holder.this_process())
                now = time.monotonic()
                for name in ALL:
                    holder = register.holder(name)
                    self.longest = max(self.longest, now - since[name])
                    if holder and not register.members[holder].leaving:
                        since[name] = now
                self.looks += 1

    def looked_after(self, looks: int) -> bool:
        """Whether a whole look was begun after so many."""
        return self.looks > looks + 1


def test_controllers_that_are_restarted_in_turn_leave_no_machine_alone(place: Place) -> None:
    names = {f"host{number}" for number in range(12)}
    for name in names:
        place.host(name)
    running = [place.running(), place.running()]
    until(lambda: shared(*running))
    watch = Watch(place.store)
    watch.start()
    try:
        for old in tuple(running):
            before = watch.looks
            assert old.end() == 0
            running = [*(one for one in running if one is not old), place.running()]
            until(partial(shared, *running))
            until(partial(watch.looked_after, before))
    finally:
        watch.over.set()
        watch.join()
    assert watch.longest < TTL, f"{watch.longest:.1f} s"
    until(lambda: running[0].machines() | running[1].machines() == names)
    listed = json.loads(place.salvusctl("controllers", "-o", "json").stdout)
    assert listed["free"] == []
    assert {one["pid"]: one["state"] for one in listed["items"]} == {one.process.pid: "acts" for one in running}


def test_it_is_not_ready_while_its_store_is_away_and_says_so(place: Place) -> None:
    place.host("one")
    daemon = place.running()
    before = daemon.leases()
    with contextlib.closing(sqlite3.connect(place.store)) as db:
        # As a disk without room does: what is there is read, and nothing can be written.
        db.execute("BEGIN EXCLUSIVE")
        until(lambda: not daemon.acts())
        assert daemon.leases() == {}
        until(lambda: f"its leases were not renewed in time: the store {place.store}" in daemon.get("/readyz")[1])
        assert daemon.get("/healthz") == (200, "ok\n"), "a new start would not help"
    until(daemon.acts)
    assert daemon.leases() == before, "nobody else was there"
    assert daemon.end() == 0
    assert "Traceback" not in daemon.log.read_text()


def reads(daemon: Daemon) -> bool:
    """Whether it takes the manifests over."""
    return any(name.startswith(SOURCE) for name in daemon.leases())


def test_of_two_controllers_one_takes_the_manifests_over_and_the_other_after_it(place: Place) -> None:
    place.host("one")
    both = place.running(), place.running()
    until(lambda: shared(*both))
    until(lambda: [reads(one) for one in both] in ([True, False], [False, True]))
    one, other = sorted(both, key=reads, reverse=True)
    until(lambda: f'by="pid {one.process.pid} on' in other.log.read_text())
    for number in range(5):
        place.host(f"more{number}")
    until(lambda: place.seen("more4"))
    assert one.end() == 0
    place.host("late")
    until(lambda: place.seen("late") == "Unreachable")
    assert other.end() == 0
    warnings = [line for log in (one.log, other.log) for line in log.read_text().splitlines() if "WARNING" in line]
    assert [line for line in warnings if "cannot be asked" not in line] == []


def test_a_copy_taken_while_it_runs_can_be_put_back(place: Place) -> None:
    place.host("one")
    first = place.running()
    until(lambda: place.seen("one") == "Unreachable")
    copy = place.folder / "copy.db"
    with contextlib.closing(sqlite3.connect(place.store)) as db, contextlib.closing(sqlite3.connect(copy)) as kept:
        db.backup(kept)
    place.host("two")
    until(lambda: place.seen("two"))
    before = first.leases()[FLEET]
    assert first.end() == 0
    for part in place.folder.glob("salvus.db*"):
        part.unlink()
    copy.rename(place.store)
    assert place.seen("one") == "Unreachable"
    assert place.seen("two") == ""
    second = place.running()
    until(lambda: place.seen("two") == "Unreachable")
    assert second.leases()[FLEET] > before, "machines have seen the epoch that the copy does not know"


def test_what_it_cannot_begin_with_is_said_and_it_does_not_hang(place: Place) -> None:
    place.configure("nothing")
    daemon = place.start()
    assert daemon.process.wait(PATIENCE) == 2
    assert "is not a directory of manifests" in daemon.log.read_text()
    place.configure("manifests")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = place.salvusctl("controller", "run", "--http", f"127.0.0.1:{port}")
    assert found.returncode == 3
    assert "cannot listen on" in found.stderr


UNIT = Path(__file__).parents[2] / "contrib" / "salvus.service"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit that ships, starting what is installed here."""
    installed = UNIT.read_text().replace("/opt/salvus/bin/salvusctl", str(Path(sys.executable).with_name("salvusctl")))
    (tmp_path / "salvus.service").write_text(installed)
    return tmp_path / "salvus.service"


def test_the_unit_is_right_and_hardened(unit: Path) -> None:
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", str(unit)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert found.returncode == 0, found.stdout


def test_the_units_command_is_understood(unit: Path) -> None:
    (line,) = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    command = line.removeprefix("ExecStart=").split()
    found = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=PATIENCE)
    assert (found.returncode, found.stderr) == (0, "")
    assert "Run until SIGTERM" in found.stdout
