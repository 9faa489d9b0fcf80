"""What libvirt tells of its host. Nothing is wanted of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from drivers.base import Drift, Fields, Grade, Item, Transport


@dataclass(frozen=True, slots=True)
class Hypervisor(Item):
    """libvirt on the machine.

    Facts: ``domain_type`` (``kvm`` where a guest was seen to run with it, else ``qemu``), ``emulator`` (the path of
    the program that runs guests), ``arch``, ``libvirt_version``.
    """

    transport: ClassVar[Transport] = Transport.LIBVIRT

    @property
    def name(self) -> str:
        """There is one a machine."""
        return "self"

    def fields(self) -> Fields:
        """Nothing is wanted."""
        return {}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """Never asked, as there is never drift."""
        return Grade.LIVE
