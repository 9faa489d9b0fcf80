"""A key pair of a VPN, made on the machine: the private half never leaves it, the public half is told as a fact."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from drivers.base import Absent, Change, Drift, Fields, Grade, Present, Rejected, State, Verb
from drivers.items import key_use
from drivers.items import paths as fs
from drivers.items.shell import ShellItem

# With this a tinc.conf begins that is salvus's own.
MARK = "# Written by salvus"


@dataclass(frozen=True, slots=True)
class KeyPair(ShellItem):
    """``path`` with the private half, root's own, 0600, and ``path.pub`` with the public one.

    Attributes:
        made_by: ``tinc`` makes RSA keys of 3072 bits (NIST SP 800-57: good beyond 2030), ``wireguard`` its own.
        fact: the name under which the public half is told, its lines as they are in the file.
        use: what is told besides: with which pair in this directory the daemon runs, and whom it lets in.
    """

    path: str
    made_by: Literal["tinc", "wireguard"]
    fact: str
    use: key_use.KeyUse | None = None

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    def fields(self) -> Fields:
        """See Item."""
        return {"mode": "0600", "owner": "root", "public": True}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """A key that is there is never made anew."""
        return Grade.LIVE

    def refusal(self, observed: Fields) -> Rejected | None:
        """See Item. A tinc network that somebody else made keeps its keys, and whom it trusts."""
        if not observed.get("foreign"):
            return None
        return Rejected(
            f"{self.settings_path} is there already, and was not written by salvus: that network is left alone",
            hint="give the VPN another name, or stop that network and move its directory away",
        )

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem. Only public halves are read."""
        uses = "".join(key_use.probe(n, i.made_by, i.path, i.use) for n, i in enumerate(items) if i.use)
        return (
            fs.look([item.path for item in items]) + fs.notes(cls._read(items)) + (key_use.SHELL + uses if uses else "")
        )

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        seen = fs.looked([item.path for item in items], output)
        lines = fs.noted(cls._read(items), output)
        states = {item.key: item.state(seen[item.path], lines) for item in items}
        for number, item in enumerate(items):
            state = states[item.key]
            if item.use is not None and isinstance(state, Present) and "foreign" not in state.fields:
                told = key_use.facts(number, item.use, output)
                states[item.key] = Present(state.fields, {**state.facts, **told})
        return states

    @staticmethod
    def _read(items: Sequence[KeyPair]) -> list[str]:
        return [path for item in items for path in (item.public_path, item.settings_path)]

    def state(self, seen: fs.Stat | State, lines: Mapping[str, tuple[str, ...]]) -> State:
        """What was seen, as this item's fields. ``foreign`` is there for what somebody else made, and tells no key."""
        settings, public = lines[self.settings_path], "\n".join(lines[self.public_path]).strip()
        foreign = self.made_by == "tinc" and bool(settings) and not settings[0].startswith(MARK)
        if foreign and isinstance(seen, fs.Stat | Absent):
            return Present({"foreign": True})
        if not isinstance(seen, fs.Stat):
            return seen
        owner = seen.owner("root")
        if seen.kind != "file" or not seen.size:
            what = f"a {seen.kind}" if seen.size else "an empty file"
            return Present({"mode": what, "owner": owner, "public": bool(public)})
        facts = {self.fact: public} if public else {}
        return Present({"mode": seen.mode, "owner": owner, "public": bool(public)}, facts)

    @property
    def settings_path(self) -> str:
        """Where tinc has its settings."""
        return posixpath.join(posixpath.dirname(self.path), "tinc.conf")

    @property
    def public_path(self) -> str:
        """The file with the public half."""
        return f"{self.path}.pub"

    def script(self, change: Change) -> str:
        """See ShellItem. The public half is renamed into place first: a private one never stands without it."""
        half = shlex.quote(self.public_path)
        if change.verb is Verb.DELETE:
            return f'{fs.begin_in_ours(self.path)}rm -f -- "$path" {half}\n'
        make, again = (_TINC, _TINC_AGAIN) if self.made_by == "tinc" else (_WIREGUARD, _WIREGUARD_AGAIN)
        return f"""\
{fs.begin_in_ours(self.path)}if [ -s "$path" ]; then
    chown root:root -- "$path"
    chmod 0600 -- "$path"
    if [ ! -s {half} ]; then
{again}    fi
else
{make}    sync -- "$new"
fi
if [ -e "$new.pub" ]; then
    chmod 0644 -- "$new.pub"
    sync -- "$new.pub"
    mv -fT -- "$new.pub" {half}
fi
[ ! -e "$new" ] || mv -fT -- "$new" "$path"
sync -- "$dir"
"""


# tincd(8): without a terminal it asks nothing, and writes rsa_key.priv and rsa_key.pub into its folder.
_TINC = """\
    command -v tincd >/dev/null || fail "there is no tincd; install tinc"
    mkdir -- "$new.made"
    tincd -c "$new.made" -K3072 </dev/null >/dev/null 2>"$new.said" || fail "tincd makes no key: $(cat -- "$new.said")"
    grep -v '^$' -- "$new.made/rsa_key.pub" >"$new.pub"
    mv -fT -- "$new.made/rsa_key.priv" "$new"
    rm -r -- "$new.made" "$new.said"
"""
_TINC_AGAIN = """\
        fail "the public half of $path is gone, and tincd cannot tell it; move $path away to have a new pair made"
"""
_WIREGUARD = """\
    command -v wg >/dev/null || fail "there is no wg; install wireguard-tools"
    wg genkey >"$new"
    wg pubkey <"$new" >"$new.pub"
"""
_WIREGUARD_AGAIN = """\
        wg pubkey <"$path" >"$new.pub" || fail "$path is no key of WireGuard; move it away to have a new one made"
"""
