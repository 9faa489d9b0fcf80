"""What a packet filter of many rules costs where there is nothing to do, over real sshds.

``python -m tools.bench.filtered [NODES]``, as root. Sixty-four networks on one host of the lab, each with a real sshd
and a real nft, have the work of the skeleton's benchmark (a file and a unit), without a Firewall and with one of 500
rules about them all: a pass over all of them, in one run. The machines' CPU is that of the host, sshd and the probes.
Nothing fails on a clock.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.progress import Progress, on_terminal
from tools.bench.endpoints import Machines, machines
from tools.bench.measure import Cost, repeated
from tools.bench.salvus import SalvusDaemon

NODES, ITEMS, RULES = 64, 2, 500


@dataclass(frozen=True, slots=True)
class Idle:
    """A pass over all machines with nothing to do: seconds, ``machines`` of the CPU of them all."""

    controller: Cost
    machines: float


def firewall(rules: int) -> Mapping[str, Any]:
    """So many rules on all machines, each about all machines."""
    everybody: dict[str, Any] = {"selector": {}}
    ingress = [
        {"name": f"r{number}", "ports": [1000 + number], "from": [{"machines": everybody}]} for number in range(rules)
    ]
    spec = {"machines": everybody, "ingress": ingress, "rollout": {"maxParallel": 8}}
    return {"apiVersion": "salv.us/v1", "kind": "Firewall", "metadata": {"name": "all"}, "spec": spec}


def idle(there: Machines, rules: int, scratch: Path, progress: Progress) -> Idle:
    """What passes cost once everything is there. RuntimeError when they wrote something."""
    more = (firewall(rules),) if rules else ()
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        progress(f"{rules} rules")
        tool = SalvusDaemon(there.work(len(there.endpoints), ITEMS), Path(folder), more)
        spent = []

        def run() -> Cost:
            before = there.cpu()
            cost = tool.run()
            spent.append(there.cpu() - before)
            return cost

        try:
            tool.run()
            tool.run()
            before = there.look()
            controller = repeated(run)
        finally:
            tool.close()
        if written := sorted(there.look() ^ before):
            raise RuntimeError(f"a pass wrote though there was nothing to do: {'; '.join(written)}")
        return Idle(controller, sum(spent) / len(spent))


def main() -> None:
    """See the module."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("nodes", nargs="?", type=int, default=NODES)
    nodes: int = arguments.parse_args().nodes
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="salvus-bench-")))
        progress = stack.enter_context(on_terminal())
        there = stack.enter_context(machines(nodes, scratch, progress, apart=True))
        base, walled = (idle(there, rules, scratch, progress) for rules in (0, RULES))
    print(f"a pass over {nodes} real machines with nothing to do, a machine: ms of CPU, and of the wall")
    for what, one in (("without a Firewall", base), (f"with {RULES} rules", walled)):
        cpu, wall, theirs = (1000 * s / nodes for s in (one.controller.cpu, one.controller.wall, one.machines))
        print(f"{what:24} controller {cpu:6.2f}  the machine {theirs:6.1f}  wall {wall:6.1f}")
    print(f"{'ratio':24} controller {walled.controller.cpu / base.controller.cpu:6.2f}", end="")
    print(f"  the machine {walled.machines / base.machines:6.1f}", end="")
    print(f"  wall {walled.controller.wall / base.controller.wall:6.1f}")


if __name__ == "__main__":
    main()
