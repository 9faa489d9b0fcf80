"""The sentences of ``spec.tests`` of a ``Firewall``, as ``web reaches cassandra:9042``; see ``reach_ends``. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from drivers.items.rules import Protocol
from resources.words import quoted

_SUBJECT = r"(?:(?:machine|service)/)?[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_TARGET = rf"(?P<destination>{_SUBJECT})(?::(?P<port>[1-9][0-9]{{0,4}})(?:/(?P<protocol>tcp|udp))?)?"
_CLAIM = re.compile(rf"(?P<source>{_SUBJECT}) (?P<never>never )?reaches {_TARGET}")
FORM = "SUBJECT [never] reaches SUBJECT[:PORT[/udp]]"


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a connection is to, and at which port; without one, at any and by any protocol."""

    subject: str
    port: int | None
    protocol: Protocol

    def __str__(self) -> str:
        return self.subject if self.port is None else f"{self.subject}:{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence, read."""

    source: str
    never: bool
    target: Target


def read_claim(text: str) -> Claim:
    """A sentence. Raises ValueError for what is none."""
    words = " ".join(text.split())
    if (found := _CLAIM.fullmatch(words)) is None:
        raise ValueError(f"{quoted(text)} is no test: write {FORM}, as in 'web reaches cassandra:9042'")
    return Claim(found["source"], found["never"] is not None, _target(found))


def read_target(text: str) -> Target:
    """``cassandra``, ``cassandra:9042``, ``ns1:53/udp``. Raises ValueError."""
    if (found := re.fullmatch(_TARGET, text)) is None:
        raise ValueError(f"{quoted(text)} is not SUBJECT[:PORT[/udp]], as in cassandra:9042")
    return _target(found)


def _target(found: re.Match[str]) -> Target:
    port = int(found["port"]) if found["port"] else None
    if port is not None and port > 65535:
        raise ValueError(f"{port} is no port: they go from 1 to 65535")
    return Target(found["destination"], port, Protocol(found["protocol"] or "tcp"))
