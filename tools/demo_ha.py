"""``make demo-ha``: nobody is missed. Three Cassandra nodes keep the state, git the manifests, two controllers act; one
controller and one node are killed, and the fleet is repaired all the same.

Each controller has a pid namespace and a host name of its own: the other one sees nothing of its process, as if it ran
on another machine. Everything is taken down at the end, and on Ctrl-C.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import lab
from controller.members import shard_of
from lab import Lab
from tools.stage import BIN, ROOT, Controller, act, console, controller, in_sync, output, ready, run, shell, tell, until

LAB = "demo-ha"
RESYNC = 5
PAGES = {"one": "127.0.0.1:9466", "two": "127.0.0.1:9467"}
ALONE = "unshare --pid --uts --fork --kill-child=KILL --mount-proc"
CONFIGURATION = """\
contexts:
- name: demo-ha
  store:
    cassandra: {{contactPoints: [{points}], datacenter: {datacenter}}}
  manifests:
    git: {{url: "file://{folder}/fleet.git", branch: main, interval: 2s}}
  networkNamespace: {namespace}
  identityFiles: [{key}]
"""
PUSH = "git -C work add --all && git -C work commit --quiet -m '{message}' && git -C work push --quiet origin main"
INDEX = "/srv/beacon/index.html"
KEPT = """
The fleet is yours. In another terminal:
  cd {folder}; PATH={bin}:$PATH
  salvusctl controllers                                who holds what
  salvusctl lab break kill-node cassandra3 --name demo-ha
  $EDITOR work/fleet.yaml; git -C work commit -am 'my change'; git -C work push
Ctrl-C here takes everything down."""


class Stage:
    """The folder, the lab, and the controllers that run."""

    def __init__(self, folder: Path, ending: ExitStack) -> None:
        self.folder = folder
        self.lab: Lab = lab.load(LAB)
        self._ending = ending
        self._running: dict[str, Controller] = {}

    def shell(self, line: str, allowed: tuple[int, ...] = (0,)) -> None:
        """A command in the demo's folder."""
        shell(line, self.folder, allowed)

    def start(self, name: str) -> None:
        """A controller, as on a machine of its own."""
        prefix = f"{ALONE} sh -c 'hostname {name}; exec \"$@\"' sh"
        options = f"--resync {RESYNC} --http {PAGES[name]}"
        self._running[name] = self._ending.enter_context(
            controller(self.folder, options, PAGES[name], f"{name}.log", prefix)
        )

    def kill(self, name: str) -> None:
        """kill -9."""
        tell(f"kill -9 of the controller {name}")
        self._running.pop(name).kill()

    def holder(self, machine: str) -> str:
        """The host name of the controller that has a machine; empty for none."""
        wanted = shard_of(machine)
        document = json.loads(output("salvusctl controllers -o json", self.folder))
        found = (one["host"] for one in document["items"] for lease in one["leases"] if lease["name"] == wanted)
        return next(found, "")

    def writes(self) -> float:
        """How many writes to machines there were."""
        return sum(one.metric("salvus_driver_writes_total") for one in self._running.values())

    def inside(self, host: str, *command: str) -> str:
        """What a command on a host says."""
        return lab.exec_in(self.lab, self.lab.host(host), command).stdout.decode().strip()

    def beacon(self, host: str) -> bool:
        """Whether the service runs there."""
        return self.inside(host, "systemctl", "is-active", "salvus-beacon.service") == "active"


