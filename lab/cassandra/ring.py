"""Some nodes: their folders, their start and their end. A node's folder holds cassandra.yaml, its data, and node.log.

All nodes are seeds and have their tokens given, so they may start at once, and each has an equal part.
"""

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from lab import cgroup
from lab.model import LabError, Node, Ring
from lab.run import environment

PORT = 9042
_TOKENS = 4  # a node
_HERE = Path(__file__).parent


def plan(
    group: str,
    folder: Path,
    jars: Path,
    *,
    namespace: str = "",
    network: str = "127.0.0",
    datacenters: tuple[int, ...],
    more: Mapping[str, object] = MappingProxyType({}),
) -> Ring:
    """A ring of so many nodes in each data centre (dc1, dc2 …), on addresses .1, .2 … of a loopback network; their
    folders are written, nothing runs yet. ``more`` is set in each cassandra.yaml.
    """
    places = [f"dc{number}" for number, count in enumerate(datacenters, 1) for _ in range(count)]
    nodes = tuple(Node(f"cassandra{n}", f"{network}.{n}", place) for n, place in enumerate(places, 1))
    ring = Ring(group, namespace, str(folder), str(jars), nodes)
    for number, node in enumerate(nodes):
        _write(ring, node, number, more)
    return ring


def _write(ring: Ring, node: Node, number: int, more: Mapping[str, object]) -> None:
    """cassandra.yaml and cassandra-rackdc.properties; JSON is YAML."""
    folder = Path(ring.folder) / node.name
    folder.mkdir(parents=True)
    step, nodes = 2**64 // (_TOKENS * len(ring.nodes)), len(ring.nodes)
    own = {
        "num_tokens": _TOKENS,
        "initial_token": ",".join(str(step * (part * nodes + number) - 2**63) for part in range(_TOKENS)),
        "listen_address": node.address,
        "rpc_address": node.address,
        "native_transport_port": PORT,
        "seed_provider": [
            {
                "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                "parameters": [{"seeds": ",".join(each.address for each in ring.nodes)}],
            }
        ],
    }
    lines = "".join(f"{name}: {json.dumps(value)}\n" for name, value in (own | dict(more)).items())
    (folder / "cassandra.yaml").write_text((_HERE / "cassandra.yaml").read_text() + lines)
    (folder / "cassandra-rackdc.properties").write_text(f"dc={node.datacenter}\nrack=rack1\n")


def up(ring: Ring) -> None:
    """Starts all nodes, and waits until each takes clients and knows the others. Raises LabError."""
    for node in ring.nodes:
        start(ring, node)
    for node in ring.nodes:
        wait(ring, node)


def start(ring: Ring, node: Node) -> None:
    """Starts a node, detached: it lives on when this process ends. Does not wait for it."""
    group = cgroup.group(ring.group, node.name)
    group.create()
    inside = ["nsenter", f"--net=/run/netns/{ring.namespace}"] if ring.namespace else []
    folder = Path(ring.folder) / node.name
    arguments = [str(_HERE / "node.sh"), str(folder), ring.jars, *map(str, group.folders)]
    with (folder / "node.log").open("wb") as log:
        subprocess.run(
            ["setsid", "--fork", *inside, "sh", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(),
            check=True,
        )


def wait(ring: Ring, node: Node, timeout: float = 240) -> None:
    """Waits until the node takes clients, and knows that the others that run are up. LabError with the log's end."""
    begin = time.monotonic()
    while not (_listens(ring, node) and _knows(ring, node)):
        waited = time.monotonic() - begin
        if waited > timeout or (waited > 5 and not running(ring, node)):
            raise LabError(
                f"{node.name} takes no clients after {waited:.0f} s; its log ends with:\n{_log(ring, node)[-1500:]}"
            )
        time.sleep(0.2)


def _log(ring: Ring, node: Node) -> str:
    return (Path(ring.folder) / node.name / "node.log").read_text(errors="replace")


def _knows(ring: Ring, node: Node) -> bool:
    """Whether it said of each other node that runs that it is up: else it counts without them."""
    others = [other for other in ring.nodes if other.name != node.name and running(ring, other)]
    said = _log(ring, node)
    return all(f"/{other.address}:7000 is now UP" in said for other in others)


def _listens(ring: Ring, node: Node) -> bool:
    """Whether one of its processes' network namespaces has the node's port open: proc(5), /proc/PID/net/tcp."""
    address = bytes(map(int, node.address.split(".")))[::-1].hex().upper()
    for pid in cgroup.group(ring.group, node.name).pids():
        try:
            lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()
        except OSError:
            continue
        # The second field is the local address, the fourth the state: 0A is LISTEN.
        if any(line.split()[1] == f"{address}:{PORT:04X}" and line.split()[3] == "0A" for line in lines[1:]):
            return True
    return False


def running(ring: Ring, node: Node) -> bool:
    """Whether the node has a process, paused or not."""
    return bool(cgroup.group(ring.group, node.name).pids())


def look(ring: Ring) -> Ring:
    """The ring with its nodes as they are now: running, frozen or stopped."""
    return replace(ring, nodes=tuple(_look(ring, node) for node in ring.nodes))


def _look(ring: Ring, node: Node) -> Node:
    group = cgroup.group(ring.group, node.name)
    if not (pids := group.pids()):
        return replace(node, pid=0, state="stopped")
    return replace(node, pid=pids[0], state="frozen" if group.frozen() else "running")


def pause(ring: Ring, node: Node, on: bool) -> None:
    """Stops all of a node where it is, as if it hung, or lets it go on."""
    cgroup.group(ring.group, node.name).freeze(on)


def kill(ring: Ring, node: Node) -> None:
    """SIGKILL, paused or not; its data stay, and `start` brings it back."""
    cgroup.group(ring.group, node.name).kill()
