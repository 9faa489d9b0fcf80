"""Reading and writing what is kept of the sources of manifests: how they stand, revisions, pins, approvals, calls."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping

from controller.store.base import Store, Table
from controller.store.mirror import CALLS, PINS
from controller.store.records import dump, parse
from controller.store.source_records import Hold, Pin, SourceState, Turn

SOURCES = "sources"
APPROVALS = "approvals"
# An approval that nobody has obeyed by then was for another day.
APPROVAL_TTL = 86400.0
# The log of a source's revisions, under its name.
REVISIONS = "revisions/"
REVISIONS_TTL = 365 * 86400.0


class SourceLedger:
    """See ``Ledger``, of which it is a part. Raises StoreError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, state: SourceState) -> None:
        """Notes how the last reading of a source went."""
        self._store.write(Table.META, SOURCES, {state.source: dump(state)})

    def call(self, source: str) -> None:
        """Whichever controller follows the source is to read it now."""
        self._store.write(Table.META, CALLS, {source: str(uuid.uuid4())})

    def pins(self) -> Mapping[str, Pin]:
        """What is pinned, by source."""
        return {source: parse(Pin, row.value) for source, row in self._store.read(Table.META, PINS).items()}

    def pin(self, pin: Pin) -> None:
        """Pins a source, or pins it otherwise."""
        self._store.write(Table.META, PINS, {pin.source: dump(pin)})

    def unpin(self, source: str) -> None:
        """Ends it."""
        self._store.write(Table.META, PINS, {}, (source,))

    def turns(self, source: str) -> list[Turn]:
        """What became of the revisions of a source, oldest first."""
        rows = self._store.read(Table.META, f"{REVISIONS}{source}")
        return [parse(Turn, row.value) for _, row in sorted(rows.items())]

    def note_turns(self, source: str, turns: Iterable[Turn]) -> None:
        """Adds to them; kept for a year."""
        rows = {f"{turn.at:017.6f}/{number}": dump(turn) for number, turn in enumerate(turns)}
        if rows:
            self._store.write(Table.META, f"{REVISIONS}{source}", rows, ttl=REVISIONS_TTL)

    def states(self) -> Mapping[str, SourceState]:
        """How the last readings went, by source."""
        return {name: parse(SourceState, row.value) for name, row in self._store.read(Table.META, SOURCES).items()}

    def approve(self, hold: Hold) -> None:
        """Lets through what a budget holds, once, within a day."""
        self._store.write(Table.META, APPROVALS, {hold.id: dump(hold)}, ttl=APPROVAL_TTL)

    def approvals(self) -> tuple[Hold, ...]:
        """What was approved and is not done yet."""
        return tuple(parse(Hold, row.value) for row in self._store.read(Table.META, APPROVALS).values())

    def end_approvals(self, ids: Collection[str]) -> None:
        """They are used up, or of no use any more."""
        self._store.write(Table.META, APPROVALS, {}, ids)
