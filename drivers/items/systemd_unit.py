"""A systemd unit: whether it runs, whether it starts at boot, and with which files it was started."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from drivers.base import Drift, Fields, Grade, Value
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
            fields["restart_on"] = _lines(self.restart_on)
        if self.running and self.reload_on:
            fields["reload_on"] = _lines(self.reload_on)
        return fields

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """See Item. What does not run is not disturbed by being started."""
        found = {one.field: one for one in drift}
        if "running" in found:
            return Grade.LIVE if self.running else Grade.RESTART
        if "restart_on" in found:
            return Grade.RESTART
        return Grade.RELOAD if "reload_on" in found else Grade.LIVE


def _lines(watched: Iterable[Watched]) -> tuple[str, ...]:
    return tuple(sorted(f"{one.path} {one.sha256}" for one in watched))
