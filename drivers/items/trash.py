"""The trash of a hypervisor: what is in it, emptying it after a time, and taking something back out of it."""

from __future__ import annotations

import calendar
import posixpath
import re
import shlex
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from drivers.base import Change, Drift, Fields, Grade, Present, State, Unknown, Verb
from drivers.items import paths as fs
from drivers.items.shell import ShellItem

# As ``paths.trash`` names it: when it was put there by the machine's clock, and what it was called.
KEPT = re.compile(r"([0-9]{8}T[0-9]{6}Z)-([A-Za-z0-9][\w.-]*)", re.ASCII)
# Seconds by which the time in a name and that of the inode may differ, and the clocks of machine and controller.
AGREE = 3600


@dataclass(frozen=True, slots=True)
class Kept:
    """Something in the trash: its name there, its size on the disk in bytes, and when it was put there.

    ``at`` is what the name says, in seconds since the epoch.
    """

    name: str
    size: int

    @property
    def at(self) -> float:
        """When it was put there, by the machine's clock."""
        return _seconds(self.name)

    @property
    def former(self) -> str:
        """What the file was called."""
        return self.name.partition("-")[2]


@dataclass(frozen=True, slots=True)
class Trash(ShellItem):
    """The folder ``path``, from which goes what has been in it for ``keep`` seconds.

    Only what salvus put there, and noted there as this very file; only when the time in its name and the one at which
    the inode changed last agree, when the clocks of the machine and of the controller agree, too, and when no disk is
    based on it. Field ``kept`` is all that could be had back, as ``NAME SIZE``.
    """

    path: str
    keep: int

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    def fields(self) -> Fields:
        """See Item."""
        return {"overdue": ()}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """Nobody uses it."""
        return Grade.LIVE

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem. The times are those of the inodes: what is told changes when something becomes overdue."""
        calls = (f"salvus_trash {n} {shlex.quote(item.path)} {item.keep // 60}\n" for n, item in enumerate(items))
        return _PROBE + "".join(calls)

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        lines = [line.split(" ", 2) for line in output.split("\n") if line.count(" ") >= 2]
        return {
            item.key: _state({what: [rest for w, n, rest in lines if (w, n) == (what, str(number))] for what in "TNOE"})
            for number, item in enumerate(items)
        }

    def script(self, change: Change) -> str:
        """See ShellItem. What was overdue when it was looked at is judged once more."""
        found = {one.field: one.observed for one in change.drift}.get("overdue")
        overdue = [name for name in found if isinstance(name, str)] if isinstance(found, tuple) else []
        if change.verb is not Verb.UPDATE or not overdue:
            return ":\n"
        return _EMPTY.format(
            fail=fs.FAIL,
            enter=_enter(self.path),
            agree=AGREE,
            names=fs.words(overdue),
            minutes=self.keep // 60,
            which=fs.WHICH,
        )


def kept(observed: Fields) -> tuple[Kept, ...]:
    """What an observation says that could be had back, oldest first."""
    lines = observed.get("kept")
    found = (str(line).rpartition(" ") for line in lines) if isinstance(lines, tuple) else ()
    return tuple(Kept(name, int(size)) for name, _, size in found)


@dataclass(frozen=True, slots=True)
class Undeleted(ShellItem):
    """A file that is to be back at ``path``, under ``ROOT/FOLDER``, from ``ROOT/trash``, where it is called ``kept``.

    A note beside it says that salvus made it: it is deleted again when nobody wants it any more.
    """

    path: str
    kept: str

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    def fields(self) -> Fields:
        """See Item."""
        return {"there": True}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """Nothing else is touched."""
        return Grade.LIVE

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem."""
        return fs.look([item.path for item in items])

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        seen = fs.looked([item.path for item in items], output)
        return {
            item.key: Present({"there": True}) if isinstance(found := seen[item.path], fs.Stat) else found
            for item in items
        }

    def script(self, change: Change) -> str:
        """See ShellItem. The file is renamed, once: killed anywhere, it is in one of the two places."""
        if change.verb is Verb.DELETE:
            return fs.begin_in_ours(self.path) + fs.trash(self.path)
        trash = posixpath.join(posixpath.dirname(posixpath.dirname(self.path)), "trash")
        return _BACK.format(
            begin=fs.begin_in_ours(self.path),
            enter=_enter(trash),
            kept=shlex.quote(self.kept),
            mark=shlex.quote(fs.mark(self.path)),
            which=fs.WHICH,
        )


def _enter(path: str) -> str:
    """Shell text that goes into the folder; where we are stays what it is, whatever becomes of its name."""
    return f"""\
trash={shlex.quote(path)}
[ -d "$trash" ] || fail "there is no trash $trash"
cd -P -- "$trash"
case $(stat -c %u:%A .) in
    0:d????-??-?) ;;
    *) fail "$trash must belong to root, and nobody else may write in it: chown root and chmod go-w it" ;;
esac
[ "$(stat -c %d:%i .)" = "$(stat -c %d:%i -- "$trash")" ] || fail "$trash is a link; salvus does not follow it"
"""


