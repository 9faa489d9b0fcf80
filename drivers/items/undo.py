"""The dead-man switch of what the kernel cannot put back by itself (rule 8): files, and services that read them. Pure.

Under ``FOLDER``/NAME on the machine, which only root may read, are

- ``armed``: the attempt that is on trial; ``undoing`` once it is being put back. It goes when that is done;
- ``kept``: the attempt that was confirmed last;
- ``undo``: the script that puts back, and ``old``, the files as they were;
- ``lock``: held while files are written, while it is confirmed, and while it is put back: one of them at a time;
- ``refused``: the attempt that was put back last, and when that was noted, in seconds since the epoch.

A timer of systemd runs ``undo`` when the window is over (systemd-run(1): it needs no session of ours), and again until
it succeeds; at boot ``UNIT`` does, before the network and whatever reads the files.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import time
from collections.abc import Callable, Sequence

from drivers.base import RolledBack
from drivers.items import paths as fs
from drivers.items.shell import here
from drivers.items.systemd_script import at_boot

FOLDER = "/var/lib/salvus/undo"
# systemd.unit(5), bootup(7): after this nothing but what mounts file systems has run. What makes the network
# comes after network-pre.target only where somebody wants that (systemd.special(7)).
UNIT = f"""\
[Unit]
Description=Puts back what salvus changed and nobody confirmed
DefaultDependencies=no
RequiresMountsFor={FOLDER} /etc
After=local-fs.target
Wants=network-pre.target
Before=sysinit.target network-pre.target ufw.service nftables.service salvus-firewall.service shutdown.target
Conflicts=shutdown.target
ConditionPathExistsGlob={FOLDER}/*/armed

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'bad=0; for undo in {FOLDER}/*/undo; do sh "$$undo" boot || bad=1; done; exit $$bad'

[Install]
WantedBy=sysinit.target
"""
_AT_BOOT = at_boot("salvus-undo.service", UNIT)
# The old timer goes last: where putting back fails, or is killed, it tries again.
_ARM = """\
[ -d /run/systemd/system ] || fail "this change may cut salvus off, and without systemd nothing here can put it back"
umask 077
mkdir -p -- "$undo"
[ ! -e "$undo/armed" ] || sh "$undo/undo" now ||
    fail "$undo/undo could not put back what was tried before; run it by hand to see why"
systemctl stop "$timer.timer" "$timer.service" 2>/dev/null || :
rm -rf -- "$undo/old" "$undo/kept"
mkdir -- "$undo/old"
echo undoing >"$undo/old/armed"
"""
# Nothing is changed before both are there, and the timer finds what to put back however slow the disk is.
_ARMED = """\
sync -- "$undo/undo" "$undo/old" "$undo/old/armed"
printf '%s\\n' {attempt} >"$undo/armed.new"
sync -d -- "$undo/armed.new"
mv -fT -- "$undo/armed.new" "$undo/armed"
sync -- "$undo"
systemd-run --quiet --collect --unit="$timer" --on-active="$SALVUS_WINDOW" --timer-property=AccuracySec=100ms \\
    --property=Restart=on-failure --property=RestartSec=5 --property=StartLimitIntervalSec=0 \\
    -- /bin/sh "$undo/undo" now || {{ rm -f -- "$undo/armed"; exit 1; }}
"""
_UPTIME = "read -r up rest </proc/uptime\n"
# What is put back is put back whole: that waits until all is written, and then nothing of it is taken into use.
_WRITING = """\
trap {now} EXIT
exec 7>>{lock}
flock 7
"""
WRITTEN = f"""\
{_UPTIME}if [ "${{up%%.*}}" -ge "$late" ]; then
    echo "writing took as long as the whole trial may, and is undone" >&2
    exit 1
fi
exec 7>&-
"""
# A file that was there comes back whole, with its time and owner; the folder it was in is still there.
_SAVE = """\
save() {{
    [ -e "$2" ] || return 0
    [ -f "$2" ] && [ ! -L "$2" ] || fail "$2 is not a regular file; move it away"
    cp -p -- "$2" "$undo/old/$1"
    sync -- "$undo/old/$1"
}}
{calls}"""
# Run again after a power cut it does the same again. It needs no space on the disk, which may be full by now, but where
# the old files are on another file system than the new ones.
_UNDO = """\
# Puts back what was there before a change of salvus that nobody confirmed.
undo={folder}
exec 7>>"$undo/lock"
flock 7 || exit
[ -e "$undo/armed" ] || exit 0
set -eu
[ ! -e "$undo/old/armed" ] || mv -fT -- "$undo/old/armed" "$undo/armed"
back() {{
    if [ "$undo/old/$1" -ef "$2" ]; then
        :
    elif [ -e "$undo/old/$1" ]; then
        ln -f -- "$undo/old/$1" "$3" 2>/dev/null || cp -p -- "$undo/old/$1" "$3"
        sync -d -- "$3"
        mv -fT -- "$3" "$2"
    else
        rm -f -- "$2"
    fi
}}
{back}systemctl daemon-reload
if [ "${{1-}}" != boot ]; then
:
{then}fi 7>&-
rm -f -- "$undo/armed"
sync -- "$undo"
"""
_CONFIRM = """\
[ -d "$undo" ] || fail "this change is not on trial"
exec 7>>"$undo/lock"
flock 7
if [ -e "$undo/armed" ] && read -r armed <"$undo/armed" && [ "$armed" = {attempt} ]; then
    mv -fT -- "$undo/armed" "$undo/kept"
    sync -- "$undo"
