"""A Debian package, installed by apt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.base import Drift, Fields, Grade
from drivers.items.shell import ShellItem


@dataclass(frozen=True, slots=True)
class Package(ShellItem):
    """A Debian package of the machine's own architecture. Which version is the machine's matter."""

    package: str

    @property
    def name(self) -> str:
        """The package's name."""
        return self.package

    def fields(self) -> Fields:
        """See Item."""
        return {"installed": True}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """Installing what is missing disturbs nothing that is there."""
        return Grade.LIVE
