"""Lines of our own in a file of somebody else (``/etc/hosts``): a block between two marks; the rest is not touched."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from drivers.base import Absent, Change, Drift, Fields, Grade, Present, Rejected, State, Unknown, Verb
from drivers.items import paths as fs
from drivers.items.shell import ShellItem, here


@dataclass(frozen=True, slots=True)
class FileBlock(ShellItem):
    """A block of whole lines. ``marker`` tells it from other blocks of the file: letters, digits and ``/ . _ -``.

    Written whole with the file, which keeps its mode and owner; one that is not there is made, 0644. A block stands
    where it stood, a new one at the end.
    """

    forgets: ClassVar[frozenset[str]] = frozenset({"content"})

    path: str
    marker: str
    content: str

    @property
    def name(self) -> str:
        """Its file and its marker."""
        return f"{self.path} {self.marker}"

    @property
    def marks(self) -> tuple[str, str]:
        """The first line and the last."""
        return f"# salvus {self.marker}: begin (changes in here are undone)", f"# salvus {self.marker}: end"

    @property
    def text(self) -> str:
        """The block with its marks."""
        begin, end = self.marks
        lines = self.content if self.content.endswith("\n") or not self.content else f"{self.content}\n"
        return f"{begin}\n{lines}{end}\n"

    def fields(self) -> Fields:
        """See Item."""
        return {"sha256": hashlib.sha256(self.text.encode()).hexdigest()}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """As of a file: what reads it is another item."""
        return Grade.LIVE

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem."""
        askable = [item for item in items if _MARKER.fullmatch(item.marker)]
        calls = (f"salvus_block {number} {fs.words([item.path, *item.marks])}\n" for number, item in enumerate(askable))
        return fs.look([item.path for item in askable]) + _SUM + "".join(calls) if askable else ""

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        askable = [item for item in items if _MARKER.fullmatch(item.marker)]
        seen = fs.looked([item.path for item in askable], output)
        sums = dict(re.findall("^B ([0-9]+) ([0-9a-f]{64})  -$", output, re.MULTILINE))
        states: dict[str, State] = {item.key: Unknown(f"{item.marker!r} is no marker") for item in items}
        for number, item in enumerate(askable):
            states[item.key] = _state(item.path, seen[item.path], sums.get(str(number)))
        return states

    def script(self, change: Change) -> str:
        """See ShellItem. Raises Rejected for a marker that cannot stand in a comment."""
        if not _MARKER.fullmatch(self.marker):
            raise Rejected(f"{self.marker!r} is not a marker of a block", hint="use letters, digits and / . _ -")
        begin, end = map(shlex.quote, self.marks)
        new, nothing = f"{{\n{here(self.text.encode())}}}", ""
        if change.verb is Verb.DELETE:
            new, nothing = ":", '[ -e "$path" ] || exit 0\n'
        return f"""\
{fs.begin_in_ours(self.path)}{nothing}{new} >"$new.block"
if [ -e "$path" ]; then old=$path; else old=/dev/null; fi
{fs.CREATE}begin={begin} end={end} block="$new.block" LC_ALL=C awk {shlex.quote(_REPLACE)} "$old" >&3
rm -- "$new.block"
if [ -e "$path" ]; then
    chown --reference="$path" -- {fs.NEW}
    chmod --reference="$path" -- {fs.NEW}
else
    chmod 0644 -- {fs.NEW}
fi
{fs.FINISH}"""


_MARKER = re.compile("[A-Za-z0-9/._-]+")
_NOTHING = hashlib.sha256(b"").hexdigest()

# Only what has both marks is a block: where one was taken away by hand, the lines behind it are the operator's.
_SUM = r"""
salvus_block() {
    if [ -f "$2" ]; then
        sum=$(begin=$3 end=$4 LC_ALL=C awk '
            $0 == ENVIRON["begin"] { open = 1; text = "" }
            open { text = text $0 "\n" }
            open && $0 == ENVIRON["end"] { printf "%s", text; open = 0 }
        ' "$2" | sha256sum)
        echo "B $1 $sum"
    fi
}
"""
_REPLACE = r"""
function ours() {
    if (done++) return
    while ((getline line < ENVIRON["block"]) > 0) print line
}
$0 == ENVIRON["begin"] { printf "%s", text; text = ""; open = 1; next }
open && $0 == ENVIRON["end"] { ours(); text = ""; open = 0; next }
open { text = text $0 "\n"; next }
{ print }
END { printf "%s", text; ours() }
"""


def _state(path: str, seen: fs.Stat | Absent | Unknown, digest: str | None) -> State:
    if not isinstance(seen, fs.Stat):
        return seen
    if seen.kind != "file":
        return Present({"sha256": f"a {seen.kind}"})
    if digest is None:
        return Unknown(f"{path} cannot be read")
    return Absent() if digest == _NOTHING else Present({"sha256": digest})
