"""VPNs on a fleet of the lab: manifests of them, and who reaches whom on the machines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import count, takewhile
from typing import Any

from lab import ssh_argv
from lab.run import run
from tests.lab.fleet import Fleet, eventually, resource

DRIVERS = ("tinc", "wireguard")
KEEPALIVE = 3
HOSTS = ("host1", "host2", "host3")

_UNREACHED = 'for one; do (ping -q -c 1 -W 2 "$one" >/dev/null 2>&1 || echo "$one") & done; wait'


def unit(driver: str, name: str = "net") -> str:
    return f"tinc@{name}.service" if driver == "tinc" else f"salvus-vpn-{name}.service"


def network(driver: str, *members: str, name: str = "net", cidr: str = "10.77.0.0/24", **spec: Any) -> dict[str, Any]:
    """A VPN of these machines, of which the first is the hub."""
    base: dict[str, Any] = {"driver": driver, "cidr": cidr, "members": {"names": list(members)}}
    return resource("VPN", name, base | {"hubs": {"names": [members[0]]}, "keepalive": f"{KEEPALIVE}s"} | spec)


def in_force(fleet: Fleet, *documents: dict[str, Any]) -> bool:
    """Whether the controllers have just these VPNs and VPNNodes."""
    wanted = {f"{one['kind']}/{one['metadata']['name']}": one["spec"] for one in documents}
    rows = fleet.knowledge().rows
    return {ref: row.document["spec"] for ref, row in rows.items() if ref.startswith("VPN")} == wanted


def write(fleet: Fleet, *documents: dict[str, Any]) -> None:
    """Replaces all VPNs and VPNNodes, and waits until these are in force."""
    fleet.write("vpn", *documents)
    assert eventually(lambda: in_force(fleet, *documents)), fleet.log()


def change(fleet: Fleet, *documents: dict[str, Any]) -> None:
    """As ``write``; then waits until all machines are as the manifests say."""
    write(fleet, *documents)
    fleet.settle(*(f"VPN/{one['metadata']['name']}" for one in documents if one["kind"] == "VPN"), timeout=90)
    # What the last node that went has changed on others is no new generation of the VPN.
    assert eventually(lambda: fleet.run("diff").returncode == 0), fleet.log()


def address(fleet: Fleet, machine: str, name: str = "net") -> str:
    """Its address in the VPN, which was chosen."""
    return fleet.knowledge().known.allocations[f"VPN/{name}", f"address/{machine}"]


def inside(fleet: Fleet, machine: str, command: str) -> str:
    """Runs a shell command on a host, past network and salvus; or in the fleet's guest, by ssh."""
    if machine in {host.name for host in fleet.lab.hosts}:
        return fleet.inside(machine, command)
    (nic, *_) = fleet.manifest(f"VirtualMachine/{machine}")["spec"]["interfaces"]
    return run([*ssh_argv(fleet.lab, nic["address"].partition("/")[0]), command])


def unreached(fleet: Fleet, machine: str, targets: Iterable[str]) -> set[str]:
    """Of these addresses and names those that do not answer to it."""
    script = shlex.join(["sh", "-c", _UNREACHED, "sh", *targets])
    return set(inside(fleet, machine, script).split())


def _all_answer(fleet: Fleet, machine: str, targets: Iterable[str]) -> bool:
    return not unreached(fleet, machine, targets)


def all_reach_all(fleet: Fleet, machines: Sequence[str], name: str = "net", timeout: float = 30) -> None:
    """By address and by name; and the names are those of the addresses."""
    known = {one: address(fleet, one, name) for one in machines}
    for one in machines:
        others = {other: known[other] for other in machines if other != one}
        targets = (*others, *others.values())
        assert eventually(partial(_all_answer, fleet, one, targets), timeout), (
            f"{one} does not reach {unreached(fleet, one, targets)}\n"
            + inside(fleet, one, "journalctl -n 30 --no-pager")
        )
        for other, at in others.items():
            assert at in inside(fleet, one, f"getent ahosts {other}").split()


class Pings:
    """Pings beside a test, ten a second."""

    def __init__(self, fleet: Fleet, host: str, target: str) -> None:
        self._fleet, self._host, self._file = fleet, host, f"/run/pings-{target}"
        # It ends by itself after the longest test, too; with -w it would when an address is unreachable for a moment.
        fleet.inside(host, f"ping -i 0.1 -c 1200 {target} >{self._file} 2>&1 & echo $! >{self._file}.pid")

    def end(self) -> tuple[int, set[int]]:
        """Ends them: how many were answered, and which were not, of those before the last answer."""
        told = self._fleet.inside(self._host, f'kill -INT "$(cat {self._file}.pid)"; sleep 0.3; cat {self._file}')
        answered = set(map(int, re.findall(r"icmp_seq=(\d+) ttl", told)))
        assert answered, told
        return len(answered), set(range(1, max(answered))) - answered


def longest(lost: set[int]) -> int:
    """The most that were lost one after the other."""
    return max((sum(1 for _ in takewhile(lost.__contains__, count(one))) for one in lost), default=0)


def started(fleet: Fleet, driver: str, host: str, name: str = "net") -> str:
    """Another one after each start of the VPN's unit."""
    return fleet.inside(host, f"systemctl show --value -p InvocationID {unit(driver, name)}")


def journals(fleet: Fleet, *machines: str) -> str:
    """What happened on those between whom nothing is to be lost."""
    return "\n".join(fleet.inside(one, "journalctl -n 60 --no-pager -o short-precise") for one in machines)
