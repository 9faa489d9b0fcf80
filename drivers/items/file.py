"""A regular file, written whole."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from drivers.base import Absent, Change, Drift, Fields, Grade, Present, RolledBack, State, Unknown, Value, Verb
from drivers.items import paths as fs
from drivers.items import systemd_script as sh
from drivers.items import undo
from drivers.items.shell import ShellItem, here


@dataclass(frozen=True, slots=True)
class Trial:
    """That a file can cut the controller off (rule 8), as one of sshd.

    Attributes:
        unit: what reads it, changed together with it; empty for nothing that has to be told.
        how: what the unit does then, if it runs.
    """

    unit: str = ""
    how: Literal["restart", "reload"] = "reload"


@dataclass(frozen=True, slots=True)
class File(ShellItem):
    """A regular file. ``mode`` is octal digits; ``owner`` and ``group`` are names, or numbers as text.

    One that has a ``trial`` is written and removed under the dead-man switch. Then there is a field more: ``trial``,
    ``pending`` where a change was never confirmed. Observed besides: ``refused``, what was put back last, and its time.
    """

    forgets: ClassVar[frozenset[str]] = frozenset({"content"})

    path: str
    content: str
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"
    trial: Trial | None = None

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    def fields(self) -> Fields:
        """See Item."""
        digest = hashlib.sha256(self.content.encode()).hexdigest()
        fields: dict[str, Value] = {
            "sha256": digest,
            "mode": f"{int(self.mode, 8):04o}",
            "owner": self.owner,
            "group": self.group,
        }
        return fields if self.trial is None else fields | {"trial": ""}

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """A file disturbs nothing; what reads it is another item, unless it is on trial together with it."""
        if self.trial is None or not self.trial.unit:
            return Grade.LIVE
        return Grade[self.trial.how.upper()]

    def refusal(self, observed: Fields) -> RolledBack | None:
        """See Item. This file was put back before."""
        lost, path = f"with this {self.path} nobody could log in anew", undo.notes(self.trial_name)[1]
        return undo.refusal(str(observed.get("refused", "")), lambda: self._attempt(Verb.UPDATE), lost, path)

    def stays(self, observed: Fields) -> RolledBack | None:
        """See Item. It was removed before, and put back."""
        if "sha256" not in observed:
            return None
        lost, path = f"without {self.path} nobody could log in anew", undo.notes(self.trial_name)[1]
        return undo.refusal(str(observed.get("refused", "")), lambda: self._attempt(Verb.DELETE), lost, path)

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem."""
        paths = [item.path for item in items]
        return fs.look(paths) + fs.sums(paths) + fs.notes(cls._notes(items))

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        seen = fs.looked([item.path for item in items], output)
        digests, noted = fs.summed(output), fs.noted(cls._notes(items), output)
        return {item.key: item.tried(item.state(seen[item.path], digests.get(item.path)), noted) for item in items}

    @staticmethod
    def _notes(items: Sequence[File]) -> list[str]:
        return [path for item in items if item.trial is not None for path in undo.notes(item.trial_name)]

    def state(self, seen: fs.Stat | Absent | Unknown, digest: str | None) -> State:
        """What was seen, as this item's fields."""
        if not isinstance(seen, fs.Stat):
            return seen
        content = digest if seen.kind == "file" else f"a {seen.kind}"
        if content is None:
            return Unknown(f"{self.path} cannot be read")
        owner, group = seen.owner(self.owner), seen.owning_group(self.group)
        return Present({"sha256": content, "mode": seen.mode, "owner": owner, "group": group})

    def tried(self, state: State, noted: Mapping[str, tuple[str, ...]]) -> State:
        """The state with what is known of trials."""
        if self.trial is None or isinstance(state, Unknown):
            return state
        armed, refused = (noted[path] for path in undo.notes(self.trial_name))
        if isinstance(state, Absent) and not armed and not refused:
            return state
        fields: dict[str, Value] = dict(state.fields) if isinstance(state, Present) else {}
        fields["trial"] = "pending" if armed else ""
        return Present(fields | ({"refused": refused[0]} if refused else {}))

    def perilous(self, change: Change) -> bool:
        """See ShellItem."""
        return self.trial is not None

    def confirmation(self, change: Change) -> str:
        """See ShellItem."""
        confirmed = undo.end if change.verb is Verb.DELETE else undo.confirm
        return confirmed(self.trial_name, self._attempt(change.verb))

    def refused(self, change: Change) -> str:
        """See ShellItem."""
        return undo.refuse(self.trial_name, self._attempt(change.verb))

    @property
    def trial_name(self) -> str:
        """The name of the trials of its changes, see ``undo.arm``."""
        return undo.named(self.path)

    def _attempt(self, verb: Verb) -> str:
        wanted = "" if verb is Verb.DELETE else repr(sorted(self.fields().items()))
        return hashlib.sha256(wanted.encode()).hexdigest()

    def script(self, change: Change) -> str:
        """See ShellItem. Where it has a trial, what reads it is told in the same script."""
        if self.trial is None:
            return self._written(change)
        unit, how = self.trial.unit, self.trial.how
        again = sh.take_again(unit, how) if unit else ""
        arm = undo.arm(self.trial_name, self._attempt(change.verb), [self.path], again)
        return f"{arm}(\n{self._written(change)})\n{undo.WRITTEN}" + (sh.take(unit, how) if unit else "")

    def _written(self, change: Change) -> str:
        """A file whose content is right keeps its time: units look at when it was written."""
        begin = fs.begin(self.path)
        if change.verb is Verb.DELETE:
            return begin + 'rm -f -- "$path"\n'
        right = change.verb is Verb.UPDATE and all(one.field != "sha256" for one in change.drift)
        keep = f'touch -c -r "$path" -- {fs.NEW}\n' if right else ""
        owner = shlex.quote(f"{self.owner}:{self.group}")
        return f"""\
{begin}{fs.CREATE}{{
{here(self.content.encode())}}} >&3
{keep}chown -- {owner} {fs.NEW}
chmod -- {shlex.quote(self.mode)} {fs.NEW}
{fs.FINISH}"""
