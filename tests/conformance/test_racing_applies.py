"""Two salvusctl that apply one resource at the same time: one wins, and the other is told of both."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.store.cassandra.settings import CassandraSettings
from salvusctl.exits import Code
from tests.fast.cli import HOST

PATIENCE = 120.0
# More than the pipe takes: it is written when the other end is read.
COMMENT = b"# nothing\n" * 1000


class Apply:
    """``salvusctl apply --no-wait -f -``, which has looked at the store and waits for the rest of its manifest."""

    def __init__(self, config: Path, user: str) -> None:
        reading, self._writing = os.pipe()
        fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, 4096)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "salvusctl", "apply", "--no-wait", "-f", "-"],
            env={**os.environ, "SALVUS_CONFIG": str(config), "SUDO_USER": user},
            stdin=reading,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(reading)
        os.write(self._writing, COMMENT)

    def go_on(self, manifest: str) -> None:
        """Gives it the manifest."""
        os.write(self._writing, manifest.encode())
        os.close(self._writing)

    def ended(self) -> tuple[int, str]:
        """Exit code, and what it said on stderr."""
        _, said = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, said

    def bury(self) -> None:
        self._process.kill()
        self._process.communicate()


Begin = Callable[[str], Apply]


@pytest.fixture(params=["sqlite", pytest.param("cassandra", marks=pytest.mark.cassandra)])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    store: dict[str, object] = {"sqlite": "salvus.db"}
    if request.param == "cassandra":
        settings: CassandraSettings = request.getfixturevalue("keyspace")()
        points, name = list(settings.contact_points), settings.keyspace
        store = {"cassandra": {"contactPoints": points, "datacenter": settings.datacenter, "keyspace": name}}
    path = tmp_path / "salvus.yaml"
    path.write_text(json.dumps({"contexts": [{"name": "test", "store": store}]}))
    salvusctl(path, "store", "init")
    return path


@pytest.fixture
def begin(config: Path) -> Iterator[Begin]:
    made: list[Apply] = []

    def begin(user: str) -> Apply:
        made.append(Apply(config, user))
        return made[-1]

    yield begin
    for one in made:
        one.bury()


def salvusctl(config: Path, *words: str) -> str:
    command = [sys.executable, "-m", "salvusctl", "--config", str(config), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout


def in_force(config: Path) -> tuple[str, str, int]:
    """Address of the host, who wrote it, generation."""
    (item,) = json.loads(salvusctl(config, "get", "host", "alpha", "-o", "json"))["items"]
    return item["spec"]["address"], item["metadata"]["writtenBy"], item["metadata"]["generation"]


def test_of_two_that_looked_before_either_wrote_one_wins_and_the_other_hears_of_both(
    config: Path, begin: Begin
) -> None:
    here = socket.gethostname()
    for generation, address in ((1, "192.0.2."), (2, "192.0.2.1")):
        alice, bob = begin("alice"), begin("bob")
        alice.go_on(HOST.replace("192.0.2.1", f"{address}10"))
        assert alice.ended() == (Code.OK, "")
        bob.go_on(HOST.replace("192.0.2.1", f"{address}20"))
        code, said = bob.ended()
        assert code == Code.TROUBLE
        assert f"error: Host/alpha was changed at the same time by alice@{here} (from apply, revision " in said
        assert f"; what bob@{here} (from apply, revision " in said
        assert "salvusctl describe Host/alpha shows what is in force" in said
        assert in_force(config) == (f"{address}10", f"alice@{here}", generation)


def test_of_two_that_write_at_the_same_time_just_one_wins(config: Path, begin: Begin) -> None:
    here = socket.gethostname()
    for generation in (1, 2, 3):
        addresses = {user: f"192.0.2.{generation}{number}" for number, user in enumerate(("alice", "bob"))}
        both = {user: begin(user) for user in addresses}
        for user, one in both.items():
            one.go_on(HOST.replace("192.0.2.1", addresses[user]))
        ended = {user: one.ended() for user, one in both.items()}
        assert sorted(code for code, _ in ended.values()) == [Code.OK, Code.TROUBLE], ended
        winner, loser = sorted(ended, key=lambda user: ended[user][0])
        assert f"by {winner}@{here} (" in ended[loser][1]
        assert f"what {loser}@{here} (" in ended[loser][1]
        assert in_force(config) == (addresses[winner], f"{winner}@{here}", generation)


def test_two_that_write_the_same_both_do(config: Path, begin: Begin) -> None:
    both = begin("alice"), begin("bob")
    for one in both:
        one.go_on(HOST)
    assert [one.ended() for one in both] == [(Code.OK, "")] * 2
    assert in_force(config)[2] == 1
