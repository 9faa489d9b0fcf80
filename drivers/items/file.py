"""A regular file, written whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from drivers.base import Drift, Fields, Grade
from drivers.items.shell import ShellItem


@dataclass(frozen=True, slots=True)
class File(ShellItem):
    """A regular file. ``mode`` is octal digits; ``owner`` and ``group`` are names, or numbers as text."""

    forgets: ClassVar[frozenset[str]] = frozenset({"content"})

    path: str
    content: str
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    def fields(self) -> Fields:
        """See Item."""
        digest = hashlib.sha256(self.content.encode()).hexdigest()
        return {"sha256": digest, "mode": f"{int(self.mode, 8):04o}", "owner": self.owner, "group": self.group}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """A file disturbs nothing; what reads it is another item."""
        return Grade.LIVE
