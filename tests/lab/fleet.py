"""A fleet on the lab, as a user runs it: manifests in a folder, a controller process, salvusctl beside it."""

from __future__ import annotations

import copy
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import yaml

from controller.knowledge import Knowledge
from controller.present import conditions, pending
from controller.session import Session, Settings
from controller.store.records import Condition
from controller.store.sqlite import SqliteStore
from lab import Lab, LabHost, exec_in
from salvusctl.config import resolve
from salvusctl.flags import Flags
from salvusctl.lab import context_document, manifest_documents
from tests.lab.inside import ring_store

SALVUSCTL = str(Path(sys.executable).parent / "salvusctl")
RESYNC = 3


def eventually(true: Callable[[], bool], timeout: float = 60.0) -> bool:
    """Whether it becomes true; a deadline, not a measurement."""
    deadline = time.monotonic() + timeout
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


# Domains by name are there once a host: a file's own would be somebody else's to the next file.
_RAZE = """
for domain in $(virsh list --name); do virsh destroy "$domain"; done
for domain in $(virsh list --all --name); do virsh undefine "$domain"; done
rm -rf /var/lib/salvus/volumes/* /var/lib/salvus/trash
"""


class Fleet:
    """One configuration, its manifests, and at most one controller of ours. Its store is a new one: in the lab's ring,
    where there is one, else a file.
    """

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.manifests = folder / "manifests"
        self.manifests.mkdir()
        self.page = f"127.0.0.1:{free_port()}"
        self.config = folder / "salvus.yaml"
        document = context_document(lab) | {"http": self.page, "vpnProbeInterval": "10s"}
        if lab.nodes:
            document["store"]["cassandra"]["keyspace"] = f"t{uuid.uuid4().hex}"
        self.config.write_text(yaml.safe_dump({"contexts": [document]}))
        where = resolve(Flags(config=self.config), {}).store
        self._opened = ExitStack()
        self.store = self._opened.enter_context(
            closing(SqliteStore(where)) if isinstance(where, Path) else ring_store(lab.namespace, where)
        )
        self.session = Session(self.store, Settings(store=where))
        self.process: subprocess.Popen[bytes] | None = None

    # What is wanted

    def write(self, name: str, *documents: Mapping[str, Any]) -> None:
        """Replaces one manifest file, as an editor does."""
        temporary = self.manifests / f".{name}.new"
        temporary.write_text(yaml.safe_dump_all(documents))
        temporary.rename(self.manifests / f"{name}.yaml")

    def write_lab(self) -> None:
        """The lab's hosts, with short deadlines, and its image; host2 is reached by a user who is not root."""
        documents = manifest_documents(self.lab)
        for document in documents:
            if document["kind"] == "Host":
                user = "operator" if document["metadata"]["name"] == "host2" else "root"
                document["spec"]["ssh"] |= {"user": user, "connectTimeout": "3s", "commandTimeout": "5s"}
        self.write("lab", *documents)

    # The controller

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        """Starts a controller; the first one is the fleet's own."""
        command = [SALVUSCTL, "--config", str(self.config), "controller", "run", "--resync", str(RESYNC), *more]
        with (self.folder / "controller.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.process = self.process or process
        return process

    def stop(self) -> int:
        """The controller is told to end; its exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(60)
        self.process = None
        return code

    def kill(self) -> None:
        """kill -9, whatever the controller is doing."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(30)
            self.process = None

    def close(self) -> None:
        """Ends the controller and the store's use."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(30)
            finally:
                self.kill()
        self._opened.close()

    def raze(self, *hosts: str) -> None:
        """Ends the controller, and leaves no virtual machine and no disk of it on these hosts of the shared lab."""
        self.close()
        for host in hosts:
            self.inside(host, _RAZE)

    def metric(self, name: str, **labels: str) -> float:
        """See ``metric``, of the fleet's own controller."""
        return metric(self.page, name, **labels)

    # What is seen

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """salvusctl with this configuration."""
        command = [SALVUSCTL, "--config", str(self.config), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    def knowledge(self) -> Knowledge:
        """The store as it is now."""
        return self.session.knowledge()

    def manifest(self, ref: str) -> dict[str, Any]:
        """A manifest as it is in force."""
        return copy.deepcopy(dict(self.knowledge().rows[ref].document))

    def ready(self, ref: str) -> Condition:
        """The Ready condition. Raises KeyError for what is not there."""
        return conditions(self.knowledge(), ref)[0]

    def unready(self) -> dict[str, str]:
        """What is not Ready, and why."""
        knowledge = self.knowledge()
        return {ref: f"{c.reason}: {c.message}" for ref, c in pending(knowledge, knowledge.rows).items()}

    def settle(self, *refs: str, timeout: float = 60.0) -> None:
        """Waits until the resources (all of them, when none is named) are there and Ready."""

        def good() -> bool:
            knowledge = self.knowledge()
            wanted = refs or tuple(knowledge.rows)
            there = bool(wanted) and all(ref in knowledge.rows for ref in wanted)
            return there and not pending(knowledge, wanted)

        assert eventually(good, timeout), f"{self.unready()}\n{self.log()}"

    def log(self) -> str:
        """The end of the controller's log."""
        return (self.folder / "controller.log").read_text()[-4000:]

    def host(self, name: str) -> LabHost:
        """A host of the lab."""
        return self.lab.host(name)

    def inside(self, host: str, command: str) -> str:
        """Runs a shell command on a host, past network and salvus."""
        done = exec_in(self.lab, self.host(host), ["sh", "-euc", command])
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def domains(self, host: str, *flags: str) -> set[str]:
        """Names of a host's domains."""
        return set(self.inside(host, f"virsh list --name {' '.join(flags or ('--all',))}").split())

    def dominfo(self, host: str, domain: str) -> dict[str, str]:
        """What ``virsh dominfo`` tells."""
        lines = self.inside(host, f"virsh dominfo {domain}").splitlines()
        return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def resource(kind: str, name: str, spec: Mapping[str, Any], **metadata: Any) -> dict[str, Any]:
    """A manifest."""
    return {"apiVersion": "salv.us/v1", "kind": kind, "metadata": {"name": name, **metadata}, "spec": dict(spec)}


def blank_image(folder: Path) -> dict[str, Any]:
    """An image without anything on it: its machines' BIOS finds nothing to boot, and waits."""
    disk = folder / "blank.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "16M"], check=True)
    digest = subprocess.run(["sha256sum", str(disk)], capture_output=True, text=True, check=True).stdout.split()[0]
    return resource("Image", "blank", {"source": str(disk), "sha256": digest})


def blank_vm(name: str, host: str, **spec: Any) -> dict[str, Any]:
    """A machine that runs and does nothing."""
    base: dict[str, Any] = {
        "image": "blank",
        "memory": "128Mi",
        "rootDisk": {"size": "16Mi"},
        "placement": {"host": host},
    }
    base["terminationGracePeriod"] = "2s"
    return resource("VirtualMachine", name, base | spec)


def metric(page: str, name: str, **labels: str) -> float:
    """The sum of a metric over all series that have these labels, on the page at ``HOST:PORT``."""
    with urllib.request.urlopen(f"http://{page}/metrics", timeout=5) as answer:
        lines: list[str] = answer.read().decode().splitlines()
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found if all(one in line for one in wanted))


def free_port() -> int:
    """A port of the loopback that nobody has now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
