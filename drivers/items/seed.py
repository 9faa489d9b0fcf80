"""A cloud-init NoCloud seed: a small ISO image that tells a guest who it is."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from drivers.base import Change, Drift, Fields, Grade, Present, Rejected, State, Verb
from drivers.items import paths as fs
from drivers.items.host_key import public, public_key
from drivers.items.shell import ShellItem, here


@dataclass(frozen=True, slots=True)
class Seed(ShellItem):
    """A NoCloud ISO. The guest's host key is put in on the machine, so that it is nowhere else.

    Attributes:
        host_key: path of the HostKey on the same machine.
        user_data: ``#cloud-config`` in block style, without ``ssh_keys``; empty is allowed.
        network_config: version 2 or 1 as YAML; empty when the guest is to use its defaults.
    """

    forgets: ClassVar[frozenset[str]] = frozenset({"user_data", "network_config"})

    path: str
    host_key: str
    instance_id: str
    hostname: str
    user_data: str
    network_config: str

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    @property
    def inputs(self) -> str:
        """Digest of all that the controller puts in."""
        parts = [self.host_key, self.instance_id, self.hostname, self.user_data, self.network_config]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def fields(self) -> Fields:
        """See Item. ``host_key`` is True when the seed has the key that is there now."""
        return {"inputs": self.inputs, "host_key": True, "mode": "0600"}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """A guest reads it when it starts: writing it disturbs nothing."""
        return Grade.LIVE

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem."""
        return fs.look([item.path for item in items]) + fs.notes(_small_files(items))

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        seen = fs.looked([item.path for item in items], output)
        lines = fs.noted(_small_files(items), output)
        return {
            item.key: _state(seen[item.path], lines[_note(item.path)], public_key(lines[public(item.host_key)]))
            for item in items
        }

    def script(self, change: Change) -> str:
        """See ShellItem. Raises Rejected for user data that cannot be added to.

        The ISO is renamed into place last: once it is there, no other copy of the key is left.
        """
        begin = f"{fs.begin_in_ours(self.path)}note={shlex.quote(_note(self.path))}\n"
        if change.verb is Verb.DELETE:
            return begin + 'rm -f -- "$note" "$path"\n'
        user_data = self.user_data or "#cloud-config\n"
        if not user_data.startswith("#cloud-config"):
            raise Rejected(f"the user data of {self.path} does not begin with #cloud-config")
        meta = json.dumps({"instance-id": self.instance_id, "local-hostname": self.hostname}) + "\n"
        return f"""\
{begin}key={shlex.quote(self.host_key)}
made=$new.iso
maker=
for program in xorriso genisoimage; do
    if [ -z "$maker" ] && command -v "$program" >/dev/null; then maker=$program; fi
done
[ -n "$maker" ] || fail "a seed needs xorriso or genisoimage; install the package xorriso"
[ -s "$key" ] && [ -s "$key.pub" ] || fail "$path needs the host key $key, which is not there"
mkdir -m 0700 -- "$new"
{{
{_put(user_data, "user-data")}{_put(meta, "meta-data")}\
{_put(self.network_config, "network-config") if self.network_config else ""}}}
{{
    printf '\\nssh_keys:\\n  ed25519_private: |\\n'
    sed 's/^/    /' "$key"
    printf '  ed25519_public: %s\\n' "$(cat -- "$key.pub")"
}} >>"$new/user-data"
arguments="-quiet -volid CIDATA -joliet -rock"
case $maker in xorriso) maker="xorriso -as genisoimage" ;; esac
$maker $arguments -output "$made" "$new" || fail "$maker could not write $path"
{{
    printf '%s %s\\n' {self.inputs} "$({fs.STAMP} "$made")"
    cat -- "$key.pub"
}} >"$new.note"
sync -- "$made"
rm -rf -- "$new"
mv -fT -- "$new.note" "$note"
mv -fT -- "$made" "$path"
sync -- "$dir"
"""


def _note(path: str) -> str:
    """Where it is noted what the ISO was made of: the digest of the inputs, its stamp, and the public host key."""
    return fs.beside(path, "inputs")


def _small_files(items: Sequence[Seed]) -> list[str]:
    return [path for item in items for path in (_note(item.path), public(item.host_key))]


def _put(text: str, name: str) -> str:
    return f'{{\n{here(text.encode())}}} >"$new"/{name}\n'


def _state(seen: fs.Stat | State, note: Sequence[str], key: str) -> State:
    if not isinstance(seen, fs.Stat):
        return seen
    digest, _, stamp = note[0].partition(" ") if note else ("", "", "")
    inputs = digest if seen.kind == "file" and stamp == seen.stamp else "not known"
    return Present({"inputs": inputs, "host_key": bool(key) and public_key(note[1:]) == key, "mode": seen.mode})
