"""Random kills, from a seed: of controllers, Cassandra nodes and hosts, while the manifests go on changing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from lab import breakage, cgroup, hosts
from tests.lab.fleet import blank_vm
from tests.lab.ha import HOSTS, HaFleet

# What is killed how often: controllers are to be the most.
KINDS = ("controller", "controller", "controller", "host", "node")


class Chaos:
    """See the module. What was killed comes back after a while; of three nodes, one at a time is dead."""

    def __init__(self, fleet: HaFleet, seed: int) -> None:
        self._fleet = fleet
        self._random = random.Random(seed)
        self._back: list[tuple[float, Callable[[], object]]] = []
        self._down: set[str] = set()
        self._killed: list[str] = []

    def run(self, kills: int) -> None:
        """So many kills, each followed by a push."""
        for number in range(kills):
            self._kill()
            self._change(number)
            time.sleep(self._random.uniform(1, 6))
            self._restore(time.monotonic())

    def end(self) -> None:
        """Brings all back that is down."""
        self._restore(float("inf"))

    def story(self) -> str:
        """What was killed, in order."""
        return ", ".join(self._killed)

    def _kill(self) -> None:
        kind = ""
        victims: list[str] = []
        while not victims:
            kind = self._random.choice(KINDS)
            victims = self._victims(kind)
        victim = self._random.choice(victims)
        self._killed.append(victim)
        back: Callable[[], object] = self._fleet.launch
        if kind == "controller":
            self._fleet.end(self._fleet.controllers[victim])
        else:
            cgroup.group(self._fleet.lab.namespace, victim).kill()
            self._down.add(victim)

            def back() -> None:
                self._start(kind, victim)

        self._back.append((time.monotonic() + self._random.uniform(1, 12), back))

    def _victims(self, kind: str) -> list[str]:
        if kind == "controller":
            return sorted(self._fleet.controllers)
        if kind == "host":
            return [host for host in HOSTS if host not in self._down]
        nodes = [node.name for node in self._fleet.lab.nodes]
        return [] if self._down & set(nodes) else nodes

    def _start(self, kind: str, name: str) -> None:
        lab = self._fleet.lab
        if kind == "node":
            breakage.start_node(lab, lab.node(name)[1])
        else:
            hosts.start(lab, lab.host(name))
            hosts.wait(lab, lab.host(name))
        self._down.discard(name)

    def _restore(self, now: float) -> None:
        due = [back for at, back in self._back if at <= now]
        self._back = [(at, back) for at, back in self._back if at > now]
        for back in due:
            back()

    def _change(self, number: int) -> None:
        self._fleet.tally(f"chaos{number}")
        # On the host of its number, always: a machine does not move.
        host = self._random.randrange(len(HOSTS))
        name = f"chaos{host}"
        manifest = self._fleet.manifests / f"{name}.yaml"
        if manifest.exists():
            manifest.unlink()
        else:
            self._fleet.write(name, blank_vm(name, HOSTS[host]))
        self._fleet.push()
