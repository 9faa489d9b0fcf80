"""``make demo``: a fleet comes up from YAML on the lab's hosts, is broken in three ways, and mends itself.

Everything is done with salvusctl, as a user would: a line that begins with ``$`` is run as it stands, and what follows
is what it printed. At the end, and on Ctrl-C, everything is taken down; what a killed demo left goes with the next one.
Exit 0 when all repairs were seen, 1 when not, 2 when it cannot begin, 130 and 143 after SIGINT and SIGTERM.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

import lab
from lab import Lab

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
# Held as long as a demo runs. In it is the pid; it is emptied when all was taken down, so that a killed demo is known.
LOCK = Path("/run/salvus-demo.lock")
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
ENDINGS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 30.0
# Who dies with a demo that is killed: setpriv(1).
MORTAL = ("setpriv", "--pdeathsig=KILL", "--")
INDEX = "/srv/beacon/index.html"
KEPT = """
The fleet is yours. In another terminal:
  cd {folder}; PATH={bin}:$PATH
  salvusctl get all                           what there is, and how it stands
  salvusctl lab break kill-vm host1 web01     and look on: salvusctl get vm --watch
  $EDITOR manifests/services.yaml             the controller follows these files; its log is controller.log
  salvusctl lab ssh web01                     into a virtual machine
Ctrl-C here takes everything down."""
console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)


class Missed(Exception):
    """Something that the demo is to show did not happen."""


class Refused(Exception):
    """The demo cannot begin."""


class Stopped(BaseException):
    """A signal told the demo to end; its number."""


def act(number: int, text: str) -> None:
    """The headline of a part."""
    console.print(f"\n{number}. {text}", style="bold")


def tell(text: str) -> None:
    """A line of the demo's own, which no command printed."""
    console.print(f"# {text}", style="cyan")


def shell(line: str, folder: Path | None = None, allowed: tuple[int, ...] = (0,)) -> None:
    """Shows a command line and runs it in the folder. Raises Missed for an exit code that is not allowed.

    It is in a process group of its own: a terminal's Ctrl-C reaches only us, and we end it in order.
    """
    console.print(f"$ {line}", style="bold green")
    argv = [*MORTAL, "bash", "-o", "pipefail", "-c", line]
    with subprocess.Popen(argv, cwd=folder, env=_environment(), stdin=subprocess.DEVNULL, process_group=0) as process:
        try:
            code = process.wait()
        except Stopped:
            _end(process, signal.SIGINT)
            raise
    if code not in allowed:
        raise Missed(f"`{line}` ended with {code}")


def _environment() -> dict[str, str]:
    """Ours, without the user's own configuration, and with this salvusctl."""
    own = {name: value for name, value in os.environ.items() if name != "SALVUS_CONFIG"}
    return own | {"PATH": f"{BIN}:{own.get('PATH', os.defpath)}"}


