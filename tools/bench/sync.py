"""What it costs to take manifests over: all of them, none, three of them.

``python -m tools.bench.sync [NUMBER]`` makes that many resources (10,000 by default) on a hundred simulated hosts,
which a controller brings about, and prints CPU seconds as one line of JSON: of the sync alone, not of reading the files
(tools.bench.load). Three changes are to cost what follows from three. It asserts nothing: a slow machine is no defect.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from controller.session import Session, Settings
from controller.sources.base import Reading
from controller.store.memory import MemoryStore
from controller.sync import Sync
from drivers.simulated import SimulatedFleet
from resources.load import LoadCache, load_files
from resources.manifest_files import ManifestFile
from tools.bench.fleet import KEY, controller, settle
from tools.bench.load import HOSTS, manifest

SOURCE = "directory:/srv/fleet"
CHANGED = 3
ROUNDS = 3


def manifests(number: int, version: int) -> Iterator[ManifestFile]:
    """A hundred hosts, and services of one host each; the first few are of the version."""
    for n in range(HOSTS):
        yield _file("Host", f"host{n:03}", f"address: 192.0.2.{n}\n  ssh: {{hostKeys: [{KEY}]}}")
    for n in range(number - HOSTS):
        text = f"port = {n}, {version if n < CHANGED else 0}\\n"
        spec = (
            f"machines: {{names: [host{n % HOSTS:03}]}}\n  files:\n  - {{path: /etc/hub/{n}.conf, content: '{text}'}}"
        )
        yield _file("Service", f"hub{n:05}", f"{spec}\n  command: /bin/hub {n}")


def _file(kind: str, name: str, spec: str) -> ManifestFile:
    file, text = manifest(kind, name, spec)
    return ManifestFile(file, file, text.encode())


class Bench:
    """A source, and a controller that has brought about what it says."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._cache = LoadCache()
        fleet = SimulatedFleet()
        self.session = Session(MemoryStore(), Settings(Path("unused")), fleet.connect)
        self._sync = Sync(self.session, SOURCE)
        self._engine = controller(self.session.ledger, fleet)

    def _reading(self, version: int) -> Reading:
        loaded = load_files(manifests(self._number, version), self._cache)
        if not loaded.ok:
            raise SystemExit("\n".join(map(str, loaded.errors[:5])))
        return Reading(loaded)

    def sync(self, version: int) -> float:
        """CPU seconds that one sync takes."""
        reading = self._reading(version)
        begin = time.process_time()
        self._sync.once(reading)
        return time.process_time() - begin

    def settle(self) -> None:
        """Everything is brought about."""
        settle(self._engine)

    def close(self) -> None:
        """Ends the controller."""
        self._engine.close()


def measured(number: int) -> dict[str, float]:
    """CPU seconds of each, the best of a few rounds of the last two."""
    bench = Bench(number)
    first = bench.sync(0)
    bench.settle()
    # The first look at what a change would disturb works out what every machine wants, once for all.
    foreseen = bench.sync(1)
    bench.settle()
    unchanged = min(bench.sync(1) for _ in range(ROUNDS))
    changed = min(bench.sync(version) for version in range(2, 2 + ROUNDS))
    bench.close()
    return {
        "resources": number,
        "first_seconds": round(first, 3),
        "first_change_seconds": round(foreseen, 3),
        "unchanged_seconds": round(unchanged, 3),
        "three_changed_seconds": round(changed, 3),
    }


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)))
