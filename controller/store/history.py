"""What happened, as it is kept for a while: events, passes, jobs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from controller.store.base import Store, Table
from controller.store.records import Event, Job, Run, dump, parse

EVENT_TTL = 7 * 86400.0
RUN_TTL = 86400.0
JOB_TTL = 86400.0
# A repeated event is written again only after this time, so that what fails every second costs a write a minute.
EVENT_QUIET = 60.0


class History:
    """The part of a ``Ledger`` that is about this. All of it raises StoreError, and Fenced as the Ledger does."""

    store: Store

    def tell(self, events: Iterable[Event]) -> None:
        """Keeps events for a week, one write a machine; a repeat only counts up."""
        by_place: dict[str, list[Event]] = {}
        for event in events:
            by_place.setdefault(event.machine or event.ref, []).append(event)
        for place, told in by_place.items():
            rows = self.store.read(Table.EVENT, place)
            kept = {event.key: parse(Event, rows[event.key].value) for event in told if event.key in rows}
            new = (_repeated(event, kept.get(event.key)) for event in told)
            puts = {event.key: dump(event) for event in new if event is not None}
            if puts:
                self.store.write(Table.EVENT, place, puts, ttl=EVENT_TTL)

    def events(self, ref: str = "") -> list[Event]:
        """Events of one resource or of all, oldest first; also those on machines where it is no more."""
        texts = (row.value for rows in self.store.read_all(Table.EVENT).values() for row in rows.values())
        # Few of many are parsed.
        found = [parse(Event, text) for text in texts if ref in text]
        return sorted((event for event in found if ref in ("", event.ref)), key=lambda event: event.last)

    def put_run(self, run: Run) -> None:
        """Keeps a pass for a day."""
        self.store.write(Table.RUN, run.machine, {f"{run.at:.6f}": dump(run)}, ttl=RUN_TTL)

    def runs(self, machine: str) -> list[Run]:
        """The machine's passes that did or found something, or were the first to find all well; oldest first."""
        return [parse(Run, row.value) for row in self.store.read(Table.RUN, machine).values()]

    def put_job(self, job: Job) -> None:
        """Keeps a job for a day."""
        self.store.write(Table.JOB, job.machine, {job.key: dump(job)}, ttl=JOB_TTL)

    def jobs(self, machine: str) -> list[Job]:
        """The machine's jobs of the last day, under way or ended: the last of each item."""
        return [parse(Job, row.value) for row in self.store.read(Table.JOB, machine).values()]


def _repeated(event: Event, before: Event | None) -> Event | None:
    """The event with its history; None for one that was told just now."""
    if before is None:
        return event
    if event.last - before.last < EVENT_QUIET:
        return None
    return replace(event, first=before.first, count=before.count + 1)
