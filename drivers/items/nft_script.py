"""The shell text by which the packet filter is looked at, put on trial, kept and taken away. Pure.

Under ``FOLDER`` on the machine, which only root may read, are

- ``boot.nft``: the table as it was last confirmed; ``UNIT`` loads it before the network is up;
- ``listing``: how the kernel listed the table when salvus had just written it: what is listed otherwise was changed by
  somebody else. What the kernel lists is not the text that it was given;
- ``refused``: the attempt that was put back last (``nft_text.attempt``), and when, in seconds since the epoch.
"""

from __future__ import annotations

import shlex

from drivers.items import nft_text
from drivers.items import paths as fs
from drivers.items.rules import RuleSet
from drivers.items.shell import here
from drivers.items.systemd_script import RELOAD, at_boot, boot_paths

FOLDER = "/var/lib/salvus/firewall"
_UNIT = "salvus-firewall.service"
UNIT_FILE, _LINK = boot_paths(_UNIT)
# After whatever else may load rules: the distribution's file begins with `flush ruleset`.
UNIT = f"""\
[Unit]
Description=Packet filter rules of salvus, as last confirmed
Documentation=man:nft(8)
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
After=nftables.service
Conflicts=shutdown.target
RequiresMountsFor={FOLDER}
ConditionPathExists={FOLDER}/boot.nft

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=nft -f {FOLDER}/boot.nft

[Install]
WantedBy=sysinit.target
"""
_NAMES = f"""\
dir={FOLDER} unit={UNIT_FILE} link={_LINK}
"""
# Without what is about connections older than the table; an element a line.
_LINES = """\
salvus_lines() {
    sed -e 's/^[\\t ]*//' -e '/^set older {/,/^}/d' -e '/^elements = {/,/}/{s/,$//;s/, /\\n/g;s/{ /{\\n/;s/ }$/\\n}/}'
}
"""
# Lines begin with what they tell of: B the file for the boot, U the unit, L the link, R the refusal, T the table, O a
# trial, D what the kernel lists otherwise.
PROBE = f"""\
{_NAMES}{_LINES}salvus_firewall() {{
    [ ! -f "$dir/boot.nft" ] || sed 's/^/B /' "$dir/boot.nft"
    [ ! -f "$unit" ] || sed 's/^/U /' "$unit"
    [ ! -L "$link" ] || echo L
    if [ -f "$dir/refused" ] && read -r what at <"$dir/refused"; then echo "R $what $at"; fi
    if ! command -v nft >/dev/null; then echo 'T no nft'; return; fi
    if ! said=$(nft -s list table {nft_text.TABLE} 2>&1); then
        case $said in *'No such file or directory'*) echo 'T none'; return ;; esac
        printf '%s\\n' "$said" >&2
        exit 1
    fi
    case $said in
        *'	set trial {{'*)
            case $(nft -s list set {nft_text.TABLE} trial) in
                *elements*) echo 'O pending' ;;
                *) echo 'O expired' ;;
            esac
            ;;
        *)
            if [ -f "$dir/listing" ]; then was=$dir/listing; else was=/dev/null; fi
            printf '%s\\n' "$said" | salvus_lines |
                diff --unchanged-line-format= --old-line-format='D -%L' --new-line-format='D +%L' "$was" - |
                head -n 40
            ;;
    esac
    echo 'T there'
}}
salvus_firewall
echo end
"""
_BEGIN = f"""\
{fs.FAIL}{_NAMES}{_LINES}umask 077
command -v nft >/dev/null || fail "there is no nft; install the package nftables"
mkdir -p -m 0700 -- "$dir"
"""
# Longer than the two hours of silence after which a connection is asked whether it is still there (tcp(7)).
_OLDER = f"add element {nft_text.TABLE} {{}} {{{{ ipv4 timeout 3h, ipv6 timeout 3h }}}}"
# What somebody wrote into the file may not be nft's words: then nothing is there, as before.
_AGAIN = f"""\
{{ echo 'include "{FOLDER}/boot.nft"'; echo "{_OLDER.format("older")}"; }} | nft -f - || :
"""
# What is in the way goes in the transaction of what comes: no packet meets the gap. Sets last, as rules name them.
_TRY = """\
found=$(nft -a -t list table {table} 2>/dev/null) || found=
left() {{ printf '%s\\n' "$found" | sed -n "$1"; }}
{{
echo "table {table}"
left 's/^\\t\\t.* goto trial_\\(input\\|output\\) # handle \\([0-9]*\\)$/delete rule {table} \\1 handle \\2/p'
left 's/^\\tchain \\(trial_[a-z0-9_]*\\) {{.*/flush chain {table} \\1/p'
left 's/^\\tchain \\(trial_[a-z0-9_]*\\) {{.*/delete chain {table} \\1/p'
left 's/^\\tset \\(trial[a-z0-9_]*\\) {{.*/delete set {table} \\1/p'
{rules}
case $found in
    *'	set older {{'*) case $(nft list set {table} older) in *elements*) echo "{older}" ;; esac ;;
    *) echo "{older}" ;;
esac
echo "add element {table} trial {{ ipv4 timeout ${{SALVUS_WINDOW}}s, ipv6 timeout ${{SALVUS_WINDOW}}s }}"
}} >"$dir/next.nft"
nft -f "$dir/next.nft"
rm -f -- "$dir/next.nft"
"""
# That an element can still be deleted proves that it is there; in the same transaction. Where they are in force and no
# more on trial, who confirmed them may have died before the files were written.
_CONFIRM = """\
if found=$(nft -s list set {table} trial 2>/dev/null); then
    older=trial_older end='delete element {table} trial {{ ipv4, ipv6 }}'
else
    found=$(nft -s list set {table} older 2>/dev/null) || found=
    older=older end=
fi
case $found in
    *'comment "{digest}"'*) ;;
    *) fail "these rules are not on trial" ;;
esac
{{
echo "$end"
echo 'include "{folder}/boot.new"'
case $(nft list set {table} "$older") in *elements*) echo "{older}" ;; esac
}} >"$dir/next.nft"
"""
# What is listed after a change counts as ours.
_UNTOUCHED = f"""\
nft -s list table {nft_text.TABLE} | salvus_lines | cmp -s - "$dir/listing" ||
    fail "somebody else changed the table {nft_text.TABLE} meanwhile; nothing was added"
"""
_KEEP = f"""\
nft -f "$dir/next.nft"
nft -s list table {nft_text.TABLE} | salvus_lines >"$dir/listing.new"
sync -d -- "$dir/listing.new"
mv -fT -- "$dir/boot.new" "$dir/boot.nft"
mv -fT -- "$dir/listing.new" "$dir/listing"
rm -f -- "$dir/next.nft" "$dir/refused"
sync -- "$dir"
"""
_REFUSED = """\
sync -d -- "$dir/refused.new"
mv -fT -- "$dir/refused.new" "$dir/refused"
sync -- "$dir"
"""
_AT_BOOT = at_boot(_UNIT, UNIT)
REMOVE = f"""\
{fs.FAIL}{_NAMES}if command -v nft >/dev/null; then
    nft 'table {nft_text.TABLE}; delete table {nft_text.TABLE}'
fi
if [ -e "$unit" ] || [ -L "$link" ]; then
    rm -f -- "$link" "$unit" "$unit.salvus-new"
    {RELOAD}fi
rm -rf -- "$dir"
"""


