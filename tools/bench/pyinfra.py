"""pyinfra as it comes: as many machines at once as it likes, a new process and new connections a run."""

from __future__ import annotations

import json
from pathlib import Path

from tools.bench import venv
from tools.bench.measure import Cost, cost_of, in_namespace
from tools.bench.work import Work

_INVENTORY = """\
import json, pathlib
everything = [tuple(host) for host in json.loads(pathlib.Path("inventory.json").read_text())]
"""
_DEPLOY = """\
from io import StringIO
from pyinfra import host
from pyinfra.operations import files, systemd
for path, content in host.data.files:
    files.put(src=StringIO(content), dest=path, mode="644")
systemd.service(service=host.data.unit, running=True)
"""


class Pyinfra:
    """See the module."""

    name = "pyinfra"

    def __init__(self, work: Work, folder: Path) -> None:
        self._folder = folder
        self._environment = venv.environment(folder)
        (folder / "inventory.json").write_text(json.dumps(_inventory(work)))
        (folder / "inventory.py").write_text(_INVENTORY)
        (folder / "deploy.py").write_text(_DEPLOY)
        program = str(venv.programs() / "pyinfra")
        self._argv = in_namespace(work.access.namespace, [program, "--yes", "inventory.py", "deploy.py"])

    def run(self) -> Cost:
        """One run of the deploy."""
        return cost_of(self._argv, self._folder, self._environment)

    def close(self) -> None:
        """It keeps nothing open."""


def _inventory(work: Work) -> list[tuple[str, dict[str, object]]]:
    access = work.access
    return [
        (
            endpoint.name,
            {
                "ssh_hostname": endpoint.address,
                "ssh_port": endpoint.port,
                "ssh_user": "root",
                "ssh_key": str(access.identity_file),
                "ssh_known_hosts_file": str(access.known_hosts),
                "ssh_strict_host_key_checking": "yes",
                "unit": endpoint.unit,
                "files": list(work.files(endpoint)),
            },
        )
        for endpoint in work.endpoints
    ]
