"""A Debian package, installed by apt."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from drivers.base import Absent, Change, Drift, Fields, Grade, Present, Rejected, State, Unknown, Verb
from drivers.items import paths as fs
from drivers.items.shell import ShellItem


@dataclass(frozen=True, slots=True)
class Package(ShellItem):
    """A Debian package of the machine's own architecture. Which version is the machine's matter."""

    uninterruptible: ClassVar[bool] = True

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

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem. ``dpkg`` is asked for too: where it is not known itself, its database is not to be trusted."""
        names = fs.words(item.package for item in items if _NAME.fullmatch(item.package))
        return f'{_QUERY} dpkg {names} 2>/dev/null\necho "end $?"\n'

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        lines = output.split("\n")
        states: dict[str, str] = {}
        for line in lines:
            if found := _LINE.fullmatch(line):
                name, architecture, word = found.groups()
                states[f"{name}:{architecture}"] = word
                if states.get(name) != "installed":
                    states[name] = word
        answered = states.get("dpkg") == "installed" and ("end 0" in lines or "end 1" in lines)
        return {item.key: item.state(answered, states) for item in items}

    def state(self, answered: bool, states: Mapping[str, str]) -> State:
        """What dpkg said, as this item's fields."""
        if not answered or not _NAME.fullmatch(self.package):
            return Unknown(f"dpkg-query did not tell of {self.package}")
        word = states.get(self.package, "not-installed")
        if word in ("not-installed", "config-files"):
            return Absent()
        return Present({"installed": word in _INSTALLED or word})

    def script(self, change: Change) -> str:
        """See ShellItem. Raises Rejected for what is no name: apt takes ``name-`` as an order to remove."""
        if not _NAME.fullmatch(self.package):
            raise Rejected(f"{self.package!r} is not the name of a Debian package")
        steps = _REMOVE if change.verb is Verb.DELETE else _INSTALL
        return f"{fs.FAIL}package={shlex.quote(self.package)}\n{_APT}{steps}"


# Debian Policy 5.6.1, with an optional architecture; the last character may not be what apt reads as an order.
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.](:[a-z0-9-]*[a-z0-9])?")
_LINE = re.compile("P ([^ ]+) ([^ ]*) ([^ ]+)")
_INSTALLED = ("installed", "triggers-awaited", "triggers-pending")
_QUERY = "LC_ALL=C dpkg-query -W -f 'P ${Package} ${Architecture} ${db:Status-Status}\\n' --"

_APT = """\
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
apt() {
    apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}
# What a killed dpkg left; while another one runs this fails, and apt waits for it.
if [ -n "$(ls -A /var/lib/dpkg/updates)" ]; then dpkg --configure -a --force-confdef --force-confold || true; fi
"""
# Without a network the lists that are there must do: whether they did is seen when it is installed.
_INSTALL = """\
known() { apt-cache policy -- "$package" | grep -q 'Candidate: [^(]'; }
if ! known || [ -z "$(find /var/lib/apt/lists/partial -maxdepth 0 -mtime -1)" ]; then apt update >/dev/null || true; fi
known || fail "apt knows no package $package; correct the name, or add the archive it comes from"
apt install --no-install-recommends -- "$package" >/dev/null
"""
# What was installed for it alone goes with it; what others left behind before is not ours to take.
_REMOVE = """\
removals() { printf '%s\\n' "$1" | sed -n 's/^Remv \\([^ ]*\\).*/\\1/p'; }
alone=$(apt -s remove -- "$package")
before=$(apt -s autoremove)
after=$(apt -s --autoremove remove -- "$package")
others=$(removals "$alone" | grep -vxF -e "${package%%:*}" -e "$package" || true)
[ -z "$others" ] || fail "$package stays: removing it would remove" $others "as well; remove these first"
rests=$(removals "$after" | grep -vxF -e "$(removals "$before")" || true)
apt remove -- "$package" $rests >/dev/null
"""
