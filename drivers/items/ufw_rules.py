"""The packet filter of a machine by ufw(8): rules of our own before those of others, which stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from drivers.base import Absent, Change, Drift, Fields, Grade, Present, RolledBack, State, Unknown, Value, Verb
from drivers.items import nft_text, ufw_text, undo
from drivers.items import paths as fs
from drivers.items import ufw_script as sh
from drivers.items.rules import RuleSet
from drivers.items.shell import ShellItem

_NOTES = undo.notes(sh.TRIAL)
# How the kernel lists what leads to the rules.
_LEADS = "-iptables -A ufw-before-input -j ufw-user-input"


@dataclass(frozen=True, slots=True)
class UfwRules(ShellItem):
    """The rules that salvus marked, ufw's defaults, and that it is enabled. One a machine.

    What is no rule of ours is not looked at and not touched: the operator's own rules, those about forwarded packets,
    before.rules and after.rules. Deleted, the defaults are again as they were before, and ufw is enabled if it was.

    Fields: ``rules``, a line each; ``first``, whether they stand before all others; ``by_hand``, what else than was
    loaded the kernel lists of them (``+``), and what it lists no more (``-``); ``incoming``, ``outgoing``: ufw's
    defaults; ``enabled``, and for IPv6 ``ipv6``; ``trial``, ``pending`` where rules are not confirmed yet; ``at_boot``,
    whether systemd starts ufw. Observed besides: ``refused``, the attempt that was put back last, and its time.
    """

    forgets: ClassVar[frozenset[str]] = frozenset({"rules"})
    protects: ClassVar[bool] = True

    rules: RuleSet

    @property
    def name(self) -> str:
        """Of what marks them."""
        return "salvus"

    def fields(self) -> Fields:
        """See Item."""
        return {
            "rules": "\n".join(ufw_text.shown(self.rules)),
            "first": True,
            "by_hand": "",
            "trial": "",
            "enabled": True,
            "ipv6": True,
            "incoming": self.rules.default_ingress.value,
            "outgoing": self.rules.default_egress.value,
            "at_boot": True,
        }

    def grade(self, drift: Sequence[Drift]) -> Grade:
        """What is connected stays so."""
        return Grade.LIVE

    def ours(self, observed: Fields) -> bool:
        """See Item. The comments are the mark."""
        return True

    def refusal(self, observed: Fields) -> RolledBack | None:
        """See Item. These rules were put back before, and who may log in is the same as then."""
        lost = "with these rules nobody could log in anew"
        return undo.refusal(str(observed.get("refused", "")), lambda: nft_text.attempt(self.rules), lost, _NOTES[1])

    def stays(self, observed: Fields) -> RolledBack | None:
        """See Item. They were taken away before, and put back: the operator's own let nobody in."""
        lost = "without these rules nobody could log in anew"
        return undo.refusal(str(observed.get("refused", "")), lambda: sh.REMOVAL, lost, _NOTES[1])

    @classmethod
    def probe(cls, items: Sequence[Self]) -> str:
        """See ShellItem."""
        return fs.notes(_NOTES) + sh.PROBE

    @classmethod
    def read(cls, items: Sequence[Self], output: str) -> Mapping[str, State]:
        """See ShellItem."""
        return {item.key: _state(item.rules, output) for item in items}

    def perilous(self, change: Change) -> bool:
        """See ShellItem. Only to let more in, or out, is not."""
        return change.verb is not Verb.UPDATE or not self._opens(change)

    def gated(self, change: Change) -> bool:
        """See Item. Nor do rules wait that are in force no more, as when ufw was disabled."""
        by_hand = next((str(one.observed) for one in change.drift if one.field == "by_hand"), "")
        return self.perilous(change) and _LEADS not in by_hand.splitlines()

    def script(self, change: Change) -> str:
        """See ShellItem. Raises Rejected for what ufw cannot say."""
        if change.verb is Verb.DELETE:
            return sh.REMOVE
        ufw_text.check(self.rules)
        anew = any(one.field == "by_hand" for one in change.drift)
        return sh.change(self.rules, nft_text.attempt(self.rules), perilous=self.perilous(change), anew=anew)

    def confirmation(self, change: Change) -> str:
        """See ShellItem."""
        return sh.REMOVED if change.verb is Verb.DELETE else sh.confirm(nft_text.attempt(self.rules))

    def refused(self, change: Change) -> str:
        """See ShellItem."""
        return sh.REFUSED if change.verb is Verb.DELETE else undo.refuse(sh.TRIAL, nft_text.attempt(self.rules))

    def _opens(self, change: Change) -> bool:
        found = {one.field: str(one.observed) for one in change.drift}
        if not found.keys() <= {"rules", "at_boot"}:
            return False
        return "rules" not in found or ufw_text.opens(found["rules"].splitlines(), ufw_text.shown(self.rules))


_POLICIES = {"accept": "allow", "drop": "deny"}


def _state(rules: RuleSet, output: str) -> State:
    if not output.endswith("end\n"):
        return Unknown("what ufw filters was not told")
    armed, refused = (fs.noted(_NOTES, output)[path] for path in _NOTES)
    told: dict[str, list[str]] = {}
    for line in output.rstrip("\n").split("\n"):
        told.setdefault(line[:1], []).append(line[2:])
    ours = {version: tuple(told.get(str(version), ())) for version in ufw_text.VERSIONS}
    if not any(ours.values()) and "B" not in told and not armed and not refused:
        return Absent()

    def setting(name: str) -> str:
        return told.get(name, [""])[0]

    fields: dict[str, Value] = {
        "rules": "\n".join(ufw_text.found(ours, rules)),
        "first": "A" not in told,
        "by_hand": "\n".join(told.get("D", ())),
        "trial": "pending" if armed else "",
        "enabled": setting("E") == "yes",
        "ipv6": setting("V") == "yes",
        "incoming": _POLICIES.get(setting("I"), setting("I")),
        "outgoing": _POLICIES.get(setting("O"), setting("O")),
        "at_boot": "L" in told,
    }
    return Present(fields | ({"refused": refused[0]} if refused else {}))