def _end(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def until(true: Callable[[], bool], what: str, timeout: float = 300.0, pause: float = 0.05) -> float:
    """Waits; returns the seconds it took. Raises Missed."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > timeout:
            raise Missed(f"{what}: not seen in {timeout:.0f} s")
        time.sleep(pause)
    return time.monotonic() - began


def work_folder() -> Path:
    """Where the demo keeps its configuration, manifests and store."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "salvus-demo"


@contextmanager
def alone() -> Iterator[None]:
    """No second demo until this one ends, however it ends. Raises Refused while another runs, and for a lab of this
    name that no demo made.

    The lab of a demo that was killed goes: its machines belong to a store that is made anew.
    """
    with LOCK.open("a+") as file:
        file.seek(0)
        former = file.read()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused(f"another demo runs (pid {former}): wait for it, or end it with: kill {former}") from error
        state = lab.status(LAB).state
        if state in ("up", "partial") and not former:
            raise Refused(f"there is a lab {LAB} that no demo made: end it with {BIN}/salvusctl lab down")
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        if state != "down":
            tell("a former demo was killed and left its lab; it is taken down")
            lab.down(LAB)
        try:
            yield
        finally:
            if lab.status(LAB).state == "down":
                file.truncate(0)


def prepare(folder: Path) -> Lab:
    """A fresh folder with the manifests, and a configuration for the lab that is up."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "manifests" / "demo", folder / "manifests")
    found = lab.load(LAB)
    text = CONFIGURATION.format(namespace=found.namespace, key=found.key_path, page=PAGE)
    (folder / "salvus.yaml").write_text(text)
    console.print(f"$ cd {folder}", style="bold green")
    shell("salvusctl lab manifests >manifests/lab.yaml", folder)
    return found


@contextmanager
def controller(folder: Path) -> Iterator[None]:
    """The daemon, in the background. Raises Missed when it does not come up."""
    line = f"controller run --resync {RESYNC}"
    console.print(f"$ salvusctl {line} 2>controller.log &", style="bold green")
    argv = [*MORTAL, str(BIN / "salvusctl"), *shlex.split(line)]
    with (folder / "controller.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=folder, env=_environment(), stdout=log, stderr=log, process_group=0)
    try:
        until(lambda: process.poll() is not None or ready(), "the controller acting", 60)
        if process.returncode is not None:
            raise Missed(f"the controller ended: {(folder / 'controller.log').read_text().strip()[-500:]}")
        yield
    except Missed as error:
        raise Missed(f"{error}; see {folder / 'controller.log'}") from error
    finally:
        _end(process, signal.SIGTERM)


def page(path: str) -> str:
    """A page of the controller. Raises OSError."""
    with urllib.request.urlopen(f"http://{PAGE}/{path}", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def ready() -> bool:
    """Whether the controller acts on machines."""
    with suppress(OSError):
        return bool(page("readyz"))
    return False


def metric(name: str) -> float:
    """The sum of a metric over all labels."""
    lines = page("metrics").splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def in_sync(folder: Path) -> bool:
    """Whether `salvusctl diff`, which asks all machines now, reaches them and finds nothing to do."""
    done = subprocess.run(
        [str(BIN / "salvusctl"), "diff"], cwd=folder, env=_environment(), capture_output=True, check=False
    )
    return done.returncode == 0


def repairs(folder: Path, found: Lab) -> None:
    """Breaks three things, one after the other, and waits until each is as it was."""

    def said(host: str, *command: str) -> str:
        return lab.exec_in(found, found.host(host), command).stdout.decode().strip()

    before = said("host2", "cat", INDEX)
    unit = "salvus-beacon.service"
    for line, healed, what in (
        (
            f"host2 -- sed -i s/after/for/ {INDEX}",
            lambda: said("host2", "cat", INDEX) == before,
            "the file is as it was written",
        ),
        (
            f"host2 -- systemctl stop {unit}",
            lambda: said("host2", "systemctl", "is-active", unit) == "active",
            "the service is active",
        ),
        (
            "host1 -- virsh destroy web01",
            lambda: said("host1", "virsh", "domstate", "web01") == "running",
            "web01 is running",
        ),
    ):
        shell(f"salvusctl lab exec {line}", folder)
        tell(f"{what} again after {until(healed, what):.1f} s")
    seconds = until(lambda: in_sync(folder), "web01 up and in sync", 600, pause=1.0)
    tell(f"booted, and everything as it was written, after {seconds:.0f} s more")


def nothing_to_do() -> None:
    """Shows that passes in sync write nothing."""
    counters = "salvus_pass_seconds_count", "salvus_driver_writes_total"
    passes, writes = map(metric, counters)
    until(lambda: metric(counters[0]) >= passes + 8, "more passes", pause=0.5)
    more, written = (metric(name) - before for name, before in zip(counters, (passes, writes), strict=True))
    tell(f"http://{PAGE}/metrics: {more:.0f} passes more, {written:.0f} writes more")
    if written:
        raise Missed(f"{written:.0f} writes in passes that had nothing to do")


def demo(folder: Path, keep: bool) -> None:
    """All of it."""
    act(1, "A machine room: two hypervisor hosts, made on this machine")
    shell("salvusctl lab up")
    found = prepare(folder)
    act(2, "What is wanted is YAML; `diff` asks the machines, and says what would be done")
    shell(r"salvusctl diff | grep -E '^(\+|Plan)'", folder, allowed=(1,))
    act(3, "`apply` does it: images are pushed, disks made, two Debian guests boot, under emulation")
    shell("salvusctl apply", folder)
    shell("salvusctl get all", folder)
    act(
        4,
        f"A controller keeps it so, hears from libvirt, looks at each machine every {RESYNC} s. Three things break",
    )
    with controller(folder):
        repairs(folder, found)
        act(5, "Nothing is left to do: passes go on, and write nothing to any machine")
        nothing_to_do()
        shell("salvusctl diff", folder)
        if keep:
            console.print(KEPT.format(folder=folder, bin=BIN))
            signal.pause()


def stop(number: int, _: FrameType | None) -> NoReturn:
    """Ends the demo. Once: nothing disturbs what takes it down, nor the commands that it runs for that."""
    for each in ENDINGS:
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)


def play(folder: Path, keep: bool) -> int:
    """The demo and the taking down; returns the exit code."""
    for number in ENDINGS:
        signal.signal(number, stop)
    code = 0
    try:
        demo(folder, keep)
    except Stopped as stopped:
        code = 128 + stopped.args[0]
        print(f"demo: stopped by {signal.Signals(stopped.args[0]).name}; everything is taken down", file=sys.stderr)
    except (Missed, lab.LabError, OSError, subprocess.SubprocessError) as error:
        code = 1
        print(f"demo: {error}", file=sys.stderr)
    finally:
        for number in ENDINGS:
            signal.signal(number, signal.SIG_IGN)
        act(6, "The end: what was made goes")
        shell("salvusctl lab down")
    return code


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the fleet up, and in repair, until Ctrl-C")
    keep: bool = parser.parse_args().keep
    try:
        if os.geteuid() != 0:
            raise Refused("it makes containers and networks, and must be root for that: run it with sudo")
        with alone():
            return play(work_folder(), keep)
    except (Refused, Missed, lab.LabError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2 if isinstance(error, Refused) else 1


if __name__ == "__main__":
    sys.exit(main())
