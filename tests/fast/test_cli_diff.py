"""diff on simulated machines: what is refused, and what the next sync of a directory would do."""

from __future__ import annotations

from dataclasses import replace

from salvusctl.exits import Code
from salvusctl.plan_outputs import Diff
from tests.fast.cli import HOST, IMAGE, Cli, cli
from tests.fast.domains import DOMAIN

__all__ = ["cli"]
HYPERVISOR = HOST.rstrip() + "\n  hypervisor: {}\n"
VM = """
apiVersion: salv.us/v1
kind: VirtualMachine
metadata: {name: web01}
spec: {image: debian12, rootDisk: {size: 2Gi}, runStrategy: Halted, interfaces: [{name: eth0, address: 192.0.2.100/24}]}
"""


def test_a_domain_that_is_not_ours_is_refused_in_the_plan_and_nothing_is_made_beside_it(cli: Cli) -> None:
    cli.machines.machine("alpha").put(replace(DOMAIN, domain="web01", owner_uid=""))
    path = cli.write(HYPERVISOR, IMAGE, VM)
    out = cli("diff", "-f", path, code=Code.DIFFERENT).out
    assert (
        "  ! VirtualMachine/web01 is refused: Domain:web01: there is a domain web01 already, and it was not made by "
        "salvus: it is left alone; rename one of the two"
    ) in out
    assert "Domain:web01   update" not in out
    assert "Volume:" not in out
    assert out.endswith("to create, 0 to update, 0 to delete; 1 resource refused.\n")
    found = Diff.model_validate_json(cli("diff", "-f", path, "-o", "json", code=Code.DIFFERENT).out)
    assert found.totals.refused == 1
    assert {held.reason for held in found.machines[0].held} == {"Stalled"}
    cli("apply", "-f", path, "--timeout", "5", code=Code.DIFFERENT)
    items = cli.machines.machine("alpha").items
    assert items["Domain:web01"]["owner"] == ""
    assert not any(key.startswith(("Volume:", "Seed:", "HostKey:")) for key in items)
    assert "Stalled: Domain:web01: there is a domain web01 already" in cli("why", "web01").out
