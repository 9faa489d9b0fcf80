"""up, down, status, load: the lab's life."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lab import build, cassandra, cgroup, machine, model, network
from lab import hosts as lab_hosts
from lab.model import Lab, LabError, LabHost, Node, Ring
from lab.progress import Progress, silent
from lab.run import run

MAX_HOSTS = 64
MAX_NODES = 9
_ROOM = 4 << 30


@dataclass(frozen=True, slots=True)
class Status:
    """What is there under a lab's name: "up" with all its hosts, "partial" (somebody is missing), "broken" (left
    by a crash), or "down".
    """

    name: str
    state: str
    lab: Lab | None


def up(name: str = "demo", hosts: int = 2, progress: Progress = silent, *, nodes: int = 0) -> Lab:
    """Makes the lab, or what is missing of it, and gives it back when every host can be worked on.

    A running lab keeps what it has; it grows to `hosts`, it never shrinks. A stopped host is started with its disk
    as it was. With `nodes` it has a ring of so many Cassandra nodes, too, which keeps its size. What a crash left
    of a lab of this name (nothing of it runs, or it was never finished) is removed first. Raises LabError.
    """
    machine.require_root()
    if not 1 <= hosts <= MAX_HOSTS or not 0 <= nodes <= MAX_NODES:
        raise LabError(
            f"{hosts} hosts and {nodes} Cassandra nodes: a lab has 1 to {MAX_HOSTS}, and at most {MAX_NODES}"
        )
    with _locked(name):
        found = status(name)
        if found.lab is not None:
            _end_unknown(found.lab)
            _enough(found.lab, hosts, nodes)
            if found.state == "up" and len(found.lab.hosts) >= hosts and (found.lab.ring or not nodes):
                return found.lab
        if packages := machine.missing_packages():
            progress(f"installing {', '.join(packages)}")
            machine.install(packages)
        machine.load_modules()
        if found.lab is not None:
            return _complete(found.lab, hosts, nodes, progress)
        if found.state != "down":
            progress(f"removing what a crashed lab {name} left")
            _remove(name)
        return _complete(_prepare(name, progress), hosts, nodes, progress)


def down(name: str = "demo", progress: Progress = silent) -> None:
    """Ends every process of the lab and removes all it had.

    Nothing is shut down in order: nothing of it is kept. Doing it again does no harm.
    """
    machine.require_root()
    if status(name).state == "down" and not _lock(name).exists():
        return
    with _locked(name):
        progress(f"removing lab {name}")
        _remove(name)
        _lock(name).unlink()


def load(name: str = "demo") -> Lab:
    """The running lab, for any process. LabError where there is none."""
    lab = status(name).lab
    if lab is None:
        raise LabError(f"there is no lab {name}: make it with `salvusctl lab up --name {name}`")
    return lab


def status(name: str = "demo") -> Status:
    """Looks, and changes nothing. Needs no root."""
    folder, key = model.state_dir(name), model.namespace(name)
    lab = model.read(name)
    if lab is None:
        rests = folder.exists() or cgroup.hosts(key) or network.exists(key)
        return Status(name, "broken" if rests else "down", None)
    lab = _looked(lab)
    if all(host.state == "stopped" for host in lab.hosts) or not network.exists(key):
        return Status(name, "broken", None)
    return Status(name, "partial" if any(part.state == "stopped" for part in lab.parts) else "up", lab)


def _looked(lab: Lab) -> Lab:
    """The lab as it is now."""
    hosts = tuple(lab_hosts.look(lab, host) for host in lab.hosts)
    return replace(lab, hosts=hosts, ring=cassandra.look(lab.ring) if lab.ring else None)


def _enough(lab: Lab, hosts: int, nodes: int) -> None:
    """Raises LabError for what the lab cannot become."""
    if len(lab.hosts) > hosts:
        raise LabError(
            f"lab {lab.name} has {len(lab.hosts)} hosts, which are not taken away one by one: "
            "run `salvusctl lab down` first, or ask for more"
        )
    if lab.ring and nodes not in (0, len(lab.ring.nodes)):
        raise LabError(
            f"lab {lab.name} has a ring of {len(lab.ring.nodes)} Cassandra nodes, which neither grows nor shrinks: "
            "run `salvusctl lab down` first, or ask for as many"
        )


def _end_unknown(lab: Lab) -> None:
    """Ends what an `up` that was killed had started beyond what lab.json names."""
    for name in set(cgroup.hosts(lab.namespace)) - {part.name for part in lab.parts}:
        cgroup.group(lab.namespace, name).kill()


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """One `up` or `down` of a name at a time; another waits. `down` takes the file away, before it is given free: who
    waited for that one begins anew.
    """
    path = _lock(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_still(path, file.fileno()):
                yield
                return


def _lock(name: str) -> Path:
    folder = model.state_dir(name)
    return folder.with_name(f"{folder.name}.lock")


def _is_still(path: Path, opened: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(opened))
    except FileNotFoundError:
        return False


def _prepare(name: str, progress: Progress) -> Lab:
    """Images, folder, keys and network; no hosts yet, and no lab.json: a crash from here on leaves what `status`
    calls broken.
    """
    root, image = build.products(progress)
    folder, key = model.state_dir(name), model.namespace(name)
    if shutil.disk_usage(folder.parent).free < _ROOM:
        raise LabError(
            f"{folder.parent} has less than {_ROOM >> 30} GiB free: make room, "
            "or set SALVUS_LAB_STATE to a folder elsewhere"
        )
    folder.mkdir(mode=0o700)
    client_key = folder / "client_key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {name}", "-f", str(client_key)])
    network.create(key)
    return Lab(name, key, str(client_key), str(folder / "known_hosts"), (), image, str(root), str(folder))


def _complete(lab: Lab, hosts: int, nodes: int, progress: Progress) -> Lab:
    """Makes what is missing, starts what does not run, all at once, waits for all, writes lab.json."""
    folder = Path(lab.state_dir)
    public = (folder / "client_key.pub").read_text()
    made = [_fresh(folder / "hosts", number, public) for number in range(len(lab.hosts) + 1, hosts + 1)]
    ring = lab.ring or (_fresh_ring(lab, nodes, progress) if nodes else None)
    lab = replace(lab, hosts=(*lab.hosts, *made), ring=ring)
    _pin_hosts(lab)
    starting = [part for part in lab.parts if part.state == "stopped"]
    progress(f"starting {', '.join(part.name for part in starting)}")
    for part in starting:
        _start(lab, part)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda part: _wait(lab, part), starting))
    lab = _looked(lab)
    model.save(lab)
    progress(f"lab {lab.name} is up: {', '.join(f'{part.name} {part.address}' for part in lab.parts)}")
    return lab


def _start(lab: Lab, part: LabHost | Node) -> None:
    if isinstance(part, LabHost):
        lab_hosts.start(lab, part)
    else:
        cassandra.start(*lab.node(part.name))


def _wait(lab: Lab, part: LabHost | Node) -> None:
    if isinstance(part, LabHost):
        lab_hosts.wait(lab, part)
    else:
        cassandra.wait(*lab.node(part.name))


def _fresh_ring(lab: Lab, nodes: int, progress: Progress) -> Ring:
    """A new ring on the namespace's loopback; what an interrupted `up` left in its place goes."""
    if (rest := Path(lab.state_dir) / "cassandra").exists():
        shutil.rmtree(rest)
    jars = cassandra.jars(progress)
    return cassandra.plan(lab.namespace, rest, jars, namespace=lab.namespace, datacenters=(nodes,))


def _fresh(folder: Path, number: int, client_key: str) -> LabHost:
    """A new host; what an interrupted `up` left in its place goes."""
    if (rest := folder / f"host{number}").exists():
        shutil.rmtree(rest)
    return lab_hosts.new(folder, number, client_key)


def _pin_hosts(lab: Lab) -> None:
    path = Path(lab.known_hosts)
    pinned = {host.address: host.host_key for host in lab.hosts}
    guests = [line for line in path.read_text().splitlines() if line.split()[0] not in pinned] if path.exists() else []
    path.write_text(
        "".join(f"{line}\n" for line in [*(f"{address} {key}" for address, key in pinned.items()), *guests])
    )


def _remove(name: str) -> None:
    """Processes first: with a host's last one its mounts, loop device and network are gone too."""
    key = model.namespace(name)
    for host in cgroup.hosts(key):
        cgroup.group(key, host).kill()
    cgroup.remove(key)
    network.delete(key)
    folder = model.state_dir(name)
    if folder.exists():
        shutil.rmtree(folder)
