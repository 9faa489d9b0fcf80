"""A host's control groups. They say which processes are the host's, and freeze and end just these.

No number of a process is remembered, so none that the kernel gave to somebody else meanwhile can be hit. cgroup v2
where it is mounted at /sys/fs/cgroup (cgroups(7)). Else v1, with a folder in every hierarchy, so that systemd in the
container sees a root of its own in each; other than the freezer's they lie below where the caller is: limits that the
caller lives under hold for its lab too.
"""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from lab.model import LabError

_MOUNT = Path("/sys/fs/cgroup")
_PARENT = "salvus-lab"


@dataclass(frozen=True, slots=True)
class CGroup:
    """The folders of one group, `main` being the one that freezes and counts."""

    main: Path
    others: tuple[Path, ...]
    unified: bool

    @property
    def folders(self) -> tuple[Path, ...]:
        return (*self.others, self.main)

    def create(self) -> None:
        """Makes the folders. A v1 cpuset group takes processes only once it was told its CPUs and memory nodes."""
        for folder in self.folders:
            for level in (*reversed(folder.parents), folder):
                if not level.exists():
                    level.mkdir()
                    for setting in ("cpuset.cpus", "cpuset.mems"):
                        _inherit(level, setting)

    def pids(self) -> tuple[int, ...]:
        """Every process in the group and below it, now."""
        found: list[int] = []
        for procs in self.main.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found.extend(int(line) for line in procs.read_text().split())
        return tuple(found)

    def freeze(self, on: bool) -> None:
        """Stops every process of the group where it is, or lets all of them go on. Comes back when it is done."""
        if not self.main.exists():
            return
        if self.unified:
            (self.main / "cgroup.freeze").write_text("1" if on else "0")
        else:
            (self.main / "freezer.state").write_text("FROZEN" if on else "THAWED")
        deadline = time.monotonic() + 10
        while self.frozen() is not on:
            if time.monotonic() > deadline:
                raise LabError(f"{self.main} did not become {'frozen' if on else 'thawed'} in 10 s")
            time.sleep(0.02)

    def frozen(self) -> bool:
        """Whether all of it stands still."""
        with contextlib.suppress(OSError):
            if self.unified:
                return "frozen 1" in (self.main / "cgroup.events").read_text()
            return (self.main / "freezer.state").read_text().strip() == "FROZEN"
        return False

    def cpu(self) -> float:
        """Seconds of CPU that its processes have used, the ended ones too."""
        if self.unified:
            told = dict(line.split() for line in (self.main / "cpu.stat").read_text().splitlines())
            return int(told["usage_usec"]) / 1e6
        usage = next(file for folder in self.others if (file := folder / "cpuacct.usage").exists())
        return int(usage.read_text()) / 1e9

    def kill(self, timeout: float = 20) -> None:
        """SIGKILLs every process of the group until none is left, also frozen ones.

        LabError after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.freeze(False)
            if time.monotonic() > deadline:
                raise LabError(f"processes {', '.join(map(str, pids))} in {self.main} do not end")
            time.sleep(0.05)


def _inherit(folder: Path, setting: str) -> None:
    if (folder / setting).exists():
        (folder / setting).write_text((folder.parent / setting).read_text())


def _hierarchies() -> dict[Path, Path]:
    """Mount point → our own folder in it, of every control group hierarchy: proc_pid_mountinfo(5), cgroups(7)."""
    mounts: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        kind, _, options = right.split()
        if kind == "cgroup2":
            mounts[""] = Path(left.split()[4])
        elif kind == "cgroup":
            mounts |= dict.fromkeys(options.split(","), Path(left.split()[4]))
    found = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, place = line.split(":", 2)
        if mount := mounts.get(controllers.split(",")[0]):
            found[mount] = mount / place.lstrip("/")
    return found


def group(name: str, host: str) -> CGroup:
    """The group of one host of the lab with that kernel name. LabError where the machine has none that can freeze."""
    own = _hierarchies()
    tail = Path(_PARENT) / name / host
    freezer = _MOUNT / "freezer"
    if _MOUNT in own:
        return CGroup(_MOUNT / tail, (), True)
    if freezer not in own:
        raise LabError(f"no cgroup v2 at {_MOUNT} and no freezer of cgroup v1 at {freezer}: mount one of them")
    return CGroup(freezer / tail, tuple(own[mount] / tail for mount in sorted(own) if mount != freezer), False)


def hosts(name: str) -> tuple[str, ...]:
    """The hosts that have groups under the lab's kernel name, whether anything lives in them or not."""
    folder = group(name, "any").main.parent
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir())) if folder.is_dir() else ()


def remove(name: str) -> None:
    """Removes all groups of the lab, wherever its starter was then, with what the containers made in them.

    They must be empty of processes.
    """
    for mount in _hierarchies():
        for parent in [folder for folder, _, _ in os.walk(mount) if Path(folder).name == _PARENT]:
            for folder, _, _ in os.walk(Path(parent) / name, topdown=False):
                Path(folder).rmdir()
            # Another lab's groups may be there.
            with contextlib.suppress(OSError):
                Path(parent).rmdir()
