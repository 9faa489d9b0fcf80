"""``salvusctl controller run``: the runner, a source of manifests, the HTTP page, signals and systemd."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from controller.http import Http, open_socket
from controller.log import log
from controller.metrics import Metrics
from controller.notify import inherited_socket, notify, watchdog_seconds
from controller.runner import Runner
from controller.session import Session, Settings, open_session
from controller.snapshot import snapshot
from controller.sources.directory import Directory
from controller.sync import Sync
from drivers.base import SalvusError

RESYNC_SOURCE = 30.0
# A deletion is believed when a second reading, after this time, lacks the resource too.
CONFIRM_SOURCE = 2.0


def run(settings: Settings, *, manifests: Path | None, http: str, enter: Callable[[], None], version: str) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code.

    The HTTP socket is opened first, then ``enter`` is called (into another network namespace), then threads start.
    Raises SalvusError when it cannot begin.
    """
    listening = inherited_socket() or open_socket(http)
    enter()
    metrics = Metrics(version)
    stop = threading.Event()
    with open_session(settings) as session:
        runner = session.runner(metrics)
        metrics.watch(lambda: snapshot(runner))
        page = Http(listening, metrics, healthy=lambda: "", ready=lambda: _ready(runner, stop))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        page.start()
        runner.start()
        source = _follow(session, manifests, runner, metrics, stop)
        log(logging.INFO, "controller runs", http=page.address, manifests=str(manifests or ""))
        notify("READY=1")
        while not stop.wait(watchdog_seconds() or 3600.0):
            notify("WATCHDOG=1")
        notify("STOPPING=1")
        log(logging.INFO, "stopping at the next safe points")
        if source is not None:
            source()
        runner.stop()
        page.stop()
    log(logging.INFO, "stopped")
    return 0


def _ready(runner: Runner, stop: threading.Event) -> str:
    if stop.is_set():
        return "stopping"
    leases = runner.engine.leases
    if not leases.held():
        return f"no lease is held; who has them: {leases.other_holder() or 'unknown'}"
    return ""


def _follow(
    session: Session, manifests: Path | None, runner: Runner, metrics: Metrics, stop: threading.Event
) -> Callable[[], None] | None:
    """Keeps the store equal to a directory; returns how to end that."""
    if manifests is None:
        return None
    directory = Directory(manifests.resolve())
    changed = threading.Event()
    directory.watch(changed.set)
    sync = Sync(session, directory.name)

    def follow() -> None:
        while not stop.is_set():
            changed.clear()
            again = False
            try:
                loaded = directory.read(session.others(directory.name))
                again = sync.once(loaded)
                metrics.manifest_errors.set(len(loaded.errors))
                runner.poke()
            except SalvusError as error:
                log(logging.WARNING, "the manifests were not taken over", error=str(error))
            changed.wait(CONFIRM_SOURCE if again else RESYNC_SOURCE)

    thread = threading.Thread(target=follow, name="source")
    thread.start()

    def end() -> None:
        changed.set()
        directory.close()
        thread.join()

    return end
