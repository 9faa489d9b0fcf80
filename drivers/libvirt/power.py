"""Turning domains on and off."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import libvirt

from drivers.base import Failed
from drivers.libvirt.look import IO_ERROR, Glance, glance
from drivers.libvirt.session import Session

# A guest that is still booting does not hear its power button: it is pressed again after so many seconds.
_PRESS_AGAIN = 10.0
_LOOK_AGAIN = 0.25
# A guest that goes on after an I/O error runs into it again at once, if it is still there.
_RELAPSE = 0.5


def start(session: Session, seen: Glance) -> None:
    """Makes it run: started, resumed or woken, whichever it needs. Raises DriverError."""
    domain, name = seen.domain, seen.domain.name()
    if seen.state == libvirt.VIR_DOMAIN_CRASHED:
        _destroy(session, domain)
    if seen.state == libvirt.VIR_DOMAIN_PAUSED:
        session.work(f"resuming {name}", domain.resume)
        if seen.running == IO_ERROR:
            _refuse_relapse(session, domain)
    elif seen.state == libvirt.VIR_DOMAIN_PMSUSPENDED:
        session.work(f"waking {name}", domain.pMWakeup)
    elif seen.running is not True:
        try:
            session.work(f"starting {name}", domain.create)
        except Failed:
            # Somebody else was faster: the host's autostart, a user.
            if _off(session, domain):
                raise


def _refuse_relapse(session: Session, domain: Any) -> None:
    time.sleep(_RELAPSE)
    name = domain.name()
    seen = glance(session, name)
    if seen is None or seen.running != IO_ERROR:
        return
    errors = session.ask(f"asking for the disk errors of {name}", domain.diskErrors)
    full = [disk for disk, error in errors.items() if error == libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE]
    what = f"no space is left for {', '.join(full)}" if full else f"of {', '.join(errors) or 'a disk'}"
    raise Failed(
        f"{name} was resumed and paused again by an I/O error: {what}",
        hint="make room on the host's storage, or see what ails it there: journalctl -k; salvus resumes it then",
    )


def stop(session: Session, seen: Glance, limit: float, still_ours: Callable[[], None]) -> None:
    """Makes it shut down, and destroys it after ``limit`` seconds. Raises DriverError.

    ``still_ours`` is asked after every wait, so that what it raises leaves the guest as it is then.
    """
    domain, name = seen.domain, seen.domain.name()
    if seen.running is False:
        return
    if seen.state != libvirt.VIR_DOMAIN_CRASHED:
        # Who sleeps hears no button.
        with contextlib.suppress(Failed):
            if seen.running is not True:
                start(session, seen)
        end = time.monotonic() + limit
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(Failed):
                session.work(f"shutting {name} down", domain.shutdown)
            off = _off_within(session, domain, min(left, _PRESS_AGAIN))
            still_ours()
            if off:
                return
    _destroy(session, domain)


def _destroy(session: Session, domain: Any) -> None:
    try:
        session.work(f"destroying {domain.name()}", domain.destroy)
    except Failed:
        if not _off(session, domain):
            raise


def _off_within(session: Session, domain: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (off := _off(session, domain)) and time.monotonic() < end:
        time.sleep(_LOOK_AGAIN)
    return off


def _off(session: Session, domain: Any) -> bool:
    found = glance(session, domain.name())
    return found is None or found.state == libvirt.VIR_DOMAIN_SHUTOFF
