"""What is in the trash of hypervisors, asked of them now, and taking a virtual machine's disk back out of it."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from controller import by_hand
from controller.machines import Machines
from controller.session import Session
from controller.store.base import Conflict
from controller.store.records import Event
from controller.view import View
from drivers.base import Absent, Change, Drift, Driver, Failed, Grade, Present, SalvusError, Unknown, Verb
from drivers.items.domain import Domain
from drivers.items.host_key import public
from drivers.items.trash import AGREE, Kept, Trash, Undeleted, kept
from resources.storage import Storage

SIDE_BY_SIDE = 32


@dataclass(frozen=True, slots=True)
class Found:
    """A file in the trash of a host. ``until`` is when it goes, in seconds since the epoch."""

    host: str
    storage: Storage
    kept: Kept
    until: float

    @property
    def instance(self) -> str:
        """The virtual machine whose root disk it is, by its name on the host; empty when it is none."""
        prefix, suffix = posixpath.basename(self.storage.root_disk("\0")).split("\0")
        former = self.kept.former
        return former[len(prefix) : -len(suffix)] if former.startswith(prefix) and former.endswith(suffix) else ""


@dataclass(frozen=True, slots=True)
class Look:
    """What was found, oldest first, and why hosts could not be asked."""

    found: tuple[Found, ...]
    silent: Mapping[str, str]


class Trashes:
    """The hypervisors of a fleet with what they kept; ``opened`` makes it."""

    def __init__(self, session: Session, view: View, machines: Machines) -> None:
        self._session = session
        self._view = view
        self._machines = machines

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hypervisors."""
        return tuple(host.name for host in self._view.fleet.of("Host") if host.spec.hypervisor is not None)

    def look(self, hosts: Collection[str]) -> Look:
        """What is in the trash of these hosts now."""
        # Lowered here: the view is not safe for threads.
        asked = {host: self._driver(host) for host in hosts}
        with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="trash") as pool:
            answers = dict(zip(asked, pool.map(self._ask, asked, asked.values()), strict=True))
        found = [one for answer in answers.values() if not isinstance(answer, str) for one in answer]
        silent = {host: answer for host, answer in answers.items() if isinstance(answer, str)}
        return Look(tuple(sorted(found, key=lambda one: (one.kept.at, one.host, one.kept.name))), silent)

    def _driver(self, host: str) -> Driver | None:
        return self._machines.driver(host, self._view.lowered)

    def _ask(self, host: str, driver: Driver | None) -> tuple[Found, ...] | str:
        item = self._trash(host)
        if driver is None:
            return "the way to it is not known yet"
        state = driver.observe([item])[item.key].state
        if isinstance(state, Unknown):
            return state.reason
        fields = state.fields if isinstance(state, Present) else {}
        storage = Storage(posixpath.dirname(item.path))
        return tuple(Found(host, storage, one, one.at + item.keep) for one in kept(fields))

    def _trash(self, host: str) -> Trash:
        resource = self._view.fleet.get("Host", host)
        assert resource is not None, host
        hypervisor = resource.spec.hypervisor
        return Trash(hypervisor.storage.trash, hypervisor.trash.keep)

    def undelete(self, ref: str, disk: Found, others: Sequence[Found]) -> tuple[str, ...]:
        """Puts a root disk back, and the host key that was deleted with it; returns the paths.

        ``ref`` is the virtual machine that it is for: written again, it is placed on this host and boots from it. Of
        ``others`` in the trash its key is taken. Killed anywhere, it is done by doing it again. Raises SalvusError.
        """
        self._allowed(ref, disk)
        driver = self._driver(disk.host)
        assert driver is not None, "it was asked just now"
        self._free(driver, disk)
        # Decided first: once the disk is back, nobody but this host may get the machine.
        for what, value in (("host", disk.host), ("instance", disk.instance)):
            if (now := self._session.ledger.allocate(ref, what, value)) != value:
                raise Conflict(f"the {what} of {ref} is decided already: {now}", hint=f"write {ref} again, and look")
        changes = tuple(_back(path, name) for path, name in _files(disk, others))
        # One rename of a file that no controller knows of: it needs the machine's fence, and no lease.
        by_hand.make(self._session, disk.host, driver, changes, "not everything was taken out of the trash")
        paths = tuple(change.item.name for change in changes)
        now_at, text = time.time(), f"{', '.join(paths)} taken back out of the trash"
        self._session.ledger.tell([Event(ref, disk.host, "Normal", "Undeleted", text, now_at, now_at)])
        return paths

    def _allowed(self, ref: str, disk: Found) -> None:
        row = self._session.ledger.resource(ref)
        if row is not None:
            doing = "is being deleted" if row.deleting_since is not None else "is there"
            raise SalvusError(
                f"{ref} {doing}; nothing was taken out of the trash", hint=f"salvusctl delete {ref}, first"
            )
        by_hand.not_paused(self._session, disk.host, [ref], "nothing was taken out of the trash")

    def _free(self, driver: Driver, disk: Found) -> None:
        """Raises SalvusError when a domain of the name is there, or nobody knows whether one is."""
        domain = Domain(disk.instance, "", "", None, 1, 1, 0, 0, "qemu")
        state = driver.observe([domain])[domain.key].state
        if isinstance(state, Unknown):
            raise Failed(
                f"{disk.host} does not tell whether {disk.instance} is there: {state.reason}", machine=disk.host
            )
        if not isinstance(state, Absent):
            raise SalvusError(
                f"{disk.host} has a domain {disk.instance}; nothing was taken out of the trash",
                hint="remove it, or give it another name (virsh domrename)",
            )


@contextmanager
def opened(session: Session) -> Iterator[Trashes]:
    """The fleet as it is in the store, for a while. Raises StoreError."""
    with by_hand.opened(session) as (view, machines):
        yield Trashes(session, view, machines)


def _files(disk: Found, others: Sequence[Found]) -> Iterator[tuple[str, str]]:
    """Where files are to be, and their names in the trash; the disk last, as without it nothing is taken for done."""
    key = disk.storage.host_key(disk.instance)
    for path in (public(key), key):
        fits = [o.kept for o in others if o.host == disk.host and o.kept.former == posixpath.basename(path)]
        near = min(fits, key=lambda one: abs(one.at - disk.kept.at), default=None)
        if near is not None and abs(near.at - disk.kept.at) <= AGREE:
            yield path, near.name
    yield disk.storage.root_disk(disk.instance), disk.kept.name


def _back(path: str, name: str) -> Change:
    item = Undeleted(path, name)
    return Change(item, Verb.CREATE, (Drift("there", True, None),), Grade.LIVE)
