"""A systemd unit: whether it runs, whether it starts at boot, and with which files it was started."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from drivers.base import Absent, Change, Drift, Fields, Grade, Present, Rejected, State, Unknown, Value, Verb
from drivers.items import paths as fs
from drivers.items import systemd_script as sh
from drivers.items.shell import ShellItem


@dataclass(frozen=True, slots=True)
class Watched:
    """A file that a unit reads when it starts, and the digest it should have then."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SystemdUnit(ShellItem):
    """A unit that is there already: a package or a File brought it.

    Attributes:
        restart_on: files with which the unit must have been started; another content needs a restart.
        reload_on: the same, where a reload is enough.
    """

    unit: str
    running: bool
    enabled: bool
    restart_on: tuple[Watched, ...] = ()
    reload_on: tuple[Watched, ...] = ()

    @property
    def name(self) -> str:
        """The unit's name."""
        return self.unit

    def fields(self) -> Fields:
        """See Item. What a unit was started with matters while it runs."""
        fields: dict[str, Value] = {"running": self.running, "enabled": self.enabled}
        if self.running and self.restart_on:
            fields["restart_on"] = _wanted(self.restart_on)
        if self.running and self.reload_on:
            fields["reload_on"] = _wanted(self.reload_on)
        return fields

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """See Item. What does not run is not disturbed by being started."""
        found = {one.field: one for one in drift}
        if "running" in found:
            return Grade.LIVE if self.running else Grade.RESTART
        if "restart_on" in found:
            return Grade.RESTART
        return Grade.RELOAD if "reload_on" in found else Grade.LIVE

    def gated(self, change: Change) -> bool:
        """See Item. What runs goes on, also with what is new of it."""
        return change.verb is Verb.CREATE or any(one.field == "running" for one in change.drift)

    @property
    def watched(self) -> tuple[Watched, ...]:
        """All files that it is to be started or reloaded with."""
        return self.restart_on + self.reload_on

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem. Watched files are not read: who has changed one has changed its time too."""
        askable = [item for item in items if _NAME.fullmatch(item.unit)]
        watched = _watched_paths(askable)
        show = f"{sh.SHOW}salvus_units {fs.words(item.unit for item in askable)}\n" if askable else ""
        return show + fs.look(watched) + fs.notes(_markers(askable))

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        askable = [item for item in items if _NAME.fullmatch(item.unit)]
        watched = _watched_paths(askable)
        markers = fs.noted(_markers(askable), output)
        young = frozenset(re.findall("^Young=([0-9]+)$", output, re.MULTILINE))
        now = _Now(_blocks(output), young, fs.looked(watched, output), markers)
        return {item.key: item.state(now) for item in items}

    def state(self, now: _Now) -> State:
        """What was seen, as this item's fields."""
        unit = now.units.get(self.unit)
        if unit is None or not unit.get("LoadState"):
            template = "it is a template: name an instance of it, as in name@instance.service"
            return Unknown(template if "@." in self.unit else f"systemctl did not tell of {self.unit}")
        if unit["LoadState"] == "not-found":
            return Absent()
        fields: dict[str, Value] = {"running": self._running(unit, now.young), "enabled": self._enabled(unit)}
        fields |= {"restart_on": self._started(self.restart_on, now), "reload_on": self._started(self.reload_on, now)}
        return Present(fields)

    def _running(self, unit: Mapping[str, str], young: frozenset[str]) -> Value:
        flapping = int(unit.get("NRestarts", 0)) > 1 and unit.get("ActiveEnterTimestampMonotonic") in young
        match unit.get("ActiveState"), unit.get("SubState"):
            case "active", _ if flapping:
                return "flapping"
            case (("active" | "reloading" | "refreshing"), _):
                return True
            case "inactive", _:
                return False
            case "failed", _:
                return "failed" if self.running else False
            case _, sub:
                return sub or "not known"

    def _enabled(self, unit: Mapping[str, str]) -> Value:
        match unit.get("UnitFileState"):
            case "enabled":
                return True
            case "disabled" | "linked" | "linked-runtime":
                return False
            case "masked" | "masked-runtime" as word:
                return word if self.enabled else False
            case "static" | "indirect" | "generated" | "transient" | "alias" | "":
                return self.enabled  # It has no say in when it starts: there is nothing to enable.
            case word:
                return word

    def _started(self, wanted: Iterable[Watched], now: _Now) -> Value:
        """With which contents the unit was started, as far as that is certain: not written since."""
        started = dict(line.split(" ", 1) for line in now.markers.get(sh.marker(self.unit), ()) if " " in line)
        lines = []
        for one in wanted:
            digest, _, mtime = started.get(sh.tag(one.path), "").partition(" ")
            found = now.files.get(one.path)
            same = isinstance(found, fs.Stat) and found.mtime == mtime
            lines.append(f"{one.path} {digest if same else _otherwise(digest)}")
        return tuple(sorted(lines))

    def script(self, change: Change) -> str:
        """See ShellItem. Raises Rejected for what is no unit."""
        if not _NAME.fullmatch(self.unit):
            raise Rejected(
                f"{self.unit!r} is not a unit that can be started", hint="write its full name, as in a.service"
            )
        if change.verb is Verb.DELETE:
            return sh.delete(self.unit)
        drifted = {one.field for one in change.drift}
        text = sh.begin(self.unit)
        if "enabled" in drifted:
            text += sh.enable(self.enabled)
        if "running" in drifted and not self.running:
            text += sh.STOP
        elif drifted & {"running", "restart_on", "reload_on"}:
            contents = {one.path: one.sha256 for one in self.watched}
            text += sh.start(contents, restart="restart_on" in drifted, reload="reload_on" in drifted)
        return text


@dataclass(frozen=True, slots=True)
class _Now:
    """The parts of the probe's answer: units by each of their names, young starts, watched files, markers by path."""

    units: Mapping[str, Mapping[str, str]]
    young: frozenset[str]
    files: Mapping[str, fs.Stat | Absent | Unknown]
    markers: Mapping[str, tuple[str, ...]]


# systemd.unit(5): a name with its type; a template has nothing between the at sign and the type, and never runs.
_NAME = re.compile(r"[A-Za-z0-9:_.\\][A-Za-z0-9:_.\\-]*(@[A-Za-z0-9:_.\\-]+)?\.[a-z]+")


def _wanted(watched: Iterable[Watched]) -> tuple[str, ...]:
    return tuple(sorted(f"{one.path} {one.sha256}" for one in watched))


def _otherwise(digest: str) -> str:
    return f"{digest[:12]} at the start, written again since" if digest else "not known to be started with it"


def _watched_paths(items: Iterable[SystemdUnit]) -> list[str]:
    return sorted({one.path for item in items for one in item.watched})


def _markers(items: Iterable[SystemdUnit]) -> list[str]:
    return [sh.marker(item.unit) for item in items if item.watched]


def _blocks(output: str) -> Mapping[str, Mapping[str, str]]:
    blocks = [
        dict(line.split("=", 1) for line in block.split("\n") if re.match("[A-Z][A-Za-z]+=", line))
        for block in output.split("\n\n")
    ]
    # systemctl quotes a name that has a backslash, as a shell would.
    return {name: block for block in blocks for name in shlex.split(block.get("Names", ""))}
