"""A directory whose files are known all together: one more in it is drift as much as one that is missing."""

from __future__ import annotations

import hashlib
import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from drivers.base import Absent, Change, Drift, Fields, Grade, Present, Rejected, State, Unknown, Value, Verb
from drivers.items import paths as fs
from drivers.items.shell import ShellItem, here


@dataclass(frozen=True, slots=True)
class FileSet(ShellItem):
    """Root's own directory, 0755, and its files, 0644, by name and content: for what gives trust by being there (keys).

    Names have letters, digits and ``. _ -``, and do not begin with a dot: files that do are nobody's business here.
    What is in it and not named is removed.

    Attributes:
        path: of the directory.
        files: names and contents.
        besides: names of files that another item looks after.
    """

    forgets: ClassVar[frozenset[str]] = frozenset({"files"})

    path: str
    files: tuple[tuple[str, str], ...]
    besides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The directory's path."""
        return self.path

    def fields(self) -> Fields:
        """See Item."""
        lines: tuple[Value, ...] = tuple(sorted(f"{name} {_digest(content)}" for name, content in self.files))
        return {"files": lines, "mode": "0755", "owner": "root"}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """As of files: what reads them is another item."""
        return Grade.LIVE

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem."""
        calls = (f"salvus_set {number} {shlex.quote(item.path)}\n" for number, item in enumerate(items))
        return fs.look([item.path for item in items]) + _LIST + "".join(calls)

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        seen = fs.looked([item.path for item in items], output)
        lists = _lists(output)
        return {item.key: item.state(seen[item.path], lists.get(number)) for number, item in enumerate(items)}

    def state(self, seen: fs.Stat | Absent | Unknown, lines: Mapping[str, str] | None) -> State:
        """What was seen, as this item's fields."""
        if not isinstance(seen, fs.Stat):
            return seen
        if seen.kind != "directory":
            return Present({"files": (), "mode": f"a {seen.kind}", "owner": seen.owner("root")})
        if lines is None:
            return Unknown(f"{self.path} cannot be listed")
        files = tuple(sorted(f"{name} {digest}" for name, digest in lines.items() if name not in self.besides))
        return Present({"files": files, "mode": seen.mode, "owner": seen.owner("root")})

    def script(self, change: Change) -> str:
        """See ShellItem. Only files that differ are sent. Raises Rejected for names that could lead elsewhere."""
        named = (*(name for name, _ in self.files), *self.besides)
        wrong = [name for name in named if not _NAME.fullmatch(name)]
        if wrong:
            raise Rejected(f"{wrong[0]!r} is not a file name in a set", hint="use letters, digits and . _ -")
        path = shlex.quote(self.path)
        if change.verb is Verb.DELETE:
            return f"{fs.FAIL}path={path}\n{fs.NO_LINK}rm -rf -- {path}\n"
        there = next((d.observed for d in change.drift if d.field == "files"), None)
        right = set(there) if isinstance(there, tuple) else set()
        known = all(one.field != "files" for one in change.drift)
        new = [(n, c) for n, c in self.files if not known and f"{n} {_digest(c)}" not in right]
        writes = "".join(f'{{\n{here(content.encode())}}} >"$new"\nput {name}\n' for name, content in new)
        part = posixpath.basename(fs.temporary(f"{self.path}/new"))
        return f"""\
{fs.FAIL}path={path}
{fs.NO_LINK}[ ! -e "$path" ] || [ -d "$path" ] || fail "$path is not a directory; move it away"
umask 077
[ -d "$path" ] || mkdir -- "$path"
cd -P -- "$path"
new={part}
trap 'exit 143' TERM
trap 'rm -f -- "$new"' EXIT
chown root:root .
chmod 0755 .
{_PUT}{writes}{_ONLY.format(names="|".join(named) or "''")}sync .
"""


_NAME = re.compile("[A-Za-z0-9_-][A-Za-z0-9._-]*")
_LINE = re.compile(r"(?:(-)|([0-9a-f]{64}))  \./(.*)")
_LIST = """\
salvus_set() {
    if [ -d "$2" ] && cd -P -- "$2"; then
        echo "L $1"
        for f in *; do
            if [ -L "$f" ] || { [ -e "$f" ] && [ ! -f "$f" ]; }; then
                printf '%s\\n' "-  ./$f"
            elif [ -f "$f" ]; then
                set -- "$@" "./$f"
            fi
        done
        shift 2
        if [ $# -gt 0 ]; then sha256sum -- "$@"; fi
        echo "L end"
        cd /
    fi
}
"""
_PUT = """\
put() {
    [ ! -d "$1" ] || [ -L "$1" ] || rm -r -- "$1"
    chmod 0644 -- "$new"
    sync -- "$new"
    mv -fT -- "$new" "$1"
}
"""
_ONLY = """\
for f in *; do
    case $f in
        {names}) ;;
        *) rm -rf -- "$f" ;;
    esac
done
"""


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _lists(output: str) -> Mapping[int, Mapping[str, str]]:
    """Digests by name, ``-`` of what is no file, by the number of the set."""
    found: dict[int, Mapping[str, str]] = {}
    for number, block in re.findall(r"^L ([0-9]+)\n(.*?)^L end$", output, re.MULTILINE | re.DOTALL):
        lines = [_LINE.fullmatch(line) for line in block.splitlines()]
        named = [(match[3], match[1] or match[2]) if match else ("what cannot be read", "-") for match in lines]
        found[int(number)] = dict(named)
    return found
