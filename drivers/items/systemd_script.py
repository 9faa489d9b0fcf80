"""The shell text by which a systemd unit is started, stopped, enabled and marked. Pure."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping

from drivers.items import paths as fs
from drivers.items.shell import here

MARKERS = "/var/lib/salvus/units"
_UNITS = "/etc/systemd/system"
# Where systemd does not run it reads everything at its start.
RELOAD = "[ ! -d /run/systemd/system ] || systemctl daemon-reload\n"
_AT_BOOT = """\
unit={file} link={link}
wanted() {{
{text}}}
if [ ! -L "$link" ] || ! wanted | cmp -s - "$unit"; then
    (
        umask 022
        wanted >"$unit.salvus-new"
        sync -d -- "$unit.salvus-new"
        mv -fT -- "$unit.salvus-new" "$unit"
        mkdir -p -- "${{link%/*}}"
        ln -sfT -- "$unit" "$link"
        sync -- "${{unit%/*}}" "${{link%/*}}"
    )
    {reload}fi
"""

# A unit that systemd keeps restarting is up at most moments: it runs when it has been up for a while. Which starts are
# that young is said here, and not what time it is: an answer stays the same while nothing changes.
SHOW = """\
salvus_units() {
    read -r now rest </proc/uptime
    units=$(systemctl show -p Names -p LoadState -p ActiveState -p SubState -p UnitFileState \\
        -p NRestarts -p ActiveEnterTimestampMonotonic -- "$@" 2>/dev/null)
    printf '%s\\n\\n' "$units"
    set -f
    for word in $units; do
        since=${word#ActiveEnterTimestampMonotonic=}
        if [ "$since" != "$word" ] && [ $((${now%%.*} - since / 1000000)) -lt 10 ]; then echo "Young=$since"; fi
    done
    set +f
}
"""

# A failure says why: what systemd thinks of the unit, and the last lines of its journal, kept short.
_EXPLAIN = """\
show() { systemctl show --value -p "$1" -- "$unit"; }
explain() {
    printf '%s\\n' "$1: $(show ActiveState) ($(show SubState)), result $(show Result)" >&2
    systemctl status --no-pager --full --lines=4 -- "$unit" 2>&1 | cut -c -120 | tail -n 6 >&2
    exit 1
}
"""
# What was changed on disk counts only when systemd has read it.
_LOAD = """\
load=$(show LoadState)
if [ "$load" != loaded ] || [ "$(show NeedDaemonReload)" = yes ]; then
    systemctl daemon-reload
    load=$(show LoadState)
fi
case $load in
    loaded | masked) ;;
    not-found) fail "there is no unit $unit; name the package or the unit file that brings it" ;;
    *) fail "$unit cannot be loaded ($load): $(show LoadError)" ;;
esac
unit=$(show Id)
"""
_NOT_MASKED = '[ "$load" != masked ] || fail "$unit is masked; run: systemctl unmask $unit"\n'
STOP = """\
systemctl stop -- "$unit"
systemctl reset-failed -- "$unit" 2>/dev/null || true
"""
# A process that dies at once was started all the same: systemd is asked again a moment later.
_START = """\
case $(show ActiveState) in
    active | reloading) now=yes ;;
    *) now=no ;;
esac
if [ $now = no ] || [ $restart = yes ]; then
    systemctl reset-failed -- "$unit" 2>/dev/null || true
    systemctl restart -- "$unit" || explain "$unit did not start"
    sleep 0.3
elif [ $reload = yes ]; then
    [ "$(show CanReload)" = yes ] || fail "$unit cannot reload; let its files restart it"
    systemctl reload -- "$unit" || explain "$unit did not reload"
fi
case $(show NRestarts) in
    "" | 0) ;;
    *) [ $now$restart$reload = yesnoyes ] || explain "$unit ends again and again" ;;
esac
case $(show ActiveState) in
    active | reloading) ;;
    inactive) explain "$unit was started and has ended; one that ends by itself needs RemainAfterExit=yes" ;;
    *) explain "$unit was started and does not run" ;;
