"""The ssh host key of a virtual machine, made on its hypervisor: the private half is nowhere else."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from drivers.base import Change, Drift, Fields, Grade, Present, State, Verb
from drivers.items import paths as fs
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

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem."""
        paths = [item.path for item in items]
        return fs.look(paths) + fs.notes([public(path) for path in paths]) + fs.marks(paths)

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        seen = fs.looked([item.path for item in items], output)
        halves = fs.noted([public(item.path) for item in items], output)
        ours = fs.marked([item.path for item in items], output)
        return {
            item.key: _state(seen[item.path], public_key(halves[public(item.path)]), ours=item.path in ours)
            for item in items
        }

    def ours(self, observed: Fields) -> bool:
        """See Item. What was taken back out of the trash is."""
        return observed.get("undeleted") is True

    def script(self, change: Change) -> str:
        """See ShellItem. The public half is renamed into place first: a private one never stands without it."""
        half = shlex.quote(public(self.path))
        if change.verb is Verb.DELETE:
            return fs.begin_in_ours(self.path) + fs.trash(public(self.path)) + fs.trash(self.path)
        return f"""\
{fs.begin_in_ours(self.path)}command -v ssh-keygen >/dev/null || fail "there is no ssh-keygen; install openssh-client"
if [ -s "$path" ]; then
    chown root:root -- "$path"
    chmod 0600 -- "$path"
    ssh-keygen -y -P '' -f "$path" >"$new.pub" || fail "$path is not a private key; move it away to have a new one made"
else
    ssh-keygen -q -t ed25519 -N '' -C '' -f "$new"
    sync -- "$new"
fi
chmod 0644 "$new.pub"
sync -- "$new.pub"
mv -fT -- "$new.pub" {half}
[ ! -e "$new" ] || mv -fT -- "$new" "$path"
sync -- "$dir"
"""


def public(path: str) -> str:
    """The file with the public half."""
    return f"{path}.pub"


def public_key(lines: Sequence[str]) -> str:
    """The key in a public key file, without its comment; empty when there is none."""
    parts = lines[0].split() if lines else []
    return f"{parts[0]} {parts[1]}" if len(parts) > 1 and parts[0] == "ssh-ed25519" else ""


def _state(seen: fs.Stat | State, key: str, *, ours: bool) -> State:
    if not isinstance(seen, fs.Stat):
        return seen
    if seen.kind != "file" or not seen.size:
        return Present({"mode": f"a {seen.kind}" if seen.size else "an empty file", "public": bool(key)})
    mark = {"undeleted": True} if ours else {}
    return Present({"mode": seen.mode, "public": bool(key), **mark}, {"ssh_host_key": key} if key else {})
