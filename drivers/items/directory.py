"""A directory. What is in it belongs to others."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from drivers.base import Change, Drift, Fields, Grade, Present, State, Verb
from drivers.items import paths as fs
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

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem."""
        return fs.look([item.path for item in items])

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        seen = fs.looked([item.path for item in items], output)
        return {item.key: item.state(seen[item.path]) for item in items}

    def state(self, seen: fs.Stat | State) -> State:
        """What was seen, as this item's fields."""
        if not isinstance(seen, fs.Stat):
            return seen
        mode = seen.mode if seen.kind == "directory" else f"a {seen.kind}"
        return Present({"mode": mode, "owner": seen.owner(self.owner), "group": seen.owning_group(self.group)})

    def script(self, change: Change) -> str:
        """See ShellItem."""
        path = shlex.quote(self.path)
        if change.verb is Verb.DELETE:
            return f"[ -L {path} ] || [ ! -d {path} ] || rmdir --ignore-fail-on-non-empty -- {path}\n"
        # Five digits: with four, chmod keeps the setgid bit of a directory.
        # Where we are stays what it is, whatever becomes of its name: a directory has no second one that is no link.
        return f"""\
{fs.FAIL}path={path}
{fs.NO_LINK}[ ! -e "$path" ] || [ -d "$path" ] || fail "$path is not a directory; move it away"
if [ ! -d "$path" ]; then
    umask 022
    mkdir -p -- {shlex.quote(posixpath.dirname(self.path))}
    mkdir -m 0700 -- "$path"
fi
cd -P -- "$path"
here=$(stat -c %d:%i .)
[ "$here" = "$(stat -c %d:%i -- "$path")" ] || fail "$path became a link meanwhile; remove it"
chown -- {shlex.quote(f"{self.owner}:{self.group}")} .
chmod -- {shlex.quote(self.mode.zfill(5))} .
"""
