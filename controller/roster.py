"""The controllers as somebody sees them who only reads the store. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from controller.holder import Holder
from controller.leases import TTL
from controller.members import Grant, Member, Register


class Standing(enum.StrEnum):
    """What a controller seems to be doing."""

    ACTS = "acts"
    STANDS_BY = "stands-by"  # others hold all leases
    LEAVES = "leaves"  # it was told to stop, and finishes what has begun
    SILENT = "silent"  # not seen for longer than a lease lasts: gone, or one of the two clocks is wrong
    GONE = "gone"  # a dead process of the very machine that is asked on


@dataclass(frozen=True, slots=True)
class Controller:
    """One controller: what it said last, and the leases that are its own by name."""

    member: Member
    standing: Standing
    leases: dict[str, Grant]


def roster(register: Register, observer: Holder, now: float) -> Iterator[Controller]:
    """All controllers, by their host and age; ``now`` by the wall clock of the observer."""
    members = register.members.items()
    for one, member in sorted(members, key=lambda item: (item[1].who.host, item[1].since, item[0])):
        leases = {lease: register.grants[lease] for lease in sorted(register.held_by(one))}
        yield Controller(member, _standing(member, bool(leases), observer, now), leases)


def _standing(member: Member, holds: bool, observer: Holder, now: float) -> Standing:
    if member.who.dead(observer):
        return Standing.GONE
    if now - member.seen > TTL:
        return Standing.SILENT
    if member.leaving:
        return Standing.LEAVES
    return Standing.ACTS if holds else Standing.STANDS_BY
