"""A fleet under several controllers: its state in the lab's ring, its manifests in a git repository.

Every controller has a pid namespace and a host name of its own, so that the others see nothing of its process, as on
another machine. What salvus does to a machine is counted there: each start of the service `tally` appends a line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from controller.members import Register, shard_of, to_give
from lab import Lab
from resources.load import load
from tests.lab.fleet import RESYNC, SALVUSCTL, Fleet, blank_image, eventually, free_port, metric, resource

HOSTS = ("host1", "host2", "host3")
# The promise: another controller goes on within so many seconds.
FAILOVER = 15
TALLY = "/var/lib/tally"
# A file that is there while somebody looks after the host.
MARK = "/etc/mark"
# The start of init is part of the line (proc_pid_stat(5)): a host that boots starts its services.
COUNT = f"""\
#!/bin/sh
echo "$1 $(cut -d ' ' -f 22 /proc/1/stat)" >>{TALLY}
exec sleep infinity
"""
WRONG_CLOCK = str(Path(__file__).parent / "wrong_clock.py")
ALLOWED = {"maxDeletes": 1000, "maxDisruption": 1000}


@dataclass(slots=True)
class Controller:
    """A controller's process: ``outer`` is what keeps its namespaces, ``pid`` its number outside."""

    name: str
    page: str
    log: Path
    outer: subprocess.Popen[bytes]
    pid: int

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def cpu(self) -> float:
        """Seconds of CPU that it has used: proc_pid_stat(5)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name: str, **labels: str) -> float:
        return metric(self.page, name, **labels)

    def said(self) -> str:
        return self.log.read_text()

    def hanging(self) -> str:
        """Where its threads are, in the kernel and in Python; this ends it."""
        tasks = sorted(Path(f"/proc/{self.pid}/task").iterdir())
        kernel = [f"{(t / 'comm').read_text()}{(t / 'stat').read_text()}{(t / 'stack').read_text()}" for t in tasks]
        self.signal(signal.SIGABRT)
        eventually(lambda: self.outer.poll() is not None, 10)
        return f"== {self.name} hangs\n{''.join(kernel)}{self.said()[-20000:]}"


class HaFleet(Fleet):
    """See the module."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        super().__init__(lab, folder)
        self.repository = folder / "fleet.git"
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.repository), at=folder)
        self.git("init", "--quiet", "--initial-branch=main", ".")
        self.controllers: dict[str, Controller] = {}
        self._numbers = 0
        document = yaml.safe_load(self.config.read_text())
        document["contexts"][0] |= {
            "manifests": {"git": {"url": f"file://{self.repository}", "branch": "main", "interval": "1s"}},
            "budgets": ALLOWED,
        }
        self.config.write_text(yaml.safe_dump(document))

    # What is wanted

    def git(self, *arguments: str, at: Path | None = None) -> str:
        """Runs git in the work tree, as somebody whom no configuration of this machine's knows."""
        own = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
        who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
        command = ["git", "-C", str(at or self.manifests), *who, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | own)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def push(self) -> str:
        """Commits what was written and pushes it; the commit's ID."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "a change")
        self.git("push", "--quiet", str(self.repository), "main")
        return self.git("rev-parse", "HEAD")

    def tally(self, version: str) -> None:
        """The service that counts, on all hosts; another version is one restart."""
        spec = {
            "machines": {"names": list(HOSTS)},
            "files": [{"path": "/usr/local/bin/tally", "mode": "0755", "content": COUNT}],
            "command": f"/usr/local/bin/tally {version}",
        }
        self.write("tally", resource("Service", "tally", spec))

    def written(self) -> Mapping[str, Mapping[str, Any]]:
        """The manifests in the work tree, by ``Kind/name``."""
        loaded = load([self.manifests])
        assert not loaded.errors, loaded.errors
        return loaded.documents

    # The controllers

    def launch(self, clock: float = 0.0) -> Controller:
        """Starts one, whose wall clock is so many seconds off."""
        self._numbers += 1
        name, page = f"controller{self._numbers}", f"127.0.0.1:{free_port()}"
        program = [sys.executable, "-P", WRONG_CLOCK, str(clock)] if clock else [SALVUSCTL]
        run = [*program, "--config", str(self.config), "controller", "run", "--resync", str(RESYNC), "--http", page]
        script = ["sh", "-euc", 'hostname "$0"; exec "$@"', name, *run]
        log = self.folder / f"{name}.log"
        with log.open("ab") as file:
            outer = subprocess.Popen(
                ["unshare", "--pid", "--uts", "--fork", "--kill-child=KILL", "--mount-proc", *script],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                # What one that is killed leaves goes with the folder; one that hangs says where (faulthandler).
                env=os.environ | {"TMPDIR": str(self.folder), "PYTHONFAULTHANDLER": "1"},
            )
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        assert eventually(lambda: bool(children.read_text().split()), 10)
        made = Controller(name, page, log, outer, int(children.read_text()))
        self.controllers[name] = made
        return made

    def member(self, controller: Controller) -> bool:
        """Whether the store has it as a controller."""
        return controller.name in {one.who.host for one in Register.read(self.store).members.values()}

    def all_members(self, timeout: float = 90) -> None:
        """Waits until those that run are the controllers, and have shared out the work."""

        def shared() -> bool:
            register = Register.read(self.store)
            names = {one.who.host for one in register.members.values()}
            moving = register.free() or any(to_give(register, one) for one in register.members)
            return names == set(self.controllers) and not moving

        if not eventually(shared, timeout):
            names = {one.who.host for one in Register.read(self.store).members.values()}
            stuck = [one.hanging() for name, one in self.controllers.items() if name not in names]
            raise AssertionError(f"{Register.read(self.store)}\n{self.said()}\n{''.join(stuck)}")

    def holder(self, host: str) -> str:
        """The name of the controller whose a machine is; empty for none."""
        register = Register.read(self.store)
        holder = register.holder(shard_of(host))
        return register.members[holder].who.host if holder else ""

    def end(self, controller: Controller, number: int = signal.SIGKILL) -> None:
        """Ends one, with kill -9 if not said otherwise."""
        del self.controllers[controller.name]
        with contextlib.suppress(ProcessLookupError):
            controller.signal(signal.SIGCONT)
            controller.signal(number)
        try:
            controller.outer.wait(60)
        finally:
            controller.outer.kill()
            controller.outer.wait(30)

    def close(self) -> None:
        """Ends all of it."""
        for controller in tuple(self.controllers.values()):
            self.end(controller)
        super().close()

    def said(self) -> str:
        """The end of each log."""
        logs = sorted(self.folder.glob("controller*.log"))
        return "\n".join(f"== {log.name}\n{log.read_text()[-2500:]}" for log in logs)

    # What is to be true in the end

    def whole(self, timeout: float = 180) -> None:
        """All is Ready and as it is in git, nothing was done twice, nothing is left over."""
        wanted = self.written()

        def converged() -> bool:
            knowledge = self.knowledge()
            return {r: row.document for r, row in knowledge.rows.items()} == wanted and not self.unready()

        assert eventually(converged, timeout), f"{self.odd(wanted)}\n{self.said()}"
        difference = self.run("diff")
        assert difference.returncode == 0, f"{difference.stdout}{difference.stderr}\n{self.said()}"
        for host in HOSTS:
            assert not self.twice(host), f"{host}: done twice: {self.twice(host)}\n{self.said()}"
            # What is there for a moment is no remainder: a controller that gets the host now notes its epoch.
            assert eventually(partial(self.clean, host, wanted), 10), (
                f"{host}: {self.left_over(host, wanted)} left over"
            )

    def odd(self, wanted: Mapping[str, Mapping[str, Any]]) -> str:
        """Where the store is not as git is, and what is not Ready."""
        rows = self.knowledge().rows
        other = [ref for ref in {*rows, *wanted} if ref not in rows or rows[ref].document != wanted.get(ref)]
        return f"differs: {sorted(other)}; not Ready: {self.unready()}"

    def twice(self, host: str) -> list[str]:
        """Versions of the tally that were started more than once in one boot of the host."""
        lines = Counter(self.inside(host, f"cat {TALLY} 2>/dev/null || :").splitlines())
        return [line for line, number in lines.items() if number > 1]

    def clean(self, host: str, wanted: Mapping[str, Mapping[str, Any]]) -> bool:
        return not self.left_over(host, wanted)

    def left_over(self, host: str, wanted: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Machines, disks and files of salvus that nobody wants, or that are half made."""
        there = [one["metadata"]["name"] for one in wanted.values() if one["kind"] == "VirtualMachine"]
        there = [n for n in there if wanted[f"VirtualMachine/{n}"]["spec"]["placement"]["host"] == host]
        disks = self.inside(host, "ls /var/lib/salvus/volumes 2>/dev/null || :").split()
        new = self.inside(host, "find /var/lib/salvus /etc /usr/local/bin -name '*.new*'").split()
        return [
            *(self.domains(host) ^ set(there)),
            *({disk for disk in disks if disk.endswith("-root.qcow2")} ^ {f"{name}-root.qcow2" for name in there}),
            *new,
        ]

    def prepare(self) -> None:
        """The hosts, an image, a machine on each host, and the tally; committed."""
        self.write_lab()
        self.write("blank", blank_image(self.folder))
        self.tally("v0")
        file = {"path": MARK, "content": "made\n"}
        self.write("mark", resource("Service", "mark", {"machines": {"names": list(HOSTS)}, "files": [file]}))
        self.push()
