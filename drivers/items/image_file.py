"""A large file that is pushed from the controller once and then only read: a base image, a kernel."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from drivers.base import Change, Drift, Failed, Fields, Grade, Present, State, Verb
from drivers.items import paths as fs
from drivers.items.shell import ShellItem


@dataclass(frozen=True, slots=True)
class ImageFile(ShellItem):
    """A file with a known digest. ``source`` is a path on the controller; ``sha256`` is in lower-case hex."""

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

    def lasts(self, verb: Verb, grade: Grade) -> bool:
        """A push takes minutes."""
        return verb is not Verb.DELETE

    @property
    def payload(self) -> str:
        """See ShellItem."""
        return self.source

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem. Nothing is hashed here: gigabytes take longer than a probe may."""
        return fs.look([item.path for item in items]) + fs.notes([_note(item.path) for item in items])

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        seen = fs.looked([item.path for item in items], output)
        notes = fs.noted([_note(item.path) for item in items], output)
        return {item.key: _state(seen[item.path], notes[_note(item.path)]) for item in items}

    def script(self, change: Change) -> str:
        """See ShellItem. Raises Failed when the source is not on the controller."""
        begin = f"{fs.begin_in_ours(self.path)}note={shlex.quote(_note(self.path))}\n"
        if change.verb is Verb.DELETE:
            return begin + _unused(self.path) + 'rm -f -- "$note" "$path"\n'
        return f"""\
{begin}want={shlex.quote(self.sha256.lower())}
have=
if [ -f "$path" ]; then have=$(sha256sum <"$path"); fi
if [ "${{have%% *}}" != "$want" ]; then
    room=$(df -B1 --output=avail -- "$dir" | tail -n 1)
    [ "$room" -ge {_room(self.source)} ] || fail "$path needs {_room(self.source)} bytes, and $dir has $room left"
    rm -f -- "$note"
    dd bs=1M iflag=fullblock conv=sparse,excl status=none of="$new" || {{
        rm -f -- "$new"
        fail "$path could not be written; $dir has $(df -B1 --output=avail -- "$dir" | tail -n 1) bytes left"
    }}
    have=$(sha256sum <"$new")
    [ "${{have%% *}}" = "$want" ] ||
        fail "what arrived for $path has SHA-256 ${{have%% *}}, wanted is $want; correct the manifest or the source"
    chmod 0644 "$new"
    {fs.FINISH.replace(chr(10), chr(10) + "    ").rstrip()}
fi
printf '%s %s\\n' "$want" "$({fs.STAMP} "$path")" >"$new"
mv -fT -- "$new" "$note"
"""


def _note(path: str) -> str:
    """Where it is noted which digest the file had when it was hashed last, and its stamp then."""
    return fs.beside(path, "verified")


def _state(seen: fs.Stat | State, note: Sequence[str]) -> State:
    if not isinstance(seen, fs.Stat):
        return seen
    if seen.kind != "file":
        return Present({"sha256": f"a {seen.kind}"})
    digest, _, stamp = note[0].partition(" ") if note else ("", "", "")
    return Present({"sha256": digest if stamp == seen.stamp else "not verified since it was written"})


def _room(source: str) -> int:
    """The bytes that a copy of a file on the controller takes, holes left out."""
    try:
        found = Path(source).stat()
    except OSError as error:
        raise Failed(f"{source} cannot be read on the controller: {error.strerror}") from None
    return min(found.st_size, found.st_blocks * 512)


def _unused(path: str) -> str:
    """Fails when an overlay beside the image or in the trash has it as its base; the name is in the first kilobytes."""
    root = shlex.quote(posixpath.dirname(posixpath.dirname(path)))
    return f"""\
for overlay in {root}/*/*; do
    if [ -f "$overlay" ] && [ "$overlay" != "$path" ] && head -c 4096 -- "$overlay" | grep -qaF -- "$path"; then
        in_use "$path is the base of $overlay; delete that first, or move it away"
    fi
done
"""
