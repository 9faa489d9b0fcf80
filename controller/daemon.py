"""``salvusctl controller run``: the runner, a source of manifests, the HTTP page, signals and systemd."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from controller.budget import Budgets
from controller.http import Http, open_socket
from controller.intake import Intake
from controller.log import log
from controller.metrics import Metrics
from controller.notify import inherited_socket, notify, watchdog_seconds
from controller.runner import Runner
from controller.session import Session, Settings, open_session
from controller.snapshot import snapshot
from controller.sources.opening import Origin, open_source
from controller.sources.settings import GitSettings
from controller.store.base import StoreUnusable
from controller.vpn_probes import VpnProbes
from controller.webhook import Answer, answer
from drivers.base import SalvusError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Seconds: how often a service manager without a watchdog of its own would be told.
IDLE = 3600.0

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


@dataclass(frozen=True, slots=True)
class Follow:
    """Which source of manifests is to be followed, if any, and what one sync of it may do without being asked about."""

    origin: Origin | None = None
    budgets: Budgets = field(default_factory=Budgets)


# Asked at the beginning, and again at SIGHUP. May raise SalvusError.
Manifests = Callable[[], Follow]


class _Broken:
    """What ends the run though nobody asked: the first report counts. May be told from any thread."""

    def __init__(self) -> None:
        self.error: StoreUnusable | None = None

    def __call__(self, error: StoreUnusable) -> None:
        if self.error is None:
            self.error = error
            os.kill(os.getpid(), signal.SIGTERM)


class _Source:
    """The source that is followed now, if any."""

    def __init__(
        self, session: Session, manifests: Manifests, runner: Runner, metrics: Metrics, broken: _Broken
    ) -> None:
        self._session = session
        self._manifests = manifests
        self._runner = runner
        self._metrics = metrics
        self._broken = broken
        self._intake: Intake | None = None
        self._follow = Follow()

    def reload(self) -> None:
        """Follows the source that is meant now; the same one is read at once. Raises SalvusError."""
        before, self._follow = self._follow, self._manifests()
        if self._intake is not None and before.origin == self._follow.origin:
            self._intake.allow(self._follow.budgets)
            self._intake.poke()
            return
        self.close()
        if (origin := self._follow.origin) is not None:
            engine, source = self._runner.engine, open_source(origin)
            wishes = partial(engine.wishes, source.name)
            intake = Intake(
                self._session, engine.leases, source, self._follow.budgets, self._taken, self._broken, wishes
            )
            intake.start()
            self._intake = intake
        log(logging.INFO, "manifests are followed", source=str(origin or ""))

    def called(self, environ: WSGIEnvironment) -> Answer:
        """Somebody tells, from another thread, of a push: it is read at once by whichever controller reads it."""
        origin = self._follow.origin
        if not isinstance(origin, GitSettings):
            return answer(environ, None, lambda: None)
        return answer(environ, origin.webhook_secret, lambda: self._session.ledger.sources.call(origin.source))

    def _taken(self, errors: int, held: int) -> None:
        self._metrics.manifest_errors.set(errors)
        self._metrics.held_by_budget.set(held)
        self._runner.poke()

    def close(self) -> None:
        """Ends the following."""
        if self._intake is not None:
            self._intake.close()
            self._intake = None


def run(settings: Settings, *, manifests: Manifests, http: str, enter: Callable[[], None], version: str) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code. SIGHUP has ``manifests`` asked again, and all looked at.

    The HTTP socket is opened first, then ``enter`` is called (into another network namespace), then threads start.
    Raises SalvusError when it cannot begin, and StoreUnusable when the store turns out to be damaged: trying again does
    not help then, and somebody has to see it. A store that is away for a while is waited for.
    """
    listening = inherited_socket() or open_socket(http)
    enter()
    metrics, broken = Metrics(version), _Broken()
    # Threads inherit this: signals wait until the main thread takes them, and interrupt nothing (signal(7)).
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    with ExitStack() as ending, open_session(settings) as session:
        runner = session.runner(metrics)
        runner.broken = broken
        probes = VpnProbes(runner.engine, settings.vpn_probe_interval)
        metrics.watch(lambda: snapshot(runner, probes.found()))
        source = _Source(session, manifests, runner, metrics, broken)
        about = runner.engine.leases.about
        page = Http(listening, metrics, healthy=runner.healthy, ready=runner.ready, about=about, sync=source.called)
        page.start()
        ending.callback(page.stop)
        with ExitStack() as work:
            work.callback(runner.stop)
            work.callback(probes.stop)
            work.callback(source.close)
            source.reload()
            # Now that it is known which source is followed: the leases are asked for once.
            runner.start()
            probes.start()
            log(logging.INFO, "controller runs", http=page.address)
            notify("READY=1")
            _attend(runner, source)
            notify("STOPPING=1")
            log(logging.INFO, "stopping at the next safe points")
    log(logging.INFO, "stopped")
    if broken.error is not None:
        raise broken.error
    return 0


def _attend(runner: Runner, source: _Source) -> None:
    """Until it is to stop: tells the service manager that all is well while it is, and reloads when asked."""
    while True:
        came = signal.sigtimedwait(SIGNALS, watchdog_seconds() or IDLE)
        if came is not None and came.si_signo != signal.SIGHUP:
            # A second SIGTERM ends the process at once, a second SIGINT cuts what is waited for.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            return
        if came is not None:
            _reload(runner, source)
        if trouble := runner.healthy():
            log(logging.ERROR, "hangs; a service manager will start it anew", trouble=trouble)
        else:
            notify("WATCHDOG=1")


def _reload(runner: Runner, source: _Source) -> None:
    notify("RELOADING=1")
    try:
        source.reload()
    except SalvusError as error:
        log(logging.ERROR, "the configuration was not taken over; the old one stays", error=str(error))
    runner.look_at_all()
    log(logging.INFO, "reloaded; every machine is looked at")
    notify("READY=1")
