"""The packet filter of a machine: ``table inet salvus`` of nftables, and no other (rule 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from drivers.base import Absent, Change, Drift, Fields, Grade, Present, RolledBack, State, Unknown, Value, Verb
from drivers.items import nft_script as sh
from drivers.items import nft_text, undo
from drivers.items.rules import RuleSet
from drivers.items.shell import ShellItem

_UNIT = tuple(sh.UNIT.rstrip("\n").split("\n"))
_GONE = "-table inet salvus"


@dataclass(frozen=True, slots=True)
class NftTable(ShellItem):
    """The rules, in force now and from every boot on before the network is up. One a machine.

    Fields: ``rules`` and ``members``, a line each, as last confirmed; ``by_hand``, lines that somebody else added
    (``+``) or took away (``-``) since; ``trial``, ``pending`` or ``expired`` where rules were never confirmed;
    ``at_boot``, whether the unit is there that loads them. Observed besides: ``refused``, the attempt that was put back
    last, and its time.
    """

    forgets: ClassVar[frozenset[str]] = frozenset({"rules"})
    protects: ClassVar[bool] = True

    rules: RuleSet

    @property
    def name(self) -> str:
        """The table's."""
        return "salvus"

    def fields(self) -> Fields:
        """See Item."""
        return {
            "rules": "\n".join(nft_text.lines(self.rules)),
            "members": "\n".join(nft_text.members(self.rules)),
            "by_hand": "",
            "trial": "",
            "at_boot": True,
        }

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """What is connected stays so."""
        return Grade.LIVE

    def ours(self, observed: Fields) -> bool:
        """See Item. The table's name is the mark."""
        return True

    def refusal(self, observed: Fields) -> RolledBack | None:
        """See Item. These rules were put back before, and who may log in is the same as then."""
        lost, path = "with these rules nobody could log in anew", f"{sh.FOLDER}/refused"
        return undo.refusal(str(observed.get("refused", "")), lambda: nft_text.attempt(self.rules), lost, path)

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem."""
        return sh.PROBE

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        state = _state(output)
        return {item.key: state for item in items}

    def perilous(self, change: Change) -> bool:
        """See ShellItem. To let more in is not, nor to take all rules away."""
        return change.verb is not Verb.DELETE and self._more(change) is None

    def gated(self, change: Change) -> bool:
        """See Item. Nor does what was taken away wait: until it is there again nothing is filtered."""
        return self.perilous(change) and not _gone(change)

    def script(self, change: Change) -> str:
        """See ShellItem. Raises Rejected for what nft cannot say."""
        if change.verb is Verb.DELETE:
            return sh.REMOVE
        nft_text.check(self.rules)
        more = self._more(change)
        return sh.on_trial(self.rules, gone=_gone(change)) if more is None else sh.add(self.rules, more)

    def confirmation(self, change: Change) -> str:
        """See ShellItem."""
        return sh.confirm(self.rules)

    def refused(self, change: Change) -> str:
        """See ShellItem."""
        return sh.refuse(self.rules)

    def _more(self, change: Change) -> tuple[str, ...] | None:
        """The members to be added, where that is all that is to be done, and nothing is closed by it."""
        found = {one.field: one for one in change.drift}
        if change.verb is not Verb.UPDATE or not found.keys() <= {"members", "at_boot"}:
            return None
        if "members" not in found:
            return ()
        wanted = nft_text.members(self.rules)
        before = frozenset(str(found["members"].observed).splitlines())
        new = tuple(member for member in wanted if member not in before)
        return new if before <= set(wanted) and not nft_text.closing(self.rules, new) else None


def _gone(change: Change) -> bool:
    """Whether the table was confirmed, and is not there any more."""
    return any(one.field == "by_hand" and one.observed == _GONE for one in change.drift)


def _state(output: str) -> State:
    told: dict[str, list[str]] = {}
    for line in output.rstrip("\n").split("\n"):
        told.setdefault(line[:1], []).append(line[2:])
    if not output.endswith("end\n") or told.get("T") not in (["there"], ["none"], ["no nft"]):
        return Unknown("what the packet filter is was not told")
    table = told["T"][0]
    if table != "there" and not told.keys() & {"B", "U", "L", "R"}:
        return Absent()
    boot = "".join(f"{line}\n" for line in told.get("B", ()))
    rules, members = nft_text.taken_apart(boot)
    by_hand = "\n".join(told.get("D", ()))
    if table != "there" and boot:
        by_hand = _GONE if table == "none" else "nft is not installed"
    fields: dict[str, Value] = {"rules": "\n".join(rules), "members": "\n".join(members), "by_hand": by_hand}
    fields |= {"trial": told.get("O", [""])[0], "at_boot": tuple(told.get("U", ())) == _UNIT and "L" in told}
    return Present(fields | ({"refused": told["R"][0]} if "R" in told else {}))
