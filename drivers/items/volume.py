"""A disk of a virtual machine."""

from __future__ import annotations

import base64
import binascii
import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from drivers.base import Change, Drift, Fields, Grade, Present, Rejected, State, Unknown, Value, Verb
from drivers.items import paths as fs
from drivers.items import qcow2
from drivers.items.shell import ShellItem


@dataclass(frozen=True, slots=True)
class Volume(ShellItem):
    """A disk image. It grows and is never shrunk; deleting it moves it to the trash.

    Attributes:
        path: ``ROOT/FOLDER/NAME``; the trash is ``ROOT/trash``.
        size: bytes that the guest sees; rounded up to whole sectors of 512.
        backing: path of the image it is an overlay of; empty when it stands alone.
    """

    path: str
    size: int
    backing: str = ""
    backing_format: Literal["", "qcow2", "raw"] = ""
    format: Literal["qcow2", "raw"] = "qcow2"

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    def fields(self) -> Fields:
        """See Item."""
        size = -(-self.size // 512) * 512
        fields: dict[str, Value] = {"size": size, "format": self.format, "backing": self.backing}
        if self.backing:
            fields["backing_format"] = self.backing_format
        return fields

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """See Item. A disk grows while nobody uses it; another base or format is another disk."""
        fields = {one.field for one in drift}
        if "format" in fields:
            return Grade.DATA_LOSS
        if fields & {"backing", "backing_format"}:
            return Grade.REPLACE
        return Grade.RESTART if "size" in fields else Grade.LIVE

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem. The headers are read, with no lock taken: guests may have the disks open."""
        paths = [item.path for item in items]
        return f"{fs.look(paths)}{fs.marks(paths)}{_HEADERS}salvus_headers {fs.words(paths)}\n"

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        seen = fs.looked([item.path for item in items], output)
        sizes = [(p, found.size) for p, found in seen.items() if isinstance(found, fs.Stat) and found.kind == "file"]
        headers = _headers(sizes, output)
        ours = fs.marked([item.path for item in items], output)
        states = {item: item.state(seen[item.path], headers.get(item.path)) for item in items}
        return {item.key: _marked(state) if item.path in ours else state for item, state in states.items()}

    def ours(self, observed: Fields) -> bool:
        """See Item. What was taken back out of the trash is."""
        return observed.get("undeleted") is True

    def state(self, seen: fs.Stat | State, header: bytes | None) -> State:
        """What was seen, as this item's fields. A raw disk is never looked into: what is in it is the guest's."""
        if not isinstance(seen, fs.Stat):
            return seen
        if seen.kind != "file":
            return Present({"format": f"a {seen.kind}"})
        if header is None:
            return Unknown(f"the header of {self.path} cannot be read")
        if self.format == "raw" or not header.startswith(qcow2.MAGIC):
            return Present({"size": seen.size, "format": "raw", "backing": "", "backing_format": ""})
        try:
            disk = qcow2.parse(header)
        except ValueError as error:
            return Unknown(f"{self.path}: {error}")
        chain: Fields = {"backing": disk.backing, "backing_format": disk.backing_format}
        return Present({"size": disk.size, "format": "qcow2", **chain})

    def script(self, change: Change) -> str:
        """See ShellItem. Raises Rejected for a disk that is larger than wanted, or of another format."""
        found = {one.field: one for one in change.drift}
        begin = fs.begin_in_ours(self.path) + _QEMU_IMG
        away = _unused(self.format) + fs.trash(self.path)
        if change.verb is Verb.DELETE:
            return begin + away
        if change.verb is Verb.CREATE:
            return f'{begin}[ ! -e "$path" ] || fail "$path is there already"\n{self._create()}'
        if "format" in found:
            raise Rejected(f"{self.path} is {found['format'].observed}, not {self.format}; salvus converts no disks")
        if "backing" in found or "backing_format" in found:
            return begin + away + self._create()
        return begin + self._grow(found["size"].observed)

    def _grow(self, now: Value) -> str:
        size = self.fields()["size"]
        if isinstance(now, int) and isinstance(size, int) and now > size:
            raise Rejected(
                f"{self.path} has {now} bytes and is never shrunk to {size}",
                hint="set the size back, or delete the machine: its disk goes to the trash",
            )
        return f"""\
qemu-img resize -q -f {self.format} "$path" {size} ||
    fail "$path cannot grow now; if its machine runs, stop it and try again"
sync -- "$path"
"""

    def _create(self) -> str:
        size = self.fields()["size"]
        if not self.backing:
            return f'qemu-img create -q -f {self.format} "$new" {size}\n{_PLACE}'
        base, kind = shlex.quote(self.backing), self.backing_format
        least = _VIRTUAL_SIZE if kind == "qcow2" else 'stat -c %s -- "$base"'
        return f"""\
base={base}
[ -f "$base" ] || fail "$path needs its image $base, which is not there"
least=$({least})
[ "$least" -le {size} ] || fail "$path would have {size} bytes, and its image $base has $least; make it larger"
qemu-img create -q -f {self.format} -F {kind} -b "$base" "$new" {size}
{_PLACE}"""


_SHOWN = 4096
_HEADERS = f"""\
salvus_headers() {{
    for p do shift; if [ -f "$p" ] && ! [ -L "$p" ]; then set -- "$@" "$p"; fi; done
    if [ $# -gt 0 ]; then printf 'H '; head -q -c {_SHOWN} -- "$@" | base64 -w 0; echo; fi
}}
"""
_QEMU_IMG = 'command -v qemu-img >/dev/null || fail "there is no qemu-img; install qemu-utils"\n'
_VIRTUAL_SIZE = 'od -An -tu8 --endian=big -j 24 -N 8 -- "$base" | tr -d " "'
# Whoever put a disk there meanwhile keeps it: it may be one that was taken back out of the trash.
_PLACE = """\
chmod 0600 "$new"
sync -d -- "$new"
mv -nT -- "$new" "$path"
[ ! -e "$new" ] || fail "$path is there already"
"""


def _marked(state: State) -> State:
    return Present({**state.fields, "undeleted": True}) if isinstance(state, Present) else state


def _headers(sizes: Sequence[tuple[str, int]], output: str) -> Mapping[str, bytes]:
    """The beginnings of the files, which stand one after the other in the output; empty when they do not add up."""
    text = next((line[2:] for line in output.split("\n") if line.startswith("H ")), "")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return {}
    lengths = [min(size, _SHOWN) for _, size in sizes]
    if sum(lengths) != len(data):
        return {}
    ends = list(itertools.accumulate(lengths))
    return {path: data[end - length : end] for (path, _), length, end in zip(sizes, lengths, ends, strict=True)}


def _unused(format_: str) -> str:
    """Fails while a running qemu has the disk open: it is locked then, and qemu-img, which wants the lock too, says so.

    The format is given: what a guest wrote must not be taken for a header.
    """
    return f"""\
case $(qemu-img info -f {format_} "$path" 2>&1 >/dev/null) in
    *lock*) fail "$path is in use by a running machine; stop that first" ;;
esac
"""
