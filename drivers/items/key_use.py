"""What the daemon of a VPN has read: with which of the keys beside each other it runs, and whom it lets in. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

# The environment of a tincd says which of its keys it was started with: it does not tell by itself.
GENERATION = "SALVUS_KEY_GENERATION"


@dataclass(frozen=True, slots=True)
class KeyUse:
    """Facts about a daemon; none is told while it does not run.

    Attributes:
        daemon: tinc's network, or WireGuard's device.
        generation: the name of the fact: the number at the end of the private key's path, 1 where there is none.
        trusted: the name of the fact, a word each: with tinc the names in ``hosts``, which it reads whenever somebody
            comes; with WireGuard the public keys of peers.
    """

    daemon: str
    generation: str
    trusted: str


SHELL = f"""\
salvus_tinc() {{
    pid=$(systemctl show --value -p MainPID -- "tinc@$2.service" 2>/dev/null)
    if [ "${{pid:-0}}" = 0 ] || [ ! -r "/proc/$pid/environ" ]; then return 0; fi
    tr '\\0' '\\n' <"/proc/$pid/environ" | sed -n "s/^{GENERATION}=/U $1 /p"
    for f in "${{3%/*}}"/hosts/*; do
        [ ! -f "$f" ] || echo "T $1 ${{f##*/}}"
    done
    echo "T $1 end"
}}
salvus_wireguard() {{
    command -v wg >/dev/null || return 0
    own=$(wg show "$2" public-key 2>/dev/null) || return 0
    for f in "$3.pub" "$3".*.pub; do
        if [ -f "$f" ] && read -r key <"$f" && [ "$key" = "$own" ]; then
            f=${{f#"$3"}} f=${{f%.pub}}
            echo "U $1 ${{f#.}}"
        fi
    done
    wg show "$2" peers | sed "s|^|T $1 |"
    echo "T $1 end"
}}
"""


def base_of(path: str) -> str:
    """The path of the first key: later ones have a number behind it."""
    return re.sub(r"\.[0-9]+$", "", path)


def probe(number: int, made_by: str, path: str, use: KeyUse) -> str:
    """Shell text that tells of one daemon; it needs ``SHELL``. ``path`` is one of the private keys."""
    return f"salvus_{made_by} {number} {shlex.quote(use.daemon)} {shlex.quote(base_of(path))}\n"


def facts(number: int, use: KeyUse, output: str) -> Mapping[str, str]:
    """What ``probe`` printed."""
    lines = output.splitlines()
    used = [line.split(" ")[2] or "1" for line in lines if re.fullmatch(f"U {number} [0-9]*", line)]
    trusted = [line.split(" ")[2] for line in lines if re.fullmatch(rf"T {number} \S+", line)]
    if not trusted or trusted.pop() != "end":
        return {}
    return {use.trusted: " ".join(sorted(trusted))} | ({use.generation: used[0]} if used else {})
