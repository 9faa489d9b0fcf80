"""The shell text by which ufw(8) is looked at, changed, and left as it was before. Pure.

Under ``FOLDER`` on the machine, which only root may read, are

- ``before``: the settings that salvus changed, as they were, ``FILE NAME LINE`` in a line;
- ``linked``: that it was salvus who had ufw started at boot;
- ``sysctl``: the kernel's settings that ufw changes when it is enabled, as they were;
- ``listing``: how the kernel listed our rules, and what leads to them, when they had just been loaded.
"""

from __future__ import annotations

from drivers.items import paths as fs
from drivers.items import ufw_text, undo
from drivers.items.rules import Action, RuleSet
from drivers.items.shell import here

FOLDER = "/var/lib/salvus/ufw"
RULES = {4: "/etc/ufw/user.rules", 6: "/etc/ufw/user6.rules"}
_CONF = "/etc/ufw/ufw.conf"
_DEFAULTS = "/etc/default/ufw"
_LINK = "/etc/systemd/system/multi-user.target.wants/ufw.service"
# All that a change writes before it is confirmed.
_FILES = (*RULES.values(), _CONF, _DEFAULTS, f"{FOLDER}/before", f"{FOLDER}/listing")
# Of the trial, see undo.py.
TRIAL = "ufw"
REMOVAL = "removal"
_POLICIES = {Action.ALLOW: "accept", Action.DENY: "drop"}
_NAMES = f"""\
dir={FOLDER} conf={_CONF} defaults={_DEFAULTS} link={_LINK} four={RULES[4]} six={RULES[6]}
setting() {{ LC_ALL=C sed -n "s/^$2=[\\"']*\\([^\\"']*\\).*/\\1/p" "$1" | tail -n 1 | tr A-Z a-z; }}
enabled() {{ [ "$(setting "$conf" ENABLED)" = yes ]; }}
"""
# In the kernel a rule bears no mark: ours are the first of their chains, so many of each. Arguments: for IPv4 of
# incoming packets, of outgoing ones; for IPv6 the same.
_LISTED = """\
listed() {
    echo "$*"
    chains iptables ufw "$1" "$2"
    chains ip6tables ufw6 "$3" "$4"
}
chains() {
    "$1" -S 2>/dev/null | LC_ALL=C awk -v tool="$1" -v ufw="$2" -v input="$3" -v output="$4" '
        /^-P (INPUT|OUTPUT) / { print tool, $0 }
        $1 != "-A" { next }
        $2 ~ /^(INPUT|OUTPUT)$/ && NF == 4 && $4 ~ "^" ufw "-(before|after|reject|track)-" { print tool, $0 }
        $2 ~ "^" ufw "-before-(in|out)put$" && NF == 4 && $4 ~ "^" ufw "-user-" { print tool, $0 }
        $2 == ufw "-user-input" && input-- > 0 { print tool, $0 }
        $2 == ufw "-user-output" && output-- > 0 { print tool, $0 }
    '
}
"""
# Lines begin with what they tell of: 4 and 6 our rules, A that others stand before one of them, E whether ufw is
# enabled, V whether for IPv6, I and O its defaults, L the link, B that there are notes, D what the kernel lists
# otherwise.
_OURS = f"""\
ours() {{
    LC_ALL=C awk -v version="$2" -v mark='{ufw_text.MARKED}' '
        /^{ufw_text.TUPLE} / {{ own = index($0, mark); if (!own) others = 1; else if (others) print "A" }}
        !/^({ufw_text.TUPLE} |-A )/ {{ own = 0 }}
        own {{ print version, $0 }}
    ' "$1"
}}
"""
PROBE = f"""\
{_NAMES}{_LISTED}{_OURS}salvus_ufw() {{
    [ ! -e "$dir/before" ] || echo B
    if [ ! -f "$four" ] || [ ! -f "$six" ] || [ ! -f "$conf" ] || [ ! -f "$defaults" ]; then return; fi
    ours "$four" 4
    ours "$six" 6
    LC_ALL=C awk -F= '
        {{ sub(/^["\\047]*/, "", $2); sub(/["\\047].*/, "", $2); told[$1] = tolower($2) }}
        END {{
            print "E", told["ENABLED"]
            print "V", told["IPV6"]
            print "I", told["DEFAULT_INPUT_POLICY"]
            print "O", told["DEFAULT_OUTPUT_POLICY"]
        }}
    ' "$conf" "$defaults"
    [ ! -L "$link" ] || echo L
    if [ -f "$dir/listing" ] && read -r counts <"$dir/listing"; then
        listed $counts |
            diff --unchanged-line-format= --old-line-format='D -%L' --new-line-format='D +%L' "$dir/listing" - |
            head -n 40
    elif [ -e "$dir/before" ]; then
        echo "D -$dir/listing"
    fi
}}
salvus_ufw
echo end
"""
_BEGIN = f"""\
{fs.FAIL}{_NAMES}{_LISTED}umask 077
command -v ufw >/dev/null || fail "there is no ufw; install the package ufw"
for file in "$four" "$six" "$conf" "$defaults"; do
    [ -f "$file" ] || fail "there is no $file; install the package ufw anew: apt-get install --reinstall ufw"
done
"""
_WRITE = f"""\
finish() {{
    chown --reference="$1" -- "$1.salvus-new"
    chmod --reference="$1" -- "$1.salvus-new"
    sync -d -- "$1.salvus-new"
    mv -fT -- "$1.salvus-new" "$1"
}}
# FILE NAME LINE
write() {{
    line=$3 LC_ALL=C awk -v name="$2=" '
        function ours() {{ if (!done++ && ENVIRON["line"] != "") print ENVIRON["line"] }}
        index($0, name) == 1 {{ ours(); next }}
        {{ print }}
        END {{ ours() }}
    ' "$1" >"$1.salvus-new"
    finish "$1"
}}
# FILE OURS: our rules anew, before those of others.
rules() {{
    own=$2 LC_ALL=C awk -v mark='{ufw_text.MARKED}' '
        /^$/ {{ blank = 1; own = 0; next }}
        /^{ufw_text.TUPLE} / {{ own = index($0, mark) }}
        !/^({ufw_text.TUPLE} |-A )/ {{ own = 0 }}
        own {{ blank = 0; next }}
        {{ if (blank) print ""; print; blank = 0 }}
        $0 == "### RULES ###" {{ while ((getline line < ENVIRON["own"]) > 0) {{ print line; blank = 1 }} }}
    ' "$1" >"$1.salvus-new"
    finish "$1"
}}
"""
# Whether forwarded packets pass is not ours to say, and ufw says it each time that it starts. What we cannot put back
# of chains that others refer to stays, as when ufw itself is disabled.
_KERNEL = """\
forward() { "$1" -S FORWARD 2>/dev/null | sed -n 's/^-P FORWARD //p'; }
keep() { [ -z "$2" ] || "$1" -P FORWARD "$2"; }
hooks() {
    "$1" -S 2>/dev/null | LC_ALL=C awk '
        $1 == "-A" && NF == 4 && $2 ~ /^(INPUT|OUTPUT|FORWARD)$/ && $4 ~ /^ufw6?-(before|after|reject|track)-/ {
            print "-D", $2, $3, $4
        }
    '
}
unhook() {
    { echo '*filter'; hooks "$1"; echo COMMIT; } | "$1-restore" -w 10 -n
    "$1" -S | sed -n 's/^-N \\(ufw6\\{0,1\\}-.*\\)/\\1/p' | while read -r chain; do
        "$1" -X "$chain" 2>/dev/null || :
    done
}
rehook() { [ "$(hooks "$1" | wc -l)" -eq 18 ] || unhook "$1"; }
each() {
    "$1" iptables
    ! ip6tables -S INPUT >/dev/null 2>&1 || "$1" ip6tables
}
start() {
    set -- "$(forward iptables)" "$(forward ip6tables)"
    /lib/ufw/ufw-init force-stop >/dev/null
    each rehook
    ufw --force enable >/dev/null
    keep iptables "$1"
    keep ip6tables "$2"
}
stop() {
    set -- "$(forward iptables)" "$(forward ip6tables)"
    /lib/ufw/ufw-init force-stop >/dev/null
    each unhook
    keep iptables "$1"
    keep ip6tables "$2"
}
load() {
    iptables-restore -w 10 -n <"$four"
    ! ip6tables -S ufw6-user-input >/dev/null 2>&1 || ip6tables-restore -w 10 -n <"$six"
}
"""
# What is noted is what was there before salvus, and not before this change.
_SETTINGS = """\
# FILE NAME VALUE
change() {
    [ "$(setting "$1" "$2")" != "$3" ] || return 0
    if ! grep -q "^$1 $2 " "$dir/before"; then
        echo "$1 $2 $(grep "^$2=" "$1" | tail -n 1)" >>"$dir/before"
        sync -d -- "$dir/before"
    fi
    case $2 in *POLICY) write "$1" "$2" "$2=\\"$(echo "$3" | tr a-z A-Z)\\"" ;; *) write "$1" "$2" "$2=$3" ;; esac
    anew=1
}
mkdir -p -m 0700 -- "$dir"
[ -e "$dir/before" ] || : >"$dir/before"
# It is out of date while the files are ahead of the kernel: who finds none starts ufw again.
rm -f -- "$dir/listing"
if ! enabled; then
    names=$(sed -n 's/^\\([a-z0-9][^ =]*\\) *=.*/\\1/p' /etc/ufw/sysctl.conf)
    if [ -n "$names" ] && [ ! -e "$dir/sysctl" ]; then
        sysctl -e $names >"$dir/sysctl.new" 2>/dev/null || :
        mv -fT -- "$dir/sysctl.new" "$dir/sysctl"
    fi
    case $(forward iptables):$(forward ip6tables) in
        DROP:DROP | DROP:) change "$defaults" DEFAULT_FORWARD_POLICY drop ;;
        *) change "$defaults" DEFAULT_FORWARD_POLICY accept ;;
    esac
fi
"""
_LOAD = """\
grep -q '^### END RULES ###$' "$four" && grep -q '^### END RULES ###$' "$six" || anew=1
iptables -S ufw-user-input >/dev/null 2>&1 || anew=1
if [ -n "$anew" ]; then start; else load; fi
"""
# What was loaded is counted: ufw leaves out what it cannot load, and says that all is well.
_SEEN = """\
set -- {counts}
ip6tables -S INPUT >/dev/null 2>&1 || set -- "$1" "$2" 0 0
listed "$@" >"$dir/listing.new"
[ "$(grep -c ' -A ufw6\\{{0,1\\}}-user-\\(in\\|out\\)put ' "$dir/listing.new")" -eq $(($1 + $2 + $3 + $4)) ] ||
    fail "ufw did not load all rules; see: ufw show raw"
sync -d -- "$dir/listing.new"
mv -fT -- "$dir/listing.new" "$dir/listing"
sync -- "$dir" /etc/ufw /etc/default
"""
_AT_BOOT = """\
if [ ! -L "$link" ]; then
    : >"$dir/linked"
    sync -- "$dir"
    mkdir -p -- "${link%/*}"
    ln -sT -- /lib/systemd/system/ufw.service "$link"
    sync -- "${link%/*}"
fi
"""
# As it was before; run again it goes on.
_LEAVE = f"""\
rules "$four" /dev/null
rules "$six" /dev/null
[ ! -s "$dir/before" ] || anew=1
while read -r file name line; do write "$file" "$name" "$line"; done <"$dir/before"
{undo.WRITTEN}if ! enabled; then stop; elif [ -n "$anew" ]; then start; else load; fi
rm -f -- "$dir/before" "$dir/listing"
"""
_CALM = """\
if ! enabled && [ -e "$dir/sysctl" ]; then sysctl -e -q -p "$dir/sysctl" || :; fi
"""


