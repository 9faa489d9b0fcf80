"""Running salvusctl in tests: in this process, on a store of its own, on simulated machines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import controller.connect
from drivers.simulated import SimulatedFleet
from salvusctl.app import app
from tests.fast.manifests import DIGEST, KEY

HOST = f"""
apiVersion: salv.us/v1
kind: Host
metadata: {{name: alpha, labels: {{role: kvm}}}}
spec:
  address: 192.0.2.1
  ssh: {{hostKeys: ["{KEY}"]}}
"""
OTHER = HOST.replace("alpha", "beta").replace("kvm", "old").replace("192.0.2.1", "192.0.2.2")
IMAGE = f"""
apiVersion: salv.us/v1
kind: Image
metadata: {{name: debian12}}
spec: {{source: /srv/debian12.qcow2, sha256: {DIGEST}}}
"""
SERVICE = """
apiVersion: salv.us/v1
kind: Service
metadata: {name: hello}
spec:
  machines: {names: [alpha]}
  files: [{path: /etc/hello.conf, content: "hello\\n"}]
"""
NET = """
apiVersion: salv.us/v1
kind: VPN
metadata: {name: net}
spec: {driver: wireguard, cidr: 10.1.0.0/24, members: {selector: {}}, hubs: {names: [alpha]}}
"""
LAPTOP = """
apiVersion: salv.us/v1
kind: VPNNode
metadata: {name: laptop}
spec: {vpn: net, publicKey: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=}
"""


# salvusctl in a process of its own, on simulated machines of its own, of which beta cannot be reached.
SIMULATED = """
import sys
import controller.connect
from drivers.simulated import SimulatedFleet
fleet = SimulatedFleet()
fleet.machine("beta").faults.unreachable = True
controller.connect.real = lambda identity_files=(): fleet.connect
from salvusctl.__main__ import main
main()
"""


@dataclass(frozen=True)
class Answer:
    """What a command ended with and wrote."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Its stdout as JSON."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """Its stdout, without the space between columns."""
        return [" ".join(line.split()) for line in self.out.splitlines()]


@dataclass
class Cli:
    """salvusctl with a store in ``folder``; ``machines`` are what it reaches."""

    folder: Path
    machines: SimulatedFleet = field(default_factory=SimulatedFleet)

    @property
    def store(self) -> Path:
        return self.folder / "store.db"

    def write(self, *documents: str, name: str = "fleet.yaml") -> str:
        path = self.folder / name
        path.write_text("---".join(documents))
        return str(path)

    def __call__(self, *words: str, code: int | None = 0, stdin: str | None = None) -> Answer:
        """Runs a command; fails unless it ends with the code (None: any)."""
        result = CliRunner().invoke(app, [*words], input=stdin, prog_name="salvusctl")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        answer = Answer(result.exit_code, result.stdout, result.stderr)
        assert code is None or answer.code == code, answer
        return answer


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """salvusctl in an empty folder, without any configuration but a store of its own."""
    made = Cli(tmp_path)
    monkeypatch.setattr(controller.connect, "real", lambda identity_files=(): made.machines.connect)
    monkeypatch.setenv("SALVUS_CONFIG", str(tmp_path / "config.yaml"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "dumb")
    (tmp_path / "config.yaml").write_text("contexts: [{name: test, store: {sqlite: store.db}}]\n")
    monkeypatch.chdir(tmp_path)
    return made
