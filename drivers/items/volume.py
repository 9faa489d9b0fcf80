"""A disk of a virtual machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drivers.base import Drift, Fields, Grade, Value
from drivers.items.shell import ShellItem


@dataclass(frozen=True, slots=True)
class Volume(ShellItem):
    """A disk image. It grows and is never shrunk; deleting it moves it to the trash.

    Attributes:
        path: ``ROOT/FOLDER/NAME``; the trash is ``ROOT/trash``.
        size: bytes that the guest sees; a multiple of 512.
        backing: path of the image it is an overlay of; empty when it stands alone.
    """

    path: str
    size: int
    backing: str = ""
    backing_format: Literal["", "qcow2", "raw"] = ""
    format: Literal["qcow2", "raw"] = "qcow2"

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    def fields(self) -> Fields:
        """See Item."""
        fields: dict[str, Value] = {"size": self.size, "format": self.format, "backing": self.backing}
        if self.backing:
            fields["backing_format"] = self.backing_format
        return fields

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """See Item. A disk grows while nobody uses it; another base or format is another disk."""
        fields = {one.field for one in drift}
        if "format" in fields:
            return Grade.DATA_LOSS
        if fields & {"backing", "backing_format"}:
            return Grade.REPLACE
        return Grade.RESTART if "size" in fields else Grade.LIVE