def change(rules: RuleSet, attempt: str, *, perilous: bool, anew: bool) -> str:
    """The rules and defaults are in force; perilous ones for ``SALVUS_WINDOW`` seconds, then what was there before.

    ``anew`` where ufw has to be started again: for as long as that takes, less than a second, it lets everything in.
    """
    blocks = {version: ufw_text.blocks(rules, version) for version in ufw_text.VERSIONS}
    armed = undo.arm(TRIAL, attempt, _FILES, _THEN) if perilous else ""
    written = "".join(
        f'{{ {here(ufw_text.text(blocks[version]).encode())}}} >"$dir/rules"\nrules {path} "$dir/rules"\n'
        for version, path in RULES.items()
    )
    counts = (str(count) for version in ufw_text.VERSIONS for count in ufw_text.counts(blocks[version]))
    seen = _SEEN.format(counts=" ".join(counts))
    defaults = "".join(
        f'change "$defaults" {name} {value}\n'
        for name, value in (
            ("IPV6", "yes"),
            ("DEFAULT_INPUT_POLICY", _POLICIES[rules.default_ingress]),
            ("DEFAULT_OUTPUT_POLICY", _POLICIES[rules.default_egress]),
        )
    )
    return (
        f'{_BEGIN}{armed}{_WRITE}{_KERNEL}anew={"1" if anew else ""}\n{_SETTINGS}{written}rm -f -- "$dir/rules"\n'
        f'{defaults}change "$conf" ENABLED yes\n{undo.WRITTEN if perilous else ""}{_LOAD}{seen}'
        f"{'' if perilous else _AT_BOOT}"
    )


