"""What the demos have in common: lines that are shown and run, waiting, a daemon, and everything taken down at the end.

A line that begins with ``$`` is run as it stands, and what follows is what it printed.
"""

from __future__ import annotations

import argparse
import fcntl
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

import lab

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
# Where a demo's lock is. In it is the pid; it is emptied when all was taken down, so that a killed demo is known.
LOCKS = Path("/run")
ENDINGS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 30.0
# Who dies with a demo that is killed: setpriv(1).
MORTAL = ("setpriv", "--pdeathsig=KILL", "--")
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
    """Waits, and says so on a terminal; returns the seconds it took. Raises Missed."""
    began = time.monotonic()
    with console.status(f"waiting for {what}"):
        while not true():
            if time.monotonic() - began > timeout:
                raise Missed(f"{what}: not seen in {timeout:.0f} s")
            time.sleep(pause)
    return time.monotonic() - began


def work_folder(name: str) -> Path:
    """Where the demo of that name keeps its configuration, manifests and store."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / f"salvus-{name}"


@contextmanager
def alone(name: str) -> Iterator[None]:
    """No second demo of the name until this one ends, however it ends. Raises Refused while another runs, and for a
    lab of this name that no demo made.

    The lab of a demo that was killed goes: its machines belong to a store that is made anew.
    """
    with (LOCKS / f"salvus-{name}.lock").open("a+") as file:
        file.seek(0)
        former = file.read()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused(f"another demo runs (pid {former}): wait for it, or end it with: kill {former}") from error
        state = lab.status(name).state
        if state in ("up", "partial") and not former:
            raise Refused(
                f"there is a lab {name} that no demo made: end it with {BIN}/salvusctl lab down --name {name}"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        if state != "down":
            tell("a former demo was killed and left its lab; it is taken down")
            lab.down(name)
        try:
            yield
        finally:
            if lab.status(name).state == "down":
                file.truncate(0)


@dataclass(frozen=True, slots=True)
class Controller:
    """A running daemon: its process, and the ``HOST:PORT`` of its page."""

    process: subprocess.Popen[bytes]
    page: str

    def kill(self) -> None:
        """kill -9."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def read(self, path: str) -> str:
        """A page. Raises OSError."""
        with urllib.request.urlopen(f"http://{self.page}/{path}", timeout=5) as answer:
            text: str = answer.read().decode()
        return text

    def ready(self) -> bool:
        """Whether it acts on machines, or would."""
        with suppress(OSError):
            return bool(self.read("readyz"))
        return False

    def metric(self, name: str) -> float:
        """The sum of a metric over all labels. Raises OSError."""
        lines = self.read("metrics").splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


@contextmanager
def controller(
    folder: Path, options: str, page: str, log: str = "controller.log", prefix: str = ""
) -> Iterator[Controller]:
    """A daemon in the background, by the command ``prefix`` if there is one. Raises Missed when it does not come up."""
    line = f"controller run {options}"
    console.print(f"$ salvusctl {line} 2>{log} &", style="bold green")
    argv = [*MORTAL, *shlex.split(prefix), str(BIN / "salvusctl"), *shlex.split(line)]
    with (folder / log).open("ab") as file:
        # What one that is killed leaves goes with the folder.
        own = _environment() | {"TMPDIR": str(folder)}
        process = subprocess.Popen(argv, cwd=folder, env=own, stdout=file, stderr=file, process_group=0)
    run = Controller(process, page)
    try:
        until(lambda: process.poll() is not None or run.ready(), "the controller acting", 60)
        if process.returncode is not None:
            raise Missed(f"the controller ended: {(folder / log).read_text().strip()[-500:]}")
        yield run
    except Missed as error:
        raise Missed(f"{error}; see {folder / log}") from error
    finally:
        _end(process, signal.SIGTERM)


def output(line: str, folder: Path) -> str:
    """What a command prints, not shown. Raises subprocess.CalledProcessError."""
    done = subprocess.run(shlex.split(line), cwd=folder, env=_environment(), capture_output=True, text=True, check=True)
    return done.stdout


def in_sync(folder: Path) -> bool:
    """Whether `salvusctl diff`, which asks all machines now, reaches them and finds nothing to do."""
    done = subprocess.run(
        [str(BIN / "salvusctl"), "diff"], cwd=folder, env=_environment(), capture_output=True, check=False
    )
    return done.returncode == 0


def ready(folder: Path) -> bool:
    """Whether the controllers say so of everything."""
    items = json.loads(output("salvusctl get all -o json", folder))["items"]
    found = [one["status"] for item in items for one in item["status"]["conditions"] if one["type"] == "Ready"]
    return len(found) == len(items) > 0 and set(found) == {"True"}


def stop(number: int, _: FrameType | None) -> NoReturn:
    """Ends the demo. Once: nothing disturbs what takes it down, nor the commands that it runs for that."""
    for each in ENDINGS:
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)


def play(demo: Callable[[Path, bool], None], name: str, keep: bool) -> int:
    """The demo and the taking down; returns the exit code."""
    for number in ENDINGS:
        signal.signal(number, stop)
    code = 0
    try:
        demo(work_folder(name), keep)
    except Stopped as stopped:
        code = 128 + stopped.args[0]
        print(f"demo: stopped by {signal.Signals(stopped.args[0]).name}; everything is taken down", file=sys.stderr)
    except (Missed, lab.LabError, OSError, subprocess.SubprocessError) as error:
        code = 1
        print(f"demo: {error}", file=sys.stderr)
    finally:
        for number in ENDINGS:
            signal.signal(number, signal.SIG_IGN)
        console.print("\nThe end: what was made goes", style="bold")
        shell(f"salvusctl lab down --name {name}")
        if code == 0:
            shutil.rmtree(work_folder(name), ignore_errors=True)
        else:
            tell(f"what it wrote, logs too, is in {work_folder(name)} until it is run again")
    return code


def run(demo: Callable[[Path, bool], None], name: str, target: str, about: str | None) -> int:
    """The whole program of a demo: ``demo`` gets its work folder, and whether the fleet is to be kept until Ctrl-C.

    Exit 0 when all was seen that it is to show, 1 when not, 2 when it cannot begin, 130 and 143 after SIGINT and
    SIGTERM.
    """
    parser = argparse.ArgumentParser(prog=target, description=about)
    parser.add_argument("--keep", action="store_true", help="leave the fleet up, and in repair, until Ctrl-C")
    keep: bool = parser.parse_args().keep
    try:
        if os.geteuid() != 0:
            raise Refused("it makes containers and networks, and must be root for that: run it with sudo")
        with alone(name):
            return play(demo, name, keep)
    except (Refused, Missed, lab.LabError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2 if isinstance(error, Refused) else 1
