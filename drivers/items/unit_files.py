"""The files that a unit reads when it starts: changed all together, with a restart, on trial (rule 8)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from drivers.base import Absent, Change, Drift, Fields, Grade, Present, RolledBack, State, Unknown, Value, Verb
from drivers.items import paths as fs
from drivers.items import systemd_script as sh
from drivers.items import undo
from drivers.items.file import File
from drivers.items.shell import ShellItem

_TRIAL = "trial"


@dataclass(frozen=True, slots=True)
class UnitFiles(ShellItem):
    """The files of a unit that can cut the controller off, as that of a VPN. If it runs, it is restarted with them.

    Fields: each file by its path; ``trial``, ``pending`` where a change was never confirmed. Observed besides:
    ``refused``, the attempt that was put back last, and its time.

    Attributes:
        unit: its full name.
        start_files: all that it reads at its start alone.
        reload_files: those for which a reload is enough.
    """

    unit: str
    start_files: tuple[File, ...]
    reload_files: tuple[File, ...] = ()

    @property
    def name(self) -> str:
        """The unit's."""
        return self.unit

    def fields(self) -> Fields:
        """See Item."""
        return {file.path: _shown(file.fields()) for file in self.files} | {_TRIAL: ""}

    @property
    def files(self) -> tuple[File, ...]:
        """All of them."""
        return self.start_files + self.reload_files

    @property
    def takes_over(self) -> frozenset[str]:
        """See Item."""
        return frozenset(file.key for file in self.files)

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """See Item."""
        light = {file.path for file in self.reload_files}
        return Grade.RELOAD if {one.field for one in drift} <= light else Grade.RESTART

    def refusal(self, observed: Fields) -> RolledBack | None:
        """See Item. These files were put back before."""
        lost, path = f"with these files of {self.unit} nobody could log in anew", undo.notes(self.trial)[1]
        return undo.refusal(str(observed.get("refused", "")), lambda: self._attempt, lost, path)

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem."""
        paths = cls._paths(items)
        return fs.look(paths) + fs.sums(paths) + fs.notes(cls._notes(items))

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        seen, digests = fs.looked(cls._paths(items), output), fs.summed(output)
        noted = fs.noted(cls._notes(items), output)
        return {item.key: item.state(seen, digests, noted) for item in items}

    @staticmethod
    def _paths(items: Sequence[UnitFiles]) -> list[str]:
        return sorted({file.path for item in items for file in item.files})

    @staticmethod
    def _notes(items: Sequence[UnitFiles]) -> list[str]:
        return [path for item in items for path in undo.notes(item.trial)]

    def state(
        self,
        seen: Mapping[str, fs.Stat | Absent | Unknown],
        digests: Mapping[str, str],
        noted: Mapping[str, tuple[str, ...]],
    ) -> State:
        """What was seen, as this item's fields."""
        found = {file.path: file.state(seen[file.path], digests.get(file.path)) for file in self.files}
        for state in found.values():
            if isinstance(state, Unknown):
                return state
        armed, refused = (noted[path] for path in undo.notes(self.trial))
        fields: dict[str, Value] = {
            path: _shown(state.fields) for path, state in found.items() if isinstance(state, Present)
        }
        if not fields and not armed and not refused:
            return Absent()
        return Present(fields | {_TRIAL: "pending" if armed else ""} | ({"refused": refused[0]} if refused else {}))

    def script(self, change: Change) -> str:
        """See ShellItem. All are written: what is put back first may have been another one."""
        if change.verb is Verb.DELETE:
            return f"{undo.forget(self.trial)}rm -f -- {fs.words(file.path for file in self.files)}\n"
        how = "reload" if self.grade(change.drift) is Grade.RELOAD else "restart"
        paths, again = [file.path for file in self.files], sh.take_again(self.unit, how)
        written = self._written()
        if self.perilous(change):
            written = undo.arm(self.trial, self._attempt, paths, again) + written + undo.WRITTEN
        return written + sh.take(self.unit, how)

    def perilous(self, change: Change) -> bool:
        """See ShellItem. Nobody comes in by what was not there before."""
        return change.verb is Verb.UPDATE

    def confirmation(self, change: Change) -> str:
        """See ShellItem."""
        return undo.confirm(self.trial, self._attempt)

    def refused(self, change: Change) -> str:
        """See ShellItem."""
        return undo.refuse(self.trial, self._attempt)

    def _written(self) -> str:
        """Each file in a shell of its own, as that ends when it is written."""
        create = ((file, Change(file, Verb.CREATE, (), Grade.LIVE)) for file in self.files)
        return "".join(f"(\n{file.script(change)})\n" for file, change in create)

    @property
    def trial(self) -> str:
        """The name of the trials of its changes, see ``undo.arm``."""
        return undo.named(self.unit)

    @property
    def _attempt(self) -> str:
        return hashlib.sha256(repr(sorted(self.fields().items())).encode()).hexdigest()


def _shown(fields: Fields) -> str:
    return f"{fields['mode']} {fields['owner']}:{fields['group']} {fields['sha256']}"
