"""What is asked of files in the same way by every item that is one, and the shell words that write them. Pure."""

from __future__ import annotations

import hashlib
import posixpath
import re
import shlex
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from drivers.base import Absent, Unknown

# Two processes for any number of paths. The tests are the shell's own; a path that they do not find is asked for once
# more, because only stat(1) says why: "not there" and "not allowed to look" are different things (rule 1).
_LOOK = """\
salvus_look() {
    flags=
    for p do if [ -e "$p" ] || [ -L "$p" ]; then flags=$flags+; else flags=$flags-; fi; done
    echo "@ $flags"
    salvus_there "$@"
    salvus_missing "$@"
}
salvus_there() {
    for p do shift; if [ -e "$p" ] || [ -L "$p" ]; then set -- "$@" "$p"; fi; done
    if [ $# -gt 0 ]; then LC_ALL=C stat -c 'S:%f:%u:%U:%g:%G:%s:%i:%.9Y' -- "$@"; fi
}
salvus_missing() {
    for p do shift; if ! [ -e "$p" ] && ! [ -L "$p" ]; then set -- "$@" "$p"; fi; done
    if [ $# -gt 0 ]; then LC_ALL=C stat -c '' -- "$@" 2>&1; fi
}
"""
_SUMS = """\
salvus_sums() {
    for p do shift; if [ -f "$p" ]; then set -- "$@" "$p"; fi; done
    if [ $# -gt 0 ]; then sha256sum -- "$@"; fi
}
"""
_NOTES = """\
salvus_note() {
    if [ -f "$2" ]; then while IFS= read -r line; do printf 'N %s %s\\n' "$1" "$line"; done <"$2"; fi
}
"""
_STAT = re.compile(r"S:([0-9a-f]+):([0-9]+):([^:]*):([0-9]+):([^:]*):([0-9]+):([0-9]+):(-?[0-9]+\.[0-9]+)")
_SUM = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.*)")
_ABSENT = ("No such file or directory", "Not a directory")
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symbolic link"}

# What a link points to belongs to somebody else.
NO_LINK = '[ ! -L "$path" ] || fail "$path is a symbolic link, which salvus does not follow; remove it"\n'
# With this status a script ends that left something alone because somebody else needs it.
IN_USE = 16
FAIL = f"""\
fail() {{ printf '%s\\n' "$*" >&2; exit 1; }}
in_use() {{ printf '%s\\n' "$*" >&2; exit {IN_USE}; }}
"""


@dataclass(frozen=True, slots=True)
class Stat:
    """What stat(2) says of one path, links not followed. ``mode`` is four octal digits, ``mtime`` decimal seconds."""

    kind: str
    mode: str
    uid: str
    user: str
    gid: str
    group: str
    size: int
    inode: int
    mtime: str

    def owner(self, wanted: str) -> str:
        """The owner, as a number where a number is wanted."""
        return self.uid if wanted.isdigit() else self.user

    def owning_group(self, wanted: str) -> str:
        """The group, as a number where a number is wanted."""
        return self.gid if wanted.isdigit() else self.group

    @property
    def stamp(self) -> str:
        """Changes when the content does: ``SIZE INODE MTIME``, as ``STAMP`` prints it."""
        return f"{self.size} {self.inode} {self.mtime}"


STAMP = "stat -c '%s %i %.9Y' --"


def words(paths: Iterable[str]) -> str:
    """The arguments of a command."""
    return " ".join(map(shlex.quote, paths))


def look(paths: Sequence[str]) -> str:
    """Shell text that tells of all paths; ``looked`` reads what it prints."""
    return f"{_LOOK}salvus_look {words(paths)}\n" if paths else ""


def sums(paths: Sequence[str]) -> str:
    """Shell text that prints the SHA-256 digests of those paths that are files, in one process."""
    return f"{_SUMS}salvus_sums {words(paths)}\n" if paths else ""


def notes(paths: Sequence[str]) -> str:
    """Shell text that prints small files line by line, without a process; ``noted`` reads it."""
    calls = (f"salvus_note {number} {shlex.quote(path)}\n" for number, path in enumerate(paths))
    return _NOTES + "".join(calls) if paths else ""


def looked(paths: Sequence[str], output: str) -> Mapping[str, Stat | Absent | Unknown]:
    """What ``look(paths)`` printed, by path. Whatever does not fit is Unknown."""
    lines = output.split("\n")
    flags = next((line[2:] for line in lines if line.startswith("@ ")), "")
    there = [line for line in lines if line.startswith("S:")]
    missing = [line for line in lines if line.startswith("stat: ")]
    if len(flags) != len(paths) or flags.count("+") != len(there) or flags.count("-") != len(missing):
        return dict.fromkeys(paths, Unknown("the files changed while they were looked at"))
    present, absent = map(_stat, there), map(_absent, missing)
    return {path: next(present) if flag == "+" else next(absent) for path, flag in zip(paths, flags, strict=True)}


def summed(output: str) -> Mapping[str, str]:
    """What ``sums`` printed: digest by path."""
    found = (_SUM.fullmatch(line) for line in output.split("\n"))
    return {_unescaped(match[3]) if match[1] else match[3]: match[2] for match in found if match}


def noted(paths: Sequence[str], output: str) -> Mapping[str, tuple[str, ...]]:
    """What ``notes(paths)`` printed: lines by path."""
    lines = [line.split(" ", 2) for line in output.split("\n") if line.startswith("N ")]
    return {path: tuple(line[2] for line in lines if line[1] == str(number)) for number, path in enumerate(paths)}


