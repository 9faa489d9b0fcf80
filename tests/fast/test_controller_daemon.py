"""What the daemon tells its service manager, and what a signal makes it do."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from controller import daemon
from controller.metrics import Metrics
from controller.runner import Runner
from controller.session import Session, Settings
from controller.store.memory import MemoryStore
from drivers.base import SalvusError
from drivers.simulated import SimulatedFleet


@dataclass
class Fake:
    """A runner and a source at once, which note what is asked of them."""

    trouble: str = ""
    broken: bool = False
    done: list[str] = field(default_factory=list)

    def healthy(self) -> str:
        return self.trouble

    def look_at_all(self) -> None:
        self.done.append("looked")

    def reload(self) -> None:
        self.done.append("reloaded")
        if self.broken:
            raise SalvusError("not a directory")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    messages: list[str] = []
    monkeypatch.setattr(daemon, "notify", messages.append)
    yield messages
    signal.pthread_sigmask(signal.SIG_UNBLOCK, daemon.SIGNALS)


def attend(fake: Fake, monkeypatch: pytest.MonkeyPatch, *signals: int | None) -> None:
    """Attends while these come: None is a time in which nothing does."""
    left = iter((*signals, signal.SIGTERM))

    def comes(waited_for: object, timeout: float) -> object:
        number = next(left)
        return None if number is None else SimpleNamespace(si_signo=number)

    monkeypatch.setattr("signal.sigtimedwait", comes)
    daemon._attend(cast(Runner, fake), cast(daemon._Source, fake))
    assert next(left, None) is None


def test_the_watchdog_hears_only_of_health(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    attend(Fake(), monkeypatch, None, None)
    assert told == ["WATCHDOG=1", "WATCHDOG=1"]
    told.clear()
    attend(Fake("all workers hang"), monkeypatch, None, None)
    assert told == []


@pytest.mark.parametrize("broken", [False, True])
def test_sighup_reloads_and_has_all_looked_at_whatever_the_configuration_is(
    broken: bool, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(broken=broken)
    attend(fake, monkeypatch, signal.SIGHUP)
    assert fake.done == ["reloaded", "looked"]
    assert told == ["RELOADING=1", "READY=1", "WATCHDOG=1"]


def test_a_second_signal_is_not_held_back(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, daemon.SIGNALS)
    attend(Fake(), monkeypatch)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & daemon.SIGNALS
    assert told == []


def test_a_directory_that_was_not_there_is_followed_when_it_is(tmp_path: Path) -> None:
    session = Session(MemoryStore(), Settings(tmp_path), SimulatedFleet().connect)
    metrics = Metrics("test")
    runner = session.runner(metrics)
    follow = daemon.Follow(tmp_path / "manifests")
    source = daemon._Source(session, lambda: follow, runner, metrics, daemon._Broken())
    with pytest.raises(SalvusError, match="is not a directory"):
        source.reload()
    (tmp_path / "manifests").mkdir()
    source.reload()
    try:
        runner.engine.leases.tick()
        assert f"source/directory:{follow.origin}" in runner.engine.leases.held()
    finally:
        source.close()
        runner.stop()