def on_trial(rules: RuleSet, *, gone: bool = False) -> str:
    """The rules are in force for ``SALVUS_WINDOW`` seconds, then what was there before; what was confirmed last where
    that is ``gone``.
    """
    tried = _TRY.format(
        table=nft_text.TABLE, rules=here(nft_text.on_trial(rules).encode()), older=_OLDER.format("trial_older")
    )
    return _BEGIN + (_AGAIN if gone else "") + tried


def confirm(rules: RuleSet) -> str:
    """What is on trial stays, at the next boot too; where it stays already, that is made sure of."""
    text = _CONFIRM.format(
        table=nft_text.TABLE, digest=nft_text.digest(rules), folder=FOLDER, older=_OLDER.format("older")
    )
    return _BEGIN + text + _file(rules) + _KEEP + _AT_BOOT


def add(rules: RuleSet, new: tuple[str, ...]) -> str:
    """More members: nothing else of the table is touched. Fails where somebody else did so since salvus wrote it."""
    more = _UNTOUCHED + f'{{ {here(nft_text.added(new).encode())}}} >"$dir/next.nft"\n'
    return _BEGIN + (_file(rules) + more + _KEEP if new else "") + _AT_BOOT


def refuse(rules: RuleSet) -> str:
    """It is noted that the machine put back what was there before these rules."""
    note = f'printf "%s %s\\n" {shlex.quote(nft_text.attempt(rules))} "$SALVUS_NOW" >"$dir/refused.new"\n'
    return _BEGIN + note + _REFUSED


def _file(rules: RuleSet) -> str:
    return f'{{ {here(nft_text.whole(rules).encode())}}} >"$dir/boot.new"\nsync -d -- "$dir/boot.new"\n'
