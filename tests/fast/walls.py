"""A fleet of simulated machines with firewalls, and controllers whose steps are made by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from controller.members import shard_of
from controller.store.records import Condition
from controller.view import View
from drivers.base import RolledBack
from drivers.items import nft_text
from drivers.items.nft_table import NftTable
from drivers.items.ufw_rules import UfwRules
from tests.fast.desk import Desk
from tests.fast.manifests import KEY

SSHD = "/etc/ssh/sshd_config.d/50-x.conf"
TABLE, UFW = "NftTable:salvus", "UfwRules:salvus"


def host(name: str, role: str = "all") -> str:
    return f"""
apiVersion: salv.us/v1
kind: Host
metadata: {{name: {name}, labels: {{role: {role}, name: {name}}}}}
spec: {{address: 198.51.100.{sum(name.encode()) % 250 + 1}, ssh: {{hostKeys: ["{KEY}"]}}}}
"""


def wall(port: int, name: str = "base", machines: str = "{selector: {}}", most: str = "25%", more: str = "") -> str:
    """A Firewall of which another port makes another revision."""
    return f"""
apiVersion: salv.us/v1
kind: Firewall
metadata: {{name: {name}}}
spec: {{machines: {machines}, rollout: {{maxParallel: {most}}}, ingress: [{{name: x, ports: [{port}]}}]{more}}}
"""


def sshd(content: str, most: str = "25%", more: str = "", path: str = SSHD) -> str:
    """A Service with a file of sshd."""
    return f"""
apiVersion: salv.us/v1
kind: Service
metadata: {{name: sshd}}
spec:
  machines: {{selector: {{}}}}
  unitName: ssh.service
  rollout: {{maxParallel: {most}}}
  files: [{{path: {path}, content: "{content}", onChange: reload}}{more}]
"""


class Walls(Desk):
    """With as many controllers as are wanted."""

    def __init__(self, folder: Path, controllers: int = 1) -> None:
        super().__init__(folder)
        self.engines = [self.engine, *(self.controller() for _ in range(controllers - 1))]

    def another_controller(self) -> None:
        """Who worked is gone, and another one begins."""
        for engine in self.engines:
            engine.leases.release_all()
        self.engines = [self.controller()]

    def settle(self) -> None:
        """All controllers read the store; one decides."""
        for _ in range(2 * len(self.engines)):
            for engine in self.engines:
                engine.leases.tick()
                engine.refresh()
                while engine.fleet_pass():
                    engine.refresh()

    def visit(self, *names: str) -> None:
        """A pass over each machine, by whoever has it; nobody decides in between."""
        for name in names:
            for engine in self.engines:
                if engine.leases.open(shard_of(name)):
                    engine.machine_pass(name, lambda: False)

    def rounds(self, *names: str, most: int = 40) -> None:
        """Passes over all of these until nothing changes any more."""
        before: object = None
        for _ in range(most):
            self.settle()
            self.visit(*names)
            now = (self.fleet.writes, self.session.knowledge().known.facts)
            if now == before:
                return
            before = now
        raise AssertionError(f"it never rests: {self.said(*names)}")

    def rules(self, name: str) -> str:
        """The rules that are in force on the machine."""
        return str(self.fleet.machine(name).items.get(TABLE, {}).get("rules", ""))

    def with_port(self, port: int, *names: str) -> list[str]:
        """On which of these the rules have the port."""
        return [name for name in names if f"dport {{ {port} }}" in self.rules(name)]

    def put_back(self, *names: str, item: str = TABLE) -> None:
        """From now on the machines put back what they are told."""
        for name in names:
            self.fleet.machine(name).faults.refuses[item] = RolledBack("nobody could log in anew")

    def note(self, *names: str, item: str = TABLE) -> None:
        """They have the note that what is wanted there now was put back."""
        at, view = self.session.knowledge(), View()
        view.update(at.fleet, at.known, [f"resource/{ref}" for ref in at.rows])
        for name in names:
            wanted = next(one.item for one in view.lowered(name).wanted if one.key == item)
            assert isinstance(wanted, NftTable | UfwRules)
            self.fleet.machine(name).alter(item, refused=f"{nft_text.attempt(wanted.rules)} 1800000000")

    def mended(self, *names: str) -> None:
        """They take what they are told again."""
        for name in names:
            self.fleet.machine(name).faults.refuses.clear()

    def silent(self, name: str, now: bool) -> None:
        self.fleet.machine(name).faults.unreachable = now

    def said(self, *names: str, ref: str = "Firewall/base") -> Mapping[str, Condition]:
        """What the machines say of the resource."""
        statuses = self.session.knowledge().statuses.get(ref, {})
        return {name: one for name in names if name in statuses for one in _synced(statuses[name].conditions)}


def _synced(conditions: tuple[Condition, ...]) -> Iterator[Condition]:
    return (one for one in conditions if one.type == "Synced")


NAMES = tuple(f"web{number}" for number in range(1, 9))
HOSTS = tuple(map(host, NAMES))


@pytest.fixture
def walls(tmp_path: Path) -> Walls:
    """Eight machines with port 1 in force."""
    made = Walls(tmp_path)
    made.put(*HOSTS, wall(1))
    made.rounds(*NAMES)
    assert made.with_port(1, *NAMES) == list(NAMES)
    return made
