"""What is kept of the sources of manifests, typed as in ``records``: how each stands, what is held, what is pinned."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from controller.store.records import SHORT


@dataclass(frozen=True, slots=True)
class HeldChange:
    """A change of a plan in plain words; ``drift`` is (field, desired, observed), secrets masked."""

    item: str
    verb: str
    grade: str
    drift: tuple[tuple[str, Any, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Disturbed:
    """A resource that would be deleted, or (with ``machine`` and ``changes``) disturbed there."""

    ref: str
    machine: str = ""
    changes: tuple[HeldChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """What a budget keeps from being done, until it is approved, or another revision needs less.

    Attributes:
        what: ``deletions`` of what is gone from the source; or its ``revision``, which is not in force at all then.
        of: what would be deleted or disturbed, ``total`` being all that could.
        former: of deletions, ``Kind/name`` of what the source had when it last was whole: who reads it next does not
            see that any more, and has to know whether anything of it is left.
    """

    source: str
    revision: str
    what: Literal["deletions", "revision"]
    of: tuple[Disturbed, ...]
    total: int
    former: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Short, and another one for each source, revision and set of what is held."""
        pairs = sorted((one.ref, one.machine) for one in self.of)
        return hashlib.sha256(repr((self.source, self.revision, self.what, pairs)).encode()).hexdigest()[:8]

    @property
    def refs(self) -> frozenset[str]:
        """``Kind/name`` of what is held."""
        return frozenset(one.ref for one in self.of)

    def covers(self, other: Hold) -> bool:
        """Whether an approval of this lets the other through: the same, or less of it."""
        same = (self.source, self.revision, self.what) == (other.source, other.revision, other.what)
        pairs = {(one.ref, one.machine) for one in self.of}
        return same and pairs.issuperset((one.ref, one.machine) for one in other.of)

    @property
    def message(self) -> str:
        """What is held, why, and the command that lets it through."""
        place = place_of(self.source)
        if self.what == "deletions":
            what = (
                f"{len(self.of)} of {self.total} resources are gone from {place}, and not deleted, as this is too much"
            )
        else:
            what = (
                f"revision {self.revision[:SHORT]} of {place} is not in force, as it would disturb {len(self.of)} of "
                f"the {self.total} that run"
            )
        return f"{what} at once; if it is meant: salvusctl approve {self.id}"


# How the names of sources begin that are directories: an absolute path follows.
DIRECTORY = "directory:"
GIT = "git:"
# The reasons in conditions and events.
HELD_BY_BUDGET = "HeldByBudget"
REFUSED = "ManifestErrors"
PINNED = "Pinned"
UNREADABLE = "SourceUnreadable"


def git_source(url: str, branch: str, path: str) -> str:
    """The name of a source in git; neither URLs nor branches have what separates them here."""
    return f"{GIT}{url}#{branch}:{path}"


def place_of(source: str) -> str:
    """Where a source is, for people: ``/srv/fleet``, or ``https://git.example.org/fleet.git (main, manifests)``."""
    if not source.startswith(GIT):
        return source.removeprefix(DIRECTORY)
    url, _, rest = source.removeprefix(GIT).partition("#")
    branch, _, path = rest.partition(":")
    return f"{url} ({', '.join(filter(None, (branch, path)))})"


@dataclass(frozen=True, slots=True)
class SourceState:
    """How the last readings of a source went: the same since ``at``.

    Attributes:
        revision: what was read; empty when it cannot be read.
        errors: the first of them; ``more`` is how many others there are.
        newest: the revision that the source has, when another one is read, as it is pinned.
    """

    source: str
    revision: str
    at: float
    errors: tuple[str, ...] = ()
    holds: tuple[Hold, ...] = ()
    newest: str = ""
    more: int = 0

    @property
    def place(self) -> str:
        """Where the source is, for people."""
        return place_of(self.source)

    @property
    def pinned(self) -> bool:
        """Whether there is something newer that is not read, as it is pinned."""
        return self.newest not in ("", self.revision)

    @property
    def _pinned(self) -> str:
        newest, revision = self.newest[:SHORT], self.revision[:SHORT]
        return f"revision {newest} of {self.place} is not in force, as it is pinned to {revision}: salvusctl unpin"

    @property
    def directory(self) -> str:
        """Its path, of a directory; else empty."""
        return self.source.removeprefix(DIRECTORY) if self.source.startswith(DIRECTORY) else ""

    @property
    def trouble(self) -> tuple[str, str] | None:
        """Reason and sentence, when nothing newer than the last good state is taken over; None when all is well."""
        if not self.errors:
            return (PINNED, self._pinned) if self.pinned else None
        if not self.revision:
            return UNREADABLE, f"{self.place} cannot be read: {self.errors[0]}"
        others = len(self.errors) - 1 + self.more
        more = f" (and {others} more)" if others else ""
        what = f"revision {self.revision[:SHORT]} of {self.place} is not in force, as it has errors"
        return REFUSED, f"{what}: {self.errors[0]}{more}"

    @property
    def undeleted(self) -> frozenset[str]:
        """Resources that are gone from the source, and whose deletion is held."""
        return frozenset().union(*(hold.refs for hold in self.holds if hold.what == "deletions"))

    @property
    def former(self) -> frozenset[str]:
        """See ``Hold``; empty while no deletion is held."""
        return frozenset().union(*(hold.former for hold in self.holds))


@dataclass(frozen=True, slots=True)
class Turn:
    """How a revision of a source fared from ``at`` on.

    Attributes:
        state: ``in force``, ``held`` or ``refused``.
        about: who made it, and what they say of it, where the source knows.
        why: what holds it, or is wrong with it.
    """

    revision: str
    state: str
    at: float
    about: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Pin:
    """A source stays at a revision, whatever is newer there, until somebody unpins it. ``by`` is ``user@host``."""

    source: str
    revision: str
    by: str
    reason: str
    since: float
