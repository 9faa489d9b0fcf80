"""What the tests of drivers/ssh share: sshds, items made of shell text, a relay that counts and cuts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from drivers.base import (
    Applied,
    Change,
    Drift,
    Fields,
    Grade,
    Item,
    Observation,
    Present,
    Rejected,
    State,
    Unknown,
    Verb,
)
from drivers.items.shell import Question, ShellItem
from drivers.ssh import Connection, ShellDriver
from tests.conformance.sshd import Sshd

PATIENCE = 30.0
SO_ATTACH_FILTER = 26  # socket(7); Python has no name for it


@dataclass(frozen=True, slots=True)
class Text(ShellItem):
    """Probed and changed by given shell text; its one field is what the probe of all items of its type printed."""

    label: str
    text: str = ""
    change: str = ""
    file: str = ""

    @property
    def name(self) -> str:
        return self.label

    @property
    def payload(self) -> str:
        return self.file

    def fields(self) -> Fields:
        return {}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        return Grade.LIVE

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        return "\n".join(item.text for item in items)

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        if output.startswith("nonsense"):
            raise ValueError("nonsense")
        return {item.key: Present({"said": output}) if output else Unknown("it said nothing") for item in items}

    def script(self, change: Change) -> str:
        if self.change == "impossible":
            raise Rejected("this can't be written as a script")
        return self.change


@dataclass(frozen=True, slots=True)
class Other(Text):
    """A second type."""


@dataclass(frozen=True, slots=True)
class Asked(Text, Question):
    """A question."""


def said(seen: Mapping[str, Observation], item: Item) -> str:
    """What the item's probe printed."""
    state = seen[item.key].state
    assert isinstance(state, Present), state
    value = state.fields["said"]
    assert isinstance(value, str)
    return value


def reason(seen: Mapping[str, Observation], item: Item) -> str:
    """Why the item is unknown."""
    state = seen[item.key].state
    assert isinstance(state, Unknown), state
    return state.reason


def creation(item: ShellItem) -> Change:
    """The change that makes the item."""
    return Change(item, Verb.CREATE, (), Grade.LIVE)


def changes(*scripts: str) -> list[Change]:
    """One change for each script."""
    return [creation(Text(str(number), change=script)) for number, script in enumerate(scripts)]


def errors(done: Sequence[Applied]) -> list[str]:
    """How the changes went: empty where they were made."""
    return [f"{type(one.error).__name__}: {one.error}" if one.error else "" for one in done]


def until(true: Callable[[], object], what: str) -> None:
    """Waits for something that must become true soon."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"never seen: {what}"
        time.sleep(0.02)


def running(word: str) -> list[int]:
    """Processes that have the word among their arguments."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if word.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


class World:
    """Makes sshds, connections and drivers, and ends all of them."""

    def __init__(self, shared: Sshd, stack: contextlib.ExitStack, folder: Path) -> None:
        self.shared = shared
        self.folder = folder
        self._stack = stack

    def end(self) -> None:
        """Ends all of it, before the test does."""
        self._stack.close()

    def sshd(self) -> Sshd:
        """One of its own, running, for tests that break it."""
        sshd = Sshd()
        self._stack.callback(sshd.close)
        sshd.start()
        return sshd

    def connection(self, sshd: Sshd | None = None, via: Connection | None = None, **target: object) -> Connection:
        """To the shared sshd, or another."""
        connection = Connection("web01", (sshd or self.shared).target(**target), via)
        self._stack.callback(connection.close)
        return connection

    def driver(
        self, sshd: Sshd | None = None, *, script_limit: int = 60, window: int = 30, **target: object
    ) -> ShellDriver:
        """A driver over a connection of its own; all drivers of a test see one fence."""
        connection = self.connection(sshd, None, **target)
        return ShellDriver(connection, state=str(self.folder / "state"), script_limit=script_limit, window=window)

    def relay(self, sshd: Sshd) -> Relay:
        """Between a connection and the sshd."""
        relay = Relay(sshd.port)
        self._stack.callback(relay.close)
        return relay


class Relay:
    """Carries TCP connections to a port of loopback, and counts the bytes."""

    def __init__(self, port: int) -> None:
        self.count = 0
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._serve)

    def cut(self) -> None:
        """As if its cable were cut: what is sent to it is not even acknowledged, and nobody connects any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        drop_all = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))  # BPF_RET | BPF_K, 0 bytes kept
        program = struct.pack("@HP", 1, ctypes.addressof(drop_all))
        for near in self._sockets[1::2]:
            near.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def close(self) -> None:
        """Ends everything."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()

    def _start(self, target: Callable[..., None], *args: socket.socket) -> None:
        self._threads.append(threading.Thread(target=target, args=args))
        self._threads[-1].start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._sockets += [near, far]
                self._start(self._carry, near, far)
                self._start(self._carry, far, near)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.count += len(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="session")
def shared_sshd() -> Iterator[Sshd]:
    """One for all tests that do it no harm."""
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("needs root: sshd is started, and what salvus does it does as root")
    sshd = Sshd()
    try:
        sshd.start()
        yield sshd
    finally:
        sshd.close()


@pytest.fixture
def ssh(shared_sshd: Sshd, tmp_path: Path) -> Iterator[World]:
    """Everything that a test of drivers/ssh needs."""
    with contextlib.ExitStack() as stack:
        yield World(shared_sshd, stack, tmp_path)
