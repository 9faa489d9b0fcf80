"""A directory. What is in it belongs to others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.base import Drift, Fields, Grade
from drivers.items.shell import ShellItem


@dataclass(frozen=True, slots=True)
class Directory(ShellItem):
    """A directory; missing parents are made as root's, 0755. Deleting it leaves it where it is not empty."""

    path: str
    mode: str = "0755"
    owner: str = "root"
    group: str = "root"

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    def fields(self) -> Fields:
        """See Item."""
        return {"mode": f"{int(self.mode, 8):04o}", "owner": self.owner, "group": self.group}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """Whoever uses it is not disturbed."""
        return Grade.LIVE