elif ! [ -e "$undo/kept" ] || ! read -r kept <"$undo/kept" || [ "$kept" != {attempt} ]; then
    fail "what was there before was put back already"
fi
exec 7>&-
rm -rf -- "$undo/refused" "$undo/old"
systemctl stop "$timer.timer" 2>/dev/null || :
"""
_REFUSE = """\
umask 077
mkdir -p -- "$undo"
printf '%s %s\\n' {attempt} "$SALVUS_NOW" >"$undo/refused.new"
sync -d -- "$undo/refused.new"
mv -fT -- "$undo/refused.new" "$undo/refused"
sync -- "$undo"
"""


def arm(name: str, attempt: str, paths: Sequence[str] = (), then: str = "") -> str:
    """Shell text that goes before a perilous change: unless it is confirmed within ``SALVUS_WINDOW`` seconds, the files
    at ``paths`` are again as they are now (there or not), and ``then`` is run.

    ``WRITTEN`` goes after the last file is written, before anything is told to read them: it fails when that was late.
    The same when the change fails, at once: its shell must have no other trap on EXIT.
    After a boot the files are back before anything reads them, and ``then`` is not run. It runs under ``set -eu``, and
    is run again when it fails. What is on trial under this name already is put back at once. Needs systemd.

    Args:
        name: of the trial: letters, digits and ``-``.
        attempt: what tells this change from others under that name: letters and digits.
        paths: absolute; of regular files.
        then: shell text that makes services read them.
    """
    save = "".join(f"save {number} {shlex.quote(path)}\n" for number, path in enumerate(paths))
    back = "".join(
        f"back {number} {shlex.quote(path)} {shlex.quote(fs.beside(path, 'undo'))}\n"
        for number, path in enumerate(paths)
    )
    script = _UNDO.format(folder=shlex.quote(f"{FOLDER}/{name}"), back=back, then=then)
    stored = f'{{\n{here(script.encode())}}} >"$undo/undo"\n'
    armed = _ARMED.format(attempt=shlex.quote(attempt))
    now = f"[ $? = 0 ] || {{ exec 7>&-; sh {shlex.quote(f'{FOLDER}/{name}/undo')} now; }}"
    writing = _WRITING.format(now=shlex.quote(now), lock=shlex.quote(f"{FOLDER}/{name}/lock"))
    late = f"{_UPTIME}late=$((${{up%%.*}} + SALVUS_WINDOW))\n"
    return f"{late}({_names(name)}{_ARM}{_AT_BOOT}{_SAVE.format(calls=save)}{stored}{armed})\n{writing}"


def confirm(name: str, attempt: str) -> str:
    """Shell text that lets the attempt stay, see ``ShellItem.confirmation``."""
    return _names(name) + _CONFIRM.format(attempt=shlex.quote(attempt))


def end(name: str, attempt: str) -> str:
    """As ``confirm``, of a removal: what is kept for trials goes too."""
    there = f"[ ! -d {shlex.quote(f'{FOLDER}/{name}')} ] || "
    return f"{there}{{\n{confirm(name, attempt)}}}\n{forget(name)}"


def refuse(name: str, attempt: str) -> str:
    """Shell text that notes that the machine put back what was there before the attempt."""
    return _names(name) + _REFUSE.format(attempt=shlex.quote(attempt))


def forget(name: str) -> str:
    """Shell text that takes all of it away; what is on trial stays."""
    return _names(name) + 'systemctl stop "$timer.timer" "$timer.service" 2>/dev/null || :\nrm -rf -- "$undo"\n'


def notes(name: str) -> tuple[str, str]:
    """The files that tell of a trial that is under way and of one that was refused, for ``paths.notes``."""
    return f"{FOLDER}/{name}/armed", f"{FOLDER}/{name}/refused"


def refusal(note: str, attempt: Callable[[], str], lost: str, path: str) -> RolledBack | None:
    """What ``Item.refusal`` says when ``note`` tells that just this attempt was put back.

    Args:
        note: the line of ``refused``: the attempt, and when that was noted; empty for none.
        attempt: what is wanted now; asked only where there is a note, as of many rules it takes a while to be made.
        lost: what nobody could do, as in ``with these rules nobody could log in anew``.
        path: of the note.
    """
    noted, _, at = note.partition(" ")
    if not noted or noted != attempt():
        return None
    when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(int(at)))
    return RolledBack(
        f"{lost}; the machine put back what was there before (noted {when})",
        hint=f"correct what is wanted; to try the same again, remove {path} there",
    )


def named(what: str) -> str:
    """A name for trials of a unit or a file: like it, and no other's."""
    return re.sub("[^A-Za-z0-9]+", "-", what)[-40:].strip("-") + "-" + hashlib.sha256(what.encode()).hexdigest()[:8]


def _names(name: str) -> str:
    return f"{fs.FAIL}undo={shlex.quote(f'{FOLDER}/{name}')} timer={shlex.quote(f'salvus-undo-{name}')}\n"
