"""Asks machines now and then whom they reach in their VPNs, beside the passes; keeps the last answers, for metrics."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from controller.engine import Engine
from controller.knowledge import Knowledge
from controller.log import LOGGER, log
from controller.members import shard_of
from controller.vpn_reach import Probed, question, reached
from drivers.base import Present, Unknown
from resources.vpn_nodes import everybody
from resources.vpn_turn import on
from resources.world import ALL

if TYPE_CHECKING:
    from resources.vpn_nodes import Node, Vpn

    Nodes = tuple[tuple[Vpn, tuple[Node, ...]], ...]

# Machines that are asked at the same time: each takes a moment, or some seconds where somebody does not answer.
AT_ONCE = 4
# Seconds after which is looked again whether there is anybody to ask.
IDLE = 1.0
_CHANCE = secrets.SystemRandom()


class VpnProbes:
    """Once in ``interval`` seconds (0: never) each machine of the engine is asked, in one round trip for all its VPNs.

    They take turns, with gaps that are equal but for chance; when they cannot keep up, a round takes longer. Nothing
    is changed: what is paused is asked, too, as passes look at it.
    """

    def __init__(self, engine: Engine, interval: float) -> None:
        self._engine = engine
        self._interval = interval
        self._read: tuple[Knowledge, Nodes] | None = None
        self._found: dict[str, Mapping[str, Probed]] = {}
        self._silent: set[str] = set()
        self._under_way: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vpn-probes")
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="vpn-probe")

    def start(self) -> None:
        """Begins, unless it is never to ask."""
        if self._interval > 0:
            self._thread.start()

    def stop(self) -> None:
        """Nobody is asked any more. Who is asked at the moment is not waited for: closing the engine ends that."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def found(self) -> Mapping[tuple[str, str], Probed]:
        """(VPN, machine) → what the machine said last."""
        found = dict(self._found)
        return {(vpn, machine): probed for machine, by_vpn in found.items() for vpn, probed in by_vpn.items()}

    def probe(self, machine: str) -> None:
        """Asks one machine. What it said before counts no more, also when it says nothing now."""
        world = self._engine.knowledge.world()
        asked = [
            (vpn.name, me, nodes, question(on(vpn, machine, world), me, nodes))
            for vpn, nodes in self._nodes()
            for me in nodes
            if me.machine and me.name == machine
        ]
        said = self._engine.ask(machine, [item for *_, item in asked])
        now, found, why = time.time(), dict[str, Probed](), ""
        for vpn, me, nodes, item in asked:
            observation = said.get(item.key)
            if observation is not None and isinstance(observation.state, Present):
                found[vpn] = Probed(now, tuple(reached(me, nodes, observation.state)))
            elif observation is not None and isinstance(observation.state, Unknown):
                why = observation.state.reason
        self._found[machine] = found
        if why and machine not in self._silent:
            log(logging.WARNING, "it cannot be asked whom it reaches in its VPNs", machine=machine, error=why)
        (self._silent.add if why else self._silent.discard)(machine)

    def _nodes(self) -> Nodes:
        """Worked out anew when something changed in the store."""
        knowledge, read = self._engine.knowledge, self._read
        if read is None or read[0] is not knowledge:
            world = knowledge.world()
            read = self._read = knowledge, tuple((vpn, everybody(vpn, world)) for vpn in world.select("VPN", ALL))
        return read[1]

    def _ours(self) -> list[str]:
        held = self._engine.leases.held()
        names = {node.name for _, nodes in self._nodes() for node in nodes if node.machine}
        return sorted(name for name in names if shard_of(name) in held)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._round()
            except Exception:  # the next round is to be made
                LOGGER.exception("a defect; please report it")
                self._stop.wait(IDLE)

    def _round(self) -> None:
        ours = self._ours()
        for gone in set(self._found) - set(ours):
            del self._found[gone]
            self._silent.discard(gone)
        if not ours:
            self._stop.wait(IDLE)
        for machine in ours:
            if self._stop.wait(self._interval / len(ours) * _CHANCE.uniform(0.5, 1.5)):
                return
            if machine not in self._under_way:
                self._under_way.add(machine)
                self._pool.submit(self._try, machine)

    def _try(self, machine: str) -> None:
        try:
            self.probe(machine)
        except Exception:  # the next machine is to be asked
            LOGGER.exception("a defect; please report it", extra={"salvus": {"machine": machine}})
        self._under_way.discard(machine)