esac
"""


def boot_paths(unit: str) -> tuple[str, str]:
    """The file of a unit of salvus, and the link by which it is started at boot."""
    return f"{_UNITS}/{unit}", f"{_UNITS}/sysinit.target.wants/{unit}"


def at_boot(unit: str, text: str) -> str:
    """Shell text that makes ``unit`` a unit as in ``text``, started at boot; where it is so nothing is written.

    Sets the variables ``unit`` and ``link``, to ``boot_paths``.
    """
    file, link = map(shlex.quote, boot_paths(unit))
    return _AT_BOOT.format(file=file, link=link, text=here(text.encode()), reload=RELOAD)


def marker(unit: str) -> str:
    """The file that tells with which contents a unit was started: ``TAG SHA256 MTIME`` a line."""
    return f"{MARKERS}/{unit}"


def tag(path: str) -> str:
    """A watched file's name in the marker."""
    return hashlib.sha256(path.encode()).hexdigest()[:16]


def begin(unit: str) -> str:
    """Makes systemd know the unit, or fails; ``unit`` is its own name then, also when it was called by an alias."""
    return f"{_ours(unit)}{_EXPLAIN}{_LOAD}"


def enable(wanted: bool) -> str:
    """Whether it starts at boot."""
    return f'{_NOT_MASKED}systemctl --quiet enable -- "$unit"\n' if wanted else 'systemctl --quiet disable -- "$unit"\n'


def start(contents: Mapping[str, str], *, restart: bool, reload: bool) -> str:
    """Starts, restarts or reloads it, and marks what with; nothing is done when a file is not as it should be.

    ``contents`` are the digests that the watched files should have, by path.
    """
    lines = "".join(_line(path, digest) for path, digest in contents.items())
    flags = f"restart={'yes' if restart else 'no'}\nreload={'yes' if reload else 'no'}\n"
    return f"""\
{_NOT_MASKED}mark() {{
    have=$(sha256sum <"$1")
    [ "${{have%% *}}" = "$3" ] || fail "$1 is not what $unit should be started with; it was changed on the way"
    printf '%s %s %s\\n' "$2" "$3" "$(stat -c %.9Y -- "$1")"
}}
marks=$({{
:
{lines}}})
{flags}{_START}mkdir -p -m 0755 -- {shlex.quote(MARKERS)}
printf '%s\\n' "$marks" >"$marker.new"
mv -fT -- "$marker.new" "$marker"
"""


def take(unit: str, how: str) -> str:
    """Has the unit restart or reload if it runs (``how``), and fails when it doesn't then; it need not be there."""
    return _TAKE.format(unit=shlex.quote(unit), begin=begin(unit), how=how)


def take_again(unit: str, how: str) -> str:
    """The same for what is to run: also when it failed with something else."""
    return _AGAIN.format(unit=shlex.quote(unit), how=how)


_TAKE = """\
if systemctl --quiet is-active -- {unit}; then
{begin}    systemctl {how} -- "$unit" || explain "$unit does not {how} with what was written"
    sleep 0.3
    systemctl --quiet is-active -- "$unit" || explain "$unit does not run with what was written"
fi
"""
_AGAIN = """\
if systemctl --quiet is-enabled -- {unit} || systemctl --quiet is-active -- {unit}; then
    systemctl reset-failed -- {unit} 2>/dev/null || :
    systemctl {how} -- {unit}
fi
"""


def delete(unit: str) -> str:
    """Stops and disables it, and forgets what it was started with."""
    return f"""\
{_ours(unit)}{_EXPLAIN}if [ "$(show LoadState)" != not-found ]; then
    unit=$(show Id)
    # What systemd refuses to load cannot be stopped either.
    [ "$(show ActiveState)" = inactive ] || systemctl stop -- "$unit"
    systemctl --quiet disable -- "$unit"
    systemctl reset-failed -- "$unit" 2>/dev/null || true
fi
rm -f -- "$marker"
"""


def _ours(unit: str) -> str:
    """Names the unit and its marker, and takes away what a killed script left of that."""
    return f"""\
{fs.FAIL}unit={shlex.quote(unit)}
marker={shlex.quote(marker(unit))}
[ ! -e "$marker.new" ] || rm -f -- "$marker.new"
"""


def _line(path: str, digest: str) -> str:
    return f"mark {shlex.quote(path)} {tag(path)} {shlex.quote(digest)}\n"
