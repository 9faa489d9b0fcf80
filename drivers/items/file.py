"""A regular file, written whole."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from drivers.base import Absent, Change, Drift, Fields, Grade, Present, State, Unknown, Verb
from drivers.items import paths as fs
from drivers.items.shell import ShellItem, here


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

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem."""
        paths = [item.path for item in items]
        return fs.look(paths) + fs.sums(paths)

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        seen = fs.looked([item.path for item in items], output)
        digests = fs.summed(output)
        return {item.key: item.state(seen[item.path], digests.get(item.path)) for item in items}

    def state(self, seen: fs.Stat | Absent | Unknown, digest: str | None) -> State:
        """What was seen, as this item's fields."""
        if not isinstance(seen, fs.Stat):
            return seen
        content = digest if seen.kind == "file" else f"a {seen.kind}"
        if content is None:
            return Unknown(f"{self.path} cannot be read")
        owner, group = seen.owner(self.owner), seen.owning_group(self.group)
        return Present({"sha256": content, "mode": seen.mode, "owner": owner, "group": group})

    def script(self, change: Change) -> str:
        """See ShellItem. A file whose content is right keeps its time: units look at when it was written."""
        begin = fs.begin(self.path)
        if change.verb is Verb.DELETE:
            return begin + 'rm -f -- "$path"\n'
        right = change.verb is Verb.UPDATE and all(one.field != "sha256" for one in change.drift)
        keep = f'touch -c -r "$path" -- {fs.NEW}\n' if right else ""
        owner = shlex.quote(f"{self.owner}:{self.group}")
        return f"""\
{begin}{fs.CREATE}{{
{here(self.content.encode())}}} >&3
{keep}chown -- {owner} {fs.NEW}
chmod -- {shlex.quote(self.mode)} {fs.NEW}
{fs.FINISH}"""
