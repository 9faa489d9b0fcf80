"""What a host can run: found out by trying, because ``/dev/kvm`` may be there and listed and still run nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import libvirt

from drivers.base import Failed, Present
from drivers.items.domain_xml import parse
from drivers.libvirt.session import PROBE, Session

_MEMORY_MIB = 64
# A processor that cannot run guests says so at the first instructions, not when the guest is made.
_FIRST_STEPS = 0.3
# Nanoseconds of processor time after which a guest has run for good; making one takes far less.
_RAN = 10 * 10**9
# Seconds for which another salvus that tries a guest there is waited for, and after which it is looked again.
_OTHERS = 10.0
_LOOK_AGAIN = 0.2


class Busy(Failed):
    """Somebody else is trying a guest there: it says nothing of what the host can run."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """https://libvirt.org/formatcaps.html, for guests of the host's own architecture. ``types``: kvm, qemu …"""

    arch: str
    emulator: str
    types: tuple[str, ...]

    @classmethod
    def read(cls, text: str) -> Capabilities:
        """Raises Failed for what is not a document of capabilities that lists such guests."""
        root = parse(text)
        arch = root.findtext("host/cpu/arch") or ""
        for guest in root.iterfind("guest"):
            found = guest.find(f"arch[@name='{arch}']")
            if guest.findtext("os_type") == "hvm" and found is not None:
                types = tuple(one.get("type", "") for one in found.iterfind("domain"))
                return cls(arch, found.findtext("emulator") or "", types)
        raise Failed(
            f"libvirt there can run no guests of the host's architecture {arch!r}",
            hint="install qemu on the host: on Debian, qemu-system-x86 or qemu-system-arm",
        )


def look(session: Session) -> Present:
    """The facts of item ``Hypervisor``.

    Where KVM is listed and no guest has run with it for a while, one without disk or network is tried, once a
    connection. It has no definition, and libvirt ends it when the connection ends: it leaves a log, always the same.
    Raises DriverError.
    """
    capabilities = Capabilities.read(session.ask("asking for capabilities", session.connection.getCapabilities))
    version = session.ask("asking for the version", session.connection.getLibVersion)
    return Present({}, _facts(capabilities, _domain_type(session, capabilities), version))


def _facts(capabilities: Capabilities, domain_type: str, version: int) -> Mapping[str, str]:
    return {
        "domain_type": domain_type,
        "emulator": capabilities.emulator,
        "arch": capabilities.arch,
        "libvirt_version": f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}",
    }


def _domain_type(session: Session, capabilities: Capabilities) -> str:
    others = [one for one in capabilities.types if one != "kvm"]
    if "kvm" not in capabilities.types:
        return others[0] if others else ""
    if _has_run(session, "kvm"):
        return "kvm"
    try:
        _try(session, capabilities, "kvm")
    except Failed as error:
        if not others or isinstance(error, Busy):
            raise
        # Without KVM every guest would be another machine. A host that now runs no guest at all is no proof of that.
        _try(session, capabilities, others[0])
        return others[0]
    return "kvm"


def _has_run(session: Session, domain_type: str) -> bool:
    """Whether a guest of that type runs and has done so for a while: as good as trying one."""

    def ask() -> bool:
        guests = session.connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING)
        worked = (guest for guest in guests if guest.info()[4] >= _RAN)
        return any(parse(guest.XMLDesc(0)).get("type") == domain_type for guest in worked)

    try:
        return session.ask("looking for guests that run", ask)
    except Failed:  # one ended meanwhile
        return False


def _try(session: Session, capabilities: Capabilities, domain_type: str) -> None:
    """Raises Failed when no guest of that type runs."""
    domain = _start(session, domain_type, _guest(capabilities, domain_type))
    try:
        time.sleep(_FIRST_STEPS)
        _require_running(session, domain, domain_type)
    finally:
        # Gone already is as good.
        with contextlib.suppress(Failed):
            session.work("ending the guest that was tried", domain.destroy)


def _start(session: Session, domain_type: str, xml: str) -> Any:
    """The guest, when nobody else has one of its name there (any more)."""
    connection, end = session.connection, time.monotonic() + _OTHERS
    while True:
        try:
            return session.work(
                f"trying a guest of type {domain_type}",
                lambda: connection.createXML(xml, libvirt.VIR_DOMAIN_START_AUTODESTROY),
            )
        except Failed as error:
            if not _name_taken(error):
                raise
            if time.monotonic() > end:
                raise Busy(str(error), hint=f"to see who it is there: virsh dominfo {PROBE}") from error
        time.sleep(_LOOK_AGAIN)


def _name_taken(error: Failed) -> bool:
    """What libvirt says when there is such a domain with another UUID; a processor that runs nothing is INTERNAL."""
    cause = error.__cause__
    return isinstance(cause, libvirt.libvirtError) and cause.get_error_code() == libvirt.VIR_ERR_OPERATION_FAILED


def _require_running(session: Session, domain: Any, domain_type: str) -> None:
    state, reason = session.ask("looking at the guest that was tried", domain.state)
    if state != libvirt.VIR_DOMAIN_RUNNING:
        raise Failed(f"a guest of type {domain_type} stopped at once: state {state}, reason {reason}")


def _guest(capabilities: Capabilities, domain_type: str) -> str:
    root = ElementTree.Element("domain", type=domain_type)
    ElementTree.SubElement(root, "name").text = PROBE
    ElementTree.SubElement(root, "memory", unit="MiB").text = str(_MEMORY_MIB)
    ElementTree.SubElement(ElementTree.SubElement(root, "os"), "type", arch=capabilities.arch).text = "hvm"
    if domain_type == "kvm":
        ElementTree.SubElement(root, "cpu", mode="host-passthrough")
    return ElementTree.tostring(root, encoding="unicode")
