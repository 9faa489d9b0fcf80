"""Domains as they are: a few calls for all of them, then one or two for each that is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import libvirt

from drivers.base import Absent, Failed, State, Unknown
from drivers.items.domain import Domain, Seen
from drivers.items.domain_xml import definition
from drivers.libvirt.errors import NoDomain
from drivers.libvirt.session import Session

_PASSING = {
    libvirt.VIR_DOMAIN_PAUSED_MIGRATION: "it is being migrated",
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY: "it is being migrated",
    libvirt.VIR_DOMAIN_PAUSED_SAVE: "it is being saved",
    libvirt.VIR_DOMAIN_PAUSED_DUMP: "it is being dumped",
    libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT: "a snapshot of it is being made",
    libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN: "it is shutting down",
    libvirt.VIR_DOMAIN_PAUSED_STARTING_UP: "it is starting",
}
_RUNNING: Mapping[int, bool | str] = {
    libvirt.VIR_DOMAIN_RUNNING: True,
    libvirt.VIR_DOMAIN_BLOCKED: True,
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTOFF: False,
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "suspended by its guest",
}
IO_ERROR = "paused by an I/O error"


@dataclass(frozen=True, slots=True)
class Glance:
    """What the bulk calls tell of a domain."""

    domain: Any
    state: int
    reason: int
    autostart: bool
    persistent: bool

    @property
    def passing(self) -> str:
        """Why it is neither on nor off and will soon be one of them by itself; else empty."""
        if self.state == libvirt.VIR_DOMAIN_PAUSED:
            return _PASSING.get(self.reason, "")
        if self.state == libvirt.VIR_DOMAIN_SHUTDOWN:
            return "it is shutting down"
        return "" if self.state in _RUNNING else f"libvirt tells a state that salvus does not know: {self.state}"

    @property
    def running(self) -> bool | str:
        """True, False, or a word for what is neither."""
        if self.passing:
            return self.passing
        if self.state == libvirt.VIR_DOMAIN_PAUSED and self.reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR:
            return IO_ERROR
        return _RUNNING[self.state]


def look(session: Session, items: Iterable[Domain]) -> dict[str, State]:
    """The states by item key. A domain that cannot be read is Unknown. Raises Unreachable."""
    glances = session.ask("listing the domains", lambda: _overview(session.connection))
    found = {item: glances.get(item.domain) or glances.get(item.former) for item in items}
    return {item.key: _state(session, item, glance) for item, glance in found.items()}


def _overview(connection: Any) -> dict[str, Glance]:
    stats = connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE, 0)
    autostart, persistent = (
        {domain.name() for domain in connection.listAllDomains(flag)}
        for flag in (libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART, libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
    )
    return {
        (name := domain.name()): Glance(
            domain, found["state.state"], found["state.reason"], name in autostart, name in persistent
        )
        for domain, found in stats
    }


def _state(session: Session, item: Domain, glance: Glance | None) -> State:
    if glance is None:
        return Absent()
    if glance.passing:
        return Unknown(f"{item.domain}: {glance.passing}")
    try:
        return item.present(read(session, glance))
    except NoDomain:
        return Absent()
    except Failed as error:
        return Unknown(str(error))


def glance(session: Session, name: str) -> Glance | None:
    """One domain; None when there is none of that name. Raises DriverError."""

    def ask() -> Glance:
        domain = session.connection.lookupByName(name)
        state, reason = domain.state()
        return Glance(domain, state, reason, bool(domain.autostart()), bool(domain.isPersistent()))

    try:
        return session.ask(f"looking for {name}", ask)
    except NoDomain:
        return None


def read(session: Session, found: Glance) -> Seen:
    """A domain with its definitions. Raises DriverError."""
    domain, running = found.domain, found.running

    def ask() -> tuple[str, str]:
        return domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE), domain.XMLDesc(0) if running else ""

    inactive, live = session.ask(f"reading {domain.name()}", ask)
    return Seen(definition(inactive), definition(live) if live else None, running, found.autostart, found.persistent)
