"""``make demo``: a fleet comes up from YAML on the lab's hosts, is broken in three ways, and mends itself.

Everything is done with salvusctl, as a user would; each command is printed before it runs. Exit 0 when all repairs were
seen. ``--keep`` leaves the fleet up, and says how to look at it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SALVUSCTL = str(Path(sys.executable).parent / "salvusctl")
LAB = "demo"
PAGE = "127.0.0.1:9465"
RESYNC = 5
CONFIGURATION = """\
contexts:
- name: demo
  store: {{sqlite: store.db}}
  manifests: manifests
  networkNamespace: {namespace}
  identityFiles: [{key}]
  http: {page}
"""


class Missed(Exception):
    """Something that the demo is to show did not happen."""


def say(text: str) -> None:
    """A line of the demo's own, set off from what the commands print."""
    print(f"\n# {text}", flush=True)


def salvusctl(*arguments: str, allowed: tuple[int, ...] = (0,)) -> None:
    """Runs a command where everybody sees it. Raises Missed for an exit code that is not allowed."""
    print(f"$ salvusctl {shlex.join(arguments)}", flush=True)
    code = subprocess.run([SALVUSCTL, *arguments], check=False).returncode
    if code not in allowed:
        raise Missed(f"salvusctl {arguments[0]} ended with {code}")


def answer(*arguments: str) -> str:
    """What a command prints, shown to nobody; empty when it fails."""
    return subprocess.run([SALVUSCTL, *arguments], capture_output=True, text=True, check=False).stdout


def lab_exec(host: str, command: str) -> str:
    """Runs a shell command on a host past salvus and the network."""
    return answer("lab", "exec", "--name", LAB, host, "--", "sh", "-c", command)


def until(true: Callable[[], bool], what: str, timeout: float = 120.0) -> float:
    """Waits; returns the seconds it took. Raises Missed."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > timeout:
            raise Missed(f"{what}: not seen in {timeout:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - began


def work_folder() -> Path:
    """Where the demo keeps its configuration, manifests and store."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "salvus-demo"


def end_former(folder: Path) -> None:
    """What a demo that was killed or kept has left goes: its controller, if that process still is it, and its lab.

    Its machines belong to a store that is made anew: salvus would leave them alone, as somebody else's.
    """
    _end_controller(folder)
    if json.loads(answer("lab", "status", "--name", LAB, "-o", "json") or "{}").get("state", "down") != "down":
        say("a former demo left its lab; it is taken down")
        salvusctl("lab", "down", "--name", LAB)


def _end_controller(folder: Path) -> None:
    try:
        pid = int((folder / "controller.pid").read_text())
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return
    if str(folder / "salvus.yaml").encode() in arguments:
        say(f"a former demo left its controller running (pid {pid}); it is ended")
        os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists(), "its end", 10)


def prepare(folder: Path) -> None:
    """A fresh folder with configuration and manifests for the lab that is up."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "manifests" / "demo", folder / "manifests")
    (folder / "manifests" / "lab.yaml").write_text(answer("lab", "manifests", "--name", LAB))
    lab = json.loads(answer("lab", "status", "--name", LAB, "-o", "json"))
    text = CONFIGURATION.format(namespace=lab["networkNamespace"], key=lab["identityFile"], page=PAGE)
    (folder / "salvus.yaml").write_text(text)
    os.environ["SALVUS_CONFIG"] = str(folder / "salvus.yaml")


@contextmanager
def controller(folder: Path) -> Iterator[None]:
    """The daemon, in the background; its log is in the folder."""
    command = ["--config", str(folder / "salvus.yaml"), "controller", "run", "--resync", str(RESYNC)]
    print(f"$ salvusctl {shlex.join(command[2:])} &", flush=True)
    with (folder / "controller.log").open("w") as log:
        process = subprocess.Popen([SALVUSCTL, *command], stdout=log, stderr=log)
    (folder / "controller.pid").write_text(str(process.pid))
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def metric(name: str) -> float:
    """The sum of a metric over all labels, from the controller's page."""
    with urllib.request.urlopen(f"http://{PAGE}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def repairs() -> None:
    """Breaks three things at once, and waits until each is as it was."""
    say("three things go wrong: a machine is killed, a file is edited, a service is stopped")
    lab_exec("host1", "virsh destroy web01")
    killed = time.monotonic()
    lab_exec("host2", "echo 'somebody was here' >>/srv/beacon/index.html")
    edited = time.monotonic()
    lab_exec("host2", "systemctl stop salvus-beacon.service")
    stopped = time.monotonic()
    running = 'test "$(virsh domstate web01)" = running && echo yes'
    until(lambda: "yes" in lab_exec("host1", running), "web01 running again")
    print(f"web01 was killed:           running again after {time.monotonic() - killed:.1f} s", flush=True)
    until(lambda: lab_exec("host2", "cat /srv/beacon/index.html") == "the fleet is looked after\n", "the file mended")
    print(f"index.html was edited:      as written after {time.monotonic() - edited:.1f} s", flush=True)
    until(lambda: "active" in lab_exec("host2", "systemctl is-active salvus-beacon").split(), "the service running")
    print(f"the beacon was stopped:     active again after {time.monotonic() - stopped:.1f} s", flush=True)


def nothing_to_do() -> None:
    """Shows that passes in sync write nothing."""
    say("from now on there is nothing to do: passes go on, and write nothing to any machine")
    writes, passes = metric("salvus_driver_writes_total"), metric("salvus_pass_seconds_count")
    until(lambda: metric("salvus_pass_seconds_count") >= passes + 8, "more passes")
    more = metric("salvus_driver_writes_total") - writes
    print(f"{metric('salvus_pass_seconds_count') - passes:.0f} passes, {more:.0f} writes", flush=True)
    if more:
        raise Missed(f"{more:.0f} writes in passes that had nothing to do")


def demo(folder: Path) -> None:
    """All of it."""
    say("a lab of two hypervisor hosts, made on this machine")
    salvusctl("lab", "up", "--name", LAB, "--hosts", "2")
    prepare(folder)
    say(f"what is wanted: the YAML in {folder / 'manifests'}")
    salvusctl("validate", str(folder / "manifests"))
    salvusctl("diff", allowed=(1,))
    say("a controller follows these manifests and makes them so")
    with controller(folder):
        until(lambda: "VirtualMachine/web01" in answer("get", "all", "-o", "name"), "the manifests taken over", 30)
        salvusctl("apply", "--timeout", "600")
        salvusctl("get", "all")
        salvusctl("diff")
        repairs()
        salvusctl("apply", "--timeout", "300")
        nothing_to_do()
        salvusctl("get", "all", "-o", "wide")
        salvusctl("events")


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the lab and what is on it")
    keep: bool = parser.parse_args().keep
    folder = work_folder()
    end_former(folder)
    code = 0
    try:
        demo(folder)
    except Missed as missed:
        print(f"demo: {missed}; see {folder / 'controller.log'}", file=sys.stderr)
        code = 1
    if keep:
        say(f"the lab is still up; SALVUS_CONFIG={folder / 'salvus.yaml'} salvusctl get all; salvusctl lab down")
    else:
        salvusctl("lab", "down", "--name", LAB)
    return code


if __name__ == "__main__":
    sys.exit(main())
