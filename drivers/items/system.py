"""What a machine tells of itself: asked so that reachability is known, and for its facts. Nothing is wanted of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from drivers.base import Change, Drift, Fields, Grade, Present, Rejected, State, Unknown
from drivers.items.shell import ShellItem

FACTS = frozenset({"boot_id", "hostname", "kernel", "architecture", "os"})
# Characters: a guest may say what it likes, and everybody who asks for it has to read it.
LONGEST = 256
# Asked at every pass: no process besides the shell (the file "arch" is there since Linux 6.1). The last line ends the
# shell of a machine that has no such file.
PROBE = """\
read -r id </proc/sys/kernel/random/boot_id || id=
read -r host </proc/sys/kernel/hostname
read -r kernel </proc/sys/kernel/osrelease
{ read -r arch </proc/sys/kernel/arch; } 2>/dev/null || arch=$(uname -m)
printf '%s=%s\\n' boot_id "$id" hostname "$host" kernel "$kernel" architecture "$arch"
. /etc/os-release 2>/dev/null && echo "os=$ID $VERSION_ID"
"""


@dataclass(frozen=True, slots=True)
class System(ShellItem):
    """The machine itself. Facts: ``boot_id``, ``kernel``, ``architecture``, ``hostname``, ``os`` (os-release(5))."""

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

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem."""
        return PROBE

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        told = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
        facts = {name: told[name][:LONGEST] for name in FACTS & told.keys()}
        state: State = Present({}, facts) if facts.get("boot_id") else Unknown("the machine did not tell its boot id")
        return {item.key: state for item in items}

    def script(self, change: Change) -> str:
        """There is nothing to change."""
        raise Rejected("a machine cannot be made by shell")
