"""salvus as the daemon runs it, made to tell what each round over all machines cost.

Reads a line from standard input for every further round; prints a line of JSON after each.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from pathlib import Path

from controller.metrics import Metrics
from controller.reconcile import Outcome
from controller.runner import Runner
from controller.session import Settings, open_session
from resources.load import load

# Many packet filters, each on trial, take more than a minute.
_LONGEST = 300.0
_NO_RESYNC = 3600.0


class _Round:
    """Waits until every machine's pass has ended well since the round began."""

    def __init__(self) -> None:
        self._missing: set[str] = set()
        self._last: dict[str, str] = {}
        self._ended = threading.Condition()

    def begin(self, machines: set[str]) -> None:
        """From now on they count."""
        with self._ended:
            self._missing = set(machines)

    def ended(self, outcome: Outcome) -> None:
        """Called by the runner after each pass."""
        with self._ended:
            self._last[outcome.machine] = outcome.result
            if outcome.result in ("synced", "changed"):
                self._missing.discard(outcome.machine)
                self._ended.notify()

    def wait(self) -> None:
        """Raises RuntimeError when machines are missing for too long."""
        with self._ended:
            if not self._ended.wait_for(lambda: not self._missing, _LONGEST):
                raise RuntimeError(f"no good pass: {[(name, self._last.get(name)) for name in self._missing]}")


def main(folder: Path) -> None:
    """The first round includes everything from the start of the process on: manifests, store, connections."""
    loaded = load([folder / "manifests.yaml"])
    if loaded.errors:
        raise RuntimeError("\n".join(map(str, loaded.errors)))
    names = {resource.name for resource in loaded.fleet.machines()}
    round_ = _Round()
    with open_session(Settings(folder / "store.db", resync=_NO_RESYNC)) as session:
        session.put(loaded)
        runner = session.runner(Metrics("bench"), ended=round_.ended)
        round_.begin(names)
        runner.start()
        try:
            _tell(round_, cpu=0.0, begin=time.perf_counter())
            for _ in sys.stdin:
                _again(runner, round_, names)
        finally:
            runner.stop()


def _again(runner: Runner, round_: _Round, names: set[str]) -> None:
    cpu, begin = _cpu(), time.perf_counter()
    round_.begin(names)
    for name in names:
        runner.queue.add(name)
    _tell(round_, cpu, begin)


def _tell(round_: _Round, cpu: float, begin: float) -> None:
    round_.wait()
    print(json.dumps({"wall": time.perf_counter() - begin, "cpu": _cpu() - cpu}), flush=True)


def _cpu() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