# T: something that is in it: which file, time, blocks of 512 bytes, type and path; O: it is overdue; N: which file
# salvus noted; E: all was told. The trash is nearly always empty or not there: then this costs no process.
_PROBE = """\
salvus_trash() {
    if [ -L "$2" ] || { [ -e "$2" ] && [ ! -d "$2" ]; }; then return; fi
    for p in "$2"/.[0-9]*; do
        if [ -f "$p" ] && read -r which <"$p"; then printf 'N %s %s %s\\n' "$1" "$which" "${p##*/.}"; fi
    done
    n=$1 folder=$2 minutes=$3
    set -- "$folder"/[0-9]*
    if [ ! -e "$1" ]; then echo "E $n -"; return; fi
    find "$folder" -mindepth 1 -maxdepth 1 -type f -name '[0-9]*' -cmin "+$minutes" -printf "O $n %f\\n" &&
        stat -c "T $n %i.%.9W %Z %b %f %n" -- "$@" && echo "E $n -"
}
"""

# ``SALVUS_NOW`` is the controller's clock. A clock that jumps is to empty nothing.
_EMPTY = """\
{fail}{enter}\
off=$(($(date +%s) - SALVUS_NOW))
[ "${{off#-}}" -le {agree} ] || fail "the clocks of this machine and of the controller differ by ${{off#-}} s: the \
trash stays as it is; set the wrong one right"
used() {{
    for overlay in ../*/*; do
        if [ -f "$overlay" ] && [ ! "$overlay" -ef "$1" ] &&
            head -c 4096 -- "$overlay" | grep -qaF -e "/$1" -e "/${{1#*-}}"; then return 0; fi
    done
    return 1
}}
left=
for kept in {names}; do
    which=
    [ ! -f ".$kept" ] || read -r which <".$kept" || :
    if [ -f "$kept" ] && [ ! -L "$kept" ] && [ "$which" = "$({which} "$kept")" ] &&
        [ -n "$(find "$kept" -maxdepth 0 -cmin +{minutes})" ]; then
        if used "$kept"; then left="$left $kept"; else rm -f -- "$kept" && rm -f -- ".$kept"; fi
    fi
done
[ -z "$left" ] || in_use "$trash:$left is the base of another disk; delete that first, or move it away"
"""

_BACK = """\
{begin}{enter}\
kept={kept}
mark={mark}
noted=
if [ -f "$mark" ]; then read -r noted <"$mark" || :; fi
if [ ! -e "$kept" ] && [ -f "$path" ] && [ "$noted" = "$({which} "$path")" ]; then
    rm -f -- ".$kept"
    exit 0
fi
[ -f "$kept" ] && [ ! -L "$kept" ] || fail "$kept is not in $trash any more"
[ ! -e "$path" ] || fail "$path is there already; nothing was put in its place"
which=
[ ! -f ".$kept" ] || read -r which <".$kept" || :
[ "$which" = "$({which} "$kept")" ] ||
    fail "$trash/$kept was not put there by salvus; move it by hand"
echo "$which" >"$new"
sync -- "$new"
mv -fT -- "$new" "$mark"
mv -nT -- "$kept" "$path"
[ ! -e "$kept" ] || fail "$path is there already; nothing was put in its place"
rm -f -- ".$kept"
sync -- "$dir" "$trash"
"""


def _state(told: Mapping[str, Iterable[str]]) -> State:
    """From the lines of one folder, by their first letter."""
    if not any(told["E"]):
        return Unknown("the trash could not be looked at; it must be a folder")
    noted = {name: which for which, _, name in (line.partition(" ") for line in told["N"])}
    found: dict[str, tuple[float, int]] = {}
    for line in told["T"]:
        which, changed, blocks, mode, path = (*line.split(" ", 4), *[""] * 4)[:5]
        name = posixpath.basename(path)
        if KEPT.fullmatch(name) and noted.get(name) == which and stat.S_ISREG(int(mode, 16)):
            found[name] = (float(changed), int(blocks) * 512)
    old = [n for n in told["O"] if n in found and abs(found[n][0] - _seconds(n)) <= AGREE]
    lines = tuple(f"{name} {size}" for name, (_, size) in sorted(found.items()))
    return Present({"overdue": tuple(sorted(old)), "kept": lines})


def _seconds(name: str) -> float:
    """What the name says; 0 for a time that there is not."""
    try:
        return calendar.timegm(time.strptime(name.partition("-")[0], "%Y%m%dT%H%M%SZ"))
    except ValueError:
        return 0.0
