"""The lab as a value: written to lab.json by `up`, so that any process can load it."""

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

NETWORK = "198.18.0.0/15"
GATEWAY = "198.18.0.1/15"
_DEFAULT_ROOT = Path("/var/lib/salvus-lab")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,23}")


class LabError(Exception):
    """The lab cannot do what was asked; the text says what, and what to do."""


@dataclass(frozen=True, slots=True)
class LabHost:
    """One hypervisor.

    `pid` is its supervisor's, 0 when it does not run; `state` is running, frozen or stopped at the time of loading.
    """

    name: str
    address: str
    host_key: str
    pid: int
    state: str


@dataclass(frozen=True, slots=True)
class LabImage:
    """A guest's root disk (qcow2) with the kernel, initrd and command line that boot it.

    Paths are on the lab's machine, outside the hosts.
    """

    path: str
    sha256: str
    kernel: str
    kernel_sha256: str
    initrd: str
    initrd_sha256: str
    cmdline: str


@dataclass(frozen=True, slots=True)
class Node:
    """One Cassandra node; its name is that of its folder and of its control group.

    `pid` and `state` as in LabHost, at the time of looking.
    """

    name: str
    address: str
    datacenter: str
    pid: int = 0
    state: str = "stopped"


@dataclass(frozen=True, slots=True)
class Ring:
    """Cassandra nodes that make a cluster.

    `group` is their control groups' common name, `namespace` the network namespace under /run/netns that they live in,
    empty for the caller's.
    """

    group: str
    namespace: str
    folder: str
    jars: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Lab:
    """A running lab.

    `namespace` is its network namespace's name under /run/netns, `key_path` the private key that root and operator
    accept, `ring` its Cassandra, if any.
    """

    name: str
    namespace: str
    key_path: str
    known_hosts: str
    hosts: tuple[LabHost, ...]
    image: LabImage
    host_root: str
    state_dir: str
    ring: Ring | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Its Cassandra nodes."""
        return self.ring.nodes if self.ring else ()

    @property
    def parts(self) -> tuple[LabHost | Node, ...]:
        """All that runs in it: the hosts, then the Cassandra nodes."""
        return (*self.hosts, *self.nodes)

    def host(self, name: str) -> LabHost:
        """The host of that name. LabError names those there are."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(f"lab {self.name} has no host {name!r}; it has {', '.join(host.name for host in self.hosts)}")

    def node(self, name: str) -> tuple[Ring, Node]:
        """The Cassandra node of that name, in its ring. LabError names those there are."""
        for node in self.nodes:
            if self.ring and node.name == name:
                return self.ring, node
        known = (
            ", ".join(node.name for node in self.nodes) or "none; give it some with `salvusctl lab up --cassandra 3`"
        )
        raise LabError(f"lab {self.name} has no Cassandra node {name!r}; it has {known}")

    def part(self, name: str) -> LabHost | Node:
        """The host or Cassandra node of that name. LabError names those there are."""
        for part in self.parts:
            if part.name == name:
                return part
        known = ", ".join(part.name for part in self.parts)
        raise LabError(f"lab {self.name} has no host or Cassandra node {name!r}; it has {known}")

    def host_dir(self, host: LabHost) -> Path:
        """What the lab keeps of one host: its disk, console log, mount points."""
        return Path(self.state_dir) / "hosts" / host.name


def state_dir(name: str) -> Path:
    """Where the lab of that name lives: under $SALVUS_LAB_STATE, else /var/lib/salvus-lab."""
    if not _NAME.fullmatch(name):
        raise LabError(
            f"{name!r} is no name for a lab: a lower-case letter, then at most 23 lower-case letters, digits and dashes"
        )
    return Path(os.environ.get("SALVUS_LAB_STATE") or _DEFAULT_ROOT).absolute() / name


def namespace(name: str) -> str:
    """The lab's name for the kernel (network namespace, cgroup): different for labs of one name under different
    state folders.
    """
    folder = state_dir(name)
    if folder.parent == _DEFAULT_ROOT:
        return f"salvus-{name}"
    return f"salvus-{name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}"


def save(lab: Lab) -> None:
    """Writes lab.json, whole or not at all."""
    path = Path(lab.state_dir) / "lab.json"
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(lab), indent=2) + "\n")
    temporary.rename(path)


def read(name: str) -> Lab | None:
    """The lab as last written, or None where there is none or it was never finished."""
    try:
        raw = json.loads((state_dir(name) / "lab.json").read_text())
        hosts = tuple(LabHost(**host) for host in raw.pop("hosts"))
        image = LabImage(**raw.pop("image"))
        return Lab(hosts=hosts, image=image, ring=_ring(raw.pop("ring")), **raw)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        # Another version's file, or not ours: the lab cannot be used; `up` and `down` remove it.
        return None


def _ring(raw: dict[str, Any] | None) -> Ring | None:
    return None if raw is None else Ring(nodes=tuple(Node(**node) for node in raw.pop("nodes")), **raw)