def temporary(path: str) -> str:
    """Where the new ``path`` is written: always the same name, so that the next script finds what a killed one left.

    What else a script needs beside ``path`` has a name that begins with this one.
    """
    return beside(path, "new")


def beside(path: str, what: str) -> str:
    """A hidden file in the directory of ``path`` that belongs to it."""
    digest = hashlib.sha256(path.encode()).hexdigest()[:16]
    return posixpath.join(posixpath.dirname(path), f".salvus-{digest}.{what}")


def begin(path: str) -> str:
    """Shell text before ``path`` is written: sets ``path``, ``dir`` and ``new``; fails when another thing is there.

    However the script ends, but for a SIGKILL, nothing whose name begins with ``$new`` is left.
    """
    return f"""\
{FAIL}{_SWEEP}path={shlex.quote(path)}
new={shlex.quote(temporary(path))}
dir={shlex.quote(posixpath.dirname(path))}
[ -d "$dir" ] || fail "$path cannot be written: there is no directory $dir"
{NO_LINK}[ ! -e "$path" ] || [ -f "$path" ] || fail "$path is not a regular file; move it away"
sweep
trap sweep EXIT
umask 077
"""


# A shell that a signal ends at once does not get to sweep: it is to end by itself.
_SWEEP = """\
trap 'exit 129' HUP
trap 'exit 143' TERM
sweep() { set -- "$new"*; [ ! -e "$1" ] || rm -rf -- "$@"; }
"""

# In a folder of somebody else any name may become a link at any moment. A descriptor that was opened exclusively stays
# the new file: what has to be done is done through it. A shell opens what is no regular file all the same (a FIFO).
NEW = "/proc/self/fd/3"
CREATE = f"""\
set -C
exec 3>"$new"
set +C
[ -f {NEW} ] || fail "$new was put there by somebody else; remove it"
"""

# The content is on the disk before the name is. A rename that a power cut undoes leaves what was there before, whole,
# and the next pass does it again: waiting for the folder's disk too would double what a file costs.
FINISH = 'sync -d -- "$new"\nmv -fT -- "$new" "$path"\n'


def begin_in_ours(path: str) -> str:
    """As ``begin``, for what is written by name: fails where others than root could put links in the way."""
    return begin(path) + _OURS


_OURS = """\
case $(stat -c %u:%A -- "$dir") in
    0:d????-??-?) ;;
    *) fail "$dir must belong to root, and nobody else may write in it: chown root and chmod go-w it" ;;
esac
"""


def trash(path: str) -> str:
    """Shell text that moves ``ROOT/FOLDER/NAME`` to ``ROOT/trash/TIME-NAME``, if it is there.

    A hidden note beside it says which file it is: so it is known later that salvus put it there.
    """
    root = posixpath.dirname(posixpath.dirname(path))
    folder, name = posixpath.join(root, "trash"), posixpath.basename(path)
    return f"""\
gone={shlex.quote(path)} trash={shlex.quote(folder)}
if [ -e "$gone" ]; then
    mkdir -p -m 0700 -- "$trash"
    case $(stat -c %u:%A -- "$trash") in
        0:d????-??-?) ;;
        *) fail "$trash must be a folder of root in which nobody else may write" ;;
    esac
    kept=$(date -u +%Y%m%dT%H%M%SZ)-{shlex.quote(name)}
    [ ! -e "$trash/$kept" ] || fail "$trash has $kept already"
    {WHICH} "$gone" >"$trash/.$kept"
    mv -nT -- "$gone" "$trash/$kept"
    [ ! -e "$gone" ] || {{ rm -f -- "$trash/.$kept"; fail "$gone could not be moved to the trash"; }}
    rm -f -- {shlex.quote(mark(path))}
    sync -- "$trash"
fi
"""


# Tells which file something is, whatever it is called: numbers of inodes are used again, also at once.
WHICH = "stat -c %i.%.9W --"


def mark(path: str) -> str:
    """The note beside a file that was taken back out of the trash, of which file it is: it is salvus's own."""
    return beside(path, "undeleted")


def marks(paths: Sequence[str]) -> str:
    """Shell text that tells which of the files have such a note, without a process where none has; see ``marked``."""
    calls = (f"salvus_mark {n} {shlex.quote(mark(path))} {shlex.quote(path)}\n" for n, path in enumerate(paths))
    return _MARKS + "".join(calls) if paths else ""


def marked(paths: Sequence[str], output: str) -> frozenset[str]:
    """What ``marks(paths)`` printed."""
    lines = set(output.split("\n"))
    return frozenset(path for number, path in enumerate(paths) if f"M {number}" in lines)


_MARKS = f"""\
salvus_mark() {{
    if [ -f "$2" ] && read -r which <"$2" && [ "$which" = "$({WHICH} "$3")" ]; then
        echo "M $1"
    fi
}}
"""


def _stat(line: str) -> Stat | Unknown:
    found = _STAT.fullmatch(line)
    if found is None:
        return Unknown(f"stat answered {line!r}")
    raw, uid, user, gid, group, size, inode, mtime = found.groups()
    bits = int(raw, 16)
    kind = _KINDS.get(stat.S_IFMT(bits), "special file")
    return Stat(kind, f"{stat.S_IMODE(bits):04o}", uid, user, gid, group, int(size), int(inode), mtime)


def _absent(line: str) -> Absent | Unknown:
    return Absent() if line.endswith(_ABSENT) else Unknown(line)


def _unescaped(name: str) -> str:
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "r": "\r"}.get(match[1], match[1]), name)
