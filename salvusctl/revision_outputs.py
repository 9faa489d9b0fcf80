"""What ``revisions`` prints with ``-o json``."""

from __future__ import annotations

from typing import Literal

from salvusctl.outputs import Output


class TurnOutput(Output):
    """How a revision fared from a time on."""

    revision: str
    """The commit; of a directory, the digest of its files."""
    state: Literal["in force", "held", "refused"]
    """What became of it."""
    since: str
    """From when on (RFC 3339)."""
    about: str
    """Who made it, and what they say of it; empty where that is not known."""
    why: str
    """What holds it, or is wrong with it; may be empty."""


class PinOutput(Output):
    """A source that stays at a revision."""

    revision: str
    """Which."""
    by: str
    """``user@host``."""
    reason: str
    """Why."""
    since: str
    """When it was pinned (RFC 3339)."""


class SourceOutput(Output):
    """One source of manifests."""

    source: str
    """``directory:PATH``, or ``git:URL#BRANCH:PATH``."""
    in_force: str
    """The revision that came into force last; empty for none."""
    newest: str
    """What the source had when it was last read; empty while it cannot be."""
    trouble: str
    """Why the newest is not in force; empty when it is."""
    pinned: PinOutput | None
    """Null when it is not pinned."""
    revisions: tuple[TurnOutput, ...]
    """What became of its revisions in the last year, newest first."""


class Revisions(Output):
    """``revisions``."""

    items: tuple[SourceOutput, ...]
    """The sources."""
