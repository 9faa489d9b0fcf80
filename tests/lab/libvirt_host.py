"""A host of the lab as LibvirtDriver sees it, and a way past the driver."""

from __future__ import annotations

import contextlib
import queue
import shlex
import socket
import subprocess
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from drivers.base import Absent, Change, DriverError, Item, Present, State, Verb, drift
from drivers.items.domain import MEBIBYTE, Domain, Interface
from drivers.libvirt import LibvirtDriver
from lab import Lab, LabHost, exec_in

HELPER = "virt-ssh-helper qemu:///system"


class Tunnel:
    """A unix socket; each connection to it is joined to a libvirt on the host, by the lab's ssh."""

    def __init__(self, argv: list[str], path: Path, command: str = HELPER) -> None:
        self.uri = f"qemu+unix:///system?socket={path}"
        self._argv = [*argv, command]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                local, _ = self._listener.accept()
                with local:
                    end = local.fileno()
                    self._processes.append(subprocess.Popen(self._argv, stdin=end, stdout=end))

    def cut(self) -> None:
        """Ends the connections that there are."""
        while self._processes:
            process = self._processes.pop()
            process.kill()
            process.wait()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.cut()


@dataclass
class Hypervised:
    """The driver of a host, what its events told, and a way past it."""

    lab: Lab
    host: LabHost
    tunnel: Tunnel
    driver: LibvirtDriver
    events: queue.SimpleQueue[str]
    made: list[Domain] = field(default_factory=list)

    def state(self, item: Item) -> State:
        return self.driver.observe([item])[item.key].state

    def drift(self, item: Domain) -> set[str]:
        state = self.state(item)
        assert isinstance(state, Present), state
        return {one.field for one in drift(item.fields(), state.fields)}

    def change(self, item: Domain, verb: Verb | None = None) -> DriverError | None:
        """What the planner would plan."""
        self.made.append(item)
        state = self.state(item)
        found = drift(item.fields(), state.fields) if isinstance(state, Present) else ()
        planned = Verb.CREATE if isinstance(state, Absent) else Verb.UPDATE
        (result,) = self.driver.apply([Change(item, verb or planned, found, item.grade(found))], 1)
        return result.error

    def make(self, item: Domain) -> None:
        assert self.change(item) is None
        assert self.drift(item) == set()

    def inside(self, command: str, stdin: bytes | None = None) -> str:
        done = exec_in(self.lab, self.host, ["sh", "-euc", command], stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def virsh(self, *words: str) -> str:
        return self.inside(shlex.join(["virsh", "--quiet", *words])).strip()

    def xml(self, item: Domain, *flags: str) -> ElementTree.Element:
        return ElementTree.fromstring(self.virsh("dumpxml", item.domain, *flags))

    def pid(self, item: Domain) -> str:
        """Of the qemu that runs it."""
        return self.inside(f"cat /run/libvirt/qemu/{item.domain}.pid").strip()


def domain(name: str, **changed: Any) -> Domain:
    uid = str(uuid.uuid4())
    fields: dict[str, Any] = {
        "domain": name,
        "uuid": uid,
        "owner_uid": uid,
        "running": True,
        "vcpus": 1,
        "vcpus_max": 2,
        "memory": 64 * MEBIBYTE,
        "memory_max": 96 * MEBIBYTE,
        "domain_type": "qemu",
        "grace": 1,
        "interfaces": (Interface("br0", "52:54:00:00:0d:01"),),
    }
    return Domain(**{**fields, **changed})
