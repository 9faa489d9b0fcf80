"""Changes of domains. Each looks first and does what is left to do: it may have been killed half-way before."""

from __future__ import annotations

from collections.abc import Callable

import libvirt

from drivers.base import Change, Failed, Grade, Verb, drift
from drivers.items.domain import Definition, Domain
from drivers.items.domain_xml import definition
from drivers.items.domain_xml_write import create, update
from drivers.libvirt import power
from drivers.libvirt.look import Glance, glance, read
from drivers.libvirt.session import Session

_WHOLE = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
_UNDEFINE = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
# What only these have; libvirt's own test driver refuses the words.
_UNDEFINE_QEMU = libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
_QEMU = {"kvm", "qemu"}


def carry_out(session: Session, item: Domain, change: Change, still_ours: Callable[[], None]) -> None:
    """Makes one change, disturbing no more than its grade says. Raises DriverError.

    ``still_ours`` raises Fenced when somebody else holds the machine's lease by now: it is asked after every wait.
    """
    found = glance(session, item.domain) or (glance(session, item.former) if item.former else None)
    if change.verb is Verb.DELETE:
        if found is not None:
            _delete(session, item, found, still_ours)
        return
    if found is not None and found.passing:
        raise Failed(f"{item.domain}: {found.passing}", hint="nothing to do: salvus looks again when that is over")
    if found is None:
        xml = create(item)
        session.work(f"defining {item.domain}", lambda: session.connection.defineXML(xml))
    else:
        _mend(session, item, found, change.grade)
    _bring_up_or_down(session, item, change.grade, still_ours)


def _delete(session: Session, item: Domain, found: Glance, still_ours: Callable[[], None]) -> None:
    """Ends and undefines it. Its disks are items of their own, and stay."""
    defined = read(session, found).definition
    _refuse_foreign(item, defined)
    power.stop(session, found, min(item.grace, session.patience.farewell), still_ours)
    left = glance(session, item.domain)
    if left is not None:
        flags = _UNDEFINE | (_UNDEFINE_QEMU if defined.domain_type in _QEMU else 0)
        session.work(f"undefining {item.domain}", lambda: left.domain.undefineFlags(flags))


def _refuse_foreign(item: Domain, found: Definition) -> None:
    """Rule 6. Raises Rejected."""
    if (refusal := item.refusal(found.fields())) is not None:
        raise refusal


def _mend(session: Session, item: Domain, found: Glance, allowed: Grade) -> None:
    """Its definition, and what can be changed while it runs.

    The running instance comes first: a kill in between leaves the drift to be seen.
    """
    seen = read(session, found)
    _refuse_foreign(item, seen.definition)
    if seen.live is not None and allowed < Grade.RESTART:
        _change_live(session, item, found, seen.definition, seen.live)
    text = session.ask(f"reading {item.domain}", lambda: found.domain.XMLDesc(_WHOLE))
    updated = update(item, text)
    if definition(updated) != seen.definition or not found.persistent:
        session.work(f"defining {item.domain}", lambda: session.connection.defineXML(updated))


def _change_live(session: Session, item: Domain, found: Glance, before: Definition, live: Definition) -> None:
    """As far as the instance can take it: of what needs a restart, the definition tells."""
    wanted, domain, affect = item.definition(), found.domain, libvirt.VIR_DOMAIN_AFFECT_LIVE
    vcpus = min(wanted.vcpus, live.vcpus_max)
    if live.vcpus < vcpus:
        session.work(f"plugging CPUs into {item.domain}", lambda: domain.setVcpusFlags(vcpus, affect))
    if before.memory != wanted.memory:
        kibibytes = min(wanted.memory, live.memory_max) // 1024
        session.work(f"changing the memory of {item.domain}", lambda: domain.setMemoryFlags(kibibytes, affect))


def _bring_up_or_down(session: Session, item: Domain, allowed: Grade, still_ours: Callable[[], None]) -> None:
    found = glance(session, item.domain)
    if found is None or item.running is None:
        return
    if found.autostart != item.running:
        domain, autostart = found.domain, int(item.running)
        session.ask(f"setting autostart of {item.domain}", lambda: domain.setAutostart(autostart))
    if allowed >= Grade.RESTART and _needs_restart(session, item, found):
        power.stop(session, found, item.grace, still_ours)
        found = glance(session, item.domain)
    if item.running and found is not None:
        power.start(session, found)


def _needs_restart(session: Session, item: Domain, found: Glance) -> bool:
    """Whether the planner would still say so."""
    fields = item.present(read(session, found)).fields
    return found.running is not False and item.grade(drift(item.fields(), fields)) >= Grade.RESTART
