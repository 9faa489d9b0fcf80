"""How one node of a VPN reaches the others, tried now. Nothing is wanted of it: it is only asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from drivers.base import Present, State, Unknown
from drivers.items import paths as fs
from drivers.items.shell import Question


@dataclass(frozen=True, slots=True)
class Tunnel(Question):
    """The network device of a VPN, and the addresses of other nodes behind it.

    Observed are ``reached`` (``ADDRESS MILLISECONDS`` of those that answered) and, of WireGuard, ``handshakes``
    (``PUBLIC_KEY SECONDS_AGO``) and ``endpoints`` (``PUBLIC_KEY ADDRESS:PORT``).
    """

    device: str
    others: tuple[str, ...]

    @property
    def name(self) -> str:
        """The device."""
        return self.device

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem. One echo request to each, many at the same time; wg(8) is not asked for keys of its own."""
        calls = (
            f"salvus_tunnel {number} {fs.words([item.device, *item.others])}\n" for number, item in enumerate(items)
        )
        return _TUNNEL + "".join(calls)

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        lines = output.splitlines()
        return {item.key: _state(number, lines) for number, item in enumerate(items)}


_WAIT = 2
# Of many nodes so many at a time: each is a process.
_AT_ONCE = 64
_TUNNEL = f"""\
salvus_tunnel() {{
    n=$1 device=$2
    shift 2
    command -v ping >/dev/null || return 0
    asked=0
    for a do
        asked=$((asked + 1))
        [ $((asked % {_AT_ONCE})) -ne 0 ] || wait
        {{
            said=$(LC_ALL=C ping -n -q -c 1 -W {_WAIT} -I "$device" -- "$a" 2>/dev/null)
            # Of an answer the last line is: rtt min/avg/max/mdev = 0.5/0.5/0.5/0.0 ms
            t=${{said##* = }}
            [ "$t" = "$said" ] || echo "R $n $a ${{t%%/*}}"
        }} &
    done
    wait
    if command -v wg >/dev/null && now=$(date +%s); then
        wg show "$device" latest-handshakes 2>/dev/null | while read -r key at; do
            [ "$at" = 0 ] || echo "H $n $key $((now - at))"
        done
        wg show "$device" endpoints 2>/dev/null | while read -r key at; do
            [ "$at" = "(none)" ] || echo "E $n $key $at"
        done
    fi
    echo "D $n"
}}
"""
_KINDS = {
    "reached": r"R {n} (\S+ [0-9]{{1,9}}(?:\.[0-9]{{1,9}})?)",
    "handshakes": r"H {n} (\S+ [0-9]{{1,12}})",
    "endpoints": r"E {n} (\S+ \S+)",
}


def _state(number: int, lines: Sequence[str]) -> State:
    if f"D {number}" not in lines:
        return Unknown("it cannot be tried from there; is iputils-ping installed?")

    def told(pattern: str) -> tuple[str, ...]:
        found = (re.fullmatch(pattern.format(n=number), line) for line in lines)
        return tuple(sorted(match[1] for match in found if match))

    return Present({field: told(pattern) for field, pattern in _KINDS.items()})
