"""What became of connections that were really tried, beside what the manifests say of them. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from drivers.items import attempts
from drivers.items.attempts import Attempt
from drivers.items.rules import Protocol
from resources.reach import Site, Trial, trials
from resources.reach_claims import Claim, Target
from resources.reach_ends import decided, way
from resources.words import quoted


class Outcome(enum.StrEnum):
    """What came back."""

    CONNECTED = "connected"
    ANSWERED = "answered"
    REFUSED = "refused"
    SILENT = "silent"
    UNREACHABLE = "unreachable"
    BLOCKED = "blocked"
    NOT_TRIED = "not-tried"


# errno(3); ip(7) and icmp(7) say which of them are answers from the network. EPERM is the machine's own filter, of UDP.
_OUTCOMES: Mapping[str, Outcome] = {
    attempts.CONNECTED: Outcome.CONNECTED,
    attempts.ANSWERED: Outcome.ANSWERED,
    attempts.SILENT: Outcome.SILENT,
    "ECONNREFUSED": Outcome.REFUSED,
    "ECONNRESET": Outcome.REFUSED,
    "ETIMEDOUT": Outcome.SILENT,
    "EHOSTUNREACH": Outcome.UNREACHABLE,
    "ENETUNREACH": Outcome.UNREACHABLE,
    "EHOSTDOWN": Outcome.UNREACHABLE,
    "EACCES": Outcome.UNREACHABLE,
    "EPROTO": Outcome.UNREACHABLE,
    "ENOPROTOOPT": Outcome.UNREACHABLE,
    "EPERM": Outcome.BLOCKED,
}
_THROUGH: Mapping[Outcome, bool | None] = {
    Outcome.CONNECTED: True,
    Outcome.ANSWERED: True,
    Outcome.REFUSED: True,
    Outcome.SILENT: False,
    Outcome.UNREACHABLE: False,
    Outcome.BLOCKED: False,
    Outcome.NOT_TRIED: None,
}


@dataclass(frozen=True, slots=True)
class Tried:
    """One pair of addresses: what is written of it, and what came of trying.

    Attributes:
        source, destination: names of machines.
        said: why it was not tried; empty if it was.
    """

    source: str
    destination: str
    trial: Trial
    outcome: Outcome
    said: str = ""

    @property
    def through(self) -> bool | None:
        """Whether it got there. None where that cannot be told: UDP without an answer, and what was not tried."""
        if self.outcome is Outcome.SILENT and self.trial.packet.protocol is Protocol.UDP:
            return None
        return _THROUGH[self.outcome]

    @property
    def agrees(self) -> bool | None:
        """Whether that is what is written. None where it cannot be told."""
        return None if self.through is None else self.through is self.trial.allowed

    def __str__(self) -> str:
        """With what is written."""
        where = way(self.source, self.destination, self.trial)
        return f"{where}: {self.what}; written: {decided(self.trial)}"

    @property
    def what(self) -> str:
        """What came back, in words."""
        if self.outcome is Outcome.SILENT and self.trial.packet.protocol is Protocol.UDP:
            return "no answer, which proves nothing: with UDP nobody has to"
        return f"not tried: {self.said}" if self.said else _WORDS[self.outcome]

    @property
    def doubt(self) -> str:
        """What may be the matter where trying and writing disagree; empty where they do not."""
        if self.agrees in {True, None}:
            return ""
        where = way(self.source, self.destination, self.trial)
        if self.trial.allowed:
            if self.outcome is Outcome.UNREACHABLE:
                why = f"is the address up on {self.destination}, and is there a route? Or somebody between rejects it"
            else:
                why = f"are both in sync (salvusctl diff), and is {self.destination} up? Else another filter is between"
            return f"{where} is let through as it is written, but does not get there: {why}"
        why = "are both in sync (salvusctl diff)? Does a rule by hand come before?"
        if self.outcome is Outcome.REFUSED:
            why += " Or another filter rejects it: that looks like a closed port"
        return f"{where} is not let through as it is written, but gets there: {why}"


_WORDS: Mapping[Outcome, str] = {
    Outcome.CONNECTED: "connected",
    Outcome.ANSWERED: "answered",
    Outcome.REFUSED: "let through, but refused: nothing listens there",
    Outcome.SILENT: "no answer",
    Outcome.UNREACHABLE: "unreachable",
    Outcome.BLOCKED: "not let out by the machine's own filter",
}


def untried(source: str, target: Target) -> str:
    """Why nobody can try this; empty if one can."""
    if source == "world":
        return "the world is no machine of yours: nobody can try from there"
    if target.subject == "world":
        return "the world has no address that could be tried"
    return "" if target.port is not None else f"a port is needed to try, as in {target.subject}:443"


def attempts_of(source: Site, destination: Site, target: Target) -> Mapping[Attempt, Trial]:
    """A connection for each pair of addresses, with what is written of it."""
    found: dict[Attempt, Trial] = {}
    for trial in trials(source, destination, target.protocol, target.port or 0):
        packet = trial.packet
        one = Attempt(packet.protocol, packet.source, packet.destination, packet.port)
        # One that goes by several networks takes the one that there is: what is let through by any of them may.
        if one not in found or trial.allowed:
            found[one] = trial
    return found


def outcome_of(answer: str) -> tuple[Outcome, str]:
    """What an answer of ``Attempts`` means; of one that was not tried also why."""
    if answer == "EADDRNOTAVAIL":
        return Outcome.NOT_TRIED, "the machine does not have this address"
    outcome = _OUTCOMES.get(answer, Outcome.NOT_TRIED)
    return outcome, quoted(answer) if outcome is Outcome.NOT_TRIED else ""


def through(tried: Sequence[Tried]) -> bool | None:
    """Whether one machine reached another by any pair of addresses. None where that cannot be told."""
    found = {one.through for one in tried}
    return True if True in found else None if None in found else False


def holds(claim: Claim, pairs: Iterable[Sequence[Tried]]) -> tuple[bool | None, str]:
    """Whether a sentence proved to be true of each pair of machines, and what tells; None where it cannot be told."""
    unknown, last = "", ""
    for tried in pairs:
        got = through(tried)
        telling = next((one for one in tried if one.through is got), None)
        last = str(telling) if telling else "they have no addresses of the same IP version in one network"
        if got is claim.never:
            return False, last
        unknown = unknown or (last if got is None else "")
    return (None, unknown) if unknown else (True, last)