def prepare(folder: Path) -> None:
    """A fresh folder with a repository, its work tree, and a configuration for the lab that is up."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found = lab.load(LAB)
    text = CONFIGURATION.format(
        points=", ".join(node.address for node in found.nodes),
        datacenter=found.nodes[0].datacenter,
        folder=folder,
        namespace=found.namespace,
        key=found.key_path,
    )
    (folder / "salvus.yaml").write_text(text)
    console.print(f"$ cd {folder}", style="bold green")


def repository(stage: Stage) -> None:
    """A git repository with the manifests, not pushed yet."""
    stage.shell("git init --quiet --bare --initial-branch=main fleet.git")
    stage.shell("git init --quiet --initial-branch=main work && git -C work remote add origin ../fleet.git")
    shutil.copytree(ROOT / "manifests" / LAB, stage.folder / "work", dirs_exist_ok=True)
    who = "git -C work config user.name demo && git -C work config user.email demo@example.org"
    subprocess.run(["sh", "-c", who], cwd=stage.folder, check=True)
    stage.shell(f"salvusctl lab manifests --name {LAB} >work/lab.yaml")


def first_push(stage: Stage) -> None:
    """From the push to a fleet that is Ready."""
    stage.shell(PUSH.format(message="the fleet"))
    tell(f"first action {until(lambda: stage.writes() > 0, 'the first action'):.1f} s after the push")
    seconds = until(lambda: settled(stage.folder), "everything Ready", 600, pause=1.0)
    tell(f"all as it is in git after {seconds:.0f} s more, a guest booted under emulation")
    stage.shell("salvusctl get all -o wide")


def controller_dies(stage: Stage) -> None:
    """Who holds host1 is killed, then things break there; the other one repairs them."""
    stage.shell("salvusctl controllers")
    holder = stage.holder("host1")
    stage.kill(holder)
    killed = time.monotonic()
    stage.shell(f"salvusctl lab exec --name {LAB} host1 -- systemctl stop salvus-beacon.service")
    stage.shell(f"salvusctl lab exec --name {LAB} host1 -- virsh destroy db01")
    until(lambda: stage.beacon("host1"), "the service active")
    tell(f"the service is active again {time.monotonic() - killed:.1f} s after the kill")
    state = "virsh", "domstate", "db01"
    until(lambda: stage.inside("host1", *state) == "running", "the virtual machine running")
    tell(f"the virtual machine runs again {time.monotonic() - killed:.1f} s after the kill")
    stage.shell("salvusctl controllers")
    stage.start(holder)


def node_dies(stage: Stage) -> None:
    """A Cassandra node is killed; a push is brought about all the same."""
    stage.shell(f"salvusctl lab break kill-node cassandra2 --name {LAB}")
    stage.shell("sed -i 's/looked after/looked after, also by two of three/' work/fleet.yaml")
    stage.shell(PUSH.format(message="with one node less"))

    def everywhere() -> bool:
        return all("two of three" in stage.inside(host, "cat", INDEX) for host in ("host1", "host2"))

    tell(f"in force on both hosts {until(everywhere, 'the change on both hosts'):.1f} s after the push")
    stage.shell("salvusctl store status", allowed=(0, 1))
    stage.shell(f"salvusctl lab break start-node cassandra2 --name {LAB}")
    stage.shell("salvusctl store status")


def settled(folder: Path) -> bool:
    """Whether all is Ready, and asking the machines says the same."""
    return ready(folder) and in_sync(folder)


def demo(folder: Path, keep: bool) -> None:
    """All of it."""
    act(1, "Two hosts, and three Cassandra nodes for the state")
    shell(f"salvusctl lab up --name {LAB} --hosts 2 --cassandra 3")
    prepare(folder)
    with ExitStack() as ending:
        stage = Stage(folder, ending)
        stage.shell("salvusctl store init")
        act(2, "Two controllers follow a git repository; what is pushed is what runs")
        repository(stage)
        for name in PAGES:
            stage.start(name)
        first_push(stage)
        act(3, "The controller that holds host1 is killed, and what it looked after breaks")
        controller_dies(stage)
        act(4, "A Cassandra node is killed: nobody notices")
        node_dies(stage)
        act(5, "All are back; the machine that was killed boots, and then nothing is left to do")
        seconds = until(lambda: settled(folder), "everything Ready", 600, pause=1.0)
        tell(f"all Ready after {seconds:.0f} s")
        stage.shell("salvusctl controllers")
        stage.shell("salvusctl diff")
        if keep:
            console.print(KEPT.format(folder=folder, bin=BIN))
            signal.pause()


if __name__ == "__main__":
    sys.exit(run(demo, LAB, "make demo-ha", __doc__))