def confirm(attempt: str) -> str:
    """What is on trial stays, at the next boot too."""
    return undo.confirm(TRIAL, attempt) + _NAMES + _AT_BOOT


_THEN = f"""\
{_NAMES}{_KERNEL}if enabled; then start; else stop; fi
{_CALM}enabled || rm -f -- "$dir/sysctl"
"""
# Perilous, as the operator's own rules may let nobody in.
REMOVE = f"""\
{fs.FAIL}{_NAMES}umask 077
mkdir -p -m 0700 -- "$dir"
if command -v ufw >/dev/null && [ -f "$four" ] && [ -f "$six" ] && [ -f "$conf" ] && [ -f "$defaults" ]; then
{undo.arm(TRIAL, REMOVAL, _FILES, _THEN)}{_WRITE}{_KERNEL}anew=
[ -e "$dir/before" ] || : >"$dir/before"
{_LEAVE}{_CALM}else
{undo.forget(TRIAL)}fi
"""
REMOVED = f"""\
{_NAMES}if [ -d "$dir" ] && [ -d {undo.FOLDER}/{TRIAL} ]; then
{undo.confirm(TRIAL, REMOVAL)}fi
if [ -e "$dir/linked" ]; then rm -f -- "$link"; fi
rm -rf -- "$dir"
{undo.forget(TRIAL)}"""
REFUSED = undo.refuse(TRIAL, REMOVAL)
