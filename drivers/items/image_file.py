"""A large file that is pushed from the controller once and then only read: a base image, a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from drivers.base import Drift, Fields, Grade
from drivers.items.shell import ShellItem


@dataclass(frozen=True, slots=True)
class ImageFile(ShellItem):
    """A file with a known digest. ``source`` is a path on the controller; ``sha256`` is in lower-case hex."""

    lasting: ClassVar[bool] = True

    path: str
    source: str
    sha256: str

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    def fields(self) -> Fields:
        """See Item."""
        return {"sha256": self.sha256.lower()}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """It is renamed into place; who has the old one open keeps it."""
        return Grade.LIVE

    @property
    def payload(self) -> str:
        """See ShellItem."""
        return self.source
