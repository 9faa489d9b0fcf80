"""The ssh host key of a virtual machine, made on its hypervisor: the private half is nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.base import Drift, Fields, Grade
from drivers.items.shell import ShellItem


@dataclass(frozen=True, slots=True)
class HostKey(ShellItem):
    """An ed25519 key pair: ``path`` and ``path.pub``. Fact: ``ssh_host_key``, as in ``ssh-ed25519 AAAA…``.

    ``path`` is ``ROOT/FOLDER/NAME``; deleting moves both halves to ``ROOT/trash``.
    """

    path: str

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    def fields(self) -> Fields:
        """See Item."""
        return {"mode": "0600", "public": True}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """A key that is there is never made anew."""
        return Grade.LIVE
