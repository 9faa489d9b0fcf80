"""salvus in two ways: a new process a run, which has but its store, and the daemon, which keeps its connections."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.bench import venv
from tools.bench.measure import Cost, cost_of, in_namespace
from tools.bench.work import Endpoint, Work

_ROOT = Path(__file__).parents[2]


def _prepared(work: Work, folder: Path, more: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """Writes the manifests; the worker's command line."""
    documents = [document for endpoint in work.endpoints for document in _manifests(work, endpoint)]
    (folder / "manifests.yaml").write_text("\n---\n".join(map(json.dumps, (*documents, *more))))
    return in_namespace(work.access.namespace, [sys.executable, "-m", "tools.bench.worker", str(folder)])


def _manifests(work: Work, endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    access = work.access
    ssh = {"port": endpoint.port, "hostKeys": [access.host_key], "identityFiles": [str(access.identity_file)]}
    files = [{"path": path, "content": content, "onChange": "none"} for path, content in work.files(endpoint)]
    service = {
        "machines": {"names": [endpoint.name]},
        "files": files,
        "unitName": endpoint.unit,
        "enabled": False,
    }
    for kind, spec in (("Host", {"address": endpoint.address, "ssh": ssh}), ("Service", service)):
        yield {"apiVersion": "salv.us/v1", "kind": kind, "metadata": {"name": endpoint.name}, "spec": spec}


class SalvusOnce:
    """A new process a run."""

    name = "salvus once"

    def __init__(self, work: Work, folder: Path) -> None:
        self._argv = _prepared(work, folder)
        self._folder = folder

    def run(self) -> Cost:
        """From the start of the process to its end."""
        return cost_of(self._argv, self._folder, venv.environment(self._folder) | {"PYTHONPATH": str(_ROOT)})

    def close(self) -> None:
        """It keeps nothing open."""


class SalvusDaemon:
    """One process for all runs. ``more`` is what else is in its manifests."""

    name = "salvus daemon"

    def __init__(self, work: Work, folder: Path, more: Sequence[Mapping[str, Any]] = ()) -> None:
        argv = _prepared(work, folder, more)
        self._log = folder / "log"
        self._begin = time.perf_counter()
        with self._log.open("wb") as log:
            self._worker = subprocess.Popen(
                argv, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._ran = False

    def run(self) -> Cost:
        """One pass over all machines; the first from the start of the process on."""
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        if self._ran:
            self._worker.stdin.write("again\n")
            self._worker.stdin.flush()
        answer = self._worker.stdout.readline()
        if not answer:
            raise RuntimeError(f"salvus ended with {self._worker.wait()}:\n{self._log.read_text()[-3000:]}")
        cost = Cost(**json.loads(answer))
        if not self._ran:
            self._ran = True
            cost = Cost(time.perf_counter() - self._begin, cost.cpu)
        return cost

    def close(self) -> None:
        """Ends the process in good order."""
        self._worker.communicate(timeout=30)
