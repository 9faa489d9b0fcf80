"""Where manifests come from: what the one who follows them needs of a source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from drivers.base import SalvusError
from resources.fleet import Fleet
from resources.load import Loaded


class Unreadable(SalvusError):
    """A source cannot be read now: what is in it is unknown, and nothing of it changes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read.

    Attributes:
        newest: the revision that the source has now, when an older one was asked for, and it is known.
        about: who made the revision, and what they say of it, where that is known.
    """

    loaded: Loaded
    newest: str = ""
    about: str = ""


class Source(Protocol):
    """One set of manifests. ``interval`` is in seconds: how often it is read when nothing tells of a change."""

    @property
    def name(self) -> str:
        """How resources name their source."""
        ...

    @property
    def interval(self) -> float:
        """See above."""
        ...

    def watch(self, changed: Callable[[], None]) -> None:
        """Calls ``changed`` (from another thread) soon after something was written, where that can be known.

        Raises SalvusError for what can never be read.
        """
        ...

    def read(self, others: Fleet, revision: str = "") -> Reading:
        """The manifests as they are now, or were in a ``revision``, where the source keeps these.

        ``others`` come from elsewhere and may be named. Raises Unreadable.
        """
        ...

    def close(self) -> None:
        """Ends the watching and any reading that waits."""
        ...
